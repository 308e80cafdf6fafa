"""What one worker learns, all answer by at once, also those that have the old answer in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import http
from tests.support.builders import make_wheel, noise, put, wheel_name
from tests.support.clock import WallClock
from tests.support.crowd import ends_of, open_in
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, wheel_spec
from tests.support.server import ProxyIndex
from tests.support.stores import sha256
from tests.support.upstream import FakeUpstream

WORKERS = 3
PAGE = "/simple/demo/"
SMALL, BIG = wheel_name("demo", "1.0"), "demo-1.0.tar.gz"
BIG_SIZE = 200_000  # more than is kept in memory: it is kept open
RANGE = [("Range", "bytes=1000-80000")]


class Desk:
    """A server's workers, each behind a connection that stays with it."""

    def __init__(self, server: ProxyIndex, stack: ExitStack) -> None:
        self.server = server
        self.by_worker: dict[int, http.Connection] = {}
        for _ in range(200):
            connection = stack.enter_context(server.connect())
            assert connection.request("/health").read()
            self.by_worker.setdefault(_worker_of(server, connection), connection)
            if len(self.by_worker) == WORKERS:
                break
        assert len(self.by_worker) == WORKERS

    def ask(self, target: str, headers: http.Headers = ()) -> Iterator[bytes]:
        """The answer of each worker, all of them 200 or 206."""
        for connection in self.by_worker.values():
            answer = connection.request(target, headers)
            body = answer.read()
            assert answer.status in (200, 206)
            yield body


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def _worker_of(server: ProxyIndex, connection: http.Connection) -> int:
    """The process at the other end of a connection."""
    inode = ends_of(connection)[0][9]
    workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return next(int(pid) for pid in workers if f"socket:[{inode}]" in open_in(int(pid)))


def offer(upstream: FakeUpstream, seed: str, *more: FileSpec) -> dict[str, bytes]:
    """A project whose files have the same names and sizes and other bytes for each `seed`; what a
    request for each target should bring."""
    small = wheel_spec("demo", "1.0", requires_dist=[f"needs-{seed}"])
    body = noise(BIG_SIZE, seed=seed)
    upstream.project("demo", small, FileSpec(filename=BIG, body=body), *more)
    assert isinstance(small.body, bytes)
    assert small.metadata is not None
    return {
        PAGE + SMALL: small.body,
        f"{PAGE}{SMALL}.metadata": small.metadata,
        PAGE + BIG: body,
        f"{PAGE}{BIG} in part": body[1000:80001],
    }


def ask_all(desk: Desk, wanted: dict[str, bytes], fragment: str) -> None:
    """Every worker gives exactly this, at the first asking."""
    for page in desk.ask(PAGE):
        assert fragment in page.decode()
    for target, body in wanted.items():
        headers = RANGE if target.endswith(" in part") else ()
        for answer in desk.ask(target.removesuffix(" in part"), headers):
            assert answer == body, target


def purge(server: ProxyIndex) -> None:
    """Returns when it was confirmed."""
    command = [sys.executable, "-m", "proxyindex", "cache", "purge", "demo"]
    subprocess.run(
        [*command, "--cache-dir", server.cache_dir],
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_after_a_confirmed_purge_no_worker_gives_an_old_answer(
    server: ServerFactory, upstream: FakeUpstream, stack: ExitStack
) -> None:
    running = server(upstream=upstream, workers=WORKERS)
    desk = Desk(running, stack)
    for round_ in range(3):
        extra = wheel_spec("demo", f"9.{round_}")
        wanted = offer(upstream, f"{round_}", extra)
        if round_:
            purge(running)
        for _ in range(3):  # from upstream or the cache, then from memory
            ask_all(desk, wanted, extra.filename)
        big = sha256(wanted[PAGE + BIG])
        for pid in desk.by_worker:
            kept = [name for name in open_in(pid) if f"/blobs/{big[:2]}/{big}" in name]
            assert kept, "it keeps the file open"


def test_a_purge_amid_requests_is_obeyed_by_the_next_of_each_worker(
    server: ServerFactory, upstream: FakeUpstream, stack: ExitStack
) -> None:
    running = server(upstream=upstream, workers=WORKERS)
    desk = Desk(running, stack)
    old = offer(upstream, "old")
    for _ in range(3):
        ask_all(desk, old, SMALL)
    new = offer(upstream, "new")
    command = [sys.executable, "-m", "proxyindex", "cache", "purge", "demo"]
    with subprocess.Popen(
        [*command, "--cache-dir", running.cache_dir], stdout=subprocess.DEVNULL
    ) as purging:
        while purging.poll() is None:
            for answer in desk.ask(PAGE + SMALL):
                assert answer in (old[PAGE + SMALL], new[PAGE + SMALL])
    assert purging.returncode == 0
    ask_all(desk, new, SMALL)


def test_a_page_renewed_by_one_worker_is_what_the_others_give(
    server: ServerFactory, upstream: FakeUpstream, stack: ExitStack
) -> None:
    desk = Desk(server(upstream=upstream, workers=WORKERS), stack)
    upstream.project("demo", wheel_spec("demo", "1.0"))
    first = next(iter(desk.by_worker.values()))
    for version in ("2.0", "3.0"):
        for _ in range(3):
            list(desk.ask(PAGE))
        new = wheel_spec("demo", version)
        upstream.project("demo", wheel_spec("demo", "1.0"), new)
        # not twice within two seconds, as nobody may hammer upstream
        wait_until(
            lambda name=new.filename: (  # type: ignore[misc]
                name in first.request(PAGE, [("Cache-Control", "no-cache")]).read().decode()
            ),
            "the new page",
        )
        for page in desk.ask(PAGE):
            assert new.filename in page.decode()


def test_a_file_fetched_by_one_worker_is_at_hand_for_the_others(
    server: ServerFactory, upstream: FakeUpstream, stack: ExitStack
) -> None:
    desk = Desk(server(upstream=upstream, workers=WORKERS), stack)
    wanted = offer(upstream, "once")
    ask_all(desk, wanted, SMALL)
    for target in ("/simple/demo/", f"/files/{SMALL}", f"/files/{BIG}"):
        assert upstream.count(target) == 1, target


def test_own_packages_show_in_every_worker_at_once(
    server: ServerFactory, upstream: FakeUpstream, stack: ExitStack, tmp_path: Path
) -> None:
    folder, clock = tmp_path / "packages", WallClock(tmp_path)
    for number in range(12):
        (folder / f"team-{number}").mkdir(parents=True)
    clock.set_by(3600)  # all that is on the disk has settled
    running = server(folder, upstream=upstream, workers=WORKERS, env=clock.env)
    desk = Desk(running, stack)
    upstream.project("demo", wheel_spec("demo", "9.9"))

    def remembered_page(fragment: str) -> None:
        for page in [page for _ in range(3) for page in desk.ask(PAGE)]:
            assert fragment in page.decode()

    remembered_page("demo-9.9")
    own = put(folder / "team-7", SMALL, make_wheel("demo", "1.0"))
    remembered_page(SMALL)
    for in_place, size in ((False, 50), (True, 5000)):
        body = make_wheel("demo", "1.0", payload=size)
        if in_place:
            own.write_bytes(body)
        else:
            put(folder, "new.tmp", body).rename(own)
        for found in [found for _ in range(3) for found in desk.ask(PAGE + SMALL)]:
            assert found == body
    own.unlink()
    assert all(b"9.9" in page for page in desk.ask(PAGE))
