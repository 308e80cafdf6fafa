"""Pages and files that the server has: requests or bytes a second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bench import asks, catalogue, client, load
from bench.asks import PageAsk
from bench.client import Answer, Request
from bench.errors import WrongAnswer
from bench.lab import Lab
from bench.load import Parts
from bench.servers.base import Site, until_right
from bench.workloads.base import LIMITS, OURS, RIVALS, Goal, Metric, Workload

BIG_CONNECTIONS = 8
PART = Parts(catalogue.BIG_BYTES, 64 * 1024)
SMALL = PageAsk("small-0")
EVERYONE = (OURS, *LIMITS, *RIVALS)


@dataclass(frozen=True, slots=True)
class Subject:
    request: Request
    is_slow: bool = False
    parts: Parts | None = None


@dataclass(frozen=True, slots=True)
class WarmPage(Workload):
    """Requests a second for one page on kept connections."""

    ask: PageAsk = SMALL
    is_tls: bool = False

    def prepare(self, lab: Lab, server: str) -> Subject:
        if self.is_tls:
            return Subject(_tls_page(lab, lab.running(server, is_tls=True), self.ask))
        request = self.ask.request(lab, lab.running(server))
        client.one(request)
        # one at a time where wrk would see the end of few answers
        quickest = min(client.one(request).total for _ in range(3))
        return Subject(request, quickest * load.CONNECTIONS > max(1.0, lab.effort.seconds))

    def sample(self, lab: Lab, subject: Subject) -> Mapping[str, float]:
        return {"": _rate(lab, subject)}


@dataclass(frozen=True, slots=True)
class WarmFile(Workload):
    """Requests a second for a small file, or for parts of a big one."""

    project: str = "small-0"
    parts: Parts | None = None
    is_tls: bool = False

    def prepare(self, lab: Lab, server: str) -> Subject:
        site = lab.running(server, is_tls=self.is_tls)
        url = (
            _tls_file(lab, site, self.project)
            if self.is_tls
            else warm_file(lab, site, self.project)
        )
        if self.parts and not self.is_tls:
            _check_part(Request(url, {"Range": "bytes=70000-99999"}), self.project)
        return Subject(Request(url), parts=self.parts)

    def sample(self, lab: Lab, subject: Subject) -> Mapping[str, float]:
        return {"": _rate(lab, subject)}


@dataclass(frozen=True, slots=True)
class WarmBig(Workload):
    """Megabytes a second of a big file on a few connections."""

    project: str = "big-0"

    def prepare(self, lab: Lab, server: str) -> Subject:
        return Subject(Request(warm_file(lab, lab.running(server), self.project)))

    def sample(self, lab: Lab, subject: Subject) -> Mapping[str, float]:
        seconds = lab.effort.seconds
        return {"": client.throughput(subject.request, BIG_CONNECTIONS, seconds) / 1e6}


def warm_file(lab: Lab, site: Site, project: str) -> str:
    """Where the site has the project's first file, fetched and right. Raises `Unavailable`."""
    if site.is_limit:
        asks.provide_file(lab, project)
    request = Request(site.file(project))
    is_big = catalogue.kind_of(project) == "big"
    filename = catalogue.first_file(project).filename
    tail = catalogue.big_tail(project) if is_big else catalogue.small_body(project, filename)
    size = catalogue.BIG_BYTES if is_big else catalogue.SMALL_BYTES

    def is_right(answer: Answer) -> bool:
        return (
            answer.status == 200 and answer.size == size and answer.tail == tail and not answer.hops
        )

    until_right(request, is_right)
    return request.url


def _check_part(request: Request, project: str) -> None:
    answer, body = client.body(request)
    if answer.status != 206:
        raise WrongAnswer(f"status {answer.status} to a range")
    if body != catalogue.big_range(project, 70_000, 100_000):
        raise WrongAnswer("wrong bytes in a range")


def _tls_page(lab: Lab, site: Site, ask: PageAsk) -> Request:
    size = asks.capture(lab, ask)
    url = f"{site.url}/answer/{ask.key}" if site.is_limit else site.page(ask.project)
    request = Request(url, ask.headers)
    status, body = asks.over_tls(request)
    if status != 200 or len(body) != size:
        raise WrongAnswer(f"status {status}, {len(body)} bytes instead of {size}")
    return request


def _tls_file(lab: Lab, site: Site, project: str) -> str:
    asks.provide_file(lab, project)
    file = catalogue.first_file(project)
    url = f"{site.url}/file/{project}" if site.is_limit else site.page(project) + file.filename
    status, body = asks.over_tls(Request(url))
    if status != 200 or len(body) != file.size:
        raise WrongAnswer(f"status {status}, {len(body)} bytes instead of {file.size}")
    return url


def _rate(lab: Lab, subject: Subject) -> float:
    request, seconds = subject.request, lab.effort.seconds
    if subject.is_slow:
        begun = time.perf_counter()
        latencies: list[float] = []
        while not latencies or time.perf_counter() - begun < seconds:
            latencies += client.in_turn(request, 1)
        return 1 / statistics.mean(latencies)
    done = load.wrk(
        request.url,
        request.headers,
        cores=lab.load_cores,
        seconds=seconds,
        parts=subject.parts,
    )
    return done.per_second


def _page_goals(kind: str) -> tuple[Goal, ...]:
    goals = [Goal("at least", 0.85, "raw-asgi"), Goal("at least", 15, "proxpi")]
    return (*goals, *([] if kind == "small" else [Goal("at least", 15, "nginx-cache")]))


def _requests(*goals: Goal) -> tuple[Metric, ...]:
    return (Metric("", "req/s", True, goals),)


def _pages() -> list[Workload]:
    found: list[Workload] = []
    for kind, label in (("small", "small"), ("mid", "300-file"), ("huge", "12,000-file")):
        size = {"mid": "300", "huge": "12000"}.get(kind, kind)
        for form in ("json", "html"):
            for is_gzip in (False, True):
                ask = PageAsk(f"{kind}-0", form, is_gzip=is_gzip)
                name = f"warm-{size}-{form}{'-gzip' if is_gzip else ''}"
                title = f"warm {label} page, {form.upper()}{', gzip' if is_gzip else ''}"
                metrics = _requests(*_page_goals(kind))
                servers = tuple(one for one in EVERYONE if one != "sendfile")
                found.append(WarmPage(name, title, metrics, servers, ask=ask))
        ask = PageAsk(f"{kind}-0", is_conditional=True)
        metrics = _requests(Goal("at least", 0.85, "raw-asgi"))
        servers = tuple(one for one in EVERYONE if one != "sendfile")
        title = f"304 on a warm {label} page"
        found.append(WarmPage(f"warm-{size}-304", title, metrics, servers, ask=ask))
    return found


def _files() -> list[Workload]:
    small = (Goal("at least", 0.85, "raw-asgi"), Goal("at least", 10, "proxpi"))
    parts = (Goal("at least", 0.85, "sendfile"), Goal("at least", 0.6, "nginx-static"))
    big = (Goal("at least", 1.0, "nginx-static"),)
    rate = (Metric("", "MB/s", True, big),)
    return [
        WarmFile("warm-file-10k", "warm 10 KB file", _requests(*small), EVERYONE),
        WarmBig("warm-file-200m", "warm 200 MB file, 8 connections", rate, EVERYONE),
        WarmFile(
            "warm-ranges",
            "64 KB ranges of a warm 200 MB file",
            _requests(*parts),
            EVERYONE,
            project="big-0",
            parts=PART,
        ),
    ]


def _tls() -> list[Workload]:
    servers = (OURS, "raw-asgi")
    metrics = _requests(Goal("at least", 0.85, "raw-asgi"))
    return [
        WarmPage(
            "tls-small-json", "warm small page, TLS", metrics, servers, ask=SMALL, is_tls=True
        ),
        WarmFile("tls-file-10k", "warm 10 KB file, TLS", metrics, servers, is_tls=True),
        WarmFile(
            "tls-ranges",
            "64 KB ranges of a warm 200 MB file, TLS",
            metrics,
            servers,
            project="big-0",
            parts=PART,
            is_tls=True,
        ),
    ]


WORKLOADS = (*_pages(), *_files(), *_tls())
