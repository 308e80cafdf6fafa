"""Clients that want more than their share: the others are served beside them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import pytest

from tests.support import http
from tests.support.fixtures import ServerFactory
from tests.support.pages import wheel_spec
from tests.support.upstream import FakeUpstream

PAGE = "/simple/demo/"
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
        counts = [requests_so_far(other) for _ in range(5)]
    steps = [after - before for before, after in pairwise(counts)]
    assert max(steps) > 1000, "it was one that pipelines"
    assert min(steps) < 8 * READ // len(request), "one read in each of a few turns"
