"""A fast upstream that misbehaves at random: a process of its own, on bare connections.

Told on its command line: `catalogue`, `seed`, `chance` (of a fault per request); then in lines:
`{"chance": …}` changes it, and every line is answered with the counts of what was done so far.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.soak.catalogue import Catalogue
from tests.soak.faulty import FILE_FAULTS, PAGE_FAULTS, Asked, Sent
from tests.soak.lab import say, told

_BURST_CHANCE = 0.002  # of every request, times the chance of a fault: all fails for a while
_BURST = 40  # requests


class Mischief:
    """What all connections share."""

    def __init__(self, catalogue: Catalogue, chance: float, seed: int) -> None:
        self.catalogue = catalogue
        self.chance = chance
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.files = {item.filename: item for item in catalogue.items}
        self._burst = 0

    def answer(self, path: str, headers: dict[str, str]) -> Sent:
        """The answer to one request, good or bad."""
        asked, faults = self._asked(path, headers)
        if asked is None:
            return Sent(404, b"not here")
        fault = self._drawn(faults)
        self.done[fault.__name__ if fault else "good"] += 1
        return fault(asked, self.random) if fault else asked.good()

    def _drawn(self, faults: Any) -> Callable[[Asked, random.Random], Sent] | None:
        if self._burst:
            self._burst -= 1
            return faults[0]  # type: ignore[no-any-return]
        if self.random.random() < self.chance * _BURST_CHANCE:
            self._burst = _BURST
        if self.random.random() >= self.chance:
            return None
        return self.random.choice(faults)  # type: ignore[no-any-return]

    def _asked(self, path: str, headers: dict[str, str]) -> tuple[Asked | None, Any]:
        place, _, rest = path.lstrip("/").partition("/")
        if place == "simple" and (name := rest.strip("/")) in self.catalogue.projects:
            page = self.catalogue.page(name)
            return Asked(page, headers, "application/vnd.pypi.simple.v1+json"), PAGE_FAULTS
        item = self.files.get(rest.removesuffix(".metadata"))
        if place != "files" or item is None:
            return None, ()
        body = self.catalogue.metadata(item) if rest.endswith(".metadata") else (
            self.catalogue.file(item)
        )  # fmt: skip
        return Asked(body, headers), FILE_FAULTS


class Peer(asyncio.Protocol):
    """One connection: requests in turn, each with an answer of the shared mischief."""

    def __init__(self, shared: Mischief) -> None:
        self._shared = shared
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def connection_lost(self, problem: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            self._send(self._shared.answer(first.split(" ")[1], headers))

    def _send(self, sent: Sent) -> None:
        loop = asyncio.get_running_loop()
        if sent.delay:
            loop.call_later(sent.delay, self._send_now, sent)
        else:
            self._send_now(sent)

    def _send_now(self, sent: Sent) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.write(sent.head())
        transport.write(sent.body)
        if sent.hang:
            asyncio.get_running_loop().call_later(sent.hang, transport.abort)
        elif sent.is_reset:
            _reset_on_close(transport)
            transport.abort()
        elif sent.is_last:
            transport.close()


def _reset_on_close(transport: asyncio.Transport) -> None:
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _obey(shared: Mischief, loop: asyncio.AbstractEventLoop) -> None:
    for line in sys.stdin:
        shared.chance = json.loads(line).get("chance", shared.chance)
        say(**shared.done)
    loop.call_soon_threadsafe(loop.stop)


async def _serve() -> None:
    given = told()
    shared = Mischief(Catalogue(Path(given["catalogue"])), given["chance"], given["seed"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(shared), "127.0.0.1", 0, backlog=1024)
    threading.Thread(target=_obey, args=(shared, loop), daemon=True).start()
    say(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple/")
    await server.serve_forever()


if __name__ == "__main__":
    try:
        uvloop.run(_serve())
    except RuntimeError:  # stopped: our parent is gone
        sys.exit(0)
