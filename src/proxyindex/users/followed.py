"""Small files that are read again when they changed, and replaced whole or not at all."""

import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from proxyindex import disk
from proxyindex.disk import Signature
from proxyindex.errors import ProxyindexError

log = logging.getLogger(__name__)

T = TypeVar("T")

_LARGEST = 16 * 1024**2
_UNSETTLED: Signature = (0, 0, 0, 0)  # no file's: what rests on it does not last


class AccountsError(ProxyindexError):
    """A file of accounts cannot be read, understood or written."""


class Followed(Generic[T]):
    """What a file says, as `parse` understands it: as of now, whoever wrote it, in every process.

    A file that is missing says what an empty one does. So does one that cannot be read or
    understood, which is logged: nobody gets in by a broken file. It says `broken`, where that is
    given. `parse` raises `ValueError`.

    A file changed less than two seconds ago is read again each time: its next state might bear the
    same stamp, and a revoked token must not live on by that. `clock` tells ns since the epoch.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        broken: T | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self._parse = parse
        self._broken = broken
        self._clock = clock
        self._read: tuple[Signature | None, T] | None = None
        self._told: Signature | None = None  # of a file that could not be used

    def known(self) -> tuple[Signature | None, T] | None:
        """The stamp and what the file says, if it was read as it is now: a `stat`, nothing more."""
        read = self._read
        return read if read is not None and read[0] == disk.signature(self.path) else None

    def now(self) -> tuple[Signature | None, T]:
        """As `known`, after reading it where need be. Reads a file: not for the event loop."""
        return self.known() or self._again()

    def check(self) -> None:
        """Raises `AccountsError` for a file that cannot be read or understood."""
        try:
            self._parse(read_whole(self.path))
        except ValueError as problem:
            raise AccountsError(f"{self.path} cannot be used: {problem}.") from problem

    def _again(self) -> tuple[Signature | None, T]:
        found: Signature | None = None
        looked_ns = self._clock()
        try:
            body, found = read(self.path)
            said = self._parse(body)
        except (OSError, ValueError) as problem:
            said = self._parse(b"") if self._broken is None else self._broken
            found = found or disk.signature(self.path)
            if found is not None and found != self._told:
                self._told = found
                log.error("nobody of %s is let in: %s", self.path, problem)
            if isinstance(problem, OSError):
                found = _UNSETTLED  # the next look may succeed, and the file be the same
        is_settled = found is None or disk.is_settled(found, looked_ns)
        self._read = (found if is_settled else _UNSETTLED), said
        return self._read


def read(path: Path) -> tuple[bytes, Signature | None]:
    """What is in it, and who it was then; nothing and `None` if there is no such file.

    Raises `OSError`, and `ValueError` for what is no regular file of at most 16 MiB.
    """
    try:
        with open(path, "rb", opener=disk.at_once) as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is no regular file")
            body = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        return b"", None
    if len(body) > _LARGEST:
        raise ValueError("it is larger than 16 MiB")
    return body, disk.signature_of(found)


@contextmanager
def changing(path: Path) -> Iterator[bytes]:
    """What is in the file, while nobody else changes it by this function.

    What is missing of its folder is made, and belongs to whom the folder above it does.
    Raises `AccountsError` if it cannot be read or locked.
    """
    try:
        disk.make_folder(path.parent)
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

    A new file is for its owner alone, which for one made by root is the owner of the folder: the
    server's user, if it is the server's folder. A replaced one keeps its owner and mode.
    Raises `AccountsError`; then nothing has changed.
    """
    path = path.resolve()  # a link stays one

    def settle(fd: int) -> None:
        _take_after(fd, path)
        os.fsync(fd)

    try:
        disk.replace(path, body, settle=settle)
        disk.sync_folder(path.parent)
    except OSError as problem:
        raise AccountsError(f"{path} cannot be written: {problem.strerror}.") from problem


def _take_after(fd: int, path: Path) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        folder = path.parent.stat()
        if os.geteuid() == 0:
            with suppress(OSError):  # a container's root may not
                os.fchown(fd, folder.st_uid, folder.st_gid)
        return
    os.fchmod(fd, stat.S_IMODE(old.st_mode))
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, old.st_uid, old.st_gid)
