"""Clients that ask for files of a catalogue and compare every byte: a process of its own.

Told on its command line: `url` of the server, `catalogue`, `seed`, `connections`, and `wanted`,
how many bodies delivered whole and right (`BODIES`) it takes until the end, or `limit` seconds at
most. It tells its counts twice a second, then once more with `"over": true`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from tests.soak.catalogue import Catalogue, Item
from tests.soak.lab import raise_descriptor_limit, say, told

_LARGE_SHARE = 0.0005  # of the requests for files
_EXAMPLES = 10  # wrong answers told in detail
BODIES = ("file", "part", "metadata")
_OTHER_BYTES = "other bytes"
_PATIENCE = 60.0  # seconds without a byte until a client gives up; counted as "hung"


class Wanted:
    """One request and the bytes that are right for it."""

    def __init__(self, kind: str, target: str, expected: memoryview, item: Item) -> None:
        self.kind = kind
        self.method = "HEAD" if kind == "head" else "GET"
        self.target = target
        self.expected = expected
        self.item = item
        self.span: tuple[int, int] | None = None

    def request(self, host: str) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}", "Accept: */*"]
        if self.kind == "page":
            lines[-1] = "Accept: application/vnd.pypi.simple.v1+json"
        if self.span:
            lines.append(f"Range: bytes={self.span[0]}-{self.span[1] - 1}")
        return "\r\n".join([*lines, "", ""]).encode()


class Tally:
    """What all clients of this process share: what to ask next, and what came of it."""

    def __init__(self, catalogue: Catalogue, wanted: int, seed: int) -> None:
        self.catalogue = catalogue
        self.wanted = wanted
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []
        self.whole = 0
        self.over = asyncio.Event()
        self._small = [item for item in catalogue.items if "large" not in item.project]
        self._large = [item for item in catalogue.items if "large" in item.project]

    def next(self) -> Wanted:
        """Popular files more often; of ten requests one each for part, head, metadata, page."""
        chance = self.random.random
        large = self._large and chance() < _LARGE_SHARE
        # the fourth power: half of all requests go to the first sixteenth of the files
        item = self.random.choice(self._large) if large else (
            self._small[int(len(self._small) * chance() ** 4)]
        )  # fmt: skip
        kind = self.random.choices(
            ("file", "part", "metadata", "head", "page"), (70, 10, 14, 3, 3)
        )[0]
        target = f"/simple/{item.project}/{item.filename}"
        if kind == "page":
            return Wanted(kind, f"/simple/{item.project}/", memoryview(b""), item)
        if kind == "metadata":
            return Wanted(kind, target + ".metadata", self.catalogue.metadata(item), item)
        found = Wanted(kind, target, self.catalogue.file(item), item)
        if kind == "part":
            start = self.random.randrange(item.size)
            found.span = (start, self.random.randint(start + 1, item.size))
            found.expected = found.expected[start : found.span[1]]
        return found

    def wrong(self, wanted: Wanted, what: str) -> None:
        self.counts[f"wrong {wanted.kind}"] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{wanted.method} {wanted.target} {wanted.span or ''}: {what}")

    def right(self, wanted: Wanted) -> None:
        self.counts[f"right {wanted.kind}"] += 1
        self.whole += wanted.kind in BODIES
        if self.whole >= self.wanted:
            self.over.set()


class Client(asyncio.Protocol):
    """One connection, one request at a time; opened again when it ends."""

    def __init__(self, tally: Tally, host: str) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.beats = 0  # answers and pieces of them: a watch sees whether it moves
        self._tally = tally
        self._host = host
        self._wanted: Wanted | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._tally.counts["connections"] += 1
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        if self._tally.over.is_set():
            self._wanted = None
            self._transport.close()
            return
        self._wanted = self._tally.next()
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._position, self._is_same, self._page = 0, True, bytearray()
        self._transport.write(self._wanted.request(self._host))

    def data_received(self, data: bytes) -> None:
        self.beats += 1
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            assert self._wanted is not None
            assert self._transport is not None
            self._tally.wrong(self._wanted, f"no HTTP: {problem}")
            self._wanted = None
            self._transport.abort()

    def connection_lost(self, problem: Exception | None) -> None:
        if self._wanted is not None:
            self._tally.counts["short" if self._headers else "no answer"] += 1
        if not self.ended.done():
            self.ended.set_result(None)

    def give_up(self) -> None:
        """Counted: nothing came for too long."""
        self._tally.counts["hung"] += 1
        self._wanted = None
        if self._transport is not None:
            self._transport.abort()

    # called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._wanted and self._wanted.method == "HEAD":
            self.on_message_complete()  # the parser would wait for the body

    def on_body(self, data: bytes) -> None:
        assert self._wanted is not None
        if self._wanted.kind == "page":
            self._page += data
            return
        stop = self._position + len(data)
        if self._is_same and self._wanted.expected[self._position : stop] != data:
            self._is_same = False
        self._position = stop

    def on_message_complete(self) -> None:
        wanted, self._wanted = self._wanted, None
        assert wanted is not None
        status = self._parser.get_status_code()
        if status == (206 if wanted.span else 200):
            self._judge(wanted)
        elif status in (200, 206):
            self._tally.wrong(wanted, f"status {status}")
        else:
            self._tally.counts[f"refused {status}"] += 1
        # not from within the parser, which is about to be replaced
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._ask()

    def _judge(self, wanted: Wanted) -> None:
        if wanted.kind == "page":
            problem = self._page_problem(wanted)
        elif wanted.kind == "head":
            length = int(self._headers.get(b"content-length", b"-1"))
            problem = "" if length == wanted.item.size else f"announces {length} bytes"
        else:
            problem = self._body_problem(wanted)
        if problem == _OTHER_BYTES and wanted.span and not self._is_proven():
            self._tally.counts["unproven part"] += 1
        elif problem:
            self._tally.wrong(wanted, problem)
        else:
            self._tally.right(wanted)

    def _body_problem(self, wanted: Wanted) -> str:
        if self._position != len(wanted.expected):
            return f"{self._position} bytes instead of {len(wanted.expected)}"
        if wanted.span:
            start, stop = wanted.span
            told = self._headers.get(b"content-range", b"").decode()
            if told != f"bytes {start}-{stop - 1}/{wanted.item.size}":
                return f"claims to be {told}"
        return "" if self._is_same else _OTHER_BYTES

    def _is_proven(self) -> bool:
        """Whether the part is of a stored file. One of a file under way comes before the digest of
        the whole can tell, or straight from upstream: only whole files are promised right."""
        return self._headers.get(b"x-proxyindex") == b"hit"

    def _page_problem(self, wanted: Wanted) -> str:
        try:
            entries = json.loads(self._page)["files"]
        except (ValueError, KeyError):
            return "no page"
        items = {
            item.filename: item for item in self._tally.catalogue.projects[wanted.item.project]
        }
        if {entry["filename"] for entry in entries} != items.keys():
            return f"lists {len(entries)} files instead of {len(items)}"
        for entry in entries:
            told = entry["hashes"].get("sha256", items[entry["filename"]].sha256)
            if told != items[entry["filename"]].sha256:
                return f"another digest of {entry['filename']}"
        return ""


async def _keep_asking(tally: Tally, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    while not tally.over.is_set():
        try:
            _, client = await loop.create_connection(
                lambda: Client(tally, f"{host}:{port}"), host, port
            )
        except OSError:
            tally.counts["no connection"] += 1
            await asyncio.sleep(0.05)
            continue
        beats = -1
        while not client.ended.done() and beats != client.beats:
            beats = client.beats
            await asyncio.wait([client.ended], timeout=_PATIENCE)
        if not client.ended.done():
            client.give_up()


def _told(tally: Tally, *, over: bool = False) -> dict[str, Any]:
    return {"counts": dict(tally.counts), "examples": tally.examples, "over": over}


async def _run() -> None:
    given = told()
    tally = Tally(Catalogue(Path(given["catalogue"])), given["wanted"], given["seed"])
    address = urlsplit(given["url"])
    loop = asyncio.get_running_loop()
    threading.Thread(
        target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(tally.over.set)), daemon=True
    ).start()
    clients = [
        asyncio.create_task(_keep_asking(tally, address.hostname or "", address.port or 80))
        for _ in range(given["connections"])
    ]
    deadline = loop.time() + given["limit"]
    while not tally.over.is_set() and loop.time() < deadline:
        say(**_told(tally))
        await asyncio.wait([asyncio.create_task(tally.over.wait())], timeout=0.5)
    tally.over.set()
    # what is under way still counts: a wrong one among it, too
    await asyncio.wait(clients, timeout=_PATIENCE)
    say(**_told(tally, over=True))


if __name__ == "__main__":
    raise_descriptor_limit()
    uvloop.run(_run())
