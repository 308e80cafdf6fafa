"""The command `scripts/soak`: run scenarios, print their figures as one table."""

from __future__ import annotations

import importlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tests.soak.lab import Run, free_space, raise_descriptor_limit
from tests.soak.row import Row, table

GB = 1000**3


@dataclass(frozen=True, slots=True)
class Entry:
    """A scenario's summary, and the disk space it takes at full scale, in bytes."""

    summary: str
    space: float


SCENARIOS = {
    "faults": Entry("a million files through a misbehaving upstream: none wrong", 1 * GB),
    "kills": Entry("300 rounds of kill -9: nothing corrupt, nothing lost", 1 * GB),
    "takeover": Entry("a dead worker's download goes on within 2 s", 1 * GB),
    "connections": Entry("1,000 connections at once", 1 * GB),
    "streams": Entry("100 cold streams of 200 MB at once: memory", 21 * GB),
    "leaver": Entry("a client leaves at 10 % of a cold 1 GB file", 3 * GB),
    "outages": Entry("every kind of outage is answered within 8 s", 0.1 * GB),
    "damage": Entry("cache verify finds and mends all planted damage", 0.5 * GB),
}


@click.command()
@click.argument("chosen", metavar="[SCENARIO]...", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--list", "is_list", is_flag=True, help="Tell the scenarios, and end.")
@click.option("--scale", type=click.FloatRange(1e-5, 100), default=1.0, show_default=True,
              help="Shrink or stretch all counts and sizes.")  # fmt: skip
@click.option("--workers", default="1,4", show_default=True, metavar="N,…",
              help="Worker processes, where a scenario is run with several numbers.")  # fmt: skip
@click.option("--seed", type=int, help="Draws all chances.  [default: a new one]")
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False),
              help="Folder to work in; its disk takes what --list says.  "
              "[default: a temporary one]")  # fmt: skip
@click.option("--planted", type=float, default=0.5, show_default=True, metavar="SECONDS",
              help="faults: damage a stored file this often; 0 for never.")  # fmt: skip
def main(
    *,
    chosen: tuple[str, ...],
    is_list: bool,
    scale: float,
    workers: str,
    seed: int | None,
    scratch: Path | None,
    planted: float,
) -> None:
    """Run the long scenarios (all by default) on loopback; exit with 1 if a figure is missed.

    \b
    Examples:
      scripts/soak --scale 0.01
      scripts/soak faults --workers 4 --seed 7
      scripts/soak streams --scratch /var/tmp
    """
    if is_list:
        for name, entry in SCENARIOS.items():
            click.echo(f"{name:12} {entry.summary} ({entry.space / GB:g} GB of disk)")
        return
    raise_descriptor_limit()
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    names = chosen or tuple(SCENARIOS)
    counts = tuple(int(number) for number in workers.split(","))
    with _folder(scratch) as folder, _progress() as progress:
        progress.console.print(f"seed {seed}, scale {scale:g}, scratch {folder}", markup=False)
        _check_space(folder, max(SCENARIOS[name].space for name in names) * scale)
        run = Run(folder, progress, scale, seed, counts, planted)
        rows = [row for name in names for row in _rows(run, name)]
    click.echo(table(rows))
    sys.exit(int(not all(row.is_ok for row in rows)))


def _rows(run: Run, name: str) -> Iterator[Row]:
    """A scenario's rows as they come; its failing is one, too."""
    started = time.monotonic()
    try:
        for row in importlib.import_module(f"tests.soak.{name}").run(run):
            run.progress.console.print(" | ".join(row.cells()), markup=False)
            yield row
    except Exception as problem:  # noqa: BLE001 - hours of other figures must not be lost with it
        run.progress.console.print_exception()
        yield Row(name, "to be run", f"broke: {type(problem).__name__}: {problem}", is_ok=False)
    took = time.monotonic() - started
    run.progress.console.print(f"{name}: {took:.0f} s", markup=False)


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="soak-", dir=chosen) as folder:
        yield Path(folder)


def _check_space(folder: Path, wanted: float) -> None:
    if (free := free_space(folder)) < wanted + GB:
        raise click.ClickException(
            f"{folder} has {free / GB:.1f} GB left, and {wanted / GB + 1:.1f} GB are wanted: "
            "choose another --scratch or a smaller --scale."
        )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


if __name__ == "__main__":
    main()
