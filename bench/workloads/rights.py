"""What it costs that only users may read: the same requests with a log-in, and open to all."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import catalogue, client, load
from bench.asks import PageAsk
from bench.client import Answer, Request
from bench.errors import WrongAnswer
from bench.lab import Lab
from bench.servers import SERVERS
from bench.servers.base import Site, until_right, wait_for
from bench.servers.ours import ProxyIndex
from bench.signs import TIMES
from bench.workloads.base import OURS, Goal, Metric, Workload

PROJECT = "small-0"
PASSWORD = "correct horse battery staple"
_CONFIG = """
htpasswd = ["{folder}/users"]
tokens = "{folder}/tokens.json"
read = ["@users"]
fetch = ["@users"]
"""
_SWAPS = 4


@dataclass(frozen=True, slots=True)
class ClosedAndOpen:
    """The same requests to a site for users, which is to be ended, and to one for all."""

    site: Site
    open: dict[str, Request]
    closed: dict[str, Request]


@dataclass(frozen=True, slots=True)
class Rights(Workload):
    """Requests a second with a log-in, as a multiple of those without where nobody needs one."""

    def prepare(self, lab: Lab, server: str) -> ClosedAndOpen:
        ours, setup = SERVERS[server], lab.setup(SERVERS[server])
        assert isinstance(ours, ProxyIndex)
        everybody = lab.running(server)
        log_ins = _log_ins(setup.folder)
        config = _CONFIG.format(folder=setup.folder)
        closed = ours.launch_with(setup, setup.folder / "cache", config)
        try:
            wait_for(closed)
            return ClosedAndOpen(
                closed,
                {key: _requests(lab, everybody, {})[key.split()[0]] for key in _KEYS},
                {
                    key: _requests(lab, closed, log_ins[key.split()[2]])[key.split()[0]]
                    for key in _KEYS
                },
            )
        except BaseException:
            closed.child.stop()
            raise

    def sample(self, lab: Lab, subject: ClosedAndOpen) -> Mapping[str, float]:
        return {key: _ratio(lab, subject.closed[key], subject.open[key]) for key in _KEYS}

    def close(self, lab: Lab, subject: ClosedAndOpen) -> None:
        subject.site.child.stop()


_KEYS = ("page by password", "page by token", "file by token")


def _ratio(lab: Lab, closed: Request, everybody: Request) -> float:
    """Alternating, so that a busy machine hits both."""
    seconds = max(1.0, lab.effort.seconds / _SWAPS)
    done = {"closed": 0.0, "open": 0.0}
    for _ in range(_SWAPS):
        for key, request in (("closed", closed), ("open", everybody)):
            rate = load.wrk(request.url, request.headers, cores=lab.load_cores, seconds=seconds)
            done[key] += rate.per_second
    return done["closed"] / done["open"]


def _requests(lab: Lab, site: Site, log_in: dict[str, str]) -> dict[str, Request]:
    ask = PageAsk(PROJECT)
    page = Request(site.page(PROJECT), ask.headers | log_in)
    ask.check(*client.body(page))
    file = Request(site.page(PROJECT) + catalogue.first_file(PROJECT).filename, log_in)

    def is_right(answer: Answer) -> bool:
        return answer.status == 200 and answer.size == catalogue.SMALL_BYTES

    until_right(file, is_right)
    if log_in and client.body(Request(page.url, ask.headers))[0].status != 401:
        raise WrongAnswer("it is open to all")
    return {"page": page, "file": file}


def _log_ins(folder: Path) -> dict[str, dict[str, str]]:
    """The headers of a user and of a token, both made as anybody would."""
    ours = [sys.executable, "-m", "proxyindex"]
    add = [*ours, "user", "add", "bench", "--htpasswd", str(folder / "users"), "--password-stdin"]
    subprocess.run(add, input=PASSWORD, check=True, capture_output=True, text=True, timeout=60)
    create = [*ours, "token", "create", "--user", "bench", "--tokens", str(folder / "tokens.json")]
    made = subprocess.run(create, check=True, capture_output=True, text=True, timeout=60)
    return {
        "password": _basic("bench", PASSWORD),
        "token": _basic("__token__", made.stdout.strip()),
    }


def _basic(user: str, secret: str) -> dict[str, str]:
    shown = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {shown}"}


WORKLOADS: tuple[Workload, ...] = (
    Rights(
        "rights",
        "requests a second with rights on",
        tuple(Metric(key, f"{TIMES} open to all", True, (Goal("at least", 0.9),)) for key in _KEYS),
        (OURS,),
    ),
)
