"""An index that takes uploads, byte for byte, and answers as it was told.

with UploadServer() as index:
    index.answer(refuses(503, {"Retry-After": "0"}), ACCEPTS)    # in turn; then ACCEPTS for ever
    index.pages["/simple/demo/"] = page(...)
    index.uploads          # what came, in order
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

_PIECE = 65_536
_PATIENCE = 30.0
_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(slots=True)
class Upload:
    """One POST or DELETE as it came; `body` is what had arrived when it was answered."""

    target: str
    headers: dict[str, str]
    body: bytes = b""
    method: str = "POST"

    @property
    def parts(self) -> list[tuple[str, str | None, bytes]]:
        """Name, file name and content of each part of the form."""
        found = re.search("boundary=(.*)", self.headers["content-type"])
        assert found
        pieces = self.body.split(b"--" + found[1].encode())
        assert pieces[0] == b""
        assert pieces[-1] == b"--\r\n"
        parts = []
        for piece in pieces[1:-1]:
            head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            name = re.search(rb'[ ;]name="([^"]*)"', head)
            filename = re.search(rb'filename="([^"]*)"', head)
            assert name
            assert content.endswith(b"\r\n")
            parts.append((name[1].decode(), filename and filename[1].decode(), content[:-2]))
        return parts

    def field(self, name: str) -> list[str]:
        return [content.decode() for key, _, content in self.parts if key == name]

    @property
    def content(self) -> tuple[str | None, bytes]:
        return next((filename, body) for name, filename, body in self.parts if name == "content")


@dataclass(frozen=True, slots=True)
class Answer:
    """`after`: body bytes read before it is answered, `None` for all. `cut`: RST instead of it."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    cut: bool = False
    then: Callable[[], object] = lambda: None  # called once the answer is decided


ACCEPTS = Answer()
CUT = Answer(after=100, cut=True)


def refuses(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"no") -> Answer:
    return Answer(status, body, headers or {})


def page(name: str, files: Mapping[str, str]) -> bytes:
    """A JSON project page: file names and their sha256."""
    listed = [
        {"filename": filename, "url": filename, "hashes": {"sha256": digest}, "size": 1}
        for filename, digest in files.items()
    ]
    meta = {"api-version": "1.1"}
    return json.dumps({"meta": meta, "name": name, "versions": [], "files": listed}).encode()


class UploadServer:
    """Listens on loopback while it is a context. One request per connection."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.looks: list[tuple[str, dict[str, str]]] = []  # target and headers of each GET
        self.pages: dict[str, bytes] = {}
        self._answers: list[Answer] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def answer(self, *answers: Answer) -> None:
        """To the next uploads, in turn; those after them are accepted."""
        self._answers += answers

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        with contextlib.suppress(OSError), connection:
            head, _, body = _until_blank_line(connection).partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in pairs}
            method, target, _ = first.split(" ")
            if method in ("POST", "DELETE"):
                self._take(connection, Upload(target, headers, body, method))
            else:
                self.looks.append((target, headers))
                found = self.pages.get(target)
                status = 404 if found is None else 200
                _send(connection, status, found or b"", {"Content-Type": _JSON})

    def _take(self, connection: socket.socket, upload: Upload) -> None:
        answer = self._answers.pop(0) if self._answers else ACCEPTS
        length = int(upload.headers.get("content-length", "0"))
        wanted = length if answer.after is None else min(length, answer.after)
        body = bytearray(upload.body)
        while len(body) < wanted and (piece := connection.recv(_PIECE)):
            body += piece
        upload.body = bytes(body)
        self.uploads.append(upload)
        answer.then()
        if answer.cut:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        _send(connection, answer.status, answer.body, answer.headers)
        if answer.after is not None:  # take in what is under way, or the answer is torn by RST
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(_PIECE):
                pass

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _until_blank_line(connection: socket.socket) -> bytes:
    seen = b""
    while b"\r\n\r\n" not in seen:
        if not (piece := connection.recv(_PIECE)):
            raise ConnectionResetError("the client left")
        seen += piece
    return seen


def _send(connection: socket.socket, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    lines: Iterable[str] = (f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    connection.sendall(f"{head}{''.join(lines)}\r\n".encode("latin-1") + body)
