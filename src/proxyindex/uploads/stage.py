"""Where files lie until they are published: hidden folders beside what they will become.

Below the folder of the index, so that publishing is a rename or a link within one file system. A
stage is locked while its process lives, by its name; whatever is not locked was left behind. The
locks are those of projects, in one file: file systems of other machines keep locks of files apart
for all of their clients, and of folders for none (Linux's NFS).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from proxyindex import disk
from proxyindex.disk import hand_over, sync_folder
from proxyindex.store.locks import Locks

INCOMING = ".incoming"  # the scanner enters no hidden folder
LOCKS = "locks"
RESERVE = "reserve"
_CONTENT = ".content"
_RESERVED = 256 * 1024  # bytes: steps of a deletion of some hundred files, records of fifty yanked
_SYNC_EVERY = 16 * 1024**2  # bytes: what is left to be written out at the end is little


@dataclass(frozen=True, slots=True)
class Digests:
    """In lower-case hex, as the upload form calls them."""

    sha256: str
    blake2_256: str
    md5: str


class Content:
    """A file while it arrives: hashed and written in one go, and to the disk as it comes.

    So the sender is kept at the pace of the disk, and waits for nothing when he is done. All of it
    blocks. `OSError` passes through.
    """

    def __init__(self, path: Path) -> None:
        # as the umask has it: people and their backups are to read it
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o666)
        hand_over(path)
        self._hashes = (
            hashlib.sha256(),
            hashlib.blake2b(digest_size=32),
            hashlib.md5(usedforsecurity=False),
        )
        self._unsynced = 0
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Take more of it."""
        view = memoryview(data)
        self.size += len(view)
        self._unsynced += len(view)
        for one in self._hashes:
            one.update(view)
        while view:
            view = view[os.write(self._fd, view) :]
        if self._unsynced >= _SYNC_EVERY:
            os.fdatasync(self._fd)
            self._unsynced = 0

    def finish(self, mtime: float) -> Digests:
        """All of it is on the disk now, and was last changed at `mtime`."""
        # in whole seconds: it survives any copy, and whoever writes into the file changes it
        os.utime(self._fd, (mtime, int(mtime)))
        os.fsync(self._fd)
        return Digests(*(one.hexdigest() for one in self._hashes))

    def close(self) -> None:
        os.close(self._fd)


class Stage:
    """A hidden folder of one change; `path` is where it lies. Its methods block.

    `locks` are those of the index's folder `root`.
    """

    def __init__(self, root: Path, locks: Locks) -> None:
        self._locks = locks
        self.path = make_incoming(root) / secrets.token_hex(8)
        locks.try_acquire(self.path.name)  # nobody else knows the name
        try:
            self.path.mkdir()
        except OSError:
            locks.release(self.path.name)
            raise
        hand_over(self.path)

    @property
    def content(self) -> Path:
        """Where a file lies whose name is not known yet."""
        return self.path / _CONTENT

    def put(self, name: str, data: bytes) -> None:
        """A small file, on the disk when this returns."""
        with open(self.path / name, "xb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        hand_over(self.path / name)

    def sync(self) -> None:
        """The names in it are on the disk when this returns."""
        sync_folder(self.path)

    def discard(self) -> None:
        """Remove what is still there; nothing if all of it became a project's folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._locks.release(self.path.name)


def stages(root: Path) -> list[Path]:
    """All stages below the index's folder `root`, in use or left behind."""
    try:
        found = list((root / INCOMING).iterdir())
        return [path for path in found if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def make_incoming(root: Path) -> Path:
    """The folder of stages below the index's folder `root`, which must be there, and in it the
    file of locks. Each is shared as `root` is, also where only one of them was lost."""
    incoming = root / INCOMING
    locks = incoming / LOCKS
    with suppress(FileExistsError):
        incoming.mkdir(mode=0o700)
        _share(incoming, 0o777, root)
    hand_over(incoming)  # root may have made it before
    with suppress(FileExistsError):
        locks.touch(mode=0o600, exist_ok=False)
        _share(locks, 0o666, root)
    hand_over(locks)
    return incoming


def keep_room(root: Path) -> None:
    """Have the folder of stages below `root`, and some room in it for when the disk is full."""
    path = make_incoming(root) / RESERVE
    if path.exists():
        return
    try:
        with open(path, "xb") as target:
            target.write(os.urandom(_RESERVED))  # file systems that compress keep room for it, too
    except FileExistsError:  # another was faster
        return
    except OSError:  # there is none
        disk.remove(path)
        return
    hand_over(path)


@contextmanager
def with_room(root: Path) -> Iterator[None]:
    """Use that room, for what takes none in the end. Blocks."""
    disk.remove(root / INCOMING / RESERVE)
    try:
        yield
    finally:
        with suppress(OSError):
            keep_room(root)


def _share(path: Path, most: int, root: Path) -> None:
    """Whoever may write into the index's folder may do so here: a group, or all."""
    mode = stat.S_IMODE(os.stat(root).st_mode)
    shared = (0o070 if mode & stat.S_IWGRP else 0) | (0o007 if mode & stat.S_IWOTH else 0)
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | shared & most)


def is_changeable(root: Path) -> bool:
    """Whether this process may put files into the index's folder `root`. Blocks."""
    incoming = root / INCOMING
    usable = os.W_OK | os.X_OK
    needed = {root: usable, incoming: usable, incoming / LOCKS: os.R_OK | os.W_OK}
    there = {path: mode for path, mode in needed.items() if os.path.exists(path)}
    return bool(there) and all(os.access(path, mode) for path, mode in there.items())
