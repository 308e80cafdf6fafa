"""A new certificate under the same path is shown after SIGHUP, and no connection is dropped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
from pathlib import Path

import pytest
from trustme import KeyType

from tests.support.certificates import Certificates
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.server import ProxyIndex


class Site:
    """A server whose certificate lies at one path; others are made and put there."""

    def __init__(self, home: Path, server: ServerFactory, workers: int) -> None:
        self._home, self._workers = home, workers
        # of different kinds: a context can hold one of each, and shows which it likes
        self.old, self.new = self.made("old", KeyType.ECDSA), self.made("new", KeyType.RSA)
        self.shown = Certificates.make(self.folder("shown"))
        self.put(self.old)
        self.server: ProxyIndex = server(
            *(self.folder("own"), "--tls-cert", self.shown.cert, "--tls-key", self.shown.key),
            workers=workers,
        )

    def folder(self, name: str) -> Path:
        made = self._home / name
        made.mkdir()
        return made

    def made(self, name: str, kind: KeyType) -> Certificates:
        return Certificates.make(self.folder(name), kind)

    def put(self, made: Certificates, key: Path | None = None) -> None:
        shutil.copy(made.cert, self.shown.cert)
        shutil.copy(key or made.key, self.shown.key)

    def hang_up(self, said: str) -> None:
        """Send SIGHUP and wait until the log has another line with `said`."""
        before = self.server.logs.count(said)
        os.kill(self.server.pid, signal.SIGHUP)
        wait_until(lambda: self.server.logs.count(said) > before, said)

    @property
    def reloaded(self) -> str:
        more = " by all workers" if self._workers > 1 else ""
        return f"configuration reloaded{more}"

    def connected(self, trusted: Certificates, name: str | None = "localhost") -> ssl.SSLSocket:
        """A connection of a client that believes this authority alone. Raises `ssl.SSLError`."""
        context = ssl.create_default_context(cafile=str(trusted.authority))
        context.check_hostname = name is not None
        port = int(self.server.url.rpartition(":")[2])
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        return context.wrap_socket(plain, server_hostname=name)

    def are_shown(self, made: Certificates) -> bool:
        """Whether every worker shows this one, to clients that name the server and others."""
        for name in ("localhost", None) * 10:
            with self.connected(made, name) as connection:
                assert ask(connection) == b"HTTP/1.1 200 OK"
        return True


def ask(connection: ssl.SSLSocket) -> bytes:
    """The first line of an answer; the connection stays open."""
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while b"alive\n" not in answer:
        piece = connection.recv(65536)
        assert piece, "the connection was closed"
        answer += piece
    return answer.partition(b"\r\n")[0]


@pytest.fixture(params=[1, 2])
def site(request: pytest.FixtureRequest, tmp_path: Path, server: ServerFactory) -> Site:
    return Site(tmp_path, server, int(request.param))


def test_a_new_certificate_is_shown_and_old_connections_live_on(site: Site) -> None:
    assert site.are_shown(site.old)
    with site.connected(site.old) as kept:
        assert ask(kept) == b"HTTP/1.1 200 OK"
        site.put(site.new)
        assert site.are_shown(site.old), "nobody asked for it yet"
        site.hang_up(site.reloaded)
        assert site.are_shown(site.new)
        with pytest.raises(ssl.SSLCertVerificationError):
            site.connected(site.old)
        assert ask(kept) == b"HTTP/1.1 200 OK"
        site.put(site.old)
        site.hang_up(site.reloaded)
        assert site.are_shown(site.old)
        assert ask(kept) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("fault", ["a key of another", "no certificate", "none at all"])
def test_a_broken_one_is_refused_and_the_old_one_goes_on(site: Site, fault: str) -> None:
    if fault == "a key of another":
        site.put(site.new, key=site.old.key)
    elif fault == "no certificate":
        site.shown.cert.write_text("-----BEGIN CERTIFICATE-----\n")
    else:
        site.shown.cert.unlink()
    site.hang_up("configuration refused, the old one goes on")
    assert site.are_shown(site.old)
    site.put(site.new)
    site.hang_up(site.reloaded)
    assert site.are_shown(site.new)
