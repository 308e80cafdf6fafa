"""An upstream of files of any size that nobody has to store: a process of its own.

Told on its command line: `size` of every file in bytes, `rate` in bytes per second and connection,
0 for as fast as it goes. `{"rate": …}` in a line changes it; every line is answered with the
counts: requests per file, and bytes sent. Project `rock-<n>` has the one file `filename(n)`;
from `PEBBLES` on they are small ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import sys
import threading
from collections import Counter
from functools import lru_cache

import uvloop

from tests.soak.lab import say, told

PIECE = 256 * 1024
PEBBLES, PEBBLE_SIZE = 1_000_000, 20_000
_PERIOD = 1_048_573  # a prime, so that no offset of a client falls on a repetition
_TAIL = 16
_BLOCK = random.Random("quarry").randbytes(_PERIOD) * 2


def project(number: int) -> str:
    return f"rock-{number}"


def filename(number: int) -> str:
    return f"rock_{number}-1.0.tar.gz"


def target(number: int) -> str:
    """What to ask proxyindex for."""
    return f"/simple/{project(number)}/{filename(number)}"


def content(number: int, size: int, start: int, stop: int) -> bytes:
    """Bytes of a file: all begin alike and end in a tail of their own, so digests are cheap."""
    stop, body = min(stop, size), size - _TAIL
    pieces = []
    while start < min(stop, body):
        offset = start % _PERIOD
        piece = _BLOCK[offset : min(offset + min(stop, body) - start, 2 * _PERIOD)]
        pieces.append(piece)
        start += len(piece)
    if stop > body:
        tail = hashlib.md5(b"%d" % number, usedforsecurity=False).digest()
        pieces.append(tail[max(start - body, 0) : stop - body])
    return b"".join(pieces)


@lru_cache(maxsize=4)
def _common(size: int) -> hashlib._Hash:
    digest = hashlib.sha256()
    for start in range(0, size - _TAIL, _PERIOD):
        digest.update(content(0, size, start, min(start + _PERIOD, size - _TAIL)))
    return digest


def sha256(number: int, size: int) -> str:
    """The digest of a file; cheap from the second on."""
    digest = _common(size).copy()
    digest.update(content(number, size, size - _TAIL, size))
    return digest.hexdigest()


class Quarry:
    """What all connections share."""

    def __init__(self, size: int, rate: int) -> None:
        self.size = size
        self.rate = rate
        self.asked: Counter[str] = Counter()
        self.sent = 0

    def size_of(self, number: int) -> int:
        return PEBBLE_SIZE if number >= PEBBLES else self.size

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests in turn."""
        with contextlib.suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                numbers = re.search(r"rock[-_](\d+)", head)
                if numbers is None:
                    writer.write(b"HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n")
                elif "/simple/" in head.split("\r\n", 1)[0]:
                    self._page(int(numbers[1]), writer)
                else:
                    await self._file(int(numbers[1]), head, writer)
        writer.close()

    def _page(self, number: int, writer: asyncio.StreamWriter) -> None:
        name = filename(number)
        size = self.size_of(number)
        hashes = {"sha256": sha256(number, size)}
        entry = {"filename": name, "url": f"/files/{name}", "hashes": hashes, "size": size}
        page = {"meta": {"api-version": "1.1"}, "name": project(number), "files": [entry]}
        body = json.dumps({**page, "versions": ["1.0"]}).encode()
        kind = "application/vnd.pypi.simple.v1+json"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    async def _file(self, number: int, head: str, writer: asyncio.StreamWriter) -> None:
        self.asked[filename(number)] += 1
        span = re.search(r"(?i)\r\nrange: bytes=(\d+)-(\d*)", head)
        size = self.size_of(number)
        start, stop = 0, size
        if span:
            start, stop = int(span[1]), int(span[2]) + 1 if span[2] else size
        lines = [f"HTTP/1.1 {206 if span else 200} OK", f"Content-Length: {stop - start}"]
        lines += [f"Content-Range: bytes {start}-{stop - 1}/{size}"] if span else []
        lines += ["Accept-Ranges: bytes", f'ETag: "{number}"', "", ""]
        writer.write("\r\n".join(lines).encode())
        while start < stop:
            piece = content(number, size, start, min(start + PIECE, stop))
            writer.write(piece)
            await writer.drain()
            start += len(piece)
            self.sent += len(piece)
            if self.rate:
                await asyncio.sleep(len(piece) / self.rate)


def _obey(shared: Quarry, loop: asyncio.AbstractEventLoop) -> None:
    for line in sys.stdin:
        shared.rate = json.loads(line).get("rate", shared.rate)
        say(asked=shared.asked, sent=shared.sent)
    loop.call_soon_threadsafe(loop.stop)


async def _serve() -> None:
    shared = Quarry(**told())
    _common(shared.size)
    server = await asyncio.start_server(shared.serve, "127.0.0.1", 0, backlog=1024)
    loop = asyncio.get_running_loop()
    threading.Thread(target=_obey, args=(shared, loop), daemon=True).start()
    say(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple/")
    await server.serve_forever()


if __name__ == "__main__":
    try:
        uvloop.run(_serve())
    except RuntimeError:  # stopped: our parent is gone
        sys.exit(0)
