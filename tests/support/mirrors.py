"""Parts of a server put together in this process: a scripted upstream, a cache, a mirror."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
from anyio.abc import TaskGroup

from proxyindex.freshness import FreshnessRules
from proxyindex.repository.asking import Stores, Terms
from proxyindex.store.cache import Cache
from proxyindex.upstream.breaker import Breaker
from proxyindex.upstream.connection import Connection
from proxyindex.upstream.index import Upstream

UPSTREAM_URL = "http://up.example/simple"
RULES = FreshnessRules(
    page_ttl=600, stale_while_revalidate=300, stale_if_error=10_000, negative_ttl=60
)


class Recorder:
    """Events, counted."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.flights: list[str] = []
        self.alarms: list[str] = []

    def page(self, upstream: str, decision: str) -> None:
        self.pages.append(decision)

    def flight(self, kind: str, role: str) -> None:
        self.flights.append(role)

    def transfer(self, upstream: str, result: str, size: int) -> None: ...

    def trim(self, store: str, freed: int) -> None: ...

    def alarm(self, kind: str) -> None:
        self.alarms.append(kind)


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Body(httpx.AsyncByteStream):
    """A body as it comes from a socket, not yet read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data


def answer(status: int = 200, body: bytes = b"", **headers: str) -> httpx.Response:
    """An upstream's answer; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=Body(body))


Answer = Callable[[httpx.Request], httpx.Response]


@dataclass
class Source:
    """An upstream that answers as `reply` says; `hold()` makes it wait until `release()`."""

    reply: Answer
    asked: list[httpx.Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open = anyio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open = anyio.Event()

    def release(self) -> None:
        self._open.set()

    @property
    def count(self) -> int:
        return len(self.asked)

    @property
    def paths(self) -> Counter[str]:
        return Counter(request.url.path for request in self.asked)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        await self._open.wait()
        return self.reply(request)


@dataclass
class Workplace:
    """A cache directory opened as one worker opens it, and an upstream in front of it."""

    source: Source
    cache: Cache
    upstream: Upstream
    tasks: TaskGroup
    clock: Clock
    breaker: Breaker
    events: Recorder

    def terms(
        self,
        *,
        rules: FreshnessRules = RULES,
        is_offline: bool = False,
        doubts_absence: bool = False,
    ) -> Terms:
        cache = self.cache
        stores = Stores(
            cache.pages, cache.absent, cache.doubts, cache.worker, cache.locks, cache.trouble
        )
        return Terms(
            self.upstream,
            "up-1",
            stores,
            self.breaker,
            rules,
            self.events,
            is_offline=is_offline,
            doubts_absence=doubts_absence,
            clock=self.clock,
        )


@asynccontextmanager
async def workplace(
    root: Path, source: Source, clock: Clock | None = None
) -> AsyncIterator[Workplace]:
    """Closed like the application: running work is cancelled first."""
    events = Recorder()
    cache = Cache.open(root, file_limit=10**9, page_limit=10**9, events=events)
    upstream = Upstream(
        Connection("up", UPSTREAM_URL, "proxyindex-1"),
        retries=0,
        transport=httpx.MockTransport(source.handle),
    )
    try:
        async with anyio.create_task_group() as tasks:
            yield Workplace(source, cache, upstream, tasks, clock or Clock(), Breaker(), events)
            tasks.cancel_scope.cancel()
    finally:
        await upstream.aclose()
        cache.close()
