"""The clock of the wall jumps by a year, there and back, while a server runs: nothing sticks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clock import YEAR, WallClock
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

JUMPS = [YEAR, -YEAR]
BIG = 1_000_000
HOLD_AT = 200_000


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


def offer(upstream: FakeUpstream, version: str = "1.0", *, payload: int = 5000) -> FileSpec:
    spec = wheel_spec("cargo", version, payload=payload)
    upstream.project("cargo", spec)
    return spec


def target(spec: FileSpec) -> str:
    return f"/simple/cargo/{spec.filename}"


def shows(server: ProxyIndex, spec: FileSpec) -> bool:
    """Whether the page lists it; in any case there is a page."""
    answer = server.get("/simple/cargo/")
    assert answer.status == 200
    return spec.filename in answer.text


@pytest.mark.parametrize("jump", JUMPS)
def test_a_page_is_asked_for_again_after_every_jump(
    server: ServerFactory, upstream: FakeUpstream, clock: WallClock, jump: float
) -> None:
    running = server(upstream=upstream, env=clock.env)
    old = offer(upstream, "1.0")
    assert shows(running, old)
    new = offer(upstream, "2.0")
    assert not shows(running, new), "fresh"
    clock.set_by(jump)
    wait_until(lambda: shows(running, new), "the new page")
    newest = offer(upstream, "3.0")
    assert not shows(running, newest), "fresh by the new clock, too"
    clock.set_by(0.0)
    wait_until(lambda: shows(running, newest), "the newest page")
    assert running.get(target(newest)).body == newest.body
    assert "Traceback" not in running.logs


@pytest.mark.parametrize("jump", JUMPS)
def test_without_upstream_pages_and_files_survive_a_jump(
    server: ServerFactory, upstream: FakeUpstream, clock: WallClock, jump: float
) -> None:
    running = server(upstream=upstream, env=clock.env)
    spec = offer(upstream)
    assert running.get(target(spec)).body == spec.body
    upstream.down()
    for shift in (jump, 0.0):
        clock.set_by(shift)
        assert shows(running, spec)
        assert running.get(target(spec)).body == spec.body
    upstream.up()


@pytest.mark.parametrize("jump", [*JUMPS, 0.0])
def test_no_project_stays_missing_because_the_clock_was_wrong(
    server: ServerFactory, upstream: FakeUpstream, clock: WallClock, jump: float
) -> None:
    clock.set_by(jump)
    running = server(upstream=upstream, env=clock.env)
    assert running.get("/simple/cargo/").status == 404
    asked = upstream.count("/simple/cargo/")
    assert running.get("/simple/cargo/").status == 404
    assert upstream.count("/simple/cargo/") == asked, "remembered for a minute"
    spec = offer(upstream)
    clock.set_by(120.0)  # the right time, two minutes later
    assert running.get("/simple/cargo/").status == 200
    assert running.get(target(spec)).body == spec.body


@pytest.mark.parametrize("jump", JUMPS)
def test_a_running_download_does_not_mind(
    server: ServerFactory, upstream: FakeUpstream, clock: WallClock, jump: float
) -> None:
    spec = offer(upstream, payload=BIG)
    upstream.file(spec, hold_at=HOLD_AT)
    running = server(upstream=upstream, env=clock.env)
    with running.connect() as connection:
        connection.start(target(spec))
        upstream.wait_held()
        clock.set_by(jump)
        other = running.connect()
        other.start(target(spec))
        assert other.answer().read(HOLD_AT // 2) == spec.body[: HOLD_AT // 2]
        other.close()
        upstream.release()
        assert connection.answer().body == spec.body
    clock.set_by(0.0)
    assert running.get(target(spec)).body == spec.body
    assert upstream.count(spec.path) == 1


@pytest.mark.parametrize("jump", JUMPS)
def test_what_a_killed_server_left_is_resumed_or_thrown_away(
    server: ServerFactory, upstream: FakeUpstream, clock: WallClock, jump: float
) -> None:
    spec = offer(upstream, payload=BIG)
    upstream.file(spec, hold_at=HOLD_AT)
    running = server(upstream=upstream, env=clock.env)
    with running.connect() as connection:
        connection.start(target(spec))
        upstream.wait_held()
        running.kill()
    upstream.release()
    clock.set_by(jump)
    running.start()
    assert running.get(target(spec)).body == spec.body
    clock.set_by(0.0)
    assert running.get(target(spec)).body == spec.body
    assert not list((running.cache_dir / "partials").iterdir())
