"""Core metadata of wheels, found or made: what upstream does not offer, we extract (PEP 658).

The ways, cheapest first: the wheel we hold, upstream's sidecar where the page tells its digest, the
tail of upstream's wheel by ranged requests, any other sidecar, the whole wheel. What was found is
verified, kept as a blob, and its digest advertised from then on.
"""

import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial

from anyio.abc import TaskGroup

from proxyindex.archives.wheel import (
    MAX_METADATA,
    InvalidArchive,
    agree,
    parse_headers,
    read_metadata,
)
from proxyindex.errors import (
    FileGone,
    NotHeld,
    RangesIgnored,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamUnavailable,
)
from proxyindex.files.coding import scratch, small, write
from proxyindex.files.cold import probe_size, read_range
from proxyindex.files.downloads import Downloads
from proxyindex.files.passing import pass_through
from proxyindex.files.patience import in_time, whole_in_time
from proxyindex.files.ranged import read_remote
from proxyindex.files.workshop import PerUpstream, Workshop
from proxyindex.flight import Flights
from proxyindex.inquiry import Outcome
from proxyindex.model import METADATA_SUFFIX, File, ReplacedOrigin, UpstreamOrigin, best_hash
from proxyindex.names import canonical, parse_filename
from proxyindex.store.facts import NO_METADATA, Fact
from proxyindex.threads import in_thread
from proxyindex.upstream.index import Upstream

log = logging.getLogger(__name__)

_Way = Callable[[File, Upstream], Awaitable[bytes | None]]

_MISSES_TO_GIVE_UP = 5  # an upstream without ranges or sidecars is not asked for one per wheel
_GIVE_UP_SECONDS = 3600.0
_ENTRY = b".dist-info/METADATA"
_MOST_LARGE = 8  # wheels of which more than the tail is looked at: that may be 32 MB each


class MetadataFinder:
    """Finds the core metadata of upstream wheels, once per wheel however many ask."""

    def __init__(self, workshop: Workshop, downloads: Downloads, tasks: TaskGroup) -> None:
        self._shop = workshop
        self._downloads = downloads
        self._flights: Flights[tuple[bytes, bool]] = Flights(tasks)
        self._sidecars = _GivenUp()
        self._ranges = _GivenUp()
        self._large = PerUpstream(_MOST_LARGE)

    async def find(
        self, wheel: File, upstream: Upstream, patience: float, *, may_ask: bool
    ) -> tuple[bytes, Outcome]:
        """The metadata, and where it came from; the search goes on when `patience` seconds are
        over.

        Raises `FileGone` when the wheel has none to be read, `UpstreamError` when it cannot be
        told now, and `NotHeld` when upstream would have to be asked and not `may_ask`.
        """
        flight, led = self._flights.join(
            f"{_search_key(wheel)} {may_ask}", lambda: self._search(wheel, upstream, may_ask)
        )
        self._shop.events.flight("metadata", "led" if led else "joined")
        data, was_asked = await in_time(flight.result, upstream, patience)
        if not was_asked:
            return data, Outcome.HIT
        return data, Outcome.FETCHED if led else Outcome.JOINED

    async def _search(self, wheel: File, upstream: Upstream, may_ask: bool) -> tuple[bytes, bool]:
        """The metadata, and whether upstream was asked."""
        async with self._shop.locks.hold(f"metadata {_search_key(wheel)}"):
            held, has_wheel = await in_thread(self._look, wheel)
            if held is not None:
                return held, False
            stored: tuple[_Way, ...] = (self._from_stored_wheel,) if has_wheel else ()
            busy: UpstreamBusy | None = None
            for way in (*stored, *(self._ways(wheel) if may_ask else ())):
                if busy and way == self._from_whole_wheel:
                    raise busy  # who has no time for a part is not asked for all of it
                try:
                    found = await way(wheel, upstream)
                except UpstreamBusy as problem:
                    busy = problem
                    continue
                except InvalidArchive as problem:
                    lacking = Fact(metadata=NO_METADATA, of=wheel.best_digest)
                    await in_thread(self._shop.learn, wheel, lacking)
                    log.warning("no core metadata: %s", problem)
                    raise FileGone(wheel.filename + METADATA_SUFFIX) from problem
                if found is not None:
                    await in_thread(self._keep, wheel, found)
                    return found, way != self._from_stored_wheel
        name = wheel.filename + METADATA_SUFFIX
        raise FileGone(name) if may_ask else NotHeld(name)

    def _ways(self, wheel: File) -> tuple[_Way, ...]:
        """How upstream may be asked.

        Neither a tail nor a sidecar without a digest is proven, and each is one request. But a
        tail any server has at hand, while a sidecar that is not advertised is mostly missing, or
        made when it is asked for (by PyPI's mirror: 2 against 130 ms). Of a replaced wheel both
        would be of the other bytes."""
        if isinstance(wheel.origin, ReplacedOrigin):
            return (self._from_whole_wheel,)
        looks = (self._from_tail, self._from_sidecar)
        return *(reversed(looks) if _promised(wheel) else looks), self._from_whole_wheel

    async def _from_stored_wheel(self, wheel: File, upstream: Upstream) -> bytes | None:
        return await self._shop.provers.run(self._extract_stored, wheel)

    async def _from_sidecar(self, wheel: File, upstream: Upstream) -> bytes | None:
        is_promised = _promised(wheel) is not None
        if not is_promised and self._sidecars.has(upstream.name):
            return None
        assert isinstance(wheel.origin, UpstreamOrigin)
        url = wheel.origin.sibling(METADATA_SUFFIX)
        try:
            with whole_in_time(upstream):
                data = await self._download(url, wheel, upstream)
        except FileGone:
            if not is_promised:
                self._sidecars.missed(upstream.name)
            return None
        except UpstreamError as problem:
            log.debug("no sidecar of %s: %s", wheel.filename, problem)
            return None
        self._sidecars.found(upstream.name)
        if objection := await in_thread(_objection, data, wheel):
            log.warning("sidecar of %s refused: %s", wheel.filename, objection)
            return None
        return data

    async def _download(self, url: str, wheel: File, upstream: Upstream) -> bytes:
        filename = wheel.filename + METADATA_SUFFIX
        sidecar = File(filename, wheel.origin, hashes=wheel.core_metadata or {})
        async with upstream.download(url, filename=filename) as reply:
            if not reply.tells_end and sidecar.best_digest is None:
                raise UpstreamUnavailable(upstream.name, "does not tell where it ends")
            name, spool = upstream.name, self._shop.spool
            return await small(reply, sidecar, upstream=name, spool=spool, limit=MAX_METADATA)

    async def _from_tail(self, wheel: File, upstream: Upstream) -> bytes | None:
        if self._ranges.has(upstream.name):
            return None
        fetch = partial(read_range, wheel, upstream)
        read = partial(read_metadata, filename=wheel.filename)
        large = self._large.of(upstream)
        try:
            with whole_in_time(upstream):
                size = wheel.size or await probe_size(wheel, upstream)
                data = await read_remote(size, _ENTRY, fetch, read, large=large) if size else None
        except RangesIgnored:
            self._ranges.missed(upstream.name)
            return None
        except UpstreamBusy:
            raise
        except (UpstreamError, FileGone, OSError, InvalidArchive) as problem:
            # the digest of the whole wheel will tell whether the archive is really broken
            log.debug("no ranged look into %s: %s", wheel.filename, problem)
            return None
        if data is None:
            return None
        self._ranges.found(upstream.name)
        # no digest proves a part: only the whole wheel may belie its page
        return data if _is_as_promised(data, wheel) else None

    async def _from_whole_wheel(self, wheel: File, upstream: Upstream) -> bytes | None:
        transfer, _ = self._downloads.join(wheel, upstream)
        with suppress(StoreError):
            await transfer.finished()
        found = await self._from_stored_wheel(wheel, upstream)
        return await self._from_passing_wheel(wheel, upstream) if found is None else found

    async def _from_passing_wheel(self, wheel: File, upstream: Upstream) -> bytes:
        """Where the cache does not keep the wheel: from a file that nobody else sees."""
        with scratch(None) as archive:
            async with aclosing(pass_through(wheel, upstream, self._shop, 0, None)) as chunks:
                async for chunk in chunks:
                    await in_thread(write, archive, chunk)
            return await in_thread(read_metadata, archive, wheel.filename)

    def _look(self, wheel: File) -> tuple[bytes | None, bool]:
        """The metadata that is on disk, of the digest that the page tells, or that was learned
        since; and whether the wheel is, as yet unproven."""
        known, sha256 = _promised(wheel), wheel.sha256
        if (known is None or sha256 is None) and (fact := self._shop.fact(wheel)):
            known, sha256 = known or fact.metadata_for(wheel.hashes), sha256 or fact.sha256
        held = self._shop.blobs.read(known, MAX_METADATA) if known else None
        return held, sha256 is not None and self._shop.blobs.has(sha256)

    def _extract_stored(self, wheel: File) -> bytes | None:
        blob = self._shop.stored(wheel)
        if blob is None:
            return None
        with os.fdopen(blob.fd, "rb") as archive:
            return read_metadata(archive, wheel.filename)

    def _keep(self, wheel: File, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            self._shop.blobs.put(sha256, data)
        except StoreError as problem:
            self._shop.trouble.refused(problem)
        if _promised(wheel) != sha256:
            # what the page says anyhow would only have it made and rendered anew
            may_wait = wheel.core_metadata is not None and _promised(wheel) is None
            found = Fact(metadata=sha256, of=wheel.best_digest)
            self._shop.learn(wheel, found, may_wait=may_wait)


class _GivenUp:
    """Upstreams that are not asked now: five times in a row they lacked what was asked for."""

    def __init__(self) -> None:
        self._misses: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def has(self, upstream: str) -> bool:
        return time.monotonic() < self._until.get(upstream, 0.0)

    def missed(self, upstream: str) -> None:
        misses = self._misses[upstream] = self._misses.get(upstream, 0) + 1
        if misses >= _MISSES_TO_GIVE_UP:
            self._until[upstream] = time.monotonic() + _GIVE_UP_SECONDS
            self._misses[upstream] = 0

    def found(self, upstream: str) -> None:
        self._misses[upstream] = 0


def _search_key(wheel: File) -> str:
    """What has to be the same for one search to answer two: the wheel, and what its page says of
    its metadata."""
    return f"{wheel.key} {_promised(wheel)}"


def _promised(wheel: File) -> str | None:
    """The sha256 that the page tells of the metadata."""
    return (wheel.core_metadata or {}).get("sha256")


def _is_as_promised(data: bytes, wheel: File) -> bool:
    """Whether it has the best of the digests that the page tells of it, if there is any."""
    best = best_hash(wheel.core_metadata or {})
    return best is None or hashlib.new(best[0], data, usedforsecurity=False).hexdigest() == best[1]


def _objection(data: bytes, wheel: File) -> str | None:
    """Why these bytes are not the wheel's metadata, as far as can be told without it. Blocks."""
    if not _is_as_promised(data, wheel):
        return "its digest differs"
    if best_hash(wheel.core_metadata or {}):
        return None
    core, named = parse_headers(data), parse_filename(wheel.filename)
    if named.project is None or canonical(core.name or "") != named.project:
        return "it names another project"
    is_same = core.version and named.version and agree(core.version, named.version)
    return None if is_same else "it names another version"
