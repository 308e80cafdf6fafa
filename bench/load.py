"""The door to wrk: requests a second on kept connections."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.process import pinned

CONNECTIONS = 32
_SCRIPT = Path(__file__).with_name("wrk.lua")


class BadAnswers(Exception):
    """Something else than the wanted answers came: what was measured does not count."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers a second, the 99th percentile of their latency in seconds, and how many cores the
    load generator took."""

    per_second: float
    p99: float
    cores: float


@dataclass(frozen=True, slots=True)
class Parts:
    """Random parts of a file instead of all of it; sizes in bytes."""

    file_size: int
    part_size: int


def is_installed() -> bool:
    return shutil.which("wrk") is not None


def wrk(
    url: str,
    headers: Mapping[str, str],
    *,
    cores: Sequence[int],
    seconds: float,
    connections: int = CONNECTIONS,
    parts: Parts | None = None,
) -> Rate:
    """Ask `url` over and over. Raises `BadAnswers` if any answer was an error."""
    sizes = (parts.file_size, parts.part_size) if parts else (0, 0)
    threads = min(len(cores) or 1, 4, connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", "30s", "-s", str(_SCRIPT), url, "--", *map(str, sizes)]
    command += [f"{name}: {value}" for name, value in headers.items()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        pinned(command, cores), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    figures = [line for line in done.stdout.splitlines() if line.startswith("FIGURES ")]
    if done.returncode or not figures:
        raise BadAnswers((done.stderr or done.stdout).strip()[-200:] or "wrk failed")
    requests, microseconds, _, broken, errors, p99 = map(int, figures[0].split()[1:])
    if broken or errors or not requests:
        raise BadAnswers(f"{errors} errors and {broken} broken connections of {requests} answers")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Rate(requests / microseconds * 1e6, p99 / 1e6, spent / microseconds * 1e6)
