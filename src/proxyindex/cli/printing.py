"""How commands print: JSON and columns on standard output, progress on standard error."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from packaging.utils import NormalizedName
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def print_json(document: object) -> None:
    """Indented, on standard output."""
    click.echo(json.dumps(document, indent=2))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: set[int]) -> None:
    """Columns as wide as need be, also where nobody looks: they can be cut and sorted.

    `right` are the numbers of the columns set flush right.
    """
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())


def tell_of_old_pages(folder: Path, changed: Iterable[NormalizedName]) -> None:
    """One line, on standard error, if static pages in the folder tell of projects that changed."""
    from proxyindex.publishing.pages import has_page  # noqa: PLC0415 - loads what serves

    if old := [name for name in changed if has_page(folder, name)]:
        command = f"proxyindex publish --to {shlex.quote(str(folder))} --pages"
        click.echo(
            f"The static pages of {', '.join(old)} are old now; renew them: {command}", err=True
        )


def progress() -> Progress:
    """A bar in bytes, on standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life, on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(f"{what} …"):
        yield
