"""What no input may make a parser do: take a second, take memory, or touch the world."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

MAX_SECONDS = 1.0  # of processor time: a busy machine must not fail an innocent input
MAX_GROWTH = 64 * 1024**2  # bytes of peak memory, for inputs of up to 64 KiB

_ACTS = (
    "os.chmod",
    "os.link",
    "os.listdir",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.system",
    "os.truncate",
    "shutil.",
    "socket.",
    "subprocess.",
    "tempfile.",
)
_IMPORTED = (".py", ".pyc", ".so", ".pth")  # parsers may import late
_watching = False
_seen: list[str] = []


class Excess(AssertionError):
    """An input took too long, too much memory, or reached outside the process."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raises `Excess` when the block takes over a second or grows the process by over 64 MiB."""
    started, before = time.process_time(), peak()
    yield
    seconds, growth = time.process_time() - started, peak() - before
    if seconds > MAX_SECONDS:
        raise Excess(f"took {seconds:.1f} s")
    if growth > MAX_GROWTH:
        raise Excess(f"took {growth // 1024**2} MiB")


@contextmanager
def confined() -> Iterator[None]:
    """Raises `Excess` when the block opens a file or socket, or changes anything on disk."""
    global _watching  # noqa: PLW0603 - an audit hook is one for the whole process, and for ever
    _seen.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    if _seen:
        raise Excess(f"reached outside: {_seen[0]}")


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event == "open" and not _is_import(arguments[0]):
        _seen.append(f"open {arguments[0]!r}")
    elif event.startswith(_ACTS) and not _is_import_folder(event, arguments):
        _seen.append(f"{event} {arguments!r}"[:200])


def _is_import(path: object) -> bool:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return isinstance(path, str) and (path.endswith(_IMPORTED) or "__pycache__" in path)


def _is_import_folder(event: str, arguments: tuple[object, ...]) -> bool:
    # the import system lists the folders of the path, and renames what it compiled
    return event == "os.listdir" or any(_is_import(argument) for argument in arguments)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


sys.addaudithook(_audit)
