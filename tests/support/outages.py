"""What must hold of a server whose upstream fails, asked with and without a stored copy."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support import http
from tests.support.server import ProxyIndex

BUDGET = 12.0  # seconds, on a busy machine: the soak demands 8; pip gives up after 15
_ACCEPT = {"Accept": "application/vnd.pypi.simple.v1+json"}


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer and how long it took, in seconds."""

    response: http.Response
    seconds: float


def page(server: ProxyIndex, name: str, **headers: str) -> http.Response:
    """A project page in JSON; `_` in a header's name stands for `-`."""
    more = {key.replace("_", "-"): value for key, value in headers.items()}
    return server.get(f"/simple/{name}/", {**_ACCEPT, **more})


def filenames(response: http.Response) -> list[str]:
    """The files on a JSON page."""
    assert response.status == 200, response.text
    return [file["filename"] for file in response.json()["files"]]


def ask(server: ProxyIndex, *names: str) -> list[Answered]:
    """The pages of these projects, asked for at the same time."""

    def timed(name: str) -> Answered:
        began = time.monotonic()
        response = page(server, name)
        return Answered(response, time.monotonic() - began)

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(timed, names))


def assert_stale(answered: Answered, copy: http.Response) -> None:
    """What there was is served, and in time."""
    assert answered.seconds < BUDGET
    assert (answered.response.status, answered.response.body) == (200, copy.body)
    assert answered.response.header("x-proxyindex") == "stale"


def assert_refused(answered: Answered, status: int) -> None:
    """It is said that nobody knows, in time, for this once."""
    assert answered.seconds < BUDGET
    response = answered.response
    assert response.status == status, response.text
    assert response.header("cache-control") == "no-store"
    if status == 503:
        assert 1 <= int(response.header("retry-after") or 0) <= 30


def stored_page(server: ProxyIndex, name: str) -> bytes:
    """The body of the one stored copy of a page."""
    (path,) = (server.cache_dir / "pages").glob(f"*/{name}")
    return path.read_bytes().partition(b"\n")[2]


def alarms(server: ProxyIndex, kind: str) -> int:
    """How often `/metrics` counted this alarm."""
    text = server.get("/metrics").text
    found = re.search(rf'proxyindex_alarms_total{{kind="{kind}"}} (\d+)', text)
    return int(found[1]) if found else 0


def lines(server: ProxyIndex, *words: str) -> list[str]:
    """The lines of the log that hold all of these words; requests are not among them."""
    found = [line for line in server.logs.splitlines() if "GET /" not in line]
    return [line for line in found if all(word in line for word in words)]


def configured(workdir: Path, url: str, *lines_: str) -> Path:
    """A configuration file with one upstream."""
    workdir.mkdir(parents=True, exist_ok=True)
    config = workdir / "proxyindex.toml"
    table = ["[[upstream]]", 'name = "up"', f'url = "{url}"', *lines_, ""]
    config.write_text("\n".join(table))
    return config


def peak_memory(server: ProxyIndex) -> int:
    """The most memory the server has used so far, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
