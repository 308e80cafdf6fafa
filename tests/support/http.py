"""A byte-exact HTTP/1.1 client on a bare socket: what it is told is what it sends.

It normalises nothing, so requests may be illegal; it reads no further than asked, so a test can
take the first bytes of a body and hold; it tells a whole body from a short one.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
TIMEOUT = 15.0  # seconds between bytes: pip's own
PIECE = 65_536


class ShortBodyError(Exception):
    """The connection ended before the body did. `received` is what came."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"body ended after {len(received)} bytes")
        self.received = received


class NoAnswerError(Exception):
    """The connection ended before, or in the middle of, the head of an answer."""


class Response:
    """One answer whose head has been read; the body is read on demand."""

    def __init__(self, connection: Connection, head: bytes, method: str) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.version, status, self.reason = (*first.split(" ", 2), "")[:3]
        self.status = int(status)
        self.headers = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        self._connection = connection
        self._received = bytearray()
        self._left_in_chunk = 0
        self.is_complete = method == "HEAD" or self.status in (204, 304)
        self.is_chunked = (self.header("transfer-encoding") or "").lower() == "chunked"
        length = self.header("content-length")
        self.length = int(length) if length is not None and not self.is_chunked else None
        if self.length == 0:
            self.is_complete = True

    def header(self, name: str) -> str | None:
        """The first value of a header, by any spelling of its name."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        """All values of a header in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def read(self, count: int | None = None) -> bytes:
        """`count` more bytes of the body (fewer only at its end); all the rest by default.

        Raises `ShortBodyError` if the connection ends first.
        """
        out = bytearray()
        while not self.is_complete and (count is None or len(out) < count):
            out += self._some(PIECE if count is None else count - len(out))
        return bytes(out)

    @property
    def body(self) -> bytes:
        """The whole body, read to its end."""
        self.read()
        return bytes(self._received)

    @property
    def text(self) -> str:
        """The body as UTF-8, decoded from gzip if it says so."""
        is_gzip = self.header("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if is_gzip else self.body).decode()

    def json(self) -> Any:
        return json.loads(self.text)

    def _some(self, most: int) -> bytes:
        piece = self._chunk_piece(most) if self.is_chunked else self._plain_piece(most)
        self._received += piece
        if self.length is not None and len(self._received) >= self.length:
            self.is_complete = True
        return piece

    def _plain_piece(self, most: int) -> bytes:
        if self.length is not None:
            most = min(most, self.length - len(self._received))
        piece = self._connection.receive(most)
        if not piece and self.length is not None:
            raise ShortBodyError(bytes(self._received))
        self.is_complete = not piece  # a body without length ends with the connection
        return piece

    def _chunk_piece(self, most: int) -> bytes:
        if self._left_in_chunk == 0:
            self._left_in_chunk = int(self._line().partition(b";")[0], 16)
            if self._left_in_chunk == 0:
                while self._line():
                    pass
                self.is_complete = True
                return b""
        piece = self._connection.receive(min(most, self._left_in_chunk))
        if not piece:
            raise ShortBodyError(bytes(self._received))
        self._left_in_chunk -= len(piece)
        if self._left_in_chunk == 0:
            self._line()
        return piece

    def _line(self) -> bytes:
        line = self._connection.receive_until(b"\r\n")
        if line is None:
            raise ShortBodyError(bytes(self._received))
        return line


class Connection:
    """One connection to a server, for one or more requests in turn."""

    def __init__(
        self, url: str, *, timeout: float = TIMEOUT, tls: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.authority = parts.netloc.rpartition("@")[2]
        self.socket = socket.create_connection((self.host, self.port), timeout)
        if parts.scheme == "https":
            tls = tls or ssl.create_default_context()
            self.socket = tls.wrap_socket(self.socket, server_hostname=self.host)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send exactly these bytes."""
        self.socket.sendall(data)

    def start(
        self,
        target: str,
        headers: Headers = (),
        *,
        method: str = "GET",
        body: bytes = b"",
        host: str | None = None,
    ) -> None:
        """Send a request: `Host`, then the headers in order as they are, then the body."""
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or self.authority}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        if body and not any(name.lower() == "content-length" for name, _ in pairs):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def answer(self, method: str = "GET") -> Response:
        """The head of the next answer. Raises `NoAnswerError` if the connection ends first."""
        head = self.receive_until(b"\r\n\r\n")
        if head is None:
            raise NoAnswerError(self._buffer.decode("latin-1"))
        return Response(self, head, method)

    def request(self, target: str, headers: Headers = (), **more: Any) -> Response:
        """`start` and `answer`."""
        self.start(target, headers, **more)
        return self.answer(more.get("method", "GET"))

    def receive(self, most: int) -> bytes:
        """Up to `most` bytes, at least one; empty at the end of the connection."""
        if not self._buffer:
            try:
                self._buffer = self.socket.recv(PIECE)
            except (ConnectionError, ssl.SSLError):
                return b""
        piece, self._buffer = self._buffer[:most], self._buffer[most:]
        return piece

    def receive_until(self, mark: bytes) -> bytes | None:
        """The bytes before `mark`, which is consumed; `None` if the connection ends first."""
        seen = b""
        while mark not in seen:
            piece = self.receive(PIECE)
            if not piece:
                self._buffer = seen
                return None
            seen += piece
        found, _, rest = seen.partition(mark)
        self._buffer = rest + self._buffer
        return found

    def is_closed(self) -> bool:
        """Whether the server closes the connection without sending anything more."""
        return self.receive(1) == b""

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def request(url: str, target: str, headers: Headers = (), **more: Any) -> Response:
    """One request on a connection of its own, read to the end.

    `url` names the server only; `target` is sent as it is. Raises `ShortBodyError`,
    `NoAnswerError`.
    """
    timeout, tls = more.pop("timeout", TIMEOUT), more.pop("tls", None)
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    with Connection(url, timeout=timeout, tls=tls) as connection:
        response = connection.request(target, [*pairs, ("Connection", "close")], **more)
        response.read()
        return response
