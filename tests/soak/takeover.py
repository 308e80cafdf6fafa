"""The worker that downloads a file is killed: how long until readers of the others go on."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fcntl import F_GETLK, F_UNLCK, F_WRLCK, fcntl
from pathlib import Path

from proxyindex.store import locks
from tests.soak.lab import Helper, Run, serve
from tests.soak.quarry import content, target
from tests.soak.row import Row
from tests.support import http
from tests.support.hermetic import wait_until

ROUNDS = 100
WORKERS = 4
READERS = 10  # so that the writer's worker has hardly ever all of them
SIZE, RATE = 4_000_000, 4_000_000  # bytes, bytes per second
MOST = 2.0  # seconds
_KILLS_PER_START = 3  # a server whose workers die too often replaces them ever later
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, holder


@dataclass(slots=True)
class Reader:
    """A client that notes when bytes come. `port` is its own end of the connection."""

    port: int = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    is_whole: bool = False
    is_wrong: bool = False

    def read(self, url: str, number: int) -> None:
        with (
            contextlib.suppress(OSError, http.NoAnswerError, http.ShortBodyError),
            http.Connection(url, timeout=30) as connection,
        ):
            self.port = connection.socket.getsockname()[1]
            answer = connection.request(target(number))
            if answer.status != 200:
                return
            position = 0
            while piece := answer.read(65_536):
                self.is_wrong |= content(number, SIZE, position, position + len(piece)) != piece
                position += len(piece)
                self.arrivals.append((time.monotonic(), position))
            self.is_whole = position == SIZE

    @property
    def position(self) -> int:
        return self.arrivals[-1][1] if self.arrivals else 0

    def gap(self, since: float) -> float:
        """The longest silence that ends after `since`, in seconds."""
        times = [moment for moment, _ in self.arrivals]
        pairs = itertools.pairwise(times)
        return max((later - earlier for earlier, later in pairs if later > since), default=0.0)


def run(run: Run) -> Iterator[Row]:
    """Rounds with a file each; a round in which no reader survives is another try."""
    rounds, gaps, dead, wrong = run.count(ROUNDS, 3), [0.0], 0, 0
    name = "takeover"
    with (
        run.folder(name) as folder,
        run.bar(name, rounds) as advance,
        Helper("quarry", size=SIZE, rate=RATE) as upstream,
    ):
        url = upstream.heard()["url"]
        number = done = 0
        while done < rounds and number < 2 * rounds + 5:
            with serve(folder / str(number), url, workers=WORKERS) as server:
                for _ in range(min(_KILLS_PER_START, rounds - done)):
                    number += 1
                    survivors, killed_at = _round(server.url, server.cache_dir, number)
                    gaps += [reader.gap(killed_at) for reader in survivors]
                    wrong += sum(reader.is_wrong for reader in survivors)
                    dead += sum(not reader.is_whole for reader in survivors)
                    done += bool(survivors)
                    advance(done)
    is_ok = done == rounds and max(gaps) <= MOST and not wrong and not dead
    yield Row(
        name,
        f"readers go on ≤ {MOST:g} s after kill -9 of their writer, {rounds} times",
        f"longest gap {max(gaps):.2f} s in {len(gaps) - 1} readers of {done} kills; "
        f"{dead} of them not served whole, {wrong} wrong",
        is_ok,
    )


def _round(url: str, cache: Path, number: int) -> tuple[list[Reader], float]:
    """The readers whose own worker was not the one killed, and when that was."""
    readers = [Reader() for _ in range(READERS)]
    threads = [threading.Thread(target=r.read, args=(url, number)) for r in readers]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(r.position > SIZE // 50 for r in readers), "readers under way")
    holder = wait_until(lambda: _writer(cache, number), "a writer")
    # the dead worker's own clients are cut off, and will ask again as pip does
    ports = _clients(holder)
    killed_at = time.monotonic()
    os.kill(holder, signal.SIGKILL)
    for thread in threads:
        thread.join()
    return [reader for reader in readers if reader.port not in ports], killed_at


def _clients(pid: int) -> set[int]:
    """The ports of the clients that a process on this machine has connections with."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].rpartition(":")[2], 16) for row in rows if row[9] in inodes}


def _writer(cache: Path, number: int) -> int:
    """The process that holds the lock of a file's download, 0 if none does."""
    keys = [path.name for path in (cache / "partials").glob("*.state")]
    for key in keys:
        start = locks._offset(f"file {key.removesuffix('.state')}")
        with (cache / "locks").open("r+b") as stream:
            asked = struct.pack(_FLOCK, F_WRLCK, os.SEEK_SET, start, 1, 0)
            kind, _, _, _, holder = struct.unpack(_FLOCK, fcntl(stream, F_GETLK, asked))
        if kind != F_UNLCK:
            return int(holder)
    return 0
