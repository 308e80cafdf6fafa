"""What every scenario is given, and what it needs: folders, servers, child processes, memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.progress import Progress

from tests.support.server import ProxyIndex

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2
_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command: `scale` shrinks all counts and sizes, `seed` draws all chances.

    `planted`: how often a stored file is damaged in the "faults" scenario, in seconds; 0 for never.
    """

    scratch: Path
    progress: Progress
    scale: float = 1.0
    seed: int = 1
    workers: tuple[int, ...] = (1, 4)
    planted: float = 0.0

    def count(self, full: float, least: int = 1) -> int:
        """A number of this run, of which a whole run has `full`."""
        return max(least, round(full * self.scale))

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder, removed afterwards: what one scenario leaves must not cost another."""
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def bar(self, what: str, total: float) -> Iterator[Callable[[float], None]]:
        """A progress bar; call the result with how much is done in all."""
        task = self.progress.add_task(what, total=total)
        yield lambda done: self.progress.update(task, completed=done)
        self.progress.stop_task(task)


def serve(workdir: Path, upstream: str | None, *args: str, workers: int = 1) -> ProxyIndex:
    """A server that was not started yet, in front of `upstream` or one that `args` tell of."""
    workdir.mkdir(parents=True, exist_ok=True)
    source = ["--upstream", upstream] if upstream else []
    # a line per request would be gigabytes
    given = [*source, "--workers", str(workers), "--log-level", "warning", *args]
    return ProxyIndex(*given, workdir=workdir)


class Helper:
    """A child `python -m tests.soak.<module>`: told in JSON lines, tells in JSON lines.

    It reads its standard input and ends when that does, so it never outlives us.
    """

    def __init__(self, module: str, **told: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.soak.{module}", json.dumps(told)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, **what: Any) -> None:
        stream = _given(self._process.stdin)
        stream.write(json.dumps(what) + "\n")
        stream.flush()

    def heard(self) -> dict[str, Any]:
        """The next thing it tells; `RuntimeError` if it ends instead."""
        line = _given(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"a helper of the soak ended: {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, **what: Any) -> dict[str, Any]:
        self.tell(**what)
        return self.heard()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _given(stream).close()

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _given(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def group(leader: int) -> list[int]:
    """The processes of a server: those of its process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # the name in brackets may hold anything
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader and fields[0] != "Z":
                found.append(int(path.parts[2]))
    return found


def memory(pids: list[int]) -> int:
    """Bytes that these processes hold themselves: anonymous and shared, without file pages."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
    return total


@dataclass(slots=True)
class MemoryWatch:
    """Samples the memory of a server while it works: `with MemoryWatch(pid) as watch`."""

    leader: int
    idle: int = 0
    peak: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> MemoryWatch:
        self.idle = self.peak = memory(group(self.leader))
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        pids, rounds = group(self.leader), 0
        while not self._over.wait(_SAMPLE_SECONDS):
            rounds += 1
            if rounds % 40 == 0:  # workers may have been replaced
                pids = group(self.leader)
            self.peak = max(self.peak, memory(pids))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    @property
    def grown(self) -> float:
        """MiB above idle at the highest."""
        return (self.peak - self.idle) / MIB


def free_space(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def raise_descriptor_limit() -> int:
    """As many descriptors as the system lets us have; the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def told() -> Mapping[str, Any]:
    """What a helper was given on its command line."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def say(**what: Any) -> None:
    """A line of a helper's to its parent; the parent's end is its own end."""
    try:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(0)
