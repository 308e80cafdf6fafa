"""Real installs with uv and pip from the index that pip asks by default; only with --live.

Each sample is one command in a new empty environment, without caches of the client. "direct" asks
the index itself, "cold" and "warm" a proxyindex with an empty and a full cache.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import installing
from bench.errors import Unavailable
from bench.lab import Lab
from bench.process import Child
from bench.servers.base import Site, free_port, wait_for
from bench.signs import TIMES
from bench.workloads.base import OURS, Goal, Metric, Workload
from proxyindex.upstream.default import default_index_url

INSTALLED = "jupyterlab"
RESOLVED = (
    "jupyterlab",
    "pandas",
    "scikit-learn",
    "django[argon2,bcrypt]",
    "fastapi[standard]",
    "celery[redis]",
    "boto3",
    "mlflow",
    "dask[complete]",
    "transformers",
    "scrapy",
    "sphinx",
    "streamlit",
    "great-expectations",
    "polars",
    "poetry",
)
SECONDS = 900.0
_MOST_ROUNDS = 3
_MEMORY, _ROOM = Path("/dev/shm"), 6 * 1024**3  # bytes: three environments, and what is unpacked
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY")
_METRICS = ("direct", "cold", "warm")


@dataclass(frozen=True, slots=True)
class Client(Workload):
    """Runs one client; `tool` is uv or pip."""

    tool: str = "uv"

    def prepare(self, lab: Lab, server: str) -> Iterator[int]:
        return itertools.count()

    def rounds(self, lab: Lab) -> int:
        return min(_MOST_ROUNDS, lab.effort.rounds)

    def sample(self, lab: Lab, subject: Iterator[int]) -> Mapping[str, float]:
        folder = Path(tempfile.mkdtemp(prefix="live-", dir=_room() or lab.folder))
        site = _with_defaults(lab, folder)
        try:
            indexes = {"cold": f"{site.url}/simple/", "warm": f"{site.url}/simple/"}
            direct = {"direct": default_index_url()}
            # whoever comes first warms the caches between us and the index for the others
            order = {**direct, **indexes} if next(subject) % 2 else {**indexes, **direct}
            figures = {name: self._seconds(folder / name, url) for name, url in order.items()}
        finally:
            site.child.stop()
            shutil.rmtree(folder, ignore_errors=True)
        ratios = {f"{name} ratio": figures[name] / figures["direct"] for name in indexes}
        return {**figures, **ratios}

    def _seconds(self, folder: Path, index: str) -> float:
        folder.mkdir()
        command = self._command(folder, index)
        return installing.timed(command, folder, limit=SECONDS, extra=_trust())

    def _command(self, folder: Path, index: str) -> Sequence[str | Path]:
        """What installs; the environment it installs into is made here, untimed."""
        environment = folder / "venv"
        venv.create(environment)
        python = environment / "bin" / "python"
        if self.tool == "pip":
            pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-cache-dir"]
            return [*pip, "--index-url", index, INSTALLED]
        uv = [_uv(), "pip", "install", "--no-cache", "--python", python]
        return [*uv, "--default-index", index, INSTALLED]


@dataclass(frozen=True, slots=True)
class Compile(Client):
    """Resolves much and installs nothing."""

    def _command(self, folder: Path, index: str) -> Sequence[str | Path]:
        wanted = folder / "requirements.in"
        wanted.write_text("\n".join(RESOLVED))
        uv = [_uv(), "pip", "compile", "--no-cache", "--quiet", "--python", sys.executable]
        return [*uv, "--default-index", index, wanted, "--output-file", folder / "pins.txt"]


def _room() -> Path | None:
    """Memory instead of a disk, where there is enough of it: ext4 passes over inodes of files that
    were lately removed, so that each environment made the next slower (uv took 1.3 to 13 s)."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM:
        return None
    return _MEMORY


def _uv() -> Path:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if found is None:
        raise Unavailable("uv is not installed")
    return Path(found)


def _with_defaults(lab: Lab, folder: Path) -> Site:
    """proxyindex with all its defaults, and an empty cache."""
    port = free_port()
    command = [sys.executable, "-m", "proxyindex", "serve", "--port", str(port)]
    log = folder / "server.log"
    command += ["--cache-dir", str(folder / "cache")]
    child = Child(
        command,
        cores=lab.server_cores,
        log=log,
        cwd=folder,
        env=installing.environment(folder, _trust()),
    )
    url = f"http://127.0.0.1:{port}"
    site = Site(OURS, url, child, folder)
    try:
        wait_for(site)
    except BaseException:
        child.stop()
        raise
    return site


def _trust() -> dict[str, str]:
    trust = {name: os.environ[name] for name in _TRUST if name in os.environ}
    if "SSL_CERT_FILE" in trust:
        trust["PIP_CERT"] = trust["SSL_CERT_FILE"]
    return trust


def _metrics(cold: float | None, warm: float) -> tuple[Metric, ...]:
    return (
        *(Metric(name, "s") for name in _METRICS),
        Metric("cold ratio", f"{TIMES} direct", goals=(Goal("at most", cold),) if cold else ()),
        Metric("warm ratio", f"{TIMES} direct", goals=(Goal("at most", warm),)),
    )


_SERVERS = (OURS,)
WORKLOADS: tuple[Workload, ...] = (
    Client("live-uv", f"uv installs {INSTALLED}", _metrics(1.05, 1.0), _SERVERS, is_live=True),
    Client(
        "live-pip",
        f"pip installs {INSTALLED}",
        _metrics(1.05, 1.0),
        _SERVERS,
        is_live=True,
        tool="pip",
    ),
    Compile("live-compile", "uv pip compile", _metrics(None, 1 / 3), _SERVERS, is_live=True),
)
