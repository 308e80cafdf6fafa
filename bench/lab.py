"""Where one run happens: scratch folder, cores, upstream, the servers that are running."""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import trustme

from bench import client
from bench.client import Request
from bench.errors import Unavailable
from bench.process import Child
from bench.servers import SERVERS
from bench.servers.base import Certificate, Server, Setup, Site, wait_for, wait_for_line

DIRECT = "direct"
_DAY = 86_400
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: seconds of one sample under load, and samples per server."""

    seconds: float = 1.0
    rounds: int = 5


class Upstream:
    """The handle of the fake upstream's process; see `bench.upstream`."""

    def __init__(self, child: Child) -> None:
        self._child = child
        port = int(wait_for_line(child, lambda line: line.isdigit()))
        self.url = f"http://127.0.0.1:{port}"

    def behave(self, *, latency: float = 0.0, rate: float = 0.0) -> None:
        """Wait `latency` seconds before each answer, send files at `rate` bytes a second."""
        self._tell(f"set?latency={latency}&rate={rate}")

    def prepare(self, project: str) -> None:
        """Make its page now, so that no measurement contains the making."""
        self._tell(f"prepare?project={project}")

    def reset(self) -> None:
        self._tell("reset")

    def settle(self, seconds: float = 60.0) -> None:
        """Until it answers nobody any more: servers may go on fetching behind their clients."""
        deadline = time.monotonic() + seconds
        while self._tell("counts")["active"] and time.monotonic() < deadline:
            time.sleep(0.05)

    def gets(self, end: str) -> int:
        """How often something whose path ends so was asked for by GET."""
        counts = self._tell("counts")
        gets = {key: count for key, count in counts.items() if key.startswith("GET ")}
        return sum(count for key, count in gets.items() if key.rstrip("/").endswith(end))

    def site(self) -> Site:
        """The upstream itself as a server under test: "direct"."""
        return Site(DIRECT, self.url, self._child, Path())

    def stop(self) -> None:
        self._child.stop()

    def _tell(self, what: str) -> dict[str, int]:
        _, body = client.body(Request(f"{self.url}/-/{what}"))
        counts: dict[str, int] = json.loads(body)
        return counts


class Lab:
    """A context manager; what it started has ended after it."""

    def __init__(self, scratch: Path, effort: Effort) -> None:
        self.scratch = scratch
        self.effort = effort
        cores = sorted(os.sched_getaffinity(0))
        self.server_cores = cores[:1]
        self.load_cores = cores[1:] or cores
        self.all_cores = cores
        self._numbers = itertools.count(1000)
        self._sites: dict[tuple[str, int, bool, bool], Site] = {}
        self._failures: dict[tuple[str, int, bool, bool], str] = {}

    def __enter__(self) -> Lab:
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=self.scratch))
        self.answers = self.folder / "answers"
        (self.answers / "answer").mkdir(parents=True)
        (self.answers / "file").mkdir()
        os.sched_setaffinity(0, self.load_cores)
        python = [sys.executable, "-m"]
        child = Child(
            [*python, "bench.upstream"],
            cores=self.load_cores,
            log=self.folder / "upstream.log",
            cwd=ROOT,
        )
        self.upstream = Upstream(child)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()
        self.upstream.stop()
        os.sched_setaffinity(0, self.all_cores)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed runs left behind."""
        for folder in self.scratch.glob("run-*"):
            if time.time() - folder.stat().st_mtime > _DAY:
                shutil.rmtree(folder, ignore_errors=True)

    def new_name(self, kind: str) -> str:
        """A project nobody has asked for yet."""
        return f"{kind}-{next(self._numbers)}"

    def running(
        self, name: str, *, workers: int = 1, is_tls: bool = False, is_spread: bool = False
    ) -> Site:
        """The server `name`, started at the first call and kept. Raises `Unavailable`.

        `is_spread`: each worker has a core, even if one of them is the load generator's.
        """
        key = name, workers, is_tls, is_spread
        if key in self._failures:
            raise Unavailable(self._failures[key])
        site = self._sites.get(key)
        if site is None or not site.child.is_running:
            server = SERVERS[name]
            setup = self.setup(server, workers=workers, is_tls=is_tls, is_spread=is_spread)
            try:
                site = self._sites[key] = _started(server, setup)
            except Unavailable as problem:
                self._failures[key] = str(problem)  # it would be tried for every workload
                raise
        return site

    def fresh(self, name: str, *, workers: int = 1) -> Site:
        """The server `name` with an empty cache of its own; to be ended by `end`."""
        if name == DIRECT:
            return self.upstream.site()
        server = SERVERS[name]
        return _started(server, self.setup(server, workers=workers))

    def end(self, site: Site) -> None:
        """End what `fresh` started, and remove its folder."""
        if site.name != DIRECT:
            site.child.stop()
            shutil.rmtree(site.folder, ignore_errors=True)

    def stop_all(self) -> None:
        """End every server that `running` started."""
        for site in self._sites.values():
            self.end(site)
        self._sites.clear()

    def calm(self) -> None:
        """Until no server that is kept works any more: slow ones go on answering for a second after
        their clients have left, and would take half of the core from whoever comes next."""
        spent_when_calm(self._sites.values())

    def setup(
        self,
        server: Server,
        *,
        workers: int = 1,
        is_tls: bool = False,
        is_spread: bool = False,
    ) -> Setup:
        """What a server needs to start, in a new folder."""
        folder = Path(tempfile.mkdtemp(prefix=f"{server.name}-", dir=self.folder))
        return Setup(
            scratch=self.scratch,
            folder=folder,
            cores=self._cores(workers, is_spread),
            upstream=self.upstream.url,
            answers=self.answers,
            workers=workers,
            certificate=self._certificate() if is_tls else None,
        )

    def _cores(self, workers: int, is_spread: bool) -> list[int]:
        most = len(self.all_cores) - (0 if is_spread else 1)
        return self.all_cores[: max(1, min(workers, most))]

    def _certificate(self) -> Certificate:
        found = Certificate(self.folder / "cert.pem", self.folder / "key.pem")
        if not found.key.exists():
            leaf = trustme.CA().issue_cert("127.0.0.1", "localhost")
            leaf.private_key_pem.write_to_path(found.key)
            for number, blob in enumerate(leaf.cert_chain_pems):
                blob.write_to_path(found.chain, append=number > 0)
        return found


def spent_when_calm(sites: Collection[Site], seconds: float = 10.0) -> float:
    """Seconds of the processor that the servers took so far, once that does not grow any more; it
    is waited for so long at most."""
    deadline, spent = time.monotonic() + seconds, -1.0
    while spent != (now := sum(site.child.cpu_seconds() for site in sites)):
        spent = now
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return spent


def _started(server: Server, setup: Setup) -> Site:
    server.prepare(setup)
    site = server.launch(setup)
    try:
        wait_for(site)
        server.configure(site, setup)
    except BaseException:
        site.child.stop()
        raise
    return site


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    kernel = os.uname()
    return {
        "cores": str(os.cpu_count()),
        "processor": model,
        "kernel": f"{kernel.sysname} {kernel.release}",
        "python": platform.python_version(),
    }
