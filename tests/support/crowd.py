"""Many clients at once, several workers, and their processes as the system sees them."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support import http
from tests.support.fixtures import Index, start_server
from tests.support.hermetic import wait_until
from tests.support.upstream import FakeUpstream

T = TypeVar("T")

_ESTABLISHED = "01"
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, holder


@pytest.fixture(scope="module", params=[1, 4], ids=["1-worker", "4-workers"])
def crowded(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Index]:
    """As `index`, with 1 and with 4 workers: for what must hold across processes, too."""
    home = tmp_path_factory.mktemp("crowded")
    folder = home / "packages"
    folder.mkdir()
    with FakeUpstream() as upstream:
        running = start_server(home / "server", folder, upstream=upstream, workers=request.param)
        made = Index(running, upstream, folder)
        made.populate()
        with running:
            yield made


def together(count: int, action: Callable[[], T]) -> list[T]:
    """Run `action` in `count` threads that start at the same moment; their results."""
    start = threading.Barrier(count)

    def run() -> T:
        start.wait()
        return action()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run) for _ in range(count)]]


def attempt(url: str, target: str, headers: http.Headers = ()) -> bytes | None:
    """The complete body of a 200, `None` for anything else: an error, or a body cut short."""
    try:
        response = http.request(url, target, headers)
    except (http.ShortBodyError, http.NoAnswerError, OSError):
        return None
    return response.body if response.status == 200 else None


def lock_holder(path: Path) -> int:
    """The process that holds a lock on any byte of a file, 0 if none does."""
    with path.open("r+b") as stream:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, holder = struct.unpack(_FLOCK, fcntl.fcntl(stream, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(holder)


def open_in(pid: int) -> list[str]:
    """What a process has open, as the system names it."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except OSError:  # closed meanwhile
            continue
    return found


def ends_of(connection: http.Connection) -> tuple[list[str], list[str]]:
    """What the system says of a connection's two sockets, the server's and the client's: their rows
    of proc_net_tcp(5). The table is not read in one moment, while sockets come and go: a row may
    come twice, or be missed, and then the table is read again."""
    ports = (connection.port, connection.socket.getsockname()[1])
    server, client = (f":{port:04X}" for port in ports)

    def found() -> tuple[list[str], list[str]] | None:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        rows = [row for row in map(str.split, lines) if row[3] == _ESTABLISHED]
        ends = {(row[1][-5:], row[2][-5:]): row for row in rows}
        ours, theirs = ends.get((server, client)), ends.get((client, server))
        return (ours, theirs) if ours and theirs else None

    return wait_until(found, "both rows of a connection")


def processes_with_open(folder: Path) -> set[int]:
    """The processes that have a file below `folder` open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if folder in link.readlink().parents:
                found.add(int(link.parts[2]))
        except OSError:  # closed, ended, or not ours
            continue
    return found
