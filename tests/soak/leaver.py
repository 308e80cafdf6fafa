"""A client leaves at 10 % of a cold 1 GB file: the download goes on, others are not disturbed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.soak.lab import Helper, MemoryWatch, Run, serve
from tests.soak.quarry import PEBBLES, content, sha256, target
from tests.soak.row import Row
from tests.support import http
from tests.support.hermetic import wait_until
from tests.support.server import ProxyIndex

SIZE = 1_000_000_000
_PIECE = 262_144
_SLOWEST = 2.0  # seconds for a small stored file meanwhile, on a machine that is hashing
_FILL_SECONDS = 600.0
_SMALL = PEBBLES


@dataclass(slots=True)
class _Stayer:
    """The reader who stays to the end."""

    position: int = 0
    is_right: bool = True
    longest: float = 0.0  # seconds without a byte

    def read(self, url: str, number: int, size: int) -> None:
        with http.Connection(url, timeout=60) as connection:
            answer = connection.request(target(number))
            last = time.monotonic()
            while piece := answer.read(_PIECE):
                now = time.monotonic()
                self.longest, last = max(self.longest, now - last), now
                right = content(number, size, self.position, self.position + len(piece))
                self.is_right &= right == piece
                self.position += len(piece)


def run(run: Run) -> Iterator[Row]:
    """With another reader of the same file, then without any."""
    size = run.count(SIZE, 20_000_000)
    for workers in run.workers:
        for is_alone in (False, True):
            with run.folder("leaver") as folder, Helper("quarry", size=size, rate=0) as upstream:
                server = serve(folder, upstream.heard()["url"], workers=workers)
                name = f"leaver, {'alone' if is_alone else 'with others'}, {workers} workers"
                with server, run.bar(name, size) as advance:
                    _read_all(server.url, _SMALL)
                    yield _leave(name, server, upstream, size, advance, is_alone=is_alone)


def _leave(
    name: str,
    server: ProxyIndex,
    upstream: Helper,
    size: int,
    advance: Callable[[float], None],
    *,
    is_alone: bool,
) -> Row:
    number, stayer, slowest = 1, _Stayer(), 0.0
    stored = server.cache_dir / "blobs" / sha256(number, size)[:2] / sha256(number, size)
    thread = threading.Thread(target=stayer.read, args=(server.url, number, size))
    with MemoryWatch(server.pid) as watch:
        with server.connect() as leaver:
            leaver.request(target(number)).read(size // 10)
            if not is_alone:
                thread.start()
        deadline = time.monotonic() + _FILL_SECONDS
        while not stored.exists() and time.monotonic() < deadline:
            started = time.monotonic()
            _read_all(server.url, _SMALL)
            slowest = max(slowest, time.monotonic() - started)
            advance(upstream.ask()["sent"])
        if not is_alone:
            thread.join()
    is_whole = stored.exists() and stored.stat().st_size == size
    again = wait_until(lambda: _outcome(server, number), "an answer")
    asked = upstream.ask()["asked"][target(number).rpartition("/")[2]]
    served = is_alone or (stayer.is_right and stayer.position == size)
    return Row(
        name,
        f"fill of {size / 1e6:g} MB goes on, one request upstream, others served",
        f"stored whole: {is_whole}, then a {again}; {asked} request upstream; "
        + (
            ""
            if is_alone
            else f"other reader right: {served}, {stayer.longest:.2f} s longest gap; "
        )
        + f"small files ≤ {slowest:.2f} s meanwhile; peak + {watch.grown:.0f} MiB",
        is_whole and asked == 1 and served and again == "hit" and slowest <= _SLOWEST,
    )


def _read_all(url: str, number: int) -> None:
    answer = http.request(url, target(number), timeout=60)
    assert answer.status == 200, answer.status


def _outcome(server: ProxyIndex, number: int) -> str:
    answer = server.get(target(number), {"Range": "bytes=0-9"})
    return answer.header("x-proxyindex") or "?"
