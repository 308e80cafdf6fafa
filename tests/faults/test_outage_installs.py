"""Real pip and uv in front of an upstream that fails: what is stored installs, and what is not is
reported as a failure to be tried again, not as a package that does not exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import Done, Workbench
from tests.support.fixtures import ServerFactory
from tests.support.outages import configured, lines, page
from tests.support.pages import FileSpec, wheel_spec
from tests.support.reply import Reply
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

pytestmark = pytest.mark.e2e

LOGIN = Reply(
    body=b"<!DOCTYPE html><html><body><form action='/login'><input name='user'></form></body>",
    content_type="text/html; charset=utf-8",
)
CLIENTS = ["pip", "uv"]
# what the clients say of a server that fails, with the status that it gave
WORDS = {
    "pip": "too many {status} error responses",
    "uv": "HTTP status server error ({status}",
}


def go_down(upstream: FakeUpstream) -> None:
    upstream.down()


def show_login(upstream: FakeUpstream) -> None:
    upstream.otherwise(LOGIN)
    for name in ("px-known", "px-unknown"):
        upstream.script(f"/simple/{name}/", LOGIN)


FAILURES: dict[str, tuple[Callable[[FakeUpstream], None], int]] = {
    "down": (go_down, 503),
    "captive portal": (show_login, 502),
}


@pytest.fixture
def running(server: ServerFactory, upstream: FakeUpstream, tmp_path: Path) -> ProxyIndex:
    """In front of `px-known` and `px-unknown`, of which the former was fetched and is expired."""
    config = configured(tmp_path / "config", upstream.simple_url, "retries = 0")
    made = server("--config", config, "--page-ttl", "0s", is_started=False)
    made.args.remove("--no-upstream")
    for name in ("px-known", "px-unknown"):
        upstream.project(name, *specs(name))
    made.start()
    for spec in specs("px-known"):
        assert made.get(f"/simple/px-known/{spec.filename}").body == spec.body
    return made


def specs(name: str) -> list[FileSpec]:
    return [wheel_spec(name, f"{number}.0") for number in (1, 2, 3, 4)]


def install(client: str, folder: Path, url: str, requirement: str) -> tuple[Done, dict[str, str]]:
    """Try to install, with one retry; what the client said, and what is installed."""
    bench = Workbench(folder / client)
    bench.env["UV_HTTP_RETRIES"] = "1"
    if client == "pip":
        done = bench.pip_install(url, requirement, args=["-vv", "--retries", "1"], check=False)
    else:
        done = bench.uv_pip_install(url, requirement, check=False)
    return done, bench.installed()


@pytest.mark.parametrize("failure", FAILURES)
def test_installers_get_what_is_stored_and_are_told_of_what_is_not(
    running: ProxyIndex, upstream: FakeUpstream, tmp_path: Path, failure: str
) -> None:
    fail, status = FAILURES[failure]
    fail(upstream)
    for client in CLIENTS:
        done, installed = install(client, tmp_path, running.simple_url, "px-known")
        assert installed == {"px-known": "4.0"}, done.stdout
        done, installed = install(client, tmp_path / "x", running.simple_url, "px-unknown")
        assert (done.returncode != 0, installed) == (True, {})
        assert WORDS[client].format(status=status) in done.stdout, done.stdout
        assert "was not found" not in done.stdout
    asked = [line for line in running.logs.splitlines() if "/simple/px-unknown/" in line]
    assert asked
    assert not [line for line in asked if " 404 " in line]


def test_installers_get_an_old_version_that_a_shrunken_page_has_lost(
    running: ProxyIndex, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.project("px-known", specs("px-known")[3])
    assert page(running, "px-known").header("x-proxyindex") == "stale"
    for client in CLIENTS:
        done, installed = install(client, tmp_path, running.simple_url, "px-known==2.0")
        assert installed == {"px-known": "2.0"}, done.stdout
    assert len(lines(running, "has lost 3 of the 4 files")) == 1
