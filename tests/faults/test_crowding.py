"""Clients that want more than their share: the others are served beside them."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import http
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.outages import configured
from tests.support.pages import FileSpec, wheel_spec
from tests.support.reply import Generated, Reply
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

PAGE = "/simple/demo/"
BIG = Generated(20 * 1024**2)  # more than all buffers of a connection
FILE = "/simple/big/big-1.0.tar.gz"
READ = 256 * 1024  # bytes that arrive at most in one read of the server


@contextmanager
def flooding(connection: http.Connection, request: bytes, cut: int) -> Iterator[None]:
    """Send a request again and again without waiting, each time in two pieces, and drop answers."""
    sock, is_over = connection.socket, threading.Event()
    block = request * (4 * READ // len(request))

    def send() -> None:
        sock.sendall(block[:cut])
        while not is_over.is_set():
            sock.sendall(block[cut:] + block[:cut])

    def drop() -> None:
        while sock.recv(1024**2):
            pass

    threads = [threading.Thread(target=quietly, args=(run,)) for run in (send, drop)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        quietly(lambda: sock.shutdown(socket.SHUT_RDWR))
        for thread in threads:
            thread.join(20)


def quietly(run: Callable[[], None]) -> None:
    with suppress(OSError):
        run()


def requests_so_far(connection: http.Connection) -> int:
    lines = connection.request("/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("proxyindex_requests_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in counts))


@pytest.mark.parametrize("cut", [0, 20])
def test_one_that_pipelines_without_end_lets_others_in_between(
    server: ServerFactory, upstream: FakeUpstream, cut: int
) -> None:
    upstream.project("demo", wheel_spec("demo"))
    running = server("--log-level", "error", upstream=upstream)
    etag = [running.get(PAGE).header("etag") for _ in range(3)][-1]  # remembered
    request = f"GET {PAGE} HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n".encode()
    with running.connect() as flood, running.connect() as other, flooding(flood, request, cut):
        counts = [requests_so_far(other)]

        def is_flooded() -> bool:
            counts.append(requests_so_far(other))
            return counts[-1] - counts[-2] > 1000

        wait_until(is_flooded, "one that pipelines", every=0)
        counts = counts[-2:] + [requests_so_far(other) for _ in range(8)]
    steps = [after - before for before, after in pairwise(counts)]
    assert min(steps) < 8 * READ // len(request), "one read in each of a few turns"


def with_descriptors(most: int, server: ServerFactory, upstream: FakeUpstream) -> ProxyIndex:
    """A server that may have few of them open, and has the file."""
    hashes = {"sha256": BIG.sha256()}
    upstream.project("big", FileSpec(filename="big-1.0.tar.gz", body=BIG, hashes=hashes))
    running = server(is_started=False, upstream=upstream)
    running.wrapper = ["sh", "-c", f'ulimit -n {most}; exec "$@"', "sh"]
    running.start()
    for _ in range(3):
        assert running.get(FILE).body == BIG.read(0, BIG.size)
    return running


def test_readers_of_files_are_refused_before_the_descriptors_run_out(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = with_descriptors(160, server, upstream)
    with ExitStack() as stack:
        readers = [stack.enter_context(running.connect()) for _ in range(30)]
        statuses = [reader.request(FILE).status for reader in readers]
        for _ in range(20):
            readers.append(stack.enter_context(running.connect()))
            statuses.append(readers[-1].request(FILE).status)
        assert Counter(statuses) == {200: 40, 503: 10}
    assert "Error" not in running.logs


def test_an_answer_without_a_descriptor_left_for_it_has_its_line(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = with_descriptors(60, server, upstream)
    wait_until(lambda: running.logs.count(f"GET {FILE} ") == 3, "the lines so far")
    with ExitStack() as stack:
        readers = [stack.enter_context(running.connect()) for _ in range(14)]
        for reader in readers:  # one that cannot be accepted any more would leave no line
            assert reader.request("/health").body == b"alive\n"
        for reader in readers:
            reader.start(FILE)
        ended = [reader for reader in readers if not reader.receive(1)]
        assert ended
    wait_until(lambda: running.logs.count(f"GET {FILE} ") >= 17, "their lines")
    assert running.logs.count(f"GET {FILE} ") == 17
    assert running.logs.count(" 0B ") >= len(ended)


def test_a_file_that_hangs_takes_no_place_from_those_that_do_not(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    hanging, other = (wheel_spec(name, payload=100_000) for name in ("hanging", "other"))
    for name, file in (("hanging", hanging), ("other", other)):
        upstream.project(name, file)
    body = Reply(body=hanging.body)
    upstream.script(hanging.path, body.with_(hang_after=50_000), body.with_(hang_after=0))
    config = configured(tmp_path, upstream.simple_url, 'read-timeout = "1s"')
    running = server("--config", config, "--max-transfers", "1", is_started=False)
    running.args.remove("--no-upstream")
    with running.start().connect() as connection:
        connection.request(f"/simple/hanging/{hanging.filename}").read(1000)
        assert running.get(f"/simple/other/{other.filename}").body == other.body
