"""The blob store: immutable files named by sha256, adopted whole, evicted least recently used.

Opening asks no database: the file is there or it is not. Recency is noted in batches. Eviction may
unlink a file that is being read; the descriptor still reads to the end.
"""

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from proxyindex import disk
from proxyindex.disk import Signature
from proxyindex.errors import StoreError
from proxyindex.store.budget import Budgeted
from proxyindex.store.partials import Partial
from proxyindex.store.proofs import Proofs

log = logging.getLogger(__name__)

_RESERVE = 64 * 1024**2  # bytes of the disk that a download may not use up


@dataclass(frozen=True, slots=True)
class Blob:
    """An open stored file: its name, descriptor, size in bytes, and when it was adopted (UTC)."""

    sha256: str
    fd: int
    size: int
    modified: datetime | None
    signature: Signature

    def close(self) -> None:
        disk.close(self.fd, self.size)


class BlobStore(Budgeted):
    """Blobs by hex sha256 under `root`."""

    kind = "blobs"

    @cached_property
    def _proofs(self) -> Proofs:
        return Proofs()

    def open(self, sha256: str, size: int | None = None) -> Blob | None:
        """The blob, or `None`; one whose size is not `size` is a miss.

        It stays: the blob may be sound and the size a lie; if not, the next adoption replaces it.
        """
        found = disk.open_regular(self.where(sha256))
        if found is None:
            return None
        fd, stat = found
        if size is not None and stat.st_size != size:
            os.close(fd)
            log.warning("stored blob %s has %d bytes, not %d: ignored", sha256, stat.st_size, size)
            return None
        self.touch(sha256, stat.st_size)
        modified = disk.time_of(stat.st_mtime_ns)
        return Blob(sha256, fd, stat.st_size, modified, disk.signature_of(stat))

    def is_proven(self, blob: Blob) -> bool:
        """Whether its bytes are known to be what its name says."""
        return self._proofs.holds(blob.sha256, blob.signature)

    def prove(self, blob: Blob) -> bool:
        """Hash its bytes; whether they are what its name says. One that is not is removed.

        Takes its time: 1.9 GB/s from memory, and whatever the disk gives. For a thread.
        """
        try:
            with open(blob.fd, "rb", closefd=False) as stream:
                actual = disk.sha256_of(stream)
        except OSError as problem:
            actual = problem.strerror or str(problem)
        if actual == blob.sha256:
            self._proofs.add(blob.sha256, blob.signature)
            return True
        # one after the other: who looks, and removes it a moment later, might remove what another
        # process has fetched in its place
        with suppress(OSError):  # a file system without locks
            fcntl.flock(blob.fd, fcntl.LOCK_EX)
        if disk.signature(self.where(blob.sha256)) == blob.signature:
            self.forget(blob.sha256)
            self._events.alarm("damaged-file")
            log.error("stored file %s was damaged (%s) and is removed", blob.sha256, actual)
        with suppress(OSError):
            fcntl.flock(blob.fd, fcntl.LOCK_UN)
        return False

    def open_proven(self, sha256: str, size: int | None = None) -> Blob | None:
        """As `open`, but a damaged one is a miss, too. For a thread."""
        blob = self.open(sha256, size)
        if blob is None or self.is_proven(blob) or self.prove(blob):
            return blob
        blob.close()
        return None

    def read(self, sha256: str, limit: int) -> bytes | None:
        """The bytes of a small blob, verified; `None` if they are damaged or more than `limit`.

        For blobs whose size no page tells, so that one cut short would show in nothing else.
        """
        blob = self.open(sha256)
        if blob is None:
            return None
        with os.fdopen(blob.fd, "rb") as stream:
            try:
                data = stream.read(limit + 1) if blob.size <= limit else b""
            except OSError:  # a disk that fails is damage, too
                return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def has(self, sha256: str) -> bool:
        return os.path.isfile(self.where(sha256))  # what may not be looked at is not there, either

    def adopt(self, partial: Partial, sha256: str) -> None:
        """Move a verified partial into place: one rename, no second write. Raises `StoreError`."""
        path = self.path(sha256)
        if not partial.is_in_place():  # the cache was removed meanwhile; who knows what is there
            raise StoreError("adopt a file", "it was removed while it was written")
        try:
            os.utime(partial.fd)  # leftovers keep old times; an adopted file is new
            disk.in_folder(path.parent, lambda: os.rename(partial.path, path))
        except OSError as problem:
            raise StoreError("adopt a file", problem) from problem
        self._proofs.add(sha256, disk.signature_of(os.fstat(partial.fd)))
        self.touch(sha256, partial.length())

    def put(self, sha256: str, data: bytes) -> None:
        """Store small verified bytes. Raises `StoreError`."""
        disk.write_whole(self.path(sha256), data, what="core metadata")
        self.touch(sha256, len(data))

    def unlink(self, key: str) -> bool:
        return disk.remove(self.path(key))

    def has_room(self, size: int) -> bool:
        """Whether the disk has room for a download of `size` bytes as it is."""
        return size + _RESERVE <= self._free()

    def make_room(self, size: int) -> None:
        """Trim before a download of `size` bytes. Raises `StoreError` if the disk is too full."""
        if self.has_room(size):
            return
        self.flush()
        # what would not fit into an empty cache is not worth emptying it for
        total = self.total()
        if size + _RESERVE <= self._free() + total:
            self._evict(max(0, total - size - _RESERVE))
        if not self.has_room(size):
            raise StoreError("keep a file", f"{size} bytes do not fit on the disk")

    def walk(self) -> Iterator[tuple[str, int, float]]:
        """Every stored blob: sha256, size in bytes, time of adoption."""
        for shelf in _entries(self._root):
            for entry in _entries(Path(shelf.path)):
                if entry.name.startswith("."):
                    continue
                try:
                    stat = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                yield entry.name, stat.st_size, stat.st_mtime

    def where(self, sha256: str) -> str:
        """The path of the blob, if it is stored."""
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def path(self, sha256: str) -> Path:
        """The same, for those who do more with it."""
        return Path(self.where(sha256))

    def shelves(self, sha256s: Iterable[str]) -> list[str]:
        """The folders in which these blobs lie, or would: one that comes or goes changes its
        folder's stamp."""
        return [f"{self._root}/{name}" for name in sorted({sha256[:2] for sha256 in sha256s})]

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._root if self._root.exists() else self._root.parent).free
        except OSError:
            return 0


def _entries(folder: Path) -> Iterable["os.DirEntry[str]"]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
