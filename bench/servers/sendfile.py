"""A prototype: uvicorn's httptools protocol that also sends parts of files by `os.sendfile`.

uvloop has no `loop.sendfile`, but watches a duplicate of the connection's descriptor.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LARGEST = 4 * 1024**2


class SendfileProtocol(HttpToolsProtocol):
    """Takes the message `bench.sendfile` (`fd`, `start`, `stop`) as the whole body."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._application = self.app
        self.app = self._answer  # type: ignore[method-assign,assignment]

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_any(message: Any) -> None:
            if message["type"] != "bench.sendfile":
                await send(message)
                return
            cycle = send.__self__
            await self._send_part(message["fd"], message["start"], message["stop"])
            cycle.expected_content_length = 0
            await send({"type": "http.response.body", "body": b""})

        await self._application(scope, receive, send_any)

    async def _send_part(self, fd: int, start: int, stop: int) -> None:
        # the head goes first; there is no event for that
        while self.transport.get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(0)
        sock = self._duplicate()
        while start < stop and not self.transport.is_closing():
            try:
                start += os.sendfile(sock, fd, start, min(_LARGEST, stop - start))
            except BlockingIOError:
                await self._writable(sock)

    def _duplicate(self) -> int:
        if not hasattr(self, "_socket"):
            self._socket = os.dup(self.transport.get_extra_info("socket").fileno())
        return self._socket

    async def _writable(self, sock: int) -> None:
        self._ready: asyncio.Event = asyncio.Event()
        self.loop.add_writer(sock, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            self.loop.remove_writer(sock)

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "_socket"):
            if hasattr(self, "_ready"):
                self._ready.set()
            os.close(self._socket)
            del self._socket
        super().connection_lost(exc)
