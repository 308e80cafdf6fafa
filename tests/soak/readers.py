"""Clients of quarry files: a process of its own that reads many at once and compares every byte.

Told on its command line: `url`, `size`, `files` (their numbers), and `waits`: whether all stop in
mid-file until the last one is there. It tells how far they are twice a second, then the outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tests.soak.lab import raise_descriptor_limit, say, told
from tests.soak.quarry import content, target

_PATIENCE = 120.0  # seconds without a byte


class Readers:
    """All clients of this process."""

    def __init__(self, url: str, size: int, files: list[int], *, waits: bool) -> None:
        self.address = urlsplit(url)
        self.size = size
        self.files = files
        self.waits = waits
        self.received = 0
        self.right = 0
        self.first_byte = 0.0  # seconds until the head of the last answer
        self.problems: list[str] = []
        self._half = 0
        self._all_there = asyncio.Event()

    async def read(self, number: int) -> None:
        """Read one file whole."""
        problem = await self._problem(number)
        if problem:
            self.problems.append(f"file {number}: {problem}")
            self._arrive()  # nobody must wait for it
        else:
            self.right += 1

    def _arrive(self) -> None:
        self._half += 1
        if self._half >= len(self.files):
            self._all_there.set()

    async def _problem(self, number: int) -> str:
        loop = asyncio.get_running_loop()
        started = loop.time()
        writer = None
        try:
            reader, writer = await asyncio.open_connection(self.address.hostname, self.address.port)
            request = f"GET {target(number)} HTTP/1.1\r\nHost: {self.address.netloc}\r\n\r\n"
            writer.write(request.encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PATIENCE)
            self.first_byte = max(self.first_byte, loop.time() - started)
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                return head.split(b"\r\n", 1)[0].decode()
            return await self._body(number, reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
            return f"{type(problem).__name__} {problem}"
        finally:
            if writer is not None:
                writer.close()

    async def _body(self, number: int, reader: asyncio.StreamReader) -> str:
        position, has_arrived = 0, False
        while position < self.size:
            data = await asyncio.wait_for(reader.read(262_144), _PATIENCE)
            if not data:
                return f"ended after {position} bytes"
            if content(number, self.size, position, position + len(data)) != data:
                return f"other bytes at {position}"
            position += len(data)
            self.received += len(data)
            if not has_arrived and position * 2 >= self.size:
                has_arrived = True
                self._arrive()
                if self.waits:
                    await self._all_there.wait()
        return ""

    def told(self, *, over: bool) -> dict[str, Any]:
        return {
            "received": self.received,
            "right": self.right,
            "first_byte": self.first_byte,
            "problems": self.problems,
            "over": over,
        }


async def _run() -> None:
    readers = Readers(**told())
    task = asyncio.gather(*(readers.read(number) for number in readers.files))
    while not task.done():
        say(**readers.told(over=False))
        await asyncio.wait([task], timeout=0.5)
    say(**readers.told(over=True))


def _end_with_parent() -> None:
    with contextlib.suppress(OSError):
        sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    raise_descriptor_limit()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    uvloop.run(_run())
