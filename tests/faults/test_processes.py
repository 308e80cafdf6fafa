"""Several processes on one cache directory, and what happens to it behind a server's back."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.crowd import processes_with_open
from tests.support.fixtures import start_server
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, wheel_spec
from tests.support.reply import BEFORE_HEADERS, Reply
from tests.support.server import ProxyIndex
from tests.support.stores import child, finish, kill, line, opened, sha256
from tests.support.upstream import FakeUpstream


@pytest.fixture(scope="module")
def origin() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream


@contextmanager
def two_servers(
    home: Path, upstream: FakeUpstream, *options: str
) -> Iterator[tuple[ProxyIndex, ProxyIndex]]:
    """Two servers that share one cache directory."""
    with ExitStack() as stack:
        made = []
        for number in range(2):
            server = start_server(
                home / f"{number}", "--cache-dir", home / "cache", *options, upstream=upstream
            )
            server.cache_dir = home / "cache"
            made.append(stack.enter_context(server))
        yield made[0], made[1]


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, origin: FakeUpstream
) -> Iterator[tuple[ProxyIndex, ProxyIndex]]:
    with two_servers(tmp_path_factory.mktemp("pair"), origin) as made:
        yield made


def cache_command(server: ProxyIndex, *arguments: str) -> str:
    """`proxyindex cache …` on the directory of a running server."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "proxyindex", "cache", *arguments),
            *("--cache-dir", str(server.cache_dir)),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def offer(upstream: FakeUpstream, name: str) -> FileSpec:
    spec = wheel_spec(name, "1.0", payload=20_000)
    upstream.project(name, spec)
    return spec


def fetch(server: ProxyIndex, name: str, spec: FileSpec) -> bytes:
    answer = server.get(f"/simple/{name}/{spec.filename}")
    assert answer.status == 200
    return answer.body


def test_a_file_fetched_by_one_server_is_at_hand_for_the_other(
    pair: tuple[ProxyIndex, ProxyIndex], origin: FakeUpstream
) -> None:
    spec = offer(origin, "shared")
    assert fetch(pair[0], "shared", spec) == spec.body
    assert fetch(pair[1], "shared", spec) == spec.body
    assert origin.count(spec.path) == origin.count("/simple/shared/") == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells processes apart by /proc")
@pytest.mark.parametrize(("status", "ours"), [(403, 502), (404, 404), (503, 503)])
def test_servers_that_wait_for_one_answer_say_the_same_of_it(
    pair: tuple[ProxyIndex, ProxyIndex], origin: FakeUpstream, status: int, ours: int
) -> None:
    spec = offer(origin, f"wanted-{status}")
    gate = f"gate {status}"
    refusal = Reply(status=status, etag=None)
    origin.script(spec.path, refusal.with_(hold_at=BEFORE_HEADERS, gate=gate), refusal)
    target = f"/simple/wanted-{status}/{spec.filename}"
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(server.get, target) for server in pair]
        origin.wait_held(gate)
        partials = pair[0].cache_dir / "partials"
        wait_until(lambda: len(processes_with_open(partials)) == 2, "the second server")
        origin.release(gate)
        assert [answer.result().status for answer in asked] == [ours, ours]


def test_running_servers_notice_a_purge_at_once(
    pair: tuple[ProxyIndex, ProxyIndex], origin: FakeUpstream
) -> None:
    spec = offer(origin, "purged")
    for server in pair:
        assert fetch(server, "purged", spec) == spec.body
    assert cache_command(pair[0], "purge", "purged").startswith("Purged purged: 1 pages, ")
    for server in pair:
        assert fetch(server, "purged", spec) == spec.body
    assert origin.count(spec.path) == origin.count("/simple/purged/") == 2


def test_a_purge_lets_changed_bytes_in(
    pair: tuple[ProxyIndex, ProxyIndex], origin: FakeUpstream
) -> None:
    first = wheel_spec("changed", "1.0", payload=1000)
    second = wheel_spec("changed", "1.0", payload=2000)
    assert first.filename == second.filename
    origin.project("changed", first)
    assert fetch(pair[0], "changed", first) == first.body
    origin.project("changed", second)
    with opened(pair[0].cache_dir) as cache:  # as if the page had expired
        for upstream in cache.pages.upstreams():
            cache.pages.remove(upstream, "changed")
    assert fetch(pair[0], "changed", first) == first.body, "first bytes stay"
    cache_command(pair[0], "purge", "changed")
    assert fetch(pair[0], "changed", second) == second.body


def test_an_emptied_cache_is_filled_again_by_running_servers(
    pair: tuple[ProxyIndex, ProxyIndex], origin: FakeUpstream
) -> None:
    spec = offer(origin, "emptied")
    for server in pair:
        assert fetch(server, "emptied", spec) == spec.body
    cache_command(pair[0], "clean", "--all", "--yes")
    for server in pair:
        assert fetch(server, "emptied", spec) == spec.body
    assert origin.count(spec.path) == 2
    assert cache_command(pair[0], "verify") == "The cache is sound.\n"


@pytest.mark.parametrize("damage", ["garbage", "planted pickles", "removed"])
def test_servers_serve_on_whatever_happens_to_the_index(
    origin: FakeUpstream, tmp_path: Path, damage: str
) -> None:
    name = damage.replace(" ", "-")
    spec, later = offer(origin, name), offer(origin, f"{name}-later")
    marker = tmp_path / "ran"
    with two_servers(tmp_path, origin) as pair:
        assert fetch(pair[0], name, spec) == spec.body
        for table in ("pages", "blobs", "absent", "derived"):
            spoil(pair[0].cache_dir / "index" / table, damage, marker)
        for server in pair:
            assert fetch(server, name, spec) == spec.body
            assert fetch(server, f"{name}-later", later) == later.body
            assert server.get("/simple/no-such-project/").status == 404
            assert server.get("/metrics").status == 200
        for server in pair:
            server.stop()  # which writes down what is left to be noted
        assert "Traceback" not in pair[0].logs + pair[1].logs
    assert origin.count(spec.path) == origin.count(later.path) == 1
    assert not marker.exists()


def spoil(directory: Path, damage: str, marker: Path) -> None:
    database = directory / "cache.db"
    if not database.exists():
        return
    if damage == "removed":
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    elif damage == "garbage":
        database.write_bytes(b"no database " * 4000)
    else:
        program = f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
        row = "INSERT OR REPLACE INTO Cache (key, raw, size, mode, value) VALUES (?, ?, 3, 4, ?)"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(row, (program, 0, program))
            connection.execute("UPDATE Cache SET mode = 4, value = ?", (program,))


def test_a_server_killed_amid_a_download_leaves_a_sound_cache(
    tmp_path: Path, origin: FakeUpstream
) -> None:
    spec = offer(origin, "cut-off")
    server = start_server(tmp_path, upstream=origin)
    with server:
        assert fetch(server, "cut-off", spec) == spec.body
        held = wheel_spec("cut-off", "2.0", payload=400_000)
        origin.project("cut-off", spec, held)
        origin.file(held, hold_at=100_000, gate="cut")
        cache_command(server, "purge", "cut-off")
        connection = server.connect()
        connection.start(f"/simple/cut-off/{held.filename}")
        origin.wait_held("cut")
        server.kill()
        connection.close()
        origin.release("cut")
        assert cache_command(server, "verify") == "The cache is sound.\n"
        server.start()
        assert fetch(server, "cut-off", held) == held.body


def test_what_a_dead_writer_left_without_a_digest_is_not_written_over(
    tmp_path: Path, origin: FakeUpstream
) -> None:
    """Who follows it would join the bytes of two versions."""
    spec = replace(wheel_spec("left-over", "1.0", payload=400_000), hashes={}, size=None)
    origin.project("left-over", spec)
    origin.file(spec, hold_at=300_000, gate="left")
    with start_server(tmp_path, upstream=origin) as server:
        with server.connect() as connection:
            connection.request(f"/simple/left-over/{spec.filename}").read(200_000)
            origin.wait_held("left")
            server.kill()
        origin.release("left")
        (left,) = [path for path in (server.cache_dir / "partials").iterdir() if not path.suffix]
        with left.open("rb") as follower:
            before = follower.read()
            assert len(before) >= 200_000
            other = replace(spec, body=bytes(len(spec.body)))
            origin.project("left-over", other)
            origin.file(other)
            server.start()
            assert fetch(server, "left-over", other) == other.body
            follower.seek(0)
            assert follower.read() == before


@pytest.mark.parametrize("end", ["killed", "stopped", "removed"])
def test_a_download_goes_on_elsewhere(tmp_path: Path, end: str) -> None:
    """The server that fetches is killed or stopped, or the cache is removed under both."""
    spec = wheel_spec("followed", "1.0", payload=2_000_000)
    with ExitStack() as stack:
        upstream = stack.enter_context(FakeUpstream())
        one, other = stack.enter_context(two_servers(tmp_path, upstream, "--grace", "0.1"))
        upstream.project("followed", spec)
        upstream.script(spec.path, Reply(body=spec.body, hold_at=500_000), Reply(body=spec.body))
        answers = []
        for server in (one, other):
            connection = stack.enter_context(server.connect())
            answers.append(connection.request(f"/simple/followed/{spec.filename}"))
            assert answers[-1].read(400_000)
        upstream.wait_held()
        if end == "removed":
            shutil.rmtree(tmp_path / "cache")
            wait_until(lambda: upstream.count(spec.path) == 2, "the other to go on by itself")
            upstream.release()
        else:
            one.kill() if end == "killed" else one.stop()
        assert answers[1].read() == spec.body[400_000:], "his client does not notice"
        if end == "removed":
            assert answers[0].read() == spec.body[400_000:]


TRIMMER = """
    import sys
    from pathlib import Path
    from tests.support.stores import opened
    with opened(Path(sys.argv[1]), file_limit=int(sys.argv[2])) as cache:
        cache.blobs.total()
        print("ready", flush=True)
        sys.stdin.readline()
        print(cache.blobs.trim(), flush=True)
"""


def test_processes_that_trim_at_once_evict_no_more_than_need_be(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        for number in range(400):
            content = f"{number:010}".encode()
            cache.blobs.put(sha256(content), content)
        cache.blobs.trim()
        assert cache.blobs.total() == 4000
        trimmers = [child(TRIMMER, tmp_path, 1000) for _ in range(3)]
        for trimmer in trimmers:
            assert line(trimmer) == "ready"
        for trimmer in trimmers:
            assert trimmer.stdin
            trimmer.stdin.write("\n")
            trimmer.stdin.flush()
        freed = [int(finish(trimmer)) for trimmer in trimmers]
        assert sum(freed) == 3000
        assert cache.blobs.total() == 1000
        left = {name for name, _, _ in cache.blobs.walk()}
        assert left == {sha256(f"{number:010}".encode()) for number in range(300, 400)}


CHURN = """
    import hashlib, itertools, sys
    from pathlib import Path
    from tests.support.stores import keep, opened
    with opened(Path(sys.argv[1]), file_limit=20_000, page_limit=3_000) as cache:
        list(cache.recovering())
        for number in itertools.count():
            data = f"{sys.argv[2]} {number} ".encode() * 300
            keep(cache, f"project-{number % 9}", {f"file-{number}": data})
            blob = cache.blobs.open(hashlib.sha256(data).hexdigest())
            if blob:
                blob.close()
            cache.trim()
            if number == 10:
                print("busy", flush=True)
"""


def test_killed_processes_leave_a_cache_that_recovers_exactly(tmp_path: Path) -> None:
    for _ in range(2):
        churning = [child(CHURN, tmp_path, letter) for letter in "ab"]
        for process in churning:
            assert line(process) == "busy"
        for process in churning:
            kill(process)
    with opened(tmp_path, file_limit=20_000, page_limit=3_000) as cache:
        for name, _, _ in cache.blobs.walk():
            assert sha256(cache.blobs.path(name).read_bytes()) == name
        list(cache.recovering())
        cache.trim()
        assert cache.blobs.total() == sum(size for _, size, _ in cache.blobs.walk()) <= 20_000
        pages = list((tmp_path / "pages").glob("*/project-*"))
        assert cache.pages.total() == sum(path.stat().st_size for path in pages) <= 3_000
        for path in pages:
            assert cache.pages.read(path.parent.name, path.name) is not None
