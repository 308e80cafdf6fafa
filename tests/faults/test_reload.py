"""SIGHUP: the configuration is read again by every worker, and no request notices."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import http
from tests.support.builders import put_wheel
from tests.support.crowd import open_in
from tests.support.hermetic import environment, wait_until
from tests.support.pages import JSON_TYPE, FileSpec, wheel_spec
from tests.support.reply import Generated
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

JSON = {"accept": JSON_TYPE}
EVIL, GOOD = wheel_spec("evil"), wheel_spec("good")
BIG = FileSpec(filename="big-1.0-py3-none-any.whl", body=Generated(64 * 1024**2))
MEBIBYTE = 1024**2
# makes its input the terminal that controls the session, and becomes its arguments
TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests themselves run behind nohup
os.execvp(sys.argv[1], sys.argv[1:])
"""

# a fault that no look at the configuration finds
BROKEN_PROXY = """
import httpx

class Transport(httpx.AsyncHTTPTransport):
    def __init__(self, **options):
        if "broken" in options.get("proxy", ""):
            raise RuntimeError("There is no way to this proxy.")
        super().__init__(**options)

httpx.AsyncHTTPTransport = Transport
"""


class Site:
    """A server with a configuration file that tests write anew."""

    def __init__(self, home: Path, upstream: FakeUpstream, workers: int) -> None:
        self.path = home / "proxyindex.toml"
        self.workers = workers
        self._upstream = upstream
        self.write("")
        self.hook = home / "hook.py"  # what its processes run when they start, if it is there
        self.server = ProxyIndex(
            "--config", self.path, "--workers", str(workers), workdir=home / "server"
        )
        self.server.hook = self.hook

    def write(self, text: str, head: str = "") -> None:
        """The keys of the file besides the upstream's: `head` goes above all tables."""
        self.path.write_text(
            f'{head}\n{text}\n[[upstream]]\nname = "up"\nurl = "{self._upstream.simple_url}"\n'
        )

    def reload(self, *, said: str = "") -> None:
        """Send SIGHUP and wait until the log has another line with `said`."""
        said = said or (
            "configuration reloaded by all workers"
            if self.workers > 1
            else "configuration reloaded"
        )
        before = self.server.logs.count(said)
        os.kill(self.server.pid, signal.SIGHUP)
        wait_until(lambda: self.server.logs.count(said) > before, said)

    def statuses(self, target: str, count: int = 40) -> set[int]:
        """Of as many connections, so that every worker has its share."""
        return {self.server.get(target, JSON).status for _ in range(count)}


@pytest.fixture(params=[1, 4])
def site(request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream) -> Iterator[Site]:
    upstream.project("evil", EVIL)
    upstream.project("good", GOOD)
    upstream.project("big", BIG)
    made = Site(tmp_path, upstream, int(request.param))
    with made.server:
        yield made


def test_a_rule_holds_at_the_very_next_request_of_every_worker(site: Site) -> None:
    kept = [site.server.connect() for _ in range(12)]
    evil = [f"/simple/evil/{EVIL.filename}", "/simple/evil/", "/root/simple/evil/"]
    for connection in kept:  # also what is remembered, and on connections that stay open
        for target in evil:
            assert connection.request(target, JSON).body
    for round in range(3):
        site.write('[policy]\ndeny = ["evil"]')
        site.reload()
        for connection in kept:
            for target in evil:
                answer = connection.request(target, JSON)
                assert (answer.status, bool(answer.body)) == (403, True), (round, target)
        assert site.statuses("/simple/good/") == {200}
        site.write("")
        site.reload()
        assert site.statuses("/simple/evil/") == {200}
    for connection in kept:
        connection.close()


def test_indexes_come_and_go(site: Site, tmp_path: Path) -> None:
    for name in ("dev", "prod"):
        (tmp_path / name).mkdir()
        put_wheel(tmp_path / name, "acme", "1.0" if name == "prod" else "2.0")
    assert site.statuses("/dev/simple/acme/") == {404}
    dev = '[index.dev]\nfolders = ["dev"]\nbases = ["prod"]\n'
    site.write(dev + '[index.prod]\nfolders = ["prod"]\nupstreams = ["up"]\n')
    site.reload()
    assert site.statuses("/dev/simple/acme/") == {200}
    assert site.statuses("/dev/simple/good/") == {200}
    assert b"prod/" in site.server.get("/").body
    site.write('[index.prod]\nfolders = ["prod"]\n')
    site.reload()
    assert site.statuses("/dev/simple/acme/") == {404}
    assert site.statuses("/simple/good/") == {404}
    assert site.server.get("/ready").status == 200


def test_downloads_under_way_are_finished(site: Site, upstream: FakeUpstream) -> None:
    upstream.file(BIG, hold_at=4 * MEBIBYTE)
    target = f"/simple/big/{BIG.filename}"
    with site.server.connect() as cold, site.server.connect() as follower:
        first = cold.request(target)
        head = first.read(MEBIBYTE)
        upstream.wait_held()
        second = follower.request(target)
        second.read(MEBIBYTE)
        site.write('[policy]\ndeny = ["big"]')
        site.reload()
        assert site.statuses("/simple/big/") == {403}
        site.write("")
        site.reload()
        with site.server.connect() as late:  # of the newest house, which shares the transfer
            third = late.request(target)
            third.read(MEBIBYTE)
            upstream.release()
            for answer in (first, second, third):
                assert hashlib.sha256(answer.body).hexdigest() == sha256(BIG)
        assert head == first.body[:MEBIBYTE]
    assert upstream.count(target.replace("/simple/big", "/files")) == 1


def test_a_slow_reader_of_a_stored_file_gets_all_of_it(site: Site) -> None:
    target = f"/simple/big/{BIG.filename}"
    assert site.server.get(target).status == 200
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(site.server.connect()) for _ in range(6)]
        answers = [reader.request(target) for reader in readers]
        for answer in answers:
            answer.read(MEBIBYTE)
        for _ in range(3):
            site.reload()
        for answer in answers:
            assert hashlib.sha256(answer.body).hexdigest() == sha256(BIG)


def test_no_request_fails_while_it_is_reloaded_again_and_again(site: Site) -> None:
    statuses: list[int | str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            try:
                with site.server.connect() as connection:
                    for target in ("/simple/good/", f"/simple/good/{GOOD.filename}", "/health"):
                        answer = connection.request(target, JSON)
                        assert answer.body
                        statuses.append(answer.status)
            except (OSError, http.NoAnswerError, http.ShortBodyError) as problem:
                statuses.append(repr(problem))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            site.write(f'merge = ["x{number}"]')
            site.reload()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}


def test_a_broken_configuration_is_refused_in_one_line_and_the_old_one_goes_on(
    site: Site,
) -> None:
    site.write('[policy]\ndeny = ["evil"]')
    site.reload()
    site.write('merg = ["x"]\n[index.dev]\nbases = ["dev"]')
    site.reload(said="configuration refused")
    (line,) = [line for line in site.server.logs.splitlines() if "refused" in line]
    assert "merg: unknown key; did you mean 'merge'?" in line
    assert "index.dev: its bases lead back to it: dev -> dev." in line
    assert site.statuses("/simple/evil/") == {403}
    assert site.statuses("/simple/good/") == {200}
    site.path.unlink()
    site.reload(said="a readable TOML file (no such file or directory)")
    assert site.statuses("/simple/evil/") == {403}
    site.write("")
    site.reload()
    assert site.statuses("/simple/evil/") == {200}


def test_a_house_that_cannot_be_opened_changes_nothing(site: Site) -> None:
    site.hook.write_text(BROKEN_PROXY)
    site.server.restart()
    proxy = 'proxy = "http://broken.example"'
    site.write(f'[[upstream]]\nname = "other"\nurl = "https://x.example"\n{proxy}')
    site.reload(said="stay with the old" if site.workers > 1 else "configuration refused")
    assert site.statuses("/simple/good/") == {200}
    site.write('[policy]\ndeny = ["evil"]')
    site.reload()
    assert site.statuses("/simple/evil/") == {403}


def test_what_an_upstream_cannot_be_asked_with_is_refused_before_any_worker_is_told(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    site.write('[[upstream]]\nname = "other"\nurl = "https://x.example"\nca-file = "ca.pem"')
    site.reload(said="configuration refused")
    assert "ca.pem of upstream 'other' cannot be used" in site.server.logs
    assert "stay with the old" not in site.server.logs
    assert site.statuses("/simple/good/") == {200}


def test_what_takes_a_restart_is_named_and_all_else_is_followed(
    site: Site,
) -> None:
    head = 'grace = "1s"\ncache-size = "1GB"\nbase-path = "/x"\nlog-level = "error"'
    head += '\naudit-log = "other.log"'
    site.write('[policy]\ndeny = ["evil"]', head=head)
    site.reload()
    (line,) = [line for line in site.server.logs.splitlines() if "only a restart" in line]
    named = line.rpartition(": ")[2].split(", ")
    assert sorted(named) == ["audit-log", "base-path", "cache-size", "grace", "log-level"]
    assert site.statuses("/simple/evil/") == {403}


@pytest.mark.parametrize("site", [4], indirect=True)
def test_a_worker_that_is_replaced_begins_with_the_newest(site: Site) -> None:
    site.write('[policy]\ndeny = ["evil"]')
    site.reload()
    ended = site.server.logs.count("next one in")
    workers = children(site.server.pid)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: site.server.logs.count("next one in") == ended + len(workers), "their end noticed"
    )
    wait_until(lambda: len(children(site.server.pid)) == len(workers), "new workers")
    assert site.statuses("/simple/evil/") == {403}


def test_houses_that_are_left_are_closed(site: Site, upstream: FakeUpstream) -> None:
    def descriptors() -> int:
        """But for those of stores and metrics, which stay, and are opened when they are needed: a
        worker's metrics at its first request."""
        pids = {site.server.pid, *children(site.server.pid)}
        found = [name for pid in pids for name in open_in(pid)]
        stays = re.compile(rf"{re.escape(str(site.server.cache_dir))}|.*/proxyindex-metrics-")
        return sum(not stays.match(path) for path in found)

    assert site.statuses("/simple/good/") == {200}
    site.reload()
    wait_until(lambda: upstream.open_connections == 0, "the end of the old connections")
    before = descriptors()
    for number in range(10):
        site.server.get(f"/simple/unknown-{number}/")
        site.reload()
    wait_until(lambda: descriptors() <= before and not upstream.open_connections, "a closed house")


def children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in listed.split()}


@pytest.mark.parametrize("workers", [1, 4])
def test_without_a_file_nothing_happens(
    workers: int, tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.project("good", GOOD)
    args = ["--upstream", upstream.simple_url, "--workers", str(workers)]
    with ProxyIndex(*args, workdir=tmp_path / "server") as server:
        for number in range(1, 4):
            os.kill(server.pid, signal.SIGHUP)
            wait_until(
                lambda n=number: server.logs.count("configuration reloaded") >= n,
                "a reload",
            )
        assert server.get("/simple/good/").status == 200
        assert server.stop().code == 0


@pytest.mark.parametrize("workers", [1, 4])
def test_many_hangups_at_once_end_in_one_configuration(
    workers: int, tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.project("evil", EVIL)
    made = Site(tmp_path, upstream, workers)
    with made.server:
        for _ in range(200):
            os.kill(made.server.pid, signal.SIGHUP)
        made.write('[policy]\ndeny = ["evil"]')
        os.kill(made.server.pid, signal.SIGHUP)
        wait_until(lambda: made.statuses("/simple/evil/", 12) == {403}, "the newest everywhere")
        assert made.server.stop().code == 0


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("prefix", [[], ["nohup"]])
def test_a_terminal_that_goes_takes_its_server_along_unless_told_otherwise(
    workers: int, prefix: list[str], tmp_path: Path, upstream: FakeUpstream
) -> None:
    ours, theirs = pty.openpty()
    log = tmp_path / "log"
    serve = [*prefix, sys.executable, "-m", "proxyindex", "serve", "--port", "0"]
    serve += ["--upstream", upstream.simple_url, "--workers", str(workers)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *serve, "--cache-dir", str(tmp_path / "cache")],
            stdin=theirs,
            stdout=output,
            stderr=output,
            env=environment(tmp_path / "home"),
            start_new_session=True,
        )
    os.close(theirs)
    try:
        wait_until(lambda: b"listens on" in log.read_bytes(), "a server")
        os.close(ours)  # hangs up
        os.kill(process.pid, signal.SIGHUP)
        if prefix:
            wait_until(lambda: b"reloaded" in log.read_bytes(), "a reload")
            process.terminate()
        assert process.wait(20) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sha256(spec: FileSpec) -> str:
    return dict(spec.known_hashes())["sha256"]
