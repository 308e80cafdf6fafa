"""Turns any file of a page into open content: from a folder, the cache, or an upstream."""

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from functools import partial

import anyio.to_thread
from anyio.abc import TaskGroup

from proxyindex import disk
from proxyindex.archives.wheel import MAX_METADATA, InvalidArchive, read_metadata
from proxyindex.disk import Signature
from proxyindex.errors import (
    FileGone,
    FileReplaced,
    FileUnreadable,
    NotHeld,
    ServerOffline,
    UpstreamError,
)
from proxyindex.files.coding import small
from proxyindex.files.cold import Cold
from proxyindex.files.content import Content, InMemory, Own, Stored
from proxyindex.files.downloads import Downloads
from proxyindex.files.metadata import MetadataFinder
from proxyindex.files.patience import whole_in_time
from proxyindex.files.workshop import Workshop
from proxyindex.flight import Flights
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.memo import Memo
from proxyindex.model import (
    METADATA_SUFFIX,
    SIGNATURE_SUFFIX,
    File,
    LocalOrigin,
    MetadataOrigin,
    ProvenanceOrigin,
    SignatureOrigin,
    UpstreamOrigin,
)
from proxyindex.store.blobs import Blob
from proxyindex.store.facts import Fact
from proxyindex.store.index import Notes
from proxyindex.threads import in_thread
from proxyindex.upstream.index import Upstream

_MAX_SIGNATURE = 64 * 1024
_NO_SIGNATURE_SECONDS = 3600.0
_MOST_PINNED = 50_000  # names of files of which is known that their first bytes are noted


class FileService:
    """Opens files. `upstreams` by id, as `UpstreamOrigin` names them."""

    def __init__(
        self,
        shop: Workshop,
        downloads: Downloads,
        metadata: MetadataFinder,
        upstreams: Mapping[str, Upstream],
        notes: Notes,
        tasks: TaskGroup,
        *,
        is_offline: bool,
    ) -> None:
        self._shop = shop
        self._blobs = shop.blobs
        self._downloads = downloads
        self._metadata = metadata
        self._upstreams = upstreams
        self._notes = notes
        self._worker = shop.worker
        self._provers = shop.provers
        self._readers = shop.readers
        self._spool = shop.spool
        self._proving: Flights[bool] = Flights(tasks)
        self._signing: Flights[bytes] = Flights(tasks)
        self.is_offline = is_offline
        self._pinned: Memo[str, None] = Memo(_MOST_PINNED)

    async def open(self, file: File, inquiry: Inquiry, *, whole: bool) -> Content:
        """The file's content, to be closed; sets the inquiry's outcome.

        `whole`: the client wants all of it, so an unknown size may be learned by fetching.
        Raises `FileGone`, `FileUnreadable`, `UpstreamError`, `StoreError`.
        """
        match file.origin:
            case LocalOrigin(path) | ProvenanceOrigin(path):
                return await self._open_own(file, path, inquiry)
            case UpstreamOrigin():
                return await self._open_upstream(file, inquiry, whole=whole)
            case MetadataOrigin(wheel):
                return await self._open_metadata(file, wheel, inquiry)
            case SignatureOrigin(signed):
                return await self._open_signature(file, signed, inquiry)

    async def _open_upstream(self, file: File, inquiry: Inquiry, *, whole: bool) -> Content:
        if file.sha256 and (stored := await self._stored(file.sha256, file.size, inquiry)):
            inquiry.outcome = Outcome.HIT
            self._pin(file, stored.size)
            return stored
        inquiry.outcome = None
        inquiry.ground.holds_once()
        upstream = self._upstream(file, inquiry)
        cold = Cold(file, upstream, self._downloads, inquiry)
        await cold.measure(whole=whole)
        return cold

    def _pin(self, file: File, size: int | None) -> None:
        """Bytes that another upstream, or another name, brought are this file's first all the
        same; noted once by each process, behind the answer."""
        if (key := file.key) not in self._pinned:
            self._pinned.put(key, None)
            fact = Fact(sha256=file.sha256, size=size)
            self._worker.submit(self._shop.learn, file, fact, may_wait=True)

    async def _stored(self, sha256: str, size: int | None, inquiry: Inquiry) -> Stored | None:
        """The file from disk if it is there and sound; a damaged one is fetched again."""
        blob = self._blobs.open(sha256, size)
        if blob is None:
            return None
        try:
            if not self._blobs.is_proven(blob) and not await self._prove(blob):
                blob.close()
                return None
        except BaseException:
            blob.close()
            raise
        inquiry.ground.rests_on((self._blobs.where(sha256), blob.signature))
        inquiry.ground.uses.append(partial(self._blobs.touch, sha256, blob.size))
        return Stored(blob.fd, blob.size, sha256=sha256, modified=blob.modified)

    async def _prove(self, blob: Blob) -> bool:
        """Hash it once, however many ask for it."""
        # by another descriptor: ours is closed when our client leaves
        flight, _ = self._proving.join(
            blob.sha256,
            partial(self._provers.run, self._is_sound, blob.sha256),
        )
        return await flight.result() and self._blobs.is_proven(blob)

    def _is_sound(self, sha256: str) -> bool:
        blob = self._blobs.open_proven(sha256)
        if blob is not None:
            blob.close()
        return blob is not None

    def _upstream(self, file: File, inquiry: Inquiry, *, to_ask: bool = True) -> Upstream:
        assert isinstance(file.origin, UpstreamOrigin)
        if to_ask and (problem := self._refusal(file, inquiry)):
            raise problem
        return self._upstreams[file.origin.upstream]

    def _refusal(self, file: File, inquiry: Inquiry) -> UpstreamError | NotHeld | None:
        """Why its upstream is not asked for this inquiry, if that is so."""
        assert isinstance(file.origin, UpstreamOrigin)
        if not inquiry.may_fetch:
            return NotHeld(file.filename)
        if self.is_offline:
            return ServerOffline(self._upstreams[file.origin.upstream].name)
        return inquiry.unsure

    async def _open_own(self, file: File, path: str, inquiry: Inquiry) -> Stored:
        inquiry.outcome = Outcome.LOCAL
        looked_ns = time.time_ns()
        fd, found, sha256 = await anyio.to_thread.run_sync(
            _open_digested, file, path, limiter=self._readers
        )
        _rest_on(path, disk.signature_of(found), looked_ns, inquiry)
        return Stored(
            fd,
            found.st_size,
            sha256=sha256,
            modified=disk.time_of(found.st_mtime_ns),
            is_immutable=file.sha256 is not None and not _is_volatile(file),
            own=Own(file.filename, self._readers),
        )

    async def _open_own_metadata(self, wheel: File, path: str, inquiry: Inquiry) -> InMemory:
        inquiry.outcome = Outcome.LOCAL
        looked_ns = time.time_ns()
        data, stamp = await anyio.to_thread.run_sync(
            _read_own_metadata, wheel, path, limiter=self._readers
        )
        _rest_on(path, stamp, looked_ns, inquiry)
        return InMemory(data, is_immutable=not _is_volatile(wheel))

    async def _open_metadata(self, file: File, wheel: File, inquiry: Inquiry) -> Content:
        if isinstance(wheel.origin, LocalOrigin):
            return await self._open_own_metadata(wheel, wheel.origin.path, inquiry)
        if file.sha256:  # the page has all digests that were known when it was completed
            path = self._blobs.where(file.sha256)
            stamp = disk.signature(path)
            held = await in_thread(self._blobs.read, file.sha256, MAX_METADATA)
            if held is not None:
                inquiry.ground.rests_on((path, stamp))
                inquiry.outcome = Outcome.HIT
                inquiry.ground.uses.append(partial(self._blobs.touch, file.sha256, len(held)))
                return InMemory(held)
        # from a wheel on disk METADATA is extracted, unless it turns out to be damaged
        is_on_disk = wheel.sha256 is not None and self._blobs.has(wheel.sha256)
        upstream = self._upstream(wheel, inquiry, to_ask=not is_on_disk)
        may_ask = self._refusal(wheel, inquiry) is None
        try:
            data, outcome = await self._metadata.find(
                wheel, upstream, inquiry.remaining(), may_ask=may_ask
            )
        except NotHeld:
            self._upstream(wheel, inquiry)  # tells why
            raise
        inquiry.outcome = outcome
        path = self._blobs.where(hashlib.sha256(data).hexdigest())
        if stamp := disk.signature(path):
            inquiry.ground.rests_on((path, stamp))
        else:  # the disk did not take it
            inquiry.ground.holds_once()
        return InMemory(data)

    async def _open_signature(self, file: File, signed: File, inquiry: Inquiry) -> Content:
        if isinstance(signed.origin, LocalOrigin):
            return await self._open_own(file, signed.origin.path + SIGNATURE_SUFFIX, inquiry)
        inquiry.ground.holds_once()
        note = f"no signature {signed.key}"
        if await self._worker.run(self._notes.recall, note) is not None:
            inquiry.outcome = Outcome.HIT
            raise FileGone(file.filename)
        upstream = self._upstream(signed, inquiry)
        flight, led = self._signing.join(
            signed.key, partial(self._fetch_signature, file, signed, upstream, note)
        )
        inquiry.outcome = Outcome.FETCHED if led else Outcome.JOINED
        return InMemory(await flight.result(), is_immutable=False)

    async def _fetch_signature(
        self, file: File, signed: File, upstream: Upstream, note: str
    ) -> bytes:
        assert isinstance(signed.origin, UpstreamOrigin)
        url, name, spool = signed.origin.sibling(SIGNATURE_SUFFIX), upstream.name, self._spool
        try:
            with whole_in_time(upstream):
                async with upstream.download(url, filename=file.filename) as reply:
                    return await small(
                        reply, file, upstream=name, spool=spool, limit=_MAX_SIGNATURE
                    )
        except FileGone:
            await self._worker.run(self._notes.remember, note, b"", _NO_SIGNATURE_SECONDS)
            raise


def _rest_on(path: str, stamp: Signature, looked_ns: int, inquiry: Inquiry) -> None:
    """The answer holds while our own file is as it was seen; fleeting if that cannot be told."""
    if disk.is_settled(stamp, looked_ns):
        inquiry.ground.rests_on((path, stamp))
    else:
        inquiry.ground.holds_once()


def _open_local(file: File, path: str) -> tuple[int, os.stat_result]:
    """A descriptor of our own file, if it is still the one that its page is of."""
    try:
        fd = disk.at_once(path, os.O_RDONLY)
    except FileNotFoundError as problem:
        raise FileGone(file.filename) from problem
    except OSError as problem:
        raise FileUnreadable(file.filename, f"cannot be read: {problem.strerror}") from problem
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise FileGone(file.filename)
    own = file.origin if isinstance(file.origin, LocalOrigin) else LocalOrigin(path)
    state = own.state or (found.st_ino, found.st_mtime_ns)
    if (found.st_ino, found.st_mtime_ns) != state or file.size not in (None, found.st_size):
        os.close(fd)  # its digest is not the one we promised
        raise FileReplaced(file.filename)
    return fd, found


def _open_digested(file: File, path: str) -> tuple[int, os.stat_result, str]:
    """As `_open_local`, and its sha256, which no page tells of signatures and provenance."""
    fd, found = _open_local(file, path)
    if file.sha256:
        return fd, found, file.sha256
    try:
        with open(fd, "rb", closefd=False) as source:
            return fd, found, disk.sha256_of(source)
    except OSError as problem:
        os.close(fd)
        raise FileUnreadable(file.filename, f"cannot be read: {problem.strerror}") from problem


def _read_own_metadata(wheel: File, path: str) -> tuple[bytes, Signature]:
    fd, found = _open_local(wheel, path)
    try:
        with open(fd, "rb") as archive:
            return read_metadata(archive, wheel.filename), disk.signature_of(found)
    except InvalidArchive as problem:
        raise FileGone(wheel.filename + METADATA_SUFFIX) from problem
    except OSError as problem:
        raise FileUnreadable(wheel.filename, f"cannot be read: {problem.strerror}") from problem


def _is_volatile(file: File) -> bool:
    return isinstance(file.origin, LocalOrigin) and file.origin.is_volatile
