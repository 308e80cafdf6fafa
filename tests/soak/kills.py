"""Rounds of `kill -9` under mixed traffic: nothing is wrong afterwards, and nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.soak.lab import Run
from tests.soak.row import Row
from tests.support.fixtures import start_server
from tests.support.mayhem import Mayhem
from tests.support.upstream import FakeUpstream

ROUNDS = 300
TAKEOVER = 2.0  # seconds


def run(run: Run) -> Iterator[Row]:
    """The rounds of `tests/support/mayhem.py`, shared among the numbers of workers."""
    rounds = max(1, run.count(ROUNDS) // len(run.workers))
    for workers in run.workers:
        with run.folder("kills") as folder:
            yield _rounds(run, folder, rounds, workers)


def _rounds(run: Run, folder: Path, rounds: int, workers: int) -> Row:
    name = f"kills, {workers} workers"
    own = folder / "packages"
    own.mkdir()
    seed = random.Random(f"{run.seed} {workers}").randrange(2**32)
    responses = wrong = lost = leftovers = done = 0
    takeovers: list[float] = []
    with FakeUpstream() as upstream, run.bar(name, rounds) as advance:
        server = start_server(folder / "server", own, upstream=upstream, workers=workers)
        with server:
            mayhem = Mayhem(server, upstream, own, seed)
            for _ in range(rounds):
                result = mayhem.round()
                responses += result.responses
                wrong += result.wrong
                lost += result.lost
                leftovers += result.leftovers
                takeovers += [] if result.takeover_seconds is None else [result.takeover_seconds]
                done += 1
                advance(done)
    return Row(
        name,
        f"{rounds} rounds of kill -9: 0 corrupt, 0 lost, 0 left over, takeover ≤ {TAKEOVER:g} s",
        f"{done} rounds, {responses} responses: {wrong} corrupt, {lost} lost, {leftovers} left "
        f"over; {len(takeovers)} takeovers, the longest {max(takeovers, default=0):.2f} s",
        done == rounds
        and not (wrong or lost or leftovers)
        and (workers == 1 or bool(takeovers))
        and max(takeovers, default=0) <= TAKEOVER,
    )
