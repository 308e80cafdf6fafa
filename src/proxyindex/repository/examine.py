"""What only the content of a local file tells: its digest, its metadata, whether it is whole.

Computed once per state of a file, in worker threads, and remembered across restarts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import BinaryIO, Protocol

import anyio
import anyio.to_thread

from proxyindex import disk
from proxyindex.archives.sdist import check_whole, read_pkg_info
from proxyindex.archives.wheel import InvalidArchive, check_zip, parse_headers, read_metadata
from proxyindex.disk import Signature, is_sha256
from proxyindex.flight import Shared
from proxyindex.memo import Memo
from proxyindex.records import record_path
from proxyindex.repository.scan import Found

logger = logging.getLogger(__name__)

MEMO_SIZE = 50_000
_FORMAT = 1  # of the remembered values; raised when they change
_READERS = 4  # files read at the same time: disks and two cores gain nothing from more
_PKG_INFO_ENDS = (".tar.gz", ".tgz", ".zip")


class DerivedStore(Protocol):
    """Small values that outlive the process and may be lost at any time; nothing is raised."""

    async def recall(self, key: str) -> bytes | None:
        """The value last remembered under this key, if it is still there."""
        ...

    async def remember(self, key: str, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Derived:
    """Digests are lower-case hex; `metadata_sha256` is set for wheels only."""

    sha256: str
    requires_python: str | None = None
    metadata_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One state of one file."""

    found: Found
    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int = field(compare=False)  # a change of owner says nothing of the content
    record: Signature | None = None  # of the record beside it

    @property
    def stamp(self) -> Signature:
        """As `disk.signature` has it."""
        return self.inode, self.mtime_ns, self.size, self.ctime_ns

    @property
    def key(self) -> str:
        name = hashlib.sha256(os.fsencode(self.found.path)).hexdigest()
        return f"local-{_FORMAT}-{name}-{self.size}-{self.mtime_ns}-{self.inode}"


class FileChanging(InvalidArchive):
    """The file is being written at this very moment."""


class Examiner:
    """Sightings → `Derived`, or `None` for files not to be listed in their present state.

    A file changed less than two seconds ago is examined at each request: its next state might
    bear the same stamp. `clock` tells nanoseconds since the epoch.
    """

    def __init__(self, remembered: DerivedStore, *, clock: Callable[[], int]) -> None:
        self._remembered = remembered
        self._clock = clock
        self._memo: Memo[str, Derived | None] = Memo(MEMO_SIZE)
        self._readings: Shared[str, Derived | None] = Shared()
        self._reported: Memo[str, None] = Memo(MEMO_SIZE)
        self._readers = anyio.CapacityLimiter(_READERS)

    def knows(self, sighting: Sighting) -> bool:
        """Whether the answer for this state will not change."""
        return sighting.key in self._memo

    async def examine(self, sightings: Sequence[Sighting]) -> list[Derived | None]:
        """What is derived of each, in order. Never raises for what is wrong with a file."""
        answers: dict[Sighting, Derived | None] = {}

        async def ask(sighting: Sighting) -> None:
            answers[sighting] = await self._derived(sighting)

        async with anyio.create_task_group() as tasks:
            for sighting in sightings:
                if (key := sighting.key) in self._memo:
                    answers[sighting] = self._memo.get(key)
                else:
                    tasks.start_soon(ask, sighting)
        return [answers[sighting] for sighting in sightings]

    async def _derived(self, sighting: Sighting) -> Derived | None:
        if (key := sighting.key) in self._memo:
            return self._memo.get(key)
        return await self._readings.get(key, partial(self._find, key, sighting))

    async def _find(self, key: str, sighting: Sighting) -> Derived | None:
        derived = _from_json(await self._remembered.recall(key))
        if derived is not None:
            self._memo.put(key, derived)
            return derived
        # asked before reading: a change after that must show in the stamp
        is_settled = self._clock() - sighting.mtime_ns > disk.RACY_NS
        try:
            derived = await anyio.to_thread.run_sync(
                partial(derive, sighting, is_settled=is_settled), limiter=self._readers
            )
        except (FileChanging, OSError) as exc:  # says nothing about the next attempt
            self._report(key, sighting, exc)
            return None
        except InvalidArchive as exc:
            self._report(key, sighting, exc)
        if is_settled:
            self._memo.put(key, derived)
            if derived:
                value = json.dumps(asdict(derived), separators=(",", ":")).encode()
                await self._remembered.remember(key, value)
        return derived

    def _report(self, key: str, sighting: Sighting, exc: Exception) -> None:
        if key not in self._reported:
            self._reported.put(key, None)
            logger.warning("not listing %r: %s", sighting.found.path, exc)


def sight(found: Sequence[Found]) -> tuple[Sighting, ...]:
    """The present states of those that are regular files, or links to such. Blocks."""
    sightings = []
    for each in found:
        try:
            now = os.stat(each.path)
        except OSError:  # removed since it was listed, or a link to nowhere
            continue
        if stat.S_ISREG(now.st_mode):
            record = disk.signature(record_path(each.path)) if each.beside.record else None
            sightings.append(
                Sighting(each, now.st_size, now.st_mtime_ns, now.st_ino, now.st_ctime_ns, record)
            )
    return tuple(sightings)


def derive(sighting: Sighting, *, is_settled: bool) -> Derived:
    """Reads the whole file. Blocks.

    Raises `InvalidArchive` if the file is broken or not complete, `FileChanging` if it changes
    meanwhile, and `OSError` if it cannot be read.
    """
    found = sighting.found
    with open(found.path, "rb", opener=disk.at_once) as source:
        _check_unchanged(sighting, os.fstat(source.fileno()))
        requires_python, metadata = _examine(source, found, is_settled=is_settled)
        source.seek(0)
        digest = disk.sha256_of(source)
    _check_unchanged(sighting, os.stat(found.path))
    return Derived(digest, requires_python, metadata)


def _examine(source: BinaryIO, found: Found, *, is_settled: bool) -> tuple[str | None, str | None]:
    """Requires-Python and the digest of the metadata, of an archive that is whole."""
    if found.kind == "wheel":
        check_zip(source, found.filename)
        metadata = read_metadata(source, found.filename)
        return parse_headers(metadata).requires_python, hashlib.sha256(metadata).hexdigest()
    if found.filename.endswith(_PKG_INFO_ENDS):
        pkg_info = read_pkg_info(source, found.filename)
        return parse_headers(pkg_info or b"").requires_python, None
    if not check_whole(source, found.filename) and not is_settled:
        raise FileChanging(found.filename, "may still be being written")
    return None, None


def _check_unchanged(sighting: Sighting, now: os.stat_result) -> None:
    if (now.st_size, now.st_mtime_ns, now.st_ino) != (
        sighting.size,
        sighting.mtime_ns,
        sighting.inode,
    ):
        raise FileChanging(sighting.found.filename, "changed while it was read")


def _from_json(value: bytes | None) -> Derived | None:
    """What was remembered; `None` if it is not what `Examiner` writes."""
    if value is None:
        return None
    try:
        derived = Derived(**json.loads(value))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (derived.requires_python, derived.metadata_sha256)
    if not is_sha256(derived.sha256) or not all(t is None or isinstance(t, str) for t in texts):
        return None
    if derived.metadata_sha256 is not None and not is_sha256(derived.metadata_sha256):
        return None
    return derived
