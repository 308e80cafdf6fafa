"""What all transfers of a cache directory share."""

from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from proxyindex.disk import Signature
from proxyindex.errors import StoreError, UpstreamUnavailable
from proxyindex.events import Events
from proxyindex.model import File, UpstreamOrigin
from proxyindex.store.blobs import Blob, BlobStore
from proxyindex.store.facts import Fact, Facts
from proxyindex.store.locks import Locks
from proxyindex.store.pages import PageStore
from proxyindex.store.partials import Partials
from proxyindex.store.trouble import Trouble
from proxyindex.store.worker import Worker
from proxyindex.threads import Threads
from proxyindex.upstream.index import Upstream


class PerUpstream:
    """A limit for each upstream: one that is slow, or means harm, holds up none of the others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limiters: dict[str, anyio.CapacityLimiter] = {}

    def of(self, upstream: Upstream) -> anyio.CapacityLimiter:
        """At most so many at a time."""
        if upstream.name not in self._limiters:
            self._limiters[upstream.name] = anyio.CapacityLimiter(self._most)
        return self._limiters[upstream.name]

    def place(self, upstream: Upstream, patience: float | None) -> "Place":
        """One that is still to be taken."""
        return Place(self.of(upstream), upstream.name, patience)


class Place:
    """A place among those who ask an upstream at a time; waited for `patience` seconds at most."""

    def __init__(
        self, limiter: anyio.CapacityLimiter, upstream: str, patience: float | None
    ) -> None:
        self._limiter = limiter
        self._upstream = upstream
        self._patience = patience
        self._is_taken = False

    async def take(self) -> None:
        """Wait for it, behind those who wait already, unless we have it. Raises
        `UpstreamUnavailable` when it took too long."""
        if self._is_taken:
            return
        try:
            with anyio.fail_after(self._patience):
                await self._limiter.acquire_on_behalf_of(self)
        except TimeoutError:
            raise UpstreamUnavailable(self._upstream, "is busy with other files") from None
        self._is_taken = True

    def leave(self) -> None:
        """Let others have it, if we have it."""
        if self._is_taken:
            self._is_taken = False
            self._limiter.release_on_behalf_of(self)


@dataclass(frozen=True, slots=True)
class Workshop:
    """The stores and limits that transfers work with. `max_file_size` in bytes.

    `slots` for downloads; `relays` for ranges passed through, which last as long as their client
    reads; `writers`, `provers` and `readers` for threads that write arriving files, which a busy
    disk holds up, that hash stored ones, and that read own ones, whose folder may not answer: in
    the common ones they would keep everything else waiting.
    """

    blobs: BlobStore
    partials: Partials
    pages: PageStore
    facts: Facts
    locks: Locks
    worker: Worker
    slots: PerUpstream
    relays: PerUpstream
    writers: Threads
    provers: Threads
    readers: anyio.CapacityLimiter
    spool: Path
    max_file_size: int
    events: Events
    trouble: Trouble

    def fact(self, file: File) -> Fact | None:
        """What was learned of a file of an upstream."""
        origin = _origin(file)
        return self.facts.read(origin.upstream, origin.project).get(file.filename)

    def learn(self, file: File, fact: Fact, *, may_wait: bool = False) -> None:
        """Note it for all processes, if the disk takes it; the URL is the page's. `may_wait`: that
        is right without it."""
        origin = _origin(file)
        fact = replace(fact, url=origin.url)
        try:
            self.facts.learn(
                origin.upstream, origin.project, file.filename, fact, may_wait=may_wait
            )
        except StoreError as problem:
            self.trouble.refused(problem)

    def page_state(self, file: File) -> Signature | None:
        """Changes when the page that lists the file is renewed; one `stat`."""
        origin = _origin(file)
        return self.pages.signature(origin.upstream, origin.project)

    def outdate_page(self, file: File) -> None:
        """Have the page that lists the file made anew."""
        origin = _origin(file)
        self.pages.outdate(origin.upstream, origin.project)

    def stored(self, file: File) -> Blob | None:
        """A file of an upstream, by the digest that its page tells, or else the one we learned."""
        sha256 = file.sha256
        if sha256 is None and (fact := self.fact(file)):
            sha256 = fact.sha256
        return self.blobs.open_proven(sha256, file.size) if sha256 else None


def _origin(file: File) -> UpstreamOrigin:
    assert isinstance(file.origin, UpstreamOrigin)
    return file.origin
