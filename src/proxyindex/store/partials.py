"""Files that are still arriving.

`partials/<key>` holds the bytes, `partials/<key>.state` a few numbers about them. The process that
holds the key's lock is the writer; every other process follows the file's growth through the
numbers. The file is the medium: a follower opens it, and reading goes on undisturbed when it is
renamed into place, evicted, or abandoned.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from proxyindex import disk
from proxyindex.errors import StoreError

_STATE = struct.Struct("<qqqI")  # size or -1, readable, phase; CRC-32 of the three
_SUFFIX = ".state"


class Phase(IntEnum):
    ASKING = 0  # the writer waits for upstream's headers
    FLOWING = 1
    DONE = 2  # verified and adopted; every byte may be read
    FAILED = 3  # the writer gave up; the bytes are void
    ABSENT = 4  # upstream says that there is no such file
    REFUSED = 5  # the disk does not take it; the bytes are void
    INVALID = 6  # upstream sent what is not the file; the bytes are void


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partial has come: total size if known, bytes that may be read, phase."""

    phase: Phase = Phase.ASKING
    readable: int = 0
    size: int | None = None


class Partial:
    """Open descriptors on one partial file and its state. Synchronous; close after use."""

    def __init__(self, path: Path, fd: int, state_fd: int) -> None:
        self.path = path
        self.fd = fd
        self._state_fd = state_fd

    def write(self, data: bytes, position: int) -> None:
        """Write all of `data` at `position`. Raises `StoreError` when the disk refuses."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self.fd, view, position)
                view, position = view[written:], position + written
        except OSError as problem:
            raise StoreError("keep a file", problem) from problem

    def read_all(self, stop: int) -> Iterator[bytes]:
        """The first `stop` bytes in pieces. Raises `StoreError`."""
        position = 0
        while position < stop:
            try:
                piece = os.pread(self.fd, min(1024**2, stop - position), position)
            except OSError as problem:
                raise StoreError("continue a file", problem) from problem
            if not piece:
                return
            yield piece
            position += len(piece)

    def length(self) -> int:
        return os.fstat(self.fd).st_size

    def is_in_place(self) -> bool:
        """Whether the open file is still the one that the key names."""
        return _is_at(self.path, self.fd)

    def truncate(self, length: int) -> None:
        """Raises `StoreError` when the disk refuses."""
        try:
            os.ftruncate(self.fd, length)
        except OSError as problem:
            raise StoreError("begin a file", problem) from problem

    def publish(self, progress: Progress) -> None:
        """Tell other processes how far the file has come; best effort."""
        size = -1 if progress.size is None else progress.size
        numbers = _STATE.pack(size, progress.readable, progress.phase, 0)[:-4]
        try:
            os.pwrite(self._state_fd, numbers + struct.pack("<I", zlib.crc32(numbers)), 0)
        except OSError:
            return  # a full disk: followers see no progress and time out, nothing wrong is sent

    def progress(self) -> Progress | None:
        """What the writer last published; `None` while it is writing just now."""
        raw = os.pread(self._state_fd, _STATE.size, 0)
        if len(raw) < _STATE.size:
            return None
        size, readable, phase, crc = _STATE.unpack(raw)
        if zlib.crc32(raw[:-4]) != crc or phase not in Phase._value2member_map_:
            return None
        return Progress(Phase(phase), readable, None if size < 0 else size)

    def discard(self) -> None:
        """Remove the file, unless another has taken its place; open readers are not disturbed."""
        if self.is_in_place():
            disk.remove(self.path)
        self.forget_state()

    def forget_state(self) -> None:
        state = Path(f"{self.path}{_SUFFIX}")
        if _is_at(state, self._state_fd):
            disk.remove(state)

    def close(self) -> None:
        disk.close(self.fd, self.length())
        os.close(self._state_fd)


class Partials:
    """All partial files of a cache directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def remove(self, key: str) -> None:
        """Have whoever writes it next begin a file of its own: who reads what a dead writer left
        must not find other bytes there. For the holder of the key's lock."""
        for path in (self._root / key, self._root / f"{key}{_SUFFIX}"):
            disk.remove(path)

    def create(self, key: str) -> Partial:
        """Open for writing, keeping what a dead writer left. Raises `StoreError`."""
        try:
            flags = os.O_RDWR | os.O_CREAT
            partial = disk.in_folder(self._root, lambda: self._open(key, flags))
        except OSError as problem:
            raise StoreError("begin a file", problem) from problem
        partial.publish(Progress())  # followers must not take the dead writer's word for ours
        return partial

    def follow(self, key: str) -> Partial | None:
        """Open what another process is writing, or `None` if there is nothing (any more)."""
        try:
            return self._open(key, os.O_RDWR)
        except OSError:
            return None

    def sweep(self, older_than: float, claim: Callable[[str], AbstractContextManager[bool]]) -> int:
        """Remove leftovers not touched since the instant `older_than`; the number removed.

        `claim(key)` keeps writers away meanwhile, and tells whether there is none.
        """
        removed = 0
        for path in disk.older(self._root, older_than):
            with claim(path.name.removesuffix(_SUFFIX)) as is_free:
                removed += is_free and disk.remove(path)
        return removed

    def total(self) -> int:
        """Bytes of all partial files."""
        return disk.total(self._root)

    def _open(self, key: str, flags: int) -> Partial:
        path = self._root / key
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        state_fd = os.open(f"{path}{_SUFFIX}", flags, 0o644)
        try:
            return Partial(path, os.open(path, flags, 0o644), state_fd)
        except OSError:
            os.close(state_fd)
            raise


def _is_at(path: Path, fd: int) -> bool:
    """Whether an open file is the one that has this name."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except OSError:
        return False
