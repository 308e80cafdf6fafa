"""Draws results.json; runs alone, in an environment that has matplotlib: RESULTS FOLDER."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

OURS = "proxyindex"
RIVALS = ("nginx-cache", "proxpi", "devpi", "simple-repository-server")
LIMITS = ("raw-asgi", "sendfile", "nginx-static")
COLOURS = {
    "proxyindex": "#1f5fa8",
    "raw-asgi": "#5b9bd5",
    "sendfile": "#9fc97a",
    "starlette": "#c9b458",
    "nginx-static": "#4d4d4d",
    "nginx-cache": "#3c9d63",
    "proxpi": "#d9822b",
    "devpi": "#b23b3b",
    "simple-repository-server": "#7d5ba6",
}
Row = dict[str, Any]


def median(row: Row, server: str) -> float | None:
    samples = row["cells"].get(server, {}).get("samples")
    return statistics.median(samples) if samples else None


def ratio(row: Row, server: str) -> float | None:
    """How many times as good as `server` we are."""
    ours, theirs = median(row, OURS), median(row, server)
    if not ours or not theirs:
        return None
    return ours / theirs if row["is_more_better"] else theirs / ours


def bars(axes: Axes, rows: list[Row], servers: tuple[str, ...], value: Any) -> None:
    """A group of horizontal bars for each row, one bar for each server that has a value."""
    height = 0.8 / len(servers)
    for place, server in enumerate(servers):
        points = [(number, value(row, server)) for number, row in enumerate(rows)]
        points = [(number, found) for number, found in points if found]
        at = [number + (place - (len(servers) - 1) / 2) * height for number, _ in points]
        widths = [found for _, found in points]
        axes.barh(at, widths, height * 0.9, label=server, color=COLOURS.get(server))
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def to_limits(rows: list[Row], folder: Path) -> None:
    warm = [row for row in rows if row["workload"].startswith(("warm-", "tls-"))]
    draw(warm, LIMITS, ratio, "proxyindex as a multiple of the limit", 0.85, folder / "limits")


def to_rivals(rows: list[Row], folder: Path) -> None:
    warm = [row for row in rows if row["workload"].startswith("warm-")]
    draw(
        warm,
        RIVALS,
        ratio,
        "proxyindex as a multiple of the rival",
        1.0,
        folder / "rivals",
        is_log=True,
    )


def cold(rows: list[Row], folder: Path) -> None:
    chosen = [row for row in rows if row["workload"].startswith("cold-") and _has_direct(row)]

    def added(row: Row, server: str) -> float | None:
        found, direct = median(row, server), median(row, "direct")
        return None if found is None or direct is None else max(0.1, found - direct)

    label = "milliseconds added to fetching directly"
    draw(chosen, (OURS, *RIVALS), added, label, None, folder / "cold", is_log=True)


def _has_direct(row: Row) -> bool:
    """Not how others fare meanwhile: there is nobody between who could be busy."""
    return median(row, "direct") is not None and not row["metric"].startswith("others")


def draw(
    rows: list[Row],
    servers: tuple[str, ...],
    value: Any,
    label: str,
    line: float | None,
    path: Path,
    *,
    is_log: bool = False,
) -> None:
    rows = [row for row in rows if any(value(row, server) for server in servers)]
    if not rows:
        return
    size = (9, 1 + len(rows) * 0.18 * (len(servers) + 1))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    bars(axes, rows, servers, value)
    axes.set_xlabel(label)
    if is_log:
        axes.set_xscale("log")
    if line is not None:
        axes.axvline(line, color="#b23b3b", linestyle="--", linewidth=1)
    for ending in (".svg", ".png"):
        figure.savefig(
            path.with_suffix(ending), dpi=120, metadata={"Date": None} if ending == ".svg" else None
        )
    pyplot.close(figure)


def main(results: str, folder: str) -> None:
    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same picture, the same file
    rows = json.loads(Path(results).read_text())["rows"]
    to_limits(rows, Path(folder))
    to_rivals(rows, Path(folder))
    cold(rows, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
