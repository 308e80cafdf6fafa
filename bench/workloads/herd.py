"""Fifty clients at once want something that the server has to fetch first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench import catalogue, client
from bench.client import Answer, Request
from bench.errors import WrongAnswer
from bench.lab import DIRECT, Lab
from bench.servers.base import Site
from bench.workloads.base import OURS, RIVALS, Goal, Metric, Workload
from bench.workloads.cold import ACCEPT, RATE

CLIENTS = 50
PATIENCE = 300.0
_MOST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Herd(Workload):
    """Metrics: upstream GETs, seconds until all have everything, growth of memory in MB."""

    workers: int = 1

    def prepare(self, lab: Lab, server: str) -> Site:
        site = lab.fresh(server, workers=self.workers)
        project = lab.new_name("small")
        try:
            client.one(Request(site.page(project), ACCEPT))
            client.one(Request(site.file(project)))  # what is loaded at first use, is
        except BaseException:
            lab.end(site)
            raise
        return site

    def close(self, lab: Lab, subject: Site) -> None:
        lab.upstream.behave()
        lab.upstream.settle()
        lab.end(subject)

    def rounds(self, lab: Lab) -> int:
        return min(_MOST_ROUNDS, lab.effort.rounds)

    def _let_loose(self, lab: Lab, site: Site, request: Request, path: str) -> Mapping[str, float]:
        before = site.child.memory().anonymous
        most = before

        def watch() -> None:
            nonlocal most
            most = max(most, site.child.memory().anonymous)

        lab.upstream.reset()
        answers, _ = client.together([request] * CLIENTS, patience=PATIENCE, tick=watch)
        watch()
        self.check(answers)
        wall = max(answer.total for answer in answers)
        lab.upstream.behave()
        lab.upstream.settle()
        figures = {"GETs": lab.upstream.gets(path), "wall": wall}
        return figures if site.name == DIRECT else {**figures, "memory": (most - before) / 1e6}

    def check(self, answers: list[Answer]) -> None:
        """Raises `WrongAnswer` unless all have got the same whole thing."""
        kinds = {(answer.status, answer.size, answer.tail) for answer in answers}
        if len(kinds) != 1 or answers[0].status != 200:
            statuses = sorted({answer.status for answer in answers})
            raise WrongAnswer(f"{len(kinds)} different answers, status {statuses}")


@dataclass(frozen=True, slots=True)
class HerdFile(Herd):
    """A 200 MB file whose upstream sends 50 MB a second to each who asks."""

    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        project = lab.new_name("big")
        lab.upstream.prepare(project)
        request = Request(subject.file(project))
        lab.upstream.behave(rate=RATE)
        return self._let_loose(lab, subject, request, catalogue.first_file(project).filename)

    def check(self, answers: list[Answer]) -> None:
        Herd.check(self, answers)
        if answers[0].size != catalogue.BIG_BYTES:
            raise WrongAnswer(f"{answers[0].size} bytes")


@dataclass(frozen=True, slots=True)
class HerdPage(Herd):
    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        project = lab.new_name("huge")
        lab.upstream.prepare(project)
        request = Request(subject.page(project), ACCEPT)
        return self._let_loose(lab, subject, request, f"simple/{project}")


def _metrics(wall: Goal, *, most_memory: float | None) -> tuple[Metric, ...]:
    memory = (Goal("at most", most_memory),) if most_memory else ()
    return (
        Metric("GETs", "upstream GETs", goals=(Goal("at most", 1),)),
        Metric("wall", "s", goals=(wall,)),
        Metric("memory", "MB more", goals=memory),
    )


_LIKE_NGINX = Goal("at most", 1.05, "nginx-cache")
_SERVERS = (OURS, DIRECT, *RIVALS)
WORKLOADS: tuple[Workload, ...] = (
    HerdFile(
        "herd-file",
        "50 clients, one cold 200 MB file",
        _metrics(_LIKE_NGINX, most_memory=60),
        _SERVERS,
    ),
    HerdFile(
        "herd-file-4",
        "the same, 4 workers",
        _metrics(_LIKE_NGINX, most_memory=60),
        (OURS, "nginx-cache"),
        workers=4,
    ),
    HerdPage(
        "herd-12000",
        "50 clients, one cold 12,000-file page",
        _metrics(Goal("at most", 0.5, "nginx-cache"), most_memory=None),
        _SERVERS,
    ),
)
