"""The upstream of all servers under test: a fast fake index in a process of its own.

`python -m bench.upstream` prints its port. What it has is in `catalogue`. How it behaves and what
it saw are asked for under `/-/`: `set?latency=0.05&rate=50e6`, `prepare?project=…`, `counts`,
`reset`. Latency (seconds) is waited before each answer, rate (bytes a second) holds for each file.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import uvloop

from bench import catalogue, tree

_CHUNK = 256 * 1024
_PAGES_KEPT = 256
_MODIFIED = "Wed, 17 Jan 2024 16:53:12 GMT"
_REASONS = {200: "OK", 206: "Partial Content", 304: "Not Modified", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: method, path, query, headers by lower-case name."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(slots=True)
class Reply:
    """An answer; `size` bytes in all come from `body`, or from the big file `project`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    project: str = ""
    start: int = 0
    stop: int = 0

    @property
    def size(self) -> int:
        return self.stop - self.start if self.project else len(self.body)


class Upstream:
    """What to answer, and what was asked."""

    def __init__(self) -> None:
        self.base_url = ""
        self.latency = 0.0
        self.rate = 0.0
        self.has_metadata = True
        self.counts: Counter[str] = Counter()
        self.active = 0  # answers under way
        self._pages: OrderedDict[tuple[str, str, bool, bool], bytes] = OrderedDict()

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    def answer(self, asked: Asked) -> Reply:
        self.counts[f"{asked.method} {asked.path}"] += 1
        parts = asked.path.strip("/").split("/")
        try:
            match parts:
                case ["simple", project]:
                    return self._page(project, asked)
                case ["files", *_, project, filename]:
                    return self._file(project, filename, asked)
        except KeyError:
            pass
        return Reply(404, {"Content-Type": "text/plain"}, b"no such thing\n")

    def control(self, asked: Asked) -> Reply:
        match asked.path.removeprefix("/-/"):
            case "set":
                self.latency = float(asked.query.get("latency", 0))
                self.rate = float(asked.query.get("rate", 0))
                self.has_metadata = asked.query.get("metadata", "1") == "1"
            case "prepare":
                for form in (catalogue.JSON_TYPE, catalogue.HTML_TYPE):
                    for is_gzip in (False, True):
                        self._body(asked.query["project"], form, is_gzip=is_gzip)
            case "reset":
                self.counts.clear()
        body = json.dumps({**self.counts, "active": self.active}).encode()
        return Reply(200, {"Content-Type": "application/json"}, body)

    def _page(self, project: str, asked: Asked) -> Reply:
        is_json = catalogue.JSON_TYPE in asked.headers.get("accept", "")
        form = catalogue.JSON_TYPE if is_json else catalogue.HTML_TYPE
        is_gzip = "gzip" in asked.headers.get("accept-encoding", "")
        body = self._body(project, form, is_gzip=is_gzip)
        headers = {
            "Content-Type": form if is_json else "text/html; charset=utf-8",
            "Cache-Control": "max-age=600, public",
            "Vary": "Accept, Accept-Encoding",
            "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        }
        if asked.headers.get("if-none-match") == headers["ETag"]:
            return Reply(304, headers)
        if is_gzip:
            headers["Content-Encoding"] = "gzip"
        return Reply(200, headers, body)

    def _body(self, project: str, form: str, *, is_gzip: bool) -> bytes:
        key = project, form, is_gzip, self.has_metadata
        if key not in self._pages:
            body = (
                gzip.compress(self._body(project, form, is_gzip=False), 6, mtime=0)
                if is_gzip
                else catalogue.page(project, self.base_url, form, has_metadata=self.has_metadata)
            )
            self._pages[key] = body
            while len(self._pages) > _PAGES_KEPT:
                self._pages.popitem(last=False)
        self._pages.move_to_end(key)
        return self._pages[key]

    def _file(self, project: str, filename: str, asked: Asked) -> Reply:
        if filename.endswith(".metadata"):
            return Reply(
                200,
                {"Content-Type": "text/plain"},
                catalogue.metadata(filename[: -len(".metadata")]),
            )
        headers = {
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            "Last-Modified": _MODIFIED,
            "ETag": f'"{hashlib.sha256(filename.encode()).hexdigest()[:32]}"',
            "Cache-Control": "max-age=365000000, immutable, public",
        }
        kind = catalogue.kind_of(project)
        if asked.headers.get("if-none-match") == headers["ETag"]:
            return Reply(304, headers)
        if kind == "big":
            size = catalogue.BIG_BYTES
            reply = Reply(200, headers, project=project, stop=size)
        elif kind == "tree":
            reply = Reply(200, headers, tree.wheel(project))
            size = reply.size
        else:
            size = catalogue.SMALL_BYTES
            reply = Reply(200, headers, catalogue.small_body(project, filename))
        if span := _span(asked.headers.get("range", ""), size):
            return _part(reply, span, size)
        return reply


def _span(text: str, size: int) -> tuple[int, int] | None:
    """Start and stop of a `Range` of one part, if it is one."""
    unit, _, value = text.partition("=")
    first, dash, last = value.partition("-")
    if unit != "bytes" or not dash or "," in value:
        return None
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _part(reply: Reply, span: tuple[int, int], size: int) -> Reply:
    start, stop = span
    reply.status = 206
    reply.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    if reply.project:
        reply.start, reply.stop = start, stop
    else:
        reply.body = reply.body[start:stop]
    return reply


async def serve_client(
    upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while True:
            asked = _parsed(await reader.readuntil(b"\r\n\r\n"))
            if asked.path.startswith("/-/"):
                await _send(writer, asked, upstream.control(asked), 0)
                continue
            with upstream.busy():
                if upstream.latency:
                    await asyncio.sleep(upstream.latency)
                await _send(writer, asked, upstream.answer(asked), upstream.rate)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _parsed(head: bytes) -> Asked:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    parts = urlsplit(target)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Asked(method, parts.path, dict(parse_qsl(parts.query)), headers)


async def _send(writer: asyncio.StreamWriter, asked: Asked, reply: Reply, rate: float) -> None:
    lines = [f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines += [] if reply.status == 304 else [f"Content-Length: {reply.size}"]
    head = "\r\n".join([*lines, "", ""]).encode()
    if asked.method == "HEAD" or not reply.project:
        writer.write(head + (b"" if asked.method == "HEAD" else reply.body))
        await writer.drain()
        return
    writer.write(head)
    await _send_big(writer, reply, rate)


async def _send_big(writer: asyncio.StreamWriter, reply: Reply, rate: float) -> None:
    begun = asyncio.get_running_loop().time()
    start = memoryview(catalogue.big_start())
    position = reply.start
    while position < reply.stop:
        stop = min(position + _CHUNK, reply.stop)
        if stop <= len(start):
            writer.write(start[position:stop])
        else:
            writer.write(catalogue.big_range(reply.project, position, stop))
        await writer.drain()
        position = stop
        if rate:
            due = begun + (position - reply.start) / rate
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


async def main() -> None:
    upstream = Upstream()
    catalogue.first_file("big-0")  # makes the bytes and digests that all big files share

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_client(upstream, reader, writer)

    server = await asyncio.start_server(on_client, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    upstream.base_url = f"http://127.0.0.1:{port}"
    print(port, flush=True)
    async with server:
        await asyncio.Event().wait()  # until we are ended


if __name__ == "__main__":
    uvloop.run(main())
