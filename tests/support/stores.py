"""Cache directories made by hand, and child processes that work on them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxyindex.events import SILENT
from proxyindex.store.cache import Cache
from proxyindex.store.facts import Fact
from proxyindex.store.pages import PageHead

HEAD = PageHead(
    url="https://index.example/simple/demo/",
    content_type="text/html",
    fetched_at=1_700_000_000.0,
    validated_at=1_700_000_000.0,
)
GIB = 1024**3


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def opened(root: Path, *, file_limit: int = GIB, page_limit: int = GIB) -> Iterator[Cache]:
    """A cache used in this thread, closed at the end."""
    cache = Cache.open(root, file_limit=file_limit, page_limit=page_limit, events=SILENT)
    try:
        yield cache
    finally:
        cache.release()


def keep(
    cache: Cache,
    project: str,
    files: Mapping[str, bytes],
    *,
    upstream: str = "up-0123456789ab",
    metadata: bytes | None = None,
) -> None:
    """What a server leaves behind that has served these files of a project."""
    cache.pages.write(upstream, project, HEAD, f"page of {project}".encode())
    for filename, data in files.items():
        cache.blobs.put(sha256(data), data)
        if metadata is not None:
            cache.blobs.put(sha256(metadata), metadata)
        fact = Fact(
            url=f"https://index.example/{filename}",
            sha256=sha256(data),
            size=len(data),
            metadata=sha256(metadata) if metadata is not None else None,
        )
        cache.facts.learn(upstream, project, filename, fact)


def age(path: Path, seconds: float) -> None:
    """Make a file older."""
    found = path.stat()
    os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


def child(code: str, *args: object, **options: Any) -> subprocess.Popen[str]:
    """Another Python process; `code` finds `args` in `sys.argv[1:]`."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str], text: str = "") -> str:
    """Wait for the end; what it printed. Fails if it failed."""
    output, errors = process.communicate(text, timeout=60)
    assert process.returncode == 0, errors
    return output


def line(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, as a power cut does."""
    process.kill()
    process.communicate()
