"""Killed workers, killed servers, hurried restarts, under traffic: nothing wrong, nothing lost.

The long form, 300 rounds, is a row of the soak. What single killed writers leave behind is in the
tests of the stores, and in `test_processes.py`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.crowd import attempt, lock_holder
from tests.support.fixtures import ServerFactory, start_server
from tests.support.http import Response, ShortBodyError
from tests.support.mayhem import Mayhem, children
from tests.support.pages import FileSpec
from tests.support.reply import Generated, Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.stores import sha256
from tests.support.upstream import FakeUpstream

SEED = 20_240_117  # of what is asked and killed; when it is killed is never twice the same
TAKEOVER_SECONDS = 10.0  # on a busy machine; the soak demands 2
SIZE, HELD_AT = 400_000, 150_000


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("workers", "rounds"), [(1, 2), (3, 4)])
def test_killing_at_random_moments_spoils_and_loses_nothing(
    server: ServerFactory, upstream: FakeUpstream, own: Path, workers: int, rounds: int
) -> None:
    running = server(own, upstream=upstream, workers=workers)
    mayhem = Mayhem(running, upstream, own, SEED + workers)
    results = [mayhem.round() for _ in range(rounds)]
    story = f"seed {SEED + workers}: {results}"
    assert sum(one.wrong + one.lost + one.leftovers for one in results) == 0, story
    assert min(one.responses for one in results) >= 20, story
    takeovers = [one.takeover_seconds for one in results]
    if workers > 1:
        assert any(takeover is not None for takeover in takeovers), story
    assert all(takeover is None or takeover < TAKEOVER_SECONDS for takeover in takeovers), story
    assert "Traceback" not in running.logs


@pytest.mark.parametrize("workers", [1, 3])
def test_a_server_stopped_under_load_finishes_what_it_began(
    server: ServerFactory, upstream: FakeUpstream, own: Path, workers: int
) -> None:
    running = server(own, upstream=upstream, workers=workers)
    mayhem = Mayhem(running, upstream, own, SEED)
    held = hold(upstream, "held")
    with mayhem.traffic() as tally, running.connect() as connection:
        connection.start(target(held))
        begun = connection.answer()
        assert begun.read(1000)
        pids = children(running)
        upstream.release("held")
        stopped = running.stop()
        assert sha256(begun.body) == sha256_of(held.body), "which was being sent"
        running.start()
    assert stopped.code == 0
    assert not set(pids) & set(children(running))
    assert tally.wrong == [], f"seed {SEED}"
    result = mayhem.round()
    assert (result.wrong, result.lost, result.leftovers) == (0, 0, 0), f"seed {SEED}: {result}"
    assert "Traceback" not in running.logs


@pytest.mark.parametrize("is_orderly", [True, False], ids=["stopped", "killed"])
def test_a_restart_amid_twenty_downloads_loses_none(
    server: ServerFactory, upstream: FakeUpstream, is_orderly: bool
) -> None:
    specs = [hold(upstream, f"held{number}") for number in range(20)]
    running = server("--grace", "1", upstream=upstream, workers=2)
    with ExitStack() as stack:
        for spec in specs:
            connection = stack.enter_context(running.connect())
            connection.start(target(spec))
            assert len(connection.answer().read(HELD_AT)) == HELD_AT
        running.stop() if is_orderly else running.kill()
    running.start()
    for spec in specs:
        upstream.release(project(spec))
        body = attempt(running.url, target(spec))
        assert body is not None
        assert sha256(body) == sha256_of(spec.body)
        again = upstream.requests(spec.path)[-1]
        assert again.header("range") == f"bytes={HELD_AT}-", "resumed, not begun anew"
    assert not list((running.cache_dir / "partials").iterdir())
    assert "Traceback" not in running.logs


def test_a_server_takes_over_from_another_that_was_killed(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    spec = hold(upstream, "shared")
    with ExitStack() as stack:
        pair = [second(tmp_path, number, upstream, stack) for number in range(2)]
        connections = [stack.enter_context(one.connect()) for one in pair]
        answers = [connection.request(target(spec)) for connection in connections]
        begun = [answer.read(HELD_AT) for answer in answers]
        writer = [one.pid for one in pair].index(lock_holder(tmp_path / "cache" / "locks"))
        pair[writer].kill()
        upstream.release("shared")
        rest = answers[1 - writer].read()
        assert sha256(begun[1 - writer] + rest) == sha256_of(spec.body)
        assert is_cut(answers[writer])
        pair[writer].start()
        for one in pair:
            body = attempt(one.url, target(spec))
            assert body is not None
            assert sha256(body) == sha256_of(spec.body)
    assert upstream.count(spec.path) == 2, "what was left was resumed"


def second(home: Path, number: int, upstream: FakeUpstream, stack: ExitStack) -> ProxyIndex:
    """A server of its own on the cache directory of all."""
    made = start_server(home / f"{number}", "--cache-dir", home / "cache", upstream=upstream)
    made.cache_dir = home / "cache"
    return stack.enter_context(made)


def is_cut(answer: Response) -> bool:
    try:
        answer.read()
    except ShortBodyError:
        return True
    return False


def hold(upstream: FakeUpstream, name: str) -> FileSpec:
    """A file of a new project that stops in the middle until the gate of its name opens; a second
    request is not held."""
    spec = FileSpec(filename=f"{name}-1.0.tar.gz", body=Generated(SIZE, sum(name.encode())))
    upstream.project(name, spec)
    usual = Reply(body=spec.body, last_modified="Wed, 17 Jan 2024 16:53:12 GMT")
    upstream.script(spec.path, usual.with_(hold_at=HELD_AT, gate=name), usual)
    return spec


def project(spec: FileSpec) -> str:
    return spec.filename.partition("-")[0]


def target(spec: FileSpec) -> str:
    return f"/simple/{project(spec)}/{spec.filename}"
