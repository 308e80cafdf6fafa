"""What a workload is: what it measures, on which servers, and what is aimed at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.lab import Lab

OURS = "proxyindex"
LIMITS = ("raw-asgi", "sendfile", "starlette", "nginx-static")
RIVALS = ("nginx-cache", "proxpi", "devpi", "simple-repository-server")
Sense = Literal["at least", "at most", "at most added to"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on our median: `bound` times that of `against`, `bound` more than it, or, if
    `against` is empty, `bound` in the metric's own unit."""

    sense: Sense
    bound: float
    against: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table: `name` tells it from others of its workload; may be empty."""

    name: str
    unit: str
    is_more_better: bool = False
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload(ABC):
    """`name` is what is given on the command line and stays; `title` is for people."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    servers: tuple[str, ...]
    is_live: bool = False  # asks the real index: only when that is wanted

    @abstractmethod
    def prepare(self, lab: Lab, server: str) -> Any:
        """Start, fill and check the server; what `sample` wants. Raises `Unavailable`."""

    @abstractmethod
    def sample(self, lab: Lab, subject: Any) -> Mapping[str, float]:
        """Measure once: values by metric name. Raises `Unavailable`, `Failed`, `BadAnswers`."""

    def close(self, lab: Lab, subject: Any) -> None:  # noqa: B027  most leave servers running
        """End what `prepare` started for this workload alone."""

    def rounds(self, lab: Lab) -> int:
        """Samples per server."""
        return lab.effort.rounds
