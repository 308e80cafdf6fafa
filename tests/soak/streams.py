"""A hundred cold streams at once: what they cost in memory, and that every byte is right."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.soak.lab import MIB, Helper, MemoryWatch, Run, serve
from tests.soak.row import Row

STREAMS = 100
SIZE = 200_000_000  # bytes of each
WARM = 3  # small streams first, so that "idle" is not "never used"
# as shipped, 32 downloads run at one time; all shall run together here
ARGS = ("--max-transfers", str(STREAMS), "--cache-size", "50GB")


def run(run: Run) -> Iterator[Row]:
    """Clients that read as fast as they can, then clients that wait in mid-file for all others."""
    size = run.count(SIZE, 1_000_000)
    for workers in run.workers:
        for waits in (False, True):
            yield _stream(run, size, workers, waits=waits)


def _stream(run: Run, size: int, workers: int, *, waits: bool) -> Row:
    name = f"streams, {'all held in mid-file' if waits else 'full speed'}, {workers} workers"
    with run.folder("streams") as folder, Helper("quarry", size=size, rate=0) as upstream:
        server = serve(folder, upstream.heard()["url"], *ARGS, workers=workers)
        with server, run.bar(name, STREAMS * size) as advance:
            _read(run, server.url, size, range(STREAMS, STREAMS + WARM))
            with MemoryWatch(server.pid) as watch:
                started = time.monotonic()
                with _readers(server.url, size, range(STREAMS), waits=waits) as readers:
                    while not (heard := readers.heard())["over"]:
                        advance(heard["received"])
                seconds = time.monotonic() - started
        asked = sum(upstream.ask()["asked"].values()) - WARM
    for problem in heard["problems"][:10]:
        run.progress.console.print(problem, style="red", markup=False)
    return Row(
        name,
        f"peak ≤ idle + {STREAMS} MiB in {STREAMS} files of {size / 1e6:g} MB, all right",
        f"idle {watch.idle / MIB:.0f} MiB, peak + {watch.grown:.0f} MiB; {heard['right']} right, "
        f"{asked} requests upstream, last first byte after {heard['first_byte']:.1f} s; "
        f"{STREAMS * size / 1e6 / seconds:.0f} MB/s",
        watch.grown <= STREAMS and heard["right"] == STREAMS and asked == STREAMS,
    )


def _readers(url: str, size: int, files: range, *, waits: bool) -> Helper:
    return Helper("readers", url=url, size=size, files=list(files), waits=waits)


def _read(run: Run, url: str, size: int, files: range) -> None:
    with _readers(url, size, files, waits=False) as readers:
        while not (heard := readers.heard())["over"]:
            pass
    assert heard["right"] == len(files), heard
