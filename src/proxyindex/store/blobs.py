"""The blob store: immutable files named by sha256, adopted whole, evicted least recently used.

Opening asks no database: the file is there or it is not. Recency is noted in batches. Eviction may
unlink a file that is being read; the descriptor still reads to the end.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proxyindex.errors import StoreError
from proxyindex.store import disk
from proxyindex.store.budget import Budgeted
from proxyindex.store.partials import Partial

log = logging.getLogger(__name__)

_RESERVE = 64 * 1024**2  # bytes of the disk that a download may not use up


@dataclass(frozen=True, slots=True)
class Blob:
    """An open stored file: its descriptor, size in bytes, and when it was adopted (UTC)."""

    fd: int
    size: int
    modified: datetime

    def close(self) -> None:
        os.close(self.fd)


class BlobStore(Budgeted):
    """Blobs by hex sha256 under `root`."""

    kind = "blobs"

    def open(self, sha256: str, size: int | None = None) -> Blob | None:
        """The blob, or `None`; one whose size is not `size` is a miss.

        It stays: the blob may be sound and the size a lie; if not, the next adoption replaces it.
        """
        found = disk.open_regular(self.path(sha256))
        if found is None:
            return None
        fd, stat = found
        if size is not None and stat.st_size != size:
            os.close(fd)
            log.warning("stored blob %s has %d bytes, not %d: ignored", sha256, stat.st_size, size)
            return None
        self.touch(sha256, stat.st_size)
        return Blob(fd, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def read(self, sha256: str, limit: int) -> bytes | None:
        """The bytes of a small blob, verified; `None` if they are damaged or more than `limit`.

        For blobs whose size no page tells, so that one cut short would show in nothing else.
        """
        blob = self.open(sha256)
        if blob is None:
            return None
        with os.fdopen(blob.fd, "rb") as stream:
            data = stream.read(limit + 1) if blob.size <= limit else b""
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def adopt(self, partial: Partial, sha256: str) -> None:
        """Move a verified partial into place: one rename, no second write. Raises `StoreError`."""
        path = self.path(sha256)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.utime(partial.fd)  # leftovers keep old times; an adopted file is new
            os.rename(partial.path, path)
        except OSError as problem:
            raise StoreError("adopt a file", problem.strerror or str(problem)) from problem
        self.touch(sha256, partial.length())

    def put(self, sha256: str, data: bytes) -> None:
        """Store small verified bytes. Raises `StoreError`."""
        disk.write_whole(self.path(sha256), data, what="core metadata")
        self.touch(sha256, len(data))

    def unlink(self, key: str) -> bool:
        return disk.remove(self.path(key))

    def make_room(self, size: int) -> None:
        """Trim before a download of `size` bytes. Raises `StoreError` if the disk is too full."""
        if size + _RESERVE <= self._free():
            return
        self.flush()
        # what would not fit into an empty cache is not worth emptying it for
        if size + _RESERVE <= self._free() + self.total():
            self._evict(max(0, self.total() - size - _RESERVE))
        if size + _RESERVE > self._free():
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

    def path(self, sha256: str) -> Path:
        """Where the blob lies, or would."""
        return self._root / sha256[:2] / sha256

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._root if self._root.exists() else self._root.parent).free
        except OSError:
            return 0


def _entries(folder: Path) -> Iterable["os.DirEntry[str]"]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []
