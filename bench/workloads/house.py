"""Workers, start-up, memory, and whether a full cache costs anything."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import catalogue, client, fill, load
from bench.asks import PageAsk
from bench.client import Failed, Request
from bench.errors import Unavailable
from bench.lab import Lab
from bench.servers import SERVERS
from bench.servers.base import START_SECONDS, Server, Setup, Site, wait_for
from bench.servers.ours import ProxyIndex
from bench.signs import TIMES
from bench.workloads.base import OURS, RIVALS, Goal, Metric, Workload
from bench.workloads.warm import warm_file

IDLE_SECONDS = 2.0
LATENCY_REQUESTS = 500
FULL = {"projects": 5_000, "files": 20_000}
CROWDED = {"projects": 100, "files": 100_000}


@dataclass(frozen=True, slots=True)
class Workers(Workload):
    """How much more two workers do than one, each on a core of its own.

    Where there are but two cores, the second worker shares its core with the load generator: what
    the latter took of the two is not counted as having been on offer.
    """

    is_file: bool = False

    def prepare(self, lab: Lab, server: str) -> tuple[Request, Request]:
        one = lab.running(server)
        two = lab.running(server, workers=2, is_spread=True)
        return self._request(lab, one), self._request(lab, two)

    def sample(self, lab: Lab, subject: tuple[Request, Request]) -> Mapping[str, float]:
        one, two = (self._rate(lab, request) for request in subject)
        cores = 2.0
        if len(lab.all_cores) < 3:
            cores -= two.cores
        speedup = (two.per_second / cores) / one.per_second * 2
        return {"": speedup, "one": one.per_second, "two, as measured": two.per_second}

    def _request(self, lab: Lab, site: Site) -> Request:
        if self.is_file:
            return Request(warm_file(lab, site, "small-0"))
        return PageAsk("small-0").request(lab, site)

    def _rate(self, lab: Lab, request: Request) -> load.Rate:
        cores = lab.all_cores[2:] or lab.load_cores
        seconds = lab.effort.seconds
        return load.wrk(request.url, request.headers, cores=cores, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Prepared:
    server: Server
    setup: Setup
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Start(Workload):
    """Seconds from the command to the first answer, then MB resident when nothing happens."""

    is_crowded: bool = False

    def prepare(self, lab: Lab, server: str) -> Prepared:
        setup = lab.setup(SERVERS[server])
        SERVERS[server].prepare(setup)
        cache = None
        if self.is_crowded:
            cache = fill.cache_of(lab.scratch, lab.upstream.url, **CROWDED)
        return Prepared(SERVERS[server], setup, cache)

    def sample(self, lab: Lab, subject: Prepared) -> Mapping[str, float]:
        begun = time.perf_counter()
        site = self._launch(subject)
        try:
            _first_answer(site)
            seconds = time.perf_counter() - begun
            time.sleep(IDLE_SECONDS)
            largest = site.child.memory().largest
        finally:
            site.child.stop()
            if not self.is_crowded and subject.server.name == OURS:
                shutil.rmtree(subject.setup.folder / "cache", ignore_errors=True)
        return {"": seconds, "idle": largest / 1e6}

    def _launch(self, subject: Prepared) -> Site:
        if subject.cache and isinstance(subject.server, ProxyIndex):
            return subject.server.launch_with(subject.setup, subject.cache)
        return subject.server.launch(subject.setup)


def _first_answer(site: Site) -> None:
    """Until a page request has any answer; raises `Unavailable`."""
    request = Request(site.page("small-0"), {"Accept": catalogue.JSON_TYPE})
    deadline = time.perf_counter() + START_SECONDS
    while time.perf_counter() < deadline:
        with contextlib.suppress(Failed, OSError):
            if client.one(request, patience=5).status:
                return
        if not site.child.is_running:
            raise Unavailable(f"does not start: {site.child.last_words}")
        time.sleep(0.002)
    raise Unavailable("does not answer")


@dataclass(frozen=True, slots=True)
class FullAndEmpty:
    """The same requests to a site with a full cache, which is to be ended, and one without."""

    site: Site
    pages: tuple[Request, Request]
    files: tuple[Request, Request]


@dataclass(frozen=True, slots=True)
class FullCache(Workload):
    """Latency with thousands of projects and files in the cache, as a multiple of that without."""

    def prepare(self, lab: Lab, server: str) -> FullAndEmpty:
        ours = SERVERS[server]
        assert isinstance(ours, ProxyIndex)
        cache = fill.cache_of(lab.scratch, lab.upstream.url, **FULL)
        empty, full = lab.running(server), ours.launch_with(lab.setup(ours), cache)
        try:
            wait_for(full)
            page, file = PageAsk("small-0"), "small-0"
            return FullAndEmpty(
                full,
                (page.request(lab, full), page.request(lab, empty)),
                (Request(warm_file(lab, full, file)), Request(warm_file(lab, empty, file))),
            )
        except BaseException:
            full.child.stop()
            raise

    def sample(self, lab: Lab, subject: FullAndEmpty) -> Mapping[str, float]:
        return {"page": _latency_ratio(*subject.pages), "file": _latency_ratio(*subject.files)}

    def close(self, lab: Lab, subject: FullAndEmpty) -> None:
        subject.site.child.stop()


def _latency_ratio(full: Request, empty: Request) -> float:
    """Alternating, so that a busy machine hits both."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(4):
        ours += client.in_turn(full, LATENCY_REQUESTS // 4)
        theirs += client.in_turn(empty, LATENCY_REQUESTS // 4)
    return statistics.median(ours) / statistics.median(theirs)


def _workers(name: str, title: str, *, is_file: bool) -> Workers:
    metrics = (
        Metric("", f"{TIMES} one worker", True, (Goal("at least", 1.7),)),
        Metric("one", "req/s", True),
        Metric("two, as measured", "req/s", True),
    )
    return Workers(name, title, metrics, (OURS,), is_file=is_file)


def _start(name: str, title: str, servers: tuple[str, ...], *, is_crowded: bool) -> Start:
    metrics = (
        Metric("", "s", goals=(Goal("at most", 0.6),)),
        Metric("idle", "MB", goals=(Goal("at most", 60),)),
    )
    return Start(name, title, metrics, servers, is_crowded=is_crowded)


_WITHIN = (Goal("at most", 1.1),)
WORKLOADS: tuple[Workload, ...] = (
    _workers("workers-page", "2 workers, warm small page", is_file=False),
    _workers("workers-file", "2 workers, warm 10 KB file", is_file=True),
    _start("start-empty", "start to first answer", (OURS, "raw-asgi", *RIVALS), is_crowded=False),
    _start("start-100000", "the same, 100,000 files cached", (OURS,), is_crowded=True),
    FullCache(
        "full-cache",
        "latency with 20,000 files and 5,000 projects cached",
        (
            Metric("page", f"{TIMES} empty", goals=_WITHIN),
            Metric("file", f"{TIMES} empty", goals=_WITHIN),
        ),
        (OURS,),
    ),
)
