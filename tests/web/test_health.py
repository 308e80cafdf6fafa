"""Alive, ready, counted."""

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from proxyindex.metrics import Metrics
from proxyindex.repository.local import Local
from proxyindex.repository.looking import Looker
from proxyindex.repository.scan import Scanner
from proxyindex.threads import COMMON
from proxyindex.web import health
from tests.contract.test_local import Notebook
from tests.support.hermetic import calls, until
from tests.support.pages import wheel_spec
from tests.web.conftest import House


async def test_alive_and_ready(house: House) -> None:
    client = await house.client()
    for path, text in (("/health", "alive\n"), ("/ready", "ready\n")):
        reply = await client.get(path)
        assert (reply.status_code, reply.text) == (200, text)
        assert reply.headers["cache-control"] == "no-store"
        assert (await client.head(path)).status_code == 200


async def test_without_a_cache_it_is_ready_all_the_same_and_says_so(house: House) -> None:
    client = await house.client()
    (house.root / "cache").rename(house.root / "elsewhere")
    (house.root / "cache").write_text("in the way")
    reply = await client.get("/ready")
    assert reply.status_code == 200
    assert reply.text.startswith("ready\nThe cache cannot be written: ")


async def test_not_ready_tells_why_without_paths(house: House) -> None:
    client = await house.client()
    shutil.rmtree(house.folder)
    (house.root / "cache").rename(house.root / "elsewhere")
    (house.root / "cache").write_text("in the way")
    reply = await client.get("/ready")
    assert reply.status_code == 503
    assert "The cache cannot be written" in reply.text
    assert "Package folder 1 cannot be read" in reply.text
    assert str(house.root) not in reply.text
    assert (await client.get("/health")).status_code == 200


async def test_a_closed_folder_in_a_package_folder_is_told(house: House) -> None:
    client = await house.client()
    mount = house.folder / "mount"
    mount.symlink_to("vanished")
    assert (await client.get("/simple/demo/")).status_code == 503
    reply = await client.get("/ready")
    told = "A folder in a package folder cannot be read; the log tells which.\n"
    assert (reply.status_code, reply.text) == (503, told)
    mount.unlink()
    assert (await client.get("/ready")).text == "ready\n"


async def test_who_asks_all_the_time_does_not_have_all_folders_looked_through(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[Scanner] = []
    scan = Scanner.scan
    monkeypatch.setattr(Scanner, "scan", lambda self: scans.append(self) or scan(self))
    client = await house.client()
    for _ in range(5):
        assert (await client.get("/ready")).text == "ready\n"
    assert len(scans) == 1


async def test_requests_are_counted(house: House) -> None:
    house.project("demo", wheel_spec("demo"))
    client = await house.client()
    await client.get("/simple/demo/")
    reply = await client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    assert 'kind="page"' in reply.text


async def test_a_loop_is_refused_before_anything_is_asked(house: House) -> None:
    house.project("demo", wheel_spec("demo"))
    client = await house.client()
    await client.get("/simple/demo/")
    via = house.router.calls.last.request.headers["via"]
    reply = await client.get("/simple/demo/", headers={"via": via})
    assert reply.status_code == 508


def asking(state: health.Health) -> Request:
    return Request({"type": "http", "state": {"house": SimpleNamespace(health=state)}})


async def test_a_folder_that_hangs_is_told_and_holds_nothing_else_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(health, "is_changeable", lambda folder: over.wait(20))
    state = health.Health(tmp_path, [tmp_path], [tmp_path], Metrics(), Looker("here", 0.05), [])
    request = asking(state)
    try:
        for _ in range(3):
            reply = await health.ready(request)
            assert reply.status_code == 503
            assert reply.body == b"A package folder does not answer.\n"
        await until(lambda: calls(COMMON) == 0, "the threads of all others")
    finally:
        over.set()


async def test_a_folder_in_a_package_folder_that_hangs_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(Scanner, "scan", lambda self: over.wait(20))
    own = Local([tmp_path], Notebook(), patience=0.05)
    state = health.Health(tmp_path, [tmp_path], [], Metrics(), Looker("all"), [own])
    try:
        reply = await health.ready(asking(state))
        assert (reply.status_code, reply.body) == (503, b"A package folder does not answer.\n")
    finally:
        over.set()
