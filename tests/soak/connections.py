"""A thousand connections at once, each with small requests: all are served."""

from __future__ import annotations

from collections.abc import Iterator

from tests.soak import catalogue
from tests.soak.faults import drive
from tests.soak.lab import MIB, Helper, MemoryWatch, Run, serve
from tests.soak.row import Row

CONNECTIONS = 1000
REQUESTS = 100  # on each


def run(run: Run) -> Iterator[Row]:
    """A sound upstream, and nothing may be refused, cut short or wrong."""
    wanted = CONNECTIONS * run.count(REQUESTS, 3)
    with run.folder("connections") as folder:
        offered = catalogue.make(
            folder / "catalogue", projects=10, files=20, large=0, seed=run.seed
        )
        path = str(offered.path)
        for workers in run.workers:
            name = f"connections, {workers} workers"
            with Helper("mischief", catalogue=path, seed=run.seed, chance=0.0) as upstream:
                url = upstream.heard()["url"]
                server = serve(folder / str(workers), url, workers=workers)
                with server, run.bar(name, wanted) as advance, MemoryWatch(server.pid) as watch:
                    found = drive(run, server.url, path, wanted, advance, connections=CONNECTIONS)
            # a connection that ends is opened again: more of them than clients is a fault
            lost = found.counts["connections"] - CONNECTIONS + found.counts["no connection"]
            yield Row(
                name,
                f"{CONNECTIONS} at once, {wanted} files, no error",
                f"{found.told()}; {lost} connections lost; peak + {watch.grown:.0f} MiB "
                f"over {watch.idle / MIB:.0f} idle",
                found.files >= wanted and not (found.failed or lost),
            )
