"""What the server has to fetch first: milliseconds, beside fetching it without a server."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench import catalogue, client
from bench.asks import PageAsk
from bench.client import Answer, Request
from bench.errors import Unavailable, WrongAnswer
from bench.lab import DIRECT, Lab
from bench.servers.base import Site
from bench.workloads.base import OURS, RIVALS, Goal, Metric, Workload

LATENCY = 0.050  # seconds
RATE = 50_000_000  # bytes a second
SMALL_TIMES = 10  # requests for small pages in one sample
TAIL = 16 * 1024
SERVERS = (OURS, DIRECT, *RIVALS)
ACCEPT = {"Accept": catalogue.JSON_TYPE, "Accept-Encoding": "gzip"}


@dataclass(frozen=True, slots=True)
class ColdWorkload(Workload):
    """Each sample asks for something new, of a server that was started for this workload."""

    KIND: ClassVar = "small"  # of the page by which a server is judged able

    def prepare(self, lab: Lab, server: str) -> Site:
        site = lab.fresh(server)
        try:
            lab.upstream.behave()
            self.check(lab, site)
        except BaseException:
            lab.end(site)
            raise
        return site

    def check(self, lab: Lab, site: Site) -> None:
        """Raises `Unavailable` if the server does not have what is to be measured."""
        project = lab.new_name(self.KIND)
        PageAsk(project).check(
            *client.body(Request(site.page(project), ACCEPT | {"Accept-Encoding": "identity"}))
        )

    def close(self, lab: Lab, subject: Site) -> None:
        lab.upstream.behave()
        lab.upstream.settle()
        lab.end(subject)


@dataclass(frozen=True, slots=True)
class ColdSmallPage(ColdWorkload):
    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        lab.upstream.behave(latency=LATENCY)
        times = [self._once(lab, subject) for _ in range(SMALL_TIMES)]
        return {"": statistics.median(times) * 1000}

    def _once(self, lab: Lab, site: Site) -> float:
        project = lab.new_name("small")
        lab.upstream.prepare(project)
        return good(client.one(Request(site.page(project), ACCEPT))).total


@dataclass(frozen=True, slots=True)
class ColdHugePage(ColdWorkload):
    """A 12,000-file page; and another, while the same server is asked without a pause for a page
    that it has, which takes its share of the core."""

    KIND: ClassVar = "huge"

    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        lab.upstream.behave()
        warm = Request(subject.page("small-0"), ACCEPT)
        alone, _ = self._ask(lab, subject)
        good(client.one(warm))
        crowded, latencies = self._ask(lab, subject, warm)
        latencies = sorted(latencies) or [crowded.total]
        return {
            "": alone.total * 1000,
            "while others ask": crowded.total * 1000,
            "others, p99": latencies[int(len(latencies) * 0.99)] * 1000,
            "others, longest": latencies[-1] * 1000,
        }

    def _ask(
        self, lab: Lab, site: Site, probe: Request | None = None
    ) -> tuple[Answer, Sequence[float]]:
        project = lab.new_name("huge")
        lab.upstream.prepare(project)
        lab.upstream.settle()
        [answer], latencies = client.together([Request(site.page(project), ACCEPT)], probe=probe)
        return good(answer), latencies


@dataclass(frozen=True, slots=True)
class ColdFile(ColdWorkload):
    """A 200 MB file whose upstream sends 50 MB a second."""

    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        project, url = new_big(lab, subject)
        lab.upstream.behave(rate=RATE)
        answer = good(client.one(Request(url)))
        if answer.size != catalogue.BIG_BYTES or answer.tail != catalogue.big_tail(project):
            raise WrongAnswer(f"{answer.size} bytes, or wrong ones")
        lab.upstream.settle()
        return {"first byte": answer.first_byte * 1000, "total": answer.total * 1000}


@dataclass(frozen=True, slots=True)
class ColdTail(ColdWorkload):
    """The end of such a file, as installers read it for its metadata."""

    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        project, url = new_big(lab, subject)
        lab.upstream.behave(rate=RATE)
        size = catalogue.BIG_BYTES
        span = {"Range": f"bytes={size - TAIL}-{size - 1}"}
        answer = good(client.one(Request(url, span)))
        if answer.tail[-TAIL:] != catalogue.big_tail(project)[-TAIL:]:
            raise WrongAnswer("wrong bytes")
        lab.upstream.settle()
        return {"": answer.total * 1000}


def new_big(lab: Lab, site: Site) -> tuple[str, str]:
    project = lab.new_name("big")
    lab.upstream.behave()
    lab.upstream.prepare(project)
    return project, site.file(project)


def good(answer: Answer) -> Answer:
    if answer.status not in (200, 206) or not answer.size:
        raise Unavailable(f"status {answer.status}, {answer.size} bytes")
    return answer


def _added(bound: float) -> tuple[Goal, ...]:
    return (Goal("at most added to", bound, DIRECT),)


WORKLOADS: tuple[Workload, ...] = (
    ColdSmallPage(
        "cold-small",
        "cold small page, upstream 50 ms away",
        (Metric("", "ms", goals=_added(3)),),
        SERVERS,
    ),
    ColdHugePage(
        "cold-12000",
        "cold 12,000-file page",
        (
            Metric("", "ms", goals=_added(60)),
            Metric("while others ask", "ms", goals=_added(60)),
            Metric("others, p99", "ms", goals=(Goal("at most", 10),)),
            Metric("others, longest", "ms"),
        ),
        SERVERS,
    ),
    ColdFile(
        "cold-file",
        "cold 200 MB file at 50 MB/s",
        (
            Metric("first byte", "ms", goals=_added(3)),
            Metric("total", "ms", goals=(Goal("at most", 1.01, DIRECT),)),
        ),
        SERVERS,
    ),
    ColdTail(
        "cold-tail",
        "last 16 KB of a cold 200 MB file",
        (Metric("", "ms", goals=_added(10)),),
        SERVERS,
    ),
)
