"""Random faults of an upstream, evictions and damaged files: no wrong byte is delivered whole."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak import catalogue
from tests.soak.lab import Helper, Run, serve
from tests.soak.load import BODIES
from tests.soak.row import Row

RESPONSES = 1_000_000
CHANCE = 0.35  # that the upstream's answer to a request is a bad one
CONNECTIONS = 32
HONEST = (404, 502, 503)  # gone upstream, unusable upstream, not to be had now
LIMIT = 3600.0  # seconds
_FILES_KEPT = 0.25  # of the catalogue's bytes: the others are evicted, and cold again


@dataclass(slots=True)
class Outcome:
    """What the clients counted."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def wrong(self) -> int:
        return sum(count for kind, count in self.counts.items() if kind.startswith("wrong"))

    @property
    def files(self) -> int:
        """Bodies of files delivered whole, right or wrong: files, their parts, their metadata."""
        return sum(self.counts[f"{how} {kind}"] for how in ("right", "wrong") for kind in BODIES)

    @property
    def failed(self) -> int:
        """Whatever a sound upstream gives no reason for."""
        counts = self.counts
        others = counts["short"] + counts["no answer"] + counts["hung"]
        return self.wrong + others + self.sum("refused")

    @property
    def rude(self) -> int:
        """What no upstream is an excuse for: silence, and other refusals than the honest ones."""
        refused = {kind: count for kind, count in self.counts.items() if kind.startswith("refused")}
        honest = sum(refused.get(f"refused {status}", 0) for status in HONEST)
        others = self.counts["hung"] + self.counts["no answer"] + self.counts["no connection"]
        return sum(refused.values()) - honest + others

    def sum(self, start: str) -> int:
        return sum(count for kind, count in self.counts.items() if kind.startswith(start))

    def told(self) -> str:
        """In words."""
        count = self.counts
        refused = ", ".join(
            f"{count[kind]} {kind}" for kind in sorted(count) if kind.startswith("refused")
        )
        answers = self.sum("right") + self.wrong + self.sum("refused") + count["short"]
        return (
            f"{self.wrong} wrong, {count['right file']} files, {count['right part']} parts and "
            f"{count['right metadata']} metadata right; {count['right head']} heads and "
            f"{count['right page']} pages; {count['unproven part']} parts of files under way "
            f"damaged; {count['short']} cut short, {refused or '0 refused'}, "
            f"{count['hung']} hung, {count['no answer']} without answer; "
            f"{answers / max(self.seconds, 0.001):.0f} answers/s"
        )


def run(run: Run) -> Iterator[Row]:
    """A server with as many workers as demanded each, half of the responses each."""
    with run.folder("faults") as folder:
        offered = catalogue.make(
            folder / "catalogue",
            projects=run.count(200, 10),
            files=20,
            large=run.count(10, 2),
            seed=run.seed,
        )
        share = run.count(RESPONSES) // len(run.workers)
        for workers in run.workers:
            yield _with(run, folder / str(workers), offered, workers, share)


def _with(run: Run, folder: Path, offered: catalogue.Catalogue, workers: int, wanted: int) -> Row:
    path = str(offered.path)
    room = int(len(offered.bytes) * _FILES_KEPT)
    with Helper("mischief", catalogue=path, seed=run.seed, chance=CHANCE) as upstream:
        server = serve(
            folder,
            upstream.heard()["url"],
            *("--cache-size", f"{room}B", "--page-ttl", "5s"),
            *("--stale-while-revalidate", "5s", "--negative-ttl", "1s"),
            workers=workers,
        )
        with server, run.bar(f"faults, {workers} workers", wanted) as advance:
            planter = Planter(server.cache_dir / "blobs", run.seed, every=run.planted)
            found = drive(run, server.url, path, wanted, advance, planter)
        faults = sum(count for kind, count in upstream.ask().items() if kind != "good")
    for example in found.examples:
        run.progress.console.print(f"WRONG WHOLE: {example}", style="red", markup=False)
    planted = f"{faults} faults upstream, {planter.planted} stored files damaged"
    return row(f"faults, {workers} workers", wanted, found, planted)


def row(name: str, wanted: int, found: Outcome, more: str = "") -> Row:
    """The verdict on what was counted."""
    return Row(
        name,
        f"0 wrong whole in {wanted} file responses",
        f"{found.told()}; {more}",
        found.files >= wanted and not (found.wrong or found.rude),
    )


def drive(
    run: Run,
    url: str,
    path: str,
    wanted: int,
    advance: Any,
    planter: Planter | None = None,
    *,
    connections: int = CONNECTIONS,
) -> Outcome:
    """Ask the server at `url` until `wanted` files were delivered whole."""
    started, found = time.monotonic(), Outcome()
    asking = {"connections": connections, "wanted": wanted, "limit": LIMIT, "seed": run.seed}
    with Helper("load", url=url, catalogue=path, **asking) as clients:
        while True:
            heard = clients.heard()
            found.counts, found.examples = Counter(heard["counts"]), heard["examples"]
            advance(found.files)
            if heard["over"]:
                break
            if planter is not None:
                planter.plant()
    found.seconds = time.monotonic() - started
    return found


class Planter:
    """Damages stored files now and then: another file with a flipped byte takes their place.

    It is put there by renaming, for a file that is changed while it is being sent is beyond help.
    """

    def __init__(self, blobs: Path, seed: int, *, every: float) -> None:
        self.planted = 0
        self._blobs = blobs
        self._random = random.Random(seed)
        self._every = every
        self._last = time.monotonic()

    def plant(self) -> None:
        """Damage one stored file if it is time."""
        if not self._every or time.monotonic() < self._last + self._every:
            return
        self._last = time.monotonic()
        stored = [entry for shelf in self._blobs.glob("*") for entry in shelf.glob("[0-9a-f]*")]
        if not stored:
            return
        path = self._random.choice(stored)
        other = path.with_name(".planted")
        try:
            shutil.copy2(path, other)  # its times, too: size and time give nothing away
            with other.open("r+b") as stream:
                at = self._random.randrange(max(1, other.stat().st_size))
                byte = os.pread(stream.fileno(), 1, at)
                os.pwrite(stream.fileno(), bytes([byte[0] ^ 1]), at)
            os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
            other.rename(path)
        except (OSError, IndexError):  # evicted meanwhile
            other.unlink(missing_ok=True)
            return
        self.planted += 1
