"""The `proxyindex` command in a process that need not import it: forked from one that has.

Two thirds of the processor time of a start are imports, and the suite has a thousand starts. All
else is as in a process of its own: session, environment, folder, descriptors, signals, exit status.
"""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.hermetic import PATIENCE, environment, wait_until

ROOT = Path(__file__).parents[2]


class Preloaded:
    """A running `proxyindex ARGS…` that appends its output to `log`; used as a `Popen`."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        hook: Path | None = None,
    ) -> None:
        """`hook` is a Python file that it runs first, if it is there."""
        self.args = ["proxyindex", *args]
        self.returncode: int | None = None
        order = {"args": self.args, "cwd": str(cwd), "env": dict(env), "log": str(log)}
        self.pid: int = _parent()(fork=order | {"hook": str(hook or "")})

    def poll(self) -> int | None:
        """The exit status as of `Popen`, `None` while it runs."""
        if self.returncode is None:
            self.returncode = _parent()(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status. Raises `subprocess.TimeoutExpired`."""
        try:
            wait_until(lambda: self.poll() is not None, "the end", timeout=timeout, every=0.005)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self.args, timeout) from None
        assert self.returncode is not None
        return self.returncode


class _Parent:
    """The process that has imported everything, and forks; it ends with us."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.preloaded_process"],
            cwd=ROOT,
            env=environment(Path(self._home.name)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        atexit.register(self._end)

    def __call__(self, **order: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def _end(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._home.cleanup()


@functools.cache
def _parent() -> _Parent:
    return _Parent()
