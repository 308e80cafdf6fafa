"""How the stores write and open files: whole or not at all, below their own root, never a link."""

import os
import stat
import tempfile
from pathlib import Path

from proxyindex.errors import StoreError

# who a file was when it was read: a rename or rewrite changes at least one of these
Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """Inode, mtime in ns and size, or `None` if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def write_whole(path: Path, *parts: bytes) -> None:
    """Write the parts to a temporary name and rename it to `path`.

    Raises `StoreError` when the disk refuses; then nothing has changed.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(parts)
        os.replace(temporary, path)
    except OSError as problem:
        if temporary:
            remove(Path(temporary))
        raise StoreError("keep a page", problem.strerror or str(problem)) from problem


def remove(path: Path) -> bool:
    """Unlink; whether there was something to unlink."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def open_regular(path: Path) -> tuple[int, os.stat_result] | None:
    """A read-only descriptor of a regular file, links not followed, or `None`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        return None
    return fd, found
