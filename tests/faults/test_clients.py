"""Clients that leave, dawdle, sit idle or dribble: they cost little, and others notice nothing."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import http
from tests.support.certificates import Certificates
from tests.support.crowd import open_in
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec
from tests.support.readers import SMALL_BUFFER, Reader, answering, memory, need_descriptors
from tests.support.reply import BEFORE_HEADERS, Generated
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

MIB = 1024**2
LARGE = 64 * MIB  # the file that is left at a tenth
TENTH = LARGE // 10
WIDE = 32 * MIB  # the file with many readers; far more than sockets buffer
READERS = 100
IDLE = 1000
DRIBBLERS = 200
HEAD_SECONDS = 30.0  # on a busy machine; a head that has not arrived after 15 costs nothing more
TICK = 0.5  # seconds

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Closes many connections at the end."""
    need_descriptors(4096)
    with ExitStack() as stack:
        yield stack


def offer(upstream: FakeUpstream, name: str, size: int, **behaviour: object) -> FileSpec:
    """A project with one cold file of that size, made up on the fly."""
    file = FileSpec(filename=f"{name}-1.0.tar.gz", body=Generated(size))
    upstream.project(name, file)
    upstream.file(file, **behaviour)
    return file


def path_of(file: FileSpec) -> str:
    return f"/simple/{file.filename.partition('-')[0]}/{file.filename}"


def digest_of(file: FileSpec) -> str:
    return file.known_hashes()["sha256"]


def is_stored(server: ProxyIndex, digest: str) -> bool:
    return (server.cache_dir / "blobs" / digest[:2] / digest).exists()


# Leaving


@pytest.mark.parametrize("workers", [1, 4])
def test_a_client_that_leaves_a_large_file_at_a_tenth_disturbs_no_other_reader(
    server: ServerFactory, upstream: FakeUpstream, crowd: ExitStack, workers: int
) -> None:
    running = server(upstream=upstream, workers=workers)
    file = offer(upstream, "left", LARGE, hold_at=TENTH)
    readers = [crowd.enter_context(Reader(running.url, path_of(file))) for _ in range(4)]
    for reader in readers:
        assert reader.begin().read(TENTH) == TENTH
    leaving, *staying = readers
    leaving.close()
    upstream.release()
    assert [reader.read_all() for reader in staying] == [digest_of(file)] * len(staying)
    assert upstream.count(file.path) == 1


def test_a_large_file_is_fetched_to_its_end_when_its_only_client_leaves_at_a_tenth(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream)
    file = offer(upstream, "left", LARGE, hold_at=TENTH)
    with Reader(running.url, path_of(file)) as leaving:
        assert leaving.begin().read(TENTH) == TENTH
    wait_until(lambda: "aborted" in running.logs or None, "the server has noticed")
    upstream.release()
    digest = digest_of(file)
    wait_until(lambda: is_stored(running, digest) or None, "the file is stored")
    with Reader(running.url, path_of(file)) as late:
        assert late.begin().read_all() == digest
    assert upstream.count(file.path) == 1


@pytest.mark.parametrize("is_half_closed", [False, True])
def test_a_client_that_leaves_before_its_answer_is_logged_as_such(
    server: ServerFactory, upstream: FakeUpstream, is_half_closed: bool
) -> None:
    running = server(upstream=upstream)
    file = FileSpec(filename="awaited-1.0.tar.gz", body=b"x")
    upstream.project("awaited", file, hold_at=BEFORE_HEADERS)
    with running.connect() as leaving:
        leaving.start("/simple/awaited/")
        upstream.wait_held()
        if is_half_closed:  # taken for one that has left, as by other servers
            leaving.socket.shutdown(socket.SHUT_WR)
            assert leaving.receive(1) == b""
    assert running.get("/health").status == 200  # so the server has seen that it left
    upstream.release()
    wait_until(lambda: "GET /simple/awaited/ " in running.logs or None, "the access line")
    (line,) = (line for line in running.logs.splitlines() if "GET /simple/awaited/ " in line)
    assert line.endswith(" aborted")


SMALL_SENDER = """
import socket
listen = socket.socket.listen
def small(self, *args):  # what a listening socket is told holds for those it accepts
    self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    listen(self, *args)
socket.socket.listen = small
"""


def test_of_a_client_that_leaves_amid_the_first_bytes_it_is_logged_that_it_had_some(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    running = server(upstream=upstream, is_started=False)
    running.hook = tmp_path / "hook.py"
    running.hook.write_text(SMALL_SENDER)
    running.start()
    file = offer(upstream, "left", MIB)
    with Reader(running.url, path_of(file)) as all_of_it:
        all_of_it.begin().read_all()
    plainly = f"{path_of(file)}?plainly"  # is answered by the application, not by `sendfile`
    with Reader(running.url, plainly, buffer=SMALL_BUFFER) as leaving:
        assert leaving.begin().read(1) == 1
    wait_until(lambda: "aborted" in running.logs or None, "the access line")
    (line,) = (line for line in running.logs.splitlines() if "aborted" in line)
    (size,) = re.findall(" ([0-9]+)B ", line)
    assert 0 < int(size) < MIB


# Dawdling


@needs_proc
@pytest.mark.parametrize("state", ["cold", "stored"])
def test_a_hundred_stalled_readers_cost_little_and_do_not_slow_a_fast_one(
    server: ServerFactory, upstream: FakeUpstream, crowd: ExitStack, state: str
) -> None:
    running = server(upstream=upstream)
    file = offer(upstream, "wide", WIDE, hold_at=WIDE // 2)
    digest = digest_of(file)
    fast = crowd.enter_context(Reader(running.url, path_of(file))).begin()
    fast.read(WIDE // 4)
    if state == "stored":
        upstream.release()
        assert fast.read_all() == digest
        fast = crowd.enter_context(Reader(running.url, path_of(file))).begin()
    before = memory(running.pid)
    slow = [
        crowd.enter_context(Reader(running.url, path_of(file), buffer=SMALL_BUFFER))
        for _ in range(READERS)
    ]
    for reader in slow:
        assert reader.begin().read(1000) == 1000
    upstream.release()
    assert fast.read_all() == digest  # while none of the others reads on
    for reader in slow:  # every one of them is still served
        assert reader.read(100_000) == 100_000
    grown = memory(running.pid, "VmHWM") - before
    assert grown < READERS * MIB + 64 * MIB, f"{grown / READERS / MIB:.2f} MiB each"
    assert slow[-1].read_all() == digest
    assert upstream.count(file.path) == 1


@pytest.mark.parametrize("workers", [1, 4])
def test_a_client_that_reads_a_kilobyte_per_second_holds_nobody_up(
    server: ServerFactory, upstream: FakeUpstream, crowd: ExitStack, workers: int
) -> None:
    running = server(upstream=upstream, workers=workers)
    file = offer(upstream, "trickle", WIDE)
    slow = crowd.enter_context(Reader(running.url, path_of(file), buffer=SMALL_BUFFER)).begin()
    for _ in range(2):
        slow.read(1000)
        with Reader(running.url, path_of(file)) as fast:
            assert fast.begin().read_all() == digest_of(file)
    assert slow.received == 2000
    assert slow.read_all() == digest_of(file)
    assert upstream.count(file.path) == 1


# Sitting idle


@needs_proc
def test_a_thousand_idle_connections_cost_little_and_all_are_kept(
    server: ServerFactory, upstream: FakeUpstream, crowd: ExitStack
) -> None:
    running = server(upstream=upstream)
    file = offer(upstream, "prompt", MIB)
    running.get(path_of(file))
    before = memory(running.pid)
    idle = [crowd.enter_context(running.connect()) for _ in range(IDLE)]
    ask_all(idle, "/health")
    assert memory(running.pid, "VmHWM") - before < IDLE * 64 * 1024 + 16 * MIB
    for target in ("/health", "/simple/prompt/", path_of(file)):
        assert running.get(target).status == 200
    ask_all(idle, "/simple/prompt/")


def ask_all(connections: list[http.Connection], target: str) -> None:
    """All at once; each must be answered."""
    for connection in connections:
        connection.start(target)
    for connection in connections:
        answer = connection.answer()
        assert answer.status == 200
        answer.read()


# Dribbling


def test_dribblers_are_closed_in_time_and_slow_honest_clients_are_served(
    server: ServerFactory, upstream: FakeUpstream, crowd: ExitStack
) -> None:
    running = server(upstream=upstream)
    file = offer(upstream, "honest", 4 * MIB)
    dribblers = [crowd.enter_context(running.connect()).socket for _ in range(DRIBBLERS)]
    for one in dribblers:
        one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    reader = crowd.enter_context(Reader(running.url, path_of(file), buffer=SMALL_BUFFER)).begin()
    talker = crowd.enter_context(running.connect())
    halting = [b"GET /health HT", b"TP/1.1\r\nHo", b"st: a\r\nConnection: close\r\n\r\n"]
    open_ones, ticks = set(dribblers), itertools.count()

    def are_closed() -> bool:
        if next(ticks) % 2 == 0 and halting:
            talker.send(halting.pop(0))  # a head in three pieces over two seconds
        assert reader.read(2000) == 2000  # 4 KB/s
        return dribbled(open_ones)

    wait_until(are_closed, "the end of all dribblers", timeout=HEAD_SECONDS, every=0)
    assert next(ticks) > 5, "the honest ones were not slow"
    assert talker.answer().status == 200
    assert reader.read_all() == digest_of(file)
    assert running.get("/health").status == 200


def test_dribblers_of_tls_handshakes_are_closed_in_time(
    server: ServerFactory, crowd: ExitStack, tmp_path: Path
) -> None:
    made = Certificates.make(tmp_path)
    (own := tmp_path / "own").mkdir()
    running = server(own, "--tls-cert", made.cert, "--tls-key", made.key)
    parts = urlsplit(running.url)
    place = (str(parts.hostname), int(parts.port or 0))
    open_ones = {crowd.enter_context(socket.create_connection(place)) for _ in range(DRIBBLERS)}
    for one in open_ones:
        one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")  # a ClientHello of 512 bytes begins
    trusting = ssl.create_default_context(cafile=str(made.authority))

    def are_closed() -> bool:
        assert running.get("/health", tls=trusting).status == 200
        return dribbled(open_ones)

    wait_until(are_closed, "the end of all dribblers", timeout=HEAD_SECONDS, every=0)


@needs_proc
def test_dribblers_under_tls_hold_no_connection_longer(
    server: ServerFactory, crowd: ExitStack, tmp_path: Path
) -> None:
    made = Certificates.make(tmp_path)
    (own := tmp_path / "own").mkdir()
    running = server(own, "--tls-cert", made.cert, "--tls-key", made.key)
    trusting = ssl.create_default_context(cafile=str(made.authority))
    dribblers = [crowd.enter_context(running.connect(tls=trusting)) for _ in range(5)]
    for one in dribblers:
        assert one.request("/health").body == b"alive\n"
    most = sockets_of(running.pid)
    for one in dribblers:  # they never say farewell either
        one.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    few = most - len(dribblers)
    wait_until(lambda: sockets_of(running.pid) <= few or None, "their end", timeout=HEAD_SECONDS)


def dribbled(open_ones: set[socket.socket]) -> bool:
    """Forget those that the server has closed, send the others another byte; whether none is left.

    Takes half a second.
    """
    open_ones -= {one for one in answering(open_ones, TICK) if is_over(one)}
    dribble(open_ones)
    return not open_ones


def sockets_of(pid: int) -> int:
    """How many sockets a process has open."""
    return sum(name.startswith("socket:") for name in open_in(pid))


def is_over(sock: socket.socket) -> bool:
    """Whether the server has refused the request, or closed without a word."""
    try:
        answer = sock.recv(4096)
    except ConnectionError:
        return True
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    return True


def dribble(sockets: set[socket.socket]) -> None:
    """Another byte of each head."""
    for one in sockets:
        try:
            one.sendall(b"x")
        except OSError:  # closed just now; seen at the next look
            continue
