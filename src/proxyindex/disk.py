"""How files are opened, digested, written whole or not at all, and told from what they were.

Shared by all rooms that do I/O themselves. All of it blocks.
"""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from proxyindex.errors import StoreError
from proxyindex.threads import COMMON

T = TypeVar("T")

_NEW = ".new-"  # what files are called until they are whole

_HEX = frozenset("0123456789abcdef")

# File systems stamp with 1 ns to 2 s: what changed more recently may change under the same stamp.
RACY_NS = 2_000_000_000

_LARGE = 16 * 1024**2  # bytes

# who a file was when it was read: a rename or rewrite changes at least one of these
Signature = tuple[int, int, int, int]


def is_sha256(name: object) -> bool:
    """Whether this is the name of a stored file: 64 lower-case hex digits."""
    return isinstance(name, str) and len(name) == 64 and _HEX.issuperset(name)


def sha256_of(source: BufferedReader) -> str:
    """That of an open file from where it is to its end, in hex. Raises `OSError`."""
    return hashlib.file_digest(source, "sha256").hexdigest()


def sha256_at(path: Path) -> str | None:
    """That of the file, in hex; `None` if none can be read there, or it is a link."""
    try:
        with open(path, "rb", opener=no_link) as source:
            return sha256_of(source)
    except OSError:
        return None


def time_of(mtime_ns: int) -> datetime | None:
    """A file's time; `None` for one before year 1 or after 9999, which any file may have."""
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def is_passing(problem: OSError) -> bool:
    """Whether it is the process that lacks something, and nothing is known of the file."""
    return problem.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def signature(path: Path | str) -> Signature | None:
    """Inode, mtime in ns, size and ctime in ns, or `None` if there is no such file.

    The last changes with every write and rename, and nobody can set it back.
    """
    try:
        return signature_of(os.stat(path))
    except OSError:
        return None


def signature_of(found: os.stat_result) -> Signature:
    """The same of a file that is already known."""
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns


def is_settled(stamp: Signature, looked_ns: int) -> bool:
    """Whether any change after `looked_ns` (since the epoch), when this stamp was read or before,
    must give another stamp."""
    _, mtime_ns, _, ctime_ns = stamp
    return looked_ns - max(mtime_ns, ctime_ns) > RACY_NS


def at_once(path: str, flags: int) -> int:
    """An opener for `open`: a named pipe put in a file's place does not hang us."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def no_link(path: str, flags: int) -> int:
    """As `at_once`, and raises `OSError` for a link."""
    return at_once(path, flags | os.O_NOFOLLOW)


def are_cached(fd: int, start: int, stop: int) -> bool | None:
    """Whether bytes can be had without waiting for the disk, as their first and last one tell;
    `None` where nobody can, as in overlayfs. The last one alone may be there because an installer
    read the end."""
    one = [bytearray(1)]
    try:
        os.preadv(fd, one, stop - 1, os.RWF_NOWAIT)
        os.preadv(fd, one, start, os.RWF_NOWAIT)
    except OSError as problem:
        return False if problem.errno == errno.EAGAIN else None
    except AttributeError:  # no Linux
        return None
    return True


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it, for us alone. Raises `OSError`."""
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    hand_over(path)


def in_folder(folder: Path, act: Callable[[], T]) -> T:
    """`act()`, and again in a new folder if this one was missing: mostly it is there."""
    try:
        return act()
    except FileNotFoundError:
        make_folder(folder)
        return act()


def add_folder(path: Path) -> None:
    """Make a folder in one that is there, for all whom the umask lets in, unless it is there.

    Raises `OSError`.
    """
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    hand_over(path)
    sync_folder(path.parent)


def hand_over(path: Path | str) -> None:
    """Give what root has made to the owner of the folder it lies in: a server that runs as that
    user must be able to use what a command made. For anybody else nothing changes."""
    if os.geteuid() != 0:
        return
    with suppress(OSError):  # a container's root may not, nor may we on some file systems
        above = os.stat(os.path.dirname(path) or ".")
        os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)


def write_whole(path: Path, *parts: bytes, what: str) -> None:
    """Put the parts in the place of the file at `path`, whose folder is made where need be.

    Raises `StoreError`, which names `what`, when the disk refuses; then nothing has changed.
    """
    try:
        in_folder(path.parent, lambda: replace(path, *parts))
    except OSError as problem:
        raise StoreError(f"keep {what}", problem) from problem


def replace(path: Path, *parts: bytes, settle: Callable[[int], None] | None = None) -> None:
    """Write the parts to a temporary file (0600) and rename that to `path`.

    `settle` is given its descriptor before, to say whose it is and to make it last; without, it is
    handed over. Raises `OSError`; then nothing has changed.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_NEW)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(parts)
            stream.flush()
            if settle is not None:
                settle(handle)
        if settle is None:
            hand_over(temporary)
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk when this returns. Raises `OSError`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def try_writing(folder: Path) -> None:
    """Write to a file that nobody sees, to find out whether it can be done. Raises `OSError`."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(4096))  # an empty file takes no room, and can be made on a full disk
        stream.flush()


def remove(path: Path | str) -> bool:
    """Unlink; whether there was something to unlink."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def open_regular(path: Path | str) -> tuple[int, os.stat_result] | None:
    """A read-only descriptor of a regular file, links not followed, or `None`."""
    try:
        fd = no_link(str(path), os.O_RDONLY)
    except OSError:
        return None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        return None
    return fd, found


def close(fd: int, size: int) -> None:
    """Close a file of `size` bytes, a large one in a thread: if it was removed meanwhile, giving
    its blocks back takes 0.3 s for a GB (measured)."""
    if size < _LARGE:
        os.close(fd)
    else:
        try:
            COMMON.start(partial(_closed, fd))
        except RuntimeError:  # no thread can be had
            os.close(fd)


def _closed(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)


def names(folder: Path) -> list[str]:
    """What lies in a folder, sorted, without what is not whole yet; nothing if there is none."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def files(root: Path, prefix: str = "") -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below `root` with its state; those that vanish meanwhile are left out.

    `prefix`: only files whose names begin so.
    """
    for folder, _, names in os.walk(root):
        for name in filter(lambda name: name.startswith(prefix), names):
            path = Path(folder, name)
            try:
                yield path, path.lstat()
            except OSError:
                continue


def total(root: Path) -> int:
    """Bytes of all files below `root`."""
    return sum(found.st_size for _, found in files(root))


def older(root: Path, instant: float, prefix: str = "") -> list[Path]:
    """The files below `root` that were not written since `instant` (seconds since the epoch).

    `prefix`: as `files` has it.
    """
    return [path for path, found in files(root, prefix) if found.st_mtime < instant]


def sweep(root: Path, older_than: float) -> int:
    """Remove what writers that were killed left unfinished below `root`; the number removed."""
    return sum(remove(path) for path in older(root, older_than, _NEW))
