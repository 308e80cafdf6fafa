"""Results as data, as Markdown, as plots, and in the documentation."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import environments
from bench.errors import Unavailable
from bench.lab import DIRECT, Effort
from bench.run import Outcome
from bench.servers import SERVERS
from bench.signs import DASH, TIMES
from bench.workloads.base import OURS, Goal

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_PLOTS = Path(__file__).with_name("plots.py")
_PLOT_SECONDS = 120
Results = dict[str, Any]
Row = dict[str, Any]


def results(outcomes: list[Outcome], effort: Effort, machine: dict[str, str]) -> Results:
    """Everything of one run, ready for JSON."""
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    pins = {
        name: ", ".join(pinned) for name, pinned in environments.PINS.items() if name != "plots"
    }
    date = time.strftime("%Y-%m-%d")
    return {"date": date, "machine": machine, "effort": asdict(effort), "pins": pins, "rows": rows}


def line(outcome: Outcome) -> str:
    """One workload in one line, while others still run."""
    row = _rows(outcome)[0]
    cells = [f"{name} {_cell(row, name)}" for name in row["cells"]]
    return f"{outcome.workload.name}: {', '.join(cells)}"


def markdown(found: Results) -> str:
    """The tables: goals first, then all figures, then why cells are empty."""
    servers = [
        name for name in (*SERVERS, DIRECT) if any(name in r["cells"] for r in found["rows"])
    ]
    parts = [_heading(found), _goal_table(found["rows"]), _figure_table(found["rows"], servers)]
    return "\n\n".join([*parts, _reasons(found["rows"])]).strip() + "\n"


def plots(found: Results, out: Path, scratch: Path, say: Callable[[str], None]) -> None:
    """Draw them into `out`, with matplotlib from an environment of its own."""
    try:
        python = environments.environment(scratch, "plots") / "python"
        command = [str(python), str(_PLOTS), str(out / "results.json"), str(out)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PLOT_SECONDS)
    except Unavailable as problem:
        say(f"no plots: matplotlib {problem}")
    except subprocess.SubprocessError as problem:
        say(f"no plots: {(getattr(problem, 'stderr', '') or str(problem)).strip()[-300:]}")


def publish(found: Results, table: str, out: Path, docs: Path) -> None:
    """Put tables and plots into docs/performance.md, between its marks, and docs/performance/."""
    folder, page = docs / "performance", docs / "performance.md"
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    pictures = []
    for picture in sorted(out.glob("*.svg")):
        shutil.copy(picture, folder)
        shutil.copy(picture.with_suffix(".png"), folder)
        words = picture.stem.replace("-", " ")
        pictures.append(f"![{words}](performance/{picture.name})")
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    middle = "\n\n".join([*pictures, table.strip()])
    page.write_text(f"{before}{BEGIN}\n\n{middle}\n\n{END}{after}")


def median(row: Row, server: str) -> float | None:
    samples = row["cells"].get(server, {}).get("samples")
    return statistics.median(samples) if samples else None


def _rows(outcome: Outcome) -> list[Row]:
    rows = []
    for metric in outcome.workload.metrics:
        cells = {
            column.server: {
                "samples": column.samples.get(metric.name, []),
                "reason": column.reason,
            }
            for column in outcome.columns
        }
        row: Row = {
            "workload": outcome.workload.name,
            "title": outcome.workload.title + (f": {metric.name}" if metric.name else ""),
            "metric": metric.name,
            "unit": metric.unit,
            "is_more_better": metric.is_more_better,
            "cells": cells,
        }
        row["goals"] = [_judged(row, goal) for goal in metric.goals]
        rows.append(row)
    return rows


def _judged(row: Row, goal: Goal) -> dict[str, Any]:
    """The goal in words, what came out, and whether it is met (`None`: not measured)."""
    words = f"{'≥' if goal.sense == 'at least' else '≤'} "
    ours, theirs = median(row, OURS), median(row, goal.against) if goal.against else 1.0
    if goal.sense == "at most added to":
        words = f"≤ {goal.against} + {goal.bound:g} {row['unit']}"
        value = None if ours is None or theirs is None else ours - theirs
    else:
        words += f"{goal.bound:.3g}" + (
            f" {TIMES} {goal.against}" if goal.against else f" {row['unit']}"
        )
        value = None if ours is None or not theirs else ours / theirs
    is_met = None
    if value is not None:
        is_met = value >= goal.bound if goal.sense == "at least" else value <= goal.bound
    return {**asdict(goal), "words": words, "value": value, "is_met": is_met}


def _heading(found: Results) -> str:
    machine, effort = found["machine"], found["effort"]
    return (
        f"Measured {found['date']} on {machine['cores']} cores ({machine['processor']}), "
        f"{machine['kernel']}, Python {machine['python']}: server on one core, load and upstream "
        f"on the rest, {effort['rounds']} rounds of {effort['seconds']:g} s in turn. "
        f"Cells are the median (least{DASH}most)."
    )


def _goal_table(rows: list[Row]) -> str:
    lines = ["| workload | goal | measured | |", "|---|---|---|---|"]
    for row in rows:
        for goal in row["goals"]:
            if goal["value"] is not None:
                verdict = "met" if goal["is_met"] else "**missed**"
                lines.append(
                    f"| {row['title']} | {goal['words']} | {_measured(row, goal)} | {verdict} |"
                )
    return "\n".join(lines)


def _measured(row: Row, goal: dict[str, Any]) -> str:
    value = _number(goal["value"])
    if goal["sense"] == "at most added to":
        return f"{'+' if goal['value'] >= 0 else ''}{value} {row['unit']}"
    return f"{value} {TIMES}" if goal["against"] else f"{value} {row['unit']}"


def _figure_table(rows: list[Row], servers: list[str]) -> str:
    titles = [SERVERS[name].title if name in SERVERS else "direct" for name in servers]
    lines = [f"| workload | unit | {' | '.join(titles)} |", "|---|---|" + "---|" * len(servers)]
    for row in rows:
        cells = [_cell(row, name) for name in servers]
        lines.append(f"| {row['title']} | {row['unit']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row, server: str) -> str:
    samples = row["cells"].get(server, {}).get("samples")
    if not samples:
        return DASH if server in row["cells"] else ""
    middle, least, most = statistics.median(samples), min(samples), max(samples)
    if len(samples) == 1 or _number(least) == _number(most):
        return _number(middle)
    return f"{_number(middle)} ({_number(least)}{DASH}{_number(most)})"


def _number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def _reasons(rows: list[Row]) -> str:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for server, cell in row["cells"].items():
            if cell["reason"]:
                places = found.setdefault((server, cell["reason"]), [])
                places.extend([] if row["workload"] in places else [row["workload"]])
    lines = [f"- {name}: {why} ({', '.join(places)})" for (name, why), places in found.items()]
    return "\n".join([f"Empty cells ({DASH}):", "", *lines]) if lines else ""
