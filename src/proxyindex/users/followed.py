"""Small files that are read again when they changed, and replaced whole or not at all."""

import fcntl
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from proxyindex.errors import ProxyindexError

log = logging.getLogger(__name__)

T = TypeVar("T")
Stamp = tuple[
    int, int, int, int
]  # inode, mtime in ns, size, ctime in ns, as an answer's ground has

_LARGEST = 16 * 1024**2
# A file system's clock ticks every 1 to 10 ms: two writes within one tick may look alike.
_UNSETTLED_NS = 50_000_000
_UNSETTLED: Stamp = (0, 0, 0, 0)  # no file's: what rests on it does not last


class AccountsError(ProxyindexError):
    """A file of accounts cannot be read, understood or written."""


class Followed(Generic[T]):
    """What a file says, as `parse` understands it: as of now, whoever wrote it, in every process.

    A file that is missing says what an empty one does. So does one that cannot be read or
    understood, which is logged: nobody gets in by a broken file. It says `broken`, where that is
    given. `parse` raises `ValueError`.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T], *, broken: T | None = None) -> None:
        self.path = path
        self._parse = parse
        self._broken = broken
        self._read: tuple[Stamp | None, T] | None = None
        self._told: Stamp | None = None  # of a file that could not be used

    def known(self) -> tuple[Stamp | None, T] | None:
        """The stamp and what the file says, if it was read as it is now: a `stat`, nothing more."""
        read = self._read
        return read if read is not None and read[0] == stamp(self.path) else None

    def now(self) -> tuple[Stamp | None, T]:
        """As `known`, after reading it where need be. Reads a file: not for the event loop."""
        return self.known() or self._again()

    def _again(self) -> tuple[Stamp | None, T]:
        found: Stamp | None = None
        try:
            body, found = read(self.path)
            said = self._parse(body)
        except (OSError, ValueError) as problem:
            said = self._parse(b"") if self._broken is None else self._broken
            found = found or stamp(self.path)
            if found is not None and found != self._told:
                self._told = found
                log.error("nobody of %s is let in: %s", self.path, problem)
        is_settled = found is None or time.time_ns() - max(found[1], found[3]) > _UNSETTLED_NS
        self._read = (found if is_settled else _UNSETTLED), said
        return self._read


def stamp(path: Path) -> Stamp | None:
    """Who the file is now; `None` if there is none."""
    try:
        return _stamp_of(os.stat(path))
    except OSError:
        return None


def read(path: Path) -> tuple[bytes, Stamp | None]:
    """What is in it, and who it was then; nothing and `None` if there is no such file.

    Raises `OSError`, and `ValueError` for what is no regular file of at most 16 MiB.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return b"", None
    with os.fdopen(fd, "rb") as stream:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        body = stream.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise ValueError("it is larger than 16 MiB")
    return body, _stamp_of(found)


@contextmanager
def changing(path: Path) -> Iterator[bytes]:
    """What is in the file, while nobody else changes it by this function.

    Raises `AccountsError` if it cannot be read or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise AccountsError(f"{path.parent} cannot be used: {problem.strerror}.") from problem
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of the folder: the file itself is replaced
        yield read_whole(path)
    finally:
        os.close(folder)


def read_whole(path: Path) -> bytes:
    """What is in it; nothing if there is no such file. Raises `AccountsError`."""
    try:
        return read(path)[0]
    except (OSError, ValueError) as problem:
        raise AccountsError(f"{path} cannot be read: {problem}.") from problem


def replace(path: Path, body: bytes) -> None:
    """Write all of it and make it last; readers see the old file or the new one.

    A new file is for its owner alone, a replaced one keeps its owner and mode where that may be.
    Raises `AccountsError`; then nothing has changed.
    """
    path = path.resolve()  # a link stays one
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
            stream.flush()
            _take_after(stream.fileno(), path)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _make_last(path.parent)
    except OSError as problem:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise AccountsError(f"{path} cannot be written: {problem.strerror}.") from problem


def _take_after(fd: int, path: Path) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    os.fchmod(fd, stat.S_IMODE(old.st_mode))
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, old.st_uid, old.st_gid)


def _make_last(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _stamp_of(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns
