"""Runs workloads: prepares all servers of one, then samples them in turn, round by round."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.lab import Lab
from bench.workloads.base import Workload

Say = Callable[[str], None]


@dataclass(slots=True)
class Column:
    """What one server did in one workload: samples by metric, or why there are none."""

    server: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    reason: str = ""


@dataclass(slots=True)
class Outcome:
    workload: Workload
    columns: list[Column]


def run(lab: Lab, workload: Workload, servers: Iterable[str], say: Say) -> Outcome:
    """Everything about one workload; trouble with a server is a reason in its column."""
    columns = {name: Column(name) for name in workload.servers if name in servers}
    subjects: dict[str, Any] = {}
    try:
        for name, column in columns.items():
            say(f"prepare {name}")
            _guarded(column, lambda name=name: subjects.update({name: workload.prepare(lab, name)}))
        _sample_all(lab, workload, columns, subjects, say)
    finally:
        for name, subject in subjects.items():
            say(f"end {name}")
            _guarded(Column(name), lambda subject=subject: workload.close(lab, subject))
    return Outcome(workload, list(columns.values()))


def _sample_all(
    lab: Lab, workload: Workload, columns: dict[str, Column], subjects: dict[str, Any], say: Say
) -> None:
    rounds, names = workload.rounds(lab), list(subjects)
    for number in range(rounds):
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:  # nobody is always the first
            say(f"round {number + 1} of {rounds}: {name}")
            if not columns[name].reason:
                gc.collect()
                lab.calm()
                _guarded(
                    columns[name],
                    lambda name=name: _sample(lab, workload, columns[name], subjects[name]),
                )


def _sample(lab: Lab, workload: Workload, column: Column, subject: Any) -> None:
    for metric, value in workload.sample(lab, subject).items():
        column.samples.setdefault(metric, []).append(value)


def _guarded(column: Column, work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as problem:  # noqa: BLE001 - a rival may fail in any way; the others are measured
        column.reason = " ".join(str(problem).split()) or type(problem).__name__
        column.samples = {}
