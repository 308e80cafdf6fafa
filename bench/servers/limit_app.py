"""The process of a limit: NAME PORT ANSWERS [CERT KEY].

Below ANSWERS are `answer/<key>` (a body), `<key>.json` (its status and headers), and `file/<name>`.
Answers are served from memory, files from a descriptor that stays open.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.servers.sendfile import SendfileProtocol

READ_SIZE = 1024**2
Headers = list[tuple[bytes, bytes]]


class Answers:
    """What is below the folder, read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.answer = functools.cache(self._answer)
        self.file = functools.cache(self._file)

    def _answer(self, key: str) -> tuple[int, Headers, bytes]:
        head = json.loads((self._folder / "answer" / f"{key}.json").read_text())
        headers = [(name.encode(), value.encode()) for name, value in head["headers"]]
        name = f"{key}.gz" if head["is_gzip"] else key
        return head["status"], headers, (self._folder / "answer" / name).read_bytes()

    def _file(self, name: str) -> tuple[int, int, Headers]:
        descriptor = os.open(self.path(name), os.O_RDONLY)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"accept-ranges", b"bytes"),
            (b"etag", f'"{name}"'.encode()),
            (b"last-modified", b"Wed, 17 Jan 2024 16:53:12 GMT"),
            (b"cache-control", b"public, max-age=365000000, immutable"),
        ]
        return descriptor, os.fstat(descriptor).st_size, headers

    def path(self, name: str) -> Path:
        return self._folder / "file" / name


def part(scope: Scope, size: int) -> tuple[int, int, int, Headers]:
    """Status, start, stop and further headers of the part that is asked for."""
    for name, value in scope["headers"]:
        if name == b"range":
            first, _, last = value[6:].partition(b"-")
            start, stop = int(first), min(size, int(last) + 1)
            return (
                206,
                start,
                stop,
                [(b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, size))],
            )
    return 200, 0, size, []


def raw(answers: Answers, *, has_sendfile: bool) -> ASGIApp:
    """The least that an ASGI application can do for these answers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kind, _, key = scope["path"][1:].partition("/")
        if kind != "file":
            status, headers, body = answers.answer(key)
            await send(start_message(status, headers))
            await send({"type": "http.response.body", "body": body})
            return
        descriptor, size, headers = answers.file(key)
        status, start, stop, more = part(scope, size)
        length = (b"content-length", b"%d" % (stop - start))
        await send(start_message(status, [*headers, *more, length]))
        if has_sendfile:
            await send({"type": "bench.sendfile", "fd": descriptor, "start": start, "stop": stop})
            return
        while start < stop:
            chunk = os.pread(descriptor, min(READ_SIZE, stop - start), start)
            start += len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": start < stop})

    return app


def start_message(status: int, headers: Headers) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def starlette(answers: Answers) -> ASGIApp:
    """The same by the means of Starlette."""

    async def answer(request: Request) -> Response:
        status, headers, body = answers.answer(request.path_params["key"])
        plain = {name.decode(): value.decode() for name, value in headers}
        plain.pop("content-length", None)
        return Response(body, status, plain)

    async def file(request: Request) -> Response:
        return FileResponse(answers.path(request.path_params["name"]))

    return Starlette(routes=[Route("/answer/{key}", answer), Route("/file/{name}", file)])


def main(name: str, port: str, folder: str, *tls: str) -> None:
    answers = Answers(Path(folder))
    app = (
        starlette(answers) if name == "starlette" else raw(answers, has_sendfile=name == "sendfile")
    )
    options: dict[str, Any] = {"http": SendfileProtocol if name == "sendfile" else "httptools"}
    if tls:
        options |= {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]}
    options |= {"loop": "uvloop", "access_log": False, "log_level": "warning", "lifespan": "off"}
    uvicorn.run(app, host="127.0.0.1", port=int(port), timeout_keep_alive=75, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
