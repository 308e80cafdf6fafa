"""Advisory locks between the processes that share one directory.

One file, one byte per key: a lock is a byte range at an offset drawn from the key's digest. There
is no lock file to leave behind, nothing to sweep, and the kernel releases the locks of a killed
process at once, so the dead never block. POSIX locks belong to the process, so within one process
the set of held keys excludes.
"""

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import anyio

from proxyindex import disk

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_POLL = 0.002
_LAST_POLL = 0.05


class Run(Protocol):
    """Calls what blocks on the file of locks, wherever that may be done."""

    async def __call__(self, call: Callable[[str], T], key: str, /) -> T: ...


async def _here(call: Callable[[str], T], key: str, /) -> T:
    """At once: the cache is on a disk of this machine."""
    return call(key)


class Locks:
    """Locks named by text. Without a writable file (read-only cache) they hold per process only.

    The file is opened for the first lock. With `is_strict` it is made by others, and where it
    cannot be locked nobody gets a lock: `OSError` is raised instead.
    """

    def __init__(self, path: Path, *, is_strict: bool = False) -> None:
        self._held: set[str] = set()
        self._guard = threading.Lock()  # the store's thread takes locks, too
        self._path = path
        self._is_strict = is_strict
        self._fd: int | None = None
        self._is_told = False

    def try_acquire(self, key: str) -> bool:
        """Take the lock if nobody has it; whether it was taken."""
        with self._guard:
            if key in self._held or not self._lock(key):
                return False
            self._held.add(key)
            return True

    def release(self, key: str) -> None:
        with self._guard:
            self._held.discard(key)
            if self._fd is not None:
                with suppress(OSError):  # there are no locks where there were none
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _offset(key))

    @asynccontextmanager
    async def hold(self, key: str, run: Run = _here) -> AsyncIterator[None]:
        """Wait for the lock, and release it in the end."""
        pause = _FIRST_POLL
        while not await run(self.try_acquire, key):
            await anyio.sleep(pause)
            pause = min(pause * 1.5, _LAST_POLL)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await run(self.release, key)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        if self._is_strict:
            return os.open(self._path, flags)
        disk.make_folder(self._path.parent)
        fd = os.open(self._path, flags | os.O_CREAT, 0o600)
        disk.hand_over(self._path)
        return fd

    def _renew(self) -> None:
        """Follow the path when the file was removed: others lock the one that is there now.

        Locks held on the old file are without meaning then, and so is what they protected.
        """
        assert self._fd is not None
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                return
        except OSError:
            pass  # no file any more
        try:
            fresh = self._open()
        except OSError as problem:
            self._do_without(problem)
            return
        os.close(self._fd)
        self._fd = fresh

    def _lock(self, key: str) -> bool:
        if self._fd is None and not self._retry():
            return True
        assert self._fd is not None
        self._renew()
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except (BlockingIOError, PermissionError):  # some systems raise the latter for a held lock
            return False
        except OSError as problem:  # a file system without locks
            self._do_without(problem)
        return True

    def _retry(self) -> bool:
        """Whether the file can be had now: the cache may have been read-only for a while."""
        try:
            self._fd = self._open()
        except OSError as problem:
            self._do_without(problem)
            return False
        return True

    def _do_without(self, problem: OSError) -> None:
        """Go on with locks that hold within this process only, if that will do."""
        if self._is_strict:
            raise problem
        if not self._is_told:
            log.warning("no locks between processes: %s", problem)
        self._is_told = True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _offset(key: str) -> int:
    # 62 bits: a clash of two keys costs waiting, never correctness
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 2
