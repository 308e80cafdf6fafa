"""Connections under TLS end without the client's farewell, but not before it has read all."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import http
from tests.support.certificates import Certificates
from tests.support.crowd import ends_of, open_in
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec
from tests.support.reply import Generated
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

BODY = Generated(1024**2)
TARGET = "/simple/big/big-1.0.tar.gz"
PART = 128 * 1024
LAST = [("Connection", "close")]


@pytest.fixture
def shown(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path)


@pytest.fixture
def trusting(shown: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=shown.authority)


@pytest.fixture
def running(
    server: ServerFactory, upstream: FakeUpstream, shown: Certificates, trusting: ssl.SSLContext
) -> ProxyIndex:
    """A server that has the file, and gives answers under way an hour at a stop."""
    hashes = {"sha256": BODY.sha256()}
    upstream.project("big", FileSpec(filename="big-1.0.tar.gz", body=BODY, hashes=hashes))
    files = ["--tls-cert", shown.cert, "--tls-key", shown.key]
    made = server(*files, "--grace", "1h", upstream=upstream)
    assert made.get(TARGET, tls=trusting).body == BODY.read(0, BODY.size)
    return made


def sockets(server: ProxyIndex) -> int:
    return sum(name.startswith("socket:") for name in open_in(server.pid))


def test_an_idle_client_does_not_hold_a_stop(running: ProxyIndex, trusting: ssl.SSLContext) -> None:
    with running.connect(tls=trusting) as idle:
        assert idle.request("/health").body == b"alive\n"
        assert running.stop().code == 0


def test_who_is_amid_his_handshake_does_not_hold_a_stop(
    running: ProxyIndex, trusting: ssl.SSLContext
) -> None:
    """He is connected only when all others have been told of the stop."""
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(arriving, leaving, server_hostname="127.0.0.1")
    with connected(running) as late:
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        late.sendall(leaving.read())
        arriving.write(late.recv(65536))  # the server is amid it now
        os.kill(running.pid, signal.SIGTERM)
        wait_until(lambda: not is_listening(running), "its stop")
        tls.do_handshake()
        tls.write(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        late.sendall(leaving.read())
        stopped = running.stop()
    assert stopped.code == 0
    assert "/late" not in stopped.output, "nor is he answered"


def connected(server: ProxyIndex) -> socket.socket:
    """Without TLS."""
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=20)


def is_listening(server: ProxyIndex) -> bool:
    try:
        connected(server).close()
    except OSError:
        return False
    return True


def test_a_client_that_asked_to_close_and_stays_is_left(
    running: ProxyIndex, trusting: ssl.SSLContext
) -> None:
    before = sockets(running)
    clients = [running.connect(tls=trusting) for _ in range(5)]
    for client in clients:
        assert client.request("/health", LAST).body == b"alive\n"
    wait_until(lambda: sockets(running) <= before, "the end of their connections")
    for client in clients:
        client.close()


def held_by_systems(connection: http.Connection) -> int:
    """Bytes on their way to a client that both ends' systems have, encrypted."""
    server, client = ends_of(connection)
    sent, received = server[4].split(":")[0], client[4].split(":")[1]
    return int(sent, 16) + int(received, 16)


def test_a_slow_reader_gets_the_end_of_what_was_answered_before_a_stop(
    running: ProxyIndex, trusting: ssl.SSLContext
) -> None:
    part = [("Range", f"bytes=0-{PART - 1}")]
    with running.connect(tls=trusting) as idle, running.connect(tls=trusting) as slow:
        assert idle.request("/health").body == b"alive\n"
        for count in range(1, 100):
            slow.start(TARGET, part)
            wait_until(lambda n=count: running.logs.count(f"{PART}B") == n, "its line")  # type: ignore[misc]
            if count * PART > held_by_systems(slow) + 2 * PART:
                break
        else:
            pytest.fail("the systems take all of it")
        before = sockets(running)
        os.kill(running.pid, signal.SIGTERM)
        # the listening socket, and that of the idle client
        wait_until(lambda: sockets(running) <= before - 2, "that others are left")
        for _ in range(count):
            assert slow.answer().body == BODY.read(0, PART)
        assert running.stop().code == 0
