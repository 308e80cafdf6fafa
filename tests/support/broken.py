"""Connections that fail in ways a web server never would: a port that leads to an upstream until
it is told to misbehave.

    with Front(upstream.port) as front:
        front.behave(silent)       # accepts, reads, never answers
        front.refuse()             # nobody listens
        front.leave_unanswered()   # not even the handshake of TCP is answered
        front.relay()              # well again
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import trustme

from tests.support.ports import HeldPort

Act = Callable[[socket.socket], None]

_PIECE = 65_536
_PATIENCE = 30.0  # seconds; no connection of a test lives longer
_LAST_SECONDS = 1.0  # for the threads to end; they are daemons
_INTERIM_SECONDS = 0.05


class Front:
    """A port on loopback, the same all its life. Changing its behaviour breaks open connections."""

    def __init__(self, behind: int, tls: ssl.SSLContext | None = None) -> None:
        self._held = HeldPort()
        self.port = self._held.number
        self._behind = behind
        self._usual_tls = self._tls = tls
        self._act: Act = self._relay
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._era = 0  # counts the changes of behaviour: connections do not outlive theirs
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listen()

    @property
    def simple_url(self) -> str:
        """What to give as the upstream."""
        return f"{'https' if self._usual_tls else 'http'}://127.0.0.1:{self.port}/simple/"

    def relay(self) -> None:
        """Lead to the upstream behind."""
        self.behave(self._relay)

    def behave(self, act: Act | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        """Do this with every connection (relay by default), under this certificate if any."""
        self._silence()
        self._act, self._tls = act or self._relay, tls or self._usual_tls
        self._listen()

    def refuse(self) -> None:
        """Listen no more."""
        self._silence()

    def leave_unanswered(self) -> None:
        """A host that drops what it is sent: the queue of the port is full, nobody accepts."""
        self._silence()
        self._listener = _bound(self.port, 0)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._open.add(filler)

    def close(self) -> None:
        self._silence()
        deadline = time.monotonic() + _LAST_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _silence(self) -> None:
        """End the listener and every connection."""
        with self._lock:
            ended = [*self._open, *([self._listener] if self._listener else [])]
            self._listener = None
            self._open.clear()
            self._era += 1
        for one in ended:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads or accepts
            one.close()

    def _listen(self) -> None:
        self._listener = _bound(self.port, 64)
        self._run(self._accept, self._listener, self._era)

    def _accept(self, listener: socket.socket, era: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._run(self._serve, connection, era)

    def _serve(self, connection: socket.socket, era: int) -> None:
        connection.settimeout(_PATIENCE)
        # a client that leaves, a handshake that it refuses: what they are for
        with contextlib.suppress(OSError), connection:
            self._note(connection, era)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._note(connection, era)
            with connection:
                self._act(connection)

    def _note(self, connection: socket.socket, era: int) -> None:
        """Have it broken with the next change of behaviour; at once if that has been."""
        with self._lock:
            if era != self._era:
                raise ConnectionAbortedError
            self._open.add(connection)

    def _relay(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._behind), _PATIENCE) as onward:
            self._note(onward, self._era)
            back = self._run(_pump, onward, connection)
            _pump(connection, onward)
            back.join(_PATIENCE)

    def _run(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread


# what can be done with a connection


def silent(connection: socket.socket) -> None:
    """Read, and never answer."""
    while connection.recv(_PIECE):
        pass


def resets_after(data: bytes) -> Act:
    """Answer with so much, then RST."""

    def act(connection: socket.socket) -> None:
        _read_head(connection)
        connection.sendall(data)
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return act


def hangs_up_after(data: bytes) -> Act:
    """Answer with so much, then FIN; under TLS without its own word of farewell."""

    def act(connection: socket.socket) -> None:
        _read_head(connection)
        connection.sendall(data)

    return act


def interim_for_ever(connection: socket.socket) -> None:
    """Answer with one 1xx after the other."""
    _read_head(connection)
    pause = threading.Event()
    while not pause.wait(_INTERIM_SECONDS):
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")


@dataclass(frozen=True, slots=True)
class Identities:
    """What a TLS server can show; only `good` is to be trusted with `authority` (a PEM file)."""

    authority: Path
    good: ssl.SSLContext
    stranger: ssl.SSLContext
    expired: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path) -> Self:
        authority, other = trustme.CA(), trustme.CA()
        path = folder / "authority.pem"
        authority.cert_pem.write_to_path(path)
        begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
        past = authority.issue_cert("127.0.0.1", not_before=begin, not_after=end)
        shown = (authority.issue_cert("127.0.0.1"), other.issue_cert("127.0.0.1"), past)
        return cls(path, *map(_server_side, shown))


def _server_side(shown: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.configure_cert(context)
    return context


def _bound(port: int, backlog: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(backlog)
    return listener


def _read_head(connection: socket.socket) -> None:
    seen = b""
    while b"\r\n\r\n" not in seen:
        if not (piece := connection.recv(_PIECE)):
            raise ConnectionResetError("the client left")
        seen += piece


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
