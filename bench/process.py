"""Child processes that stay on their cores and end when we do, and what they use."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process group: resident, resident in its largest process, and not file-backed."""

    resident: int = 0
    largest: int = 0
    anonymous: int = 0


class Child:
    """A program in a process group of its own, on `cores`, writing to `log`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cores: Sequence[int],
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self.cores = list(cores)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                pinned(command, cores),
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._leash = _leash(self._process.pid)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def last_words(self) -> str:
        """The last line of its log, to tell why it failed."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][-200:] if lines else "it wrote nothing"

    def pids(self) -> list[int]:
        """Everything in its process group."""
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                if name.isdigit() and os.getpgid(int(name)) == self._process.pid:
                    found.append(int(name))
        return found

    def memory(self) -> Memory:
        each = [_memory(pid) for pid in self.pids()]
        resident = [process.resident for process in each]
        anonymous = sum(process.anonymous for process in each)
        return Memory(sum(resident), max(resident, default=0), anonymous)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes that live."""
        return sum(_cpu_seconds(pid) for pid in self.pids())

    def stop(self) -> None:
        """End it and all that it started: asked first, then killed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._leash.stdin
        self._leash.kill()
        self._leash.wait()
        self._leash.stdin.close()


def pinned(command: Sequence[str | Path], cores: Sequence[int]) -> list[str]:
    """The command as one that runs on these cores only, where `taskset` is installed."""
    words = [str(word) for word in command]
    if cores and shutil.which("taskset"):
        return ["taskset", "-c", ",".join(map(str, cores)), *words]
    return words


def _leash(group: int) -> subprocess.Popen[bytes]:
    """Kills the group when we are gone, however we went: it reads from us until then."""
    return subprocess.Popen(
        ["sh", "-c", "cat; kill -9 -$0", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _memory(pid: int) -> Memory:
    sizes = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon"):
                sizes[name] = int(value.split()[0]) * 1024
    return Memory(sizes.get("VmRSS", 0), 0, sizes.get("RssAnon", 0))


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0
