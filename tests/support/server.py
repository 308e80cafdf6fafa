"""The real proxyindex as a subprocess."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support import http
from tests.support.hermetic import PATIENCE, environment, wait_until
from tests.support.ports import HeldPort
from tests.support.preloaded import Preloaded

_LOOPBACK = re.compile(r"https?://(?:127\.0\.0\.1|localhost|\[::1\]):[1-9]\d*")


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a server ended."""

    code: int
    output: str


class StartFailedError(Exception):
    """The server ended, or stayed dumb, instead of serving. Carries what it wrote."""


class ProxyIndex:
    """`proxyindex serve ARGS…` on a free port: a context manager that always ends it.

    `args` follow `serve`; `--port` and `--cache-dir <workdir>/cache` are added unless given. The
    port is the same at each start.
    `env` is added to a hermetic environment. Output of all runs is gathered in one log.
    """

    def __init__(
        self, *args: str | Path, workdir: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.args = [str(arg) for arg in args]
        self.workdir = workdir
        self.cache_dir = workdir / "cache"
        self.wrapper: list[str] = []  # a command that runs its arguments: strace, for instance
        self.hook: Path | None = None  # a Python file that its processes run first
        # tests count what upstream is asked; what is asked ahead has tests of its own
        private = {
            "PROXYINDEX_LOOK_AHEAD": "false",
            "TMPDIR": str(workdir),
        }  # killed, it leaves things
        self.env = environment(workdir / "home", {**private, **(env or {})})
        self.url = ""
        self._port = HeldPort()
        self._log = workdir / "proxyindex.log"
        self._process: subprocess.Popen[bytes] | Preloaded | None = None
        self._leash: subprocess.Popen[bytes] | None = None

    @property
    def base_path(self) -> str:
        """Where everything is mounted, as told by `--base-path`."""
        return self.args[self.args.index("--base-path") + 1] if "--base-path" in self.args else ""

    @property
    def simple_url(self) -> str:
        """What to give to an installer."""
        return f"{self.url}{self.base_path}/simple/"

    @property
    def pid(self) -> int:
        """The process that was started (with workers: their parent)."""
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def logs(self) -> str:
        """Everything written so far to standard output and error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and return when `/health` answers. Raises `StartFailedError`."""
        seen = len(self.logs)
        self._process = self._launch()
        self._leash = _leash(self._process.pid)
        try:
            self.url = wait_until(lambda: self._serving_url(self.logs[seen:]), "serving")
        except TimeoutError as exc:
            self.kill()
            raise StartFailedError(self.logs) from exc
        return self

    def _launch(self) -> subprocess.Popen[bytes] | Preloaded:
        """Start it in a session of its own, so that `kill` reaches the workers too.

        What must be there before anything is imported needs an interpreter of its own.
        """
        args = ["serve", *self._all_args()]
        self._log.touch()
        if not self.wrapper and "PYTHONPATH" not in self.env:
            return Preloaded(args, cwd=self.workdir, env=self.env, log=self._log, hook=self.hook)
        assert self.hook is None, "a hook runs in what is preloaded only"
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self.wrapper, sys.executable, "-m", "proxyindex", *args],
                cwd=self.workdir,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> Stopped:
        """Ask it to end (SIGTERM), as a service manager does."""
        assert self._process is not None, "not running"
        if self.is_running:
            os.kill(self.pid, signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise AssertionError(f"did not end within {PATIENCE} s\n{self.logs}") from exc
        self._process = None
        self._unleash()
        return Stopped(code, self.logs)

    def kill(self) -> None:
        """End it and its workers at once (SIGKILL), as a power cut does; no-op when it is down."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        self._unleash()
        if self.url:  # its workers die a moment after it, and with them the listening socket
            wait_until(lambda: _refuses(self.url), "the end of its workers")

    def _unleash(self) -> None:
        if self._leash is not None:
            self._leash.kill()
            self._leash.wait()
            assert self._leash.stdin
            self._leash.stdin.close()
            self._leash = None

    def restart(self, *args: str | Path) -> Self:
        """Stop if running, then start on the same port, with more arguments if given."""
        if self._process is not None:
            self.stop()
        self.args += [str(arg) for arg in args]
        return self.start()

    def get(self, target: str, headers: http.Headers = (), **more: Any) -> http.Response:
        """One GET (or `method=`) on a connection of its own, read to the end."""
        return http.request(self.url, target, headers, **more)

    def connect(self, **more: Any) -> http.Connection:
        """A connection of one's own."""
        return http.Connection(self.url, **more)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _all_args(self) -> list[str]:
        args = list(self.args)
        if "--port" not in args:
            args += ["--port", str(self._port.number)]
        if "--cache-dir" not in args:
            args += ["--cache-dir", str(self.cache_dir)]
        return args

    def _serving_url(self, output: str) -> str | None:
        """The first address in the output that is not an argument and is healthy."""
        if not self.is_running:
            raise StartFailedError(self.logs)
        given = set(_LOOPBACK.findall(" ".join([*self.args, *self.env.values()])))
        for url in dict.fromkeys(_LOOPBACK.findall(output)):
            if url not in given and _is_healthy(url, self.base_path + "/health"):
                return str(url)
        return None


def _leash(group: int) -> subprocess.Popen[bytes]:
    """Something that ends a process group when we are gone, however we went: it reads from us."""
    return subprocess.Popen(
        ["sh", "-c", "cat; kill -9 -$0", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _refuses(url: str) -> bool:
    try:
        http.Connection(url.replace("https:", "http:"), timeout=1.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _is_healthy(url: str, path: str) -> bool:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    try:
        return http.request(url, path, timeout=5.0, tls=trusting).status == 200
    except (OSError, http.NoAnswerError, http.ShortBodyError):
        return False
