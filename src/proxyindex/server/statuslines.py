"""Reason phrases of our own: uvicorn writes the standard one for each status, which is all that
installers show of a refused file."""

import asyncio
from typing import Any


class StatusLines(asyncio.Transport):
    """The transport as uvicorn's responses see it: the next status line can be given a reason."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self.wire = transport
        self._line: tuple[bytes, bytes] | None = None

    def announce(self, status: int, reason: bytes) -> None:
        """Give the next status line of this status `reason` as its phrase."""
        start = b"HTTP/1.1 %d " % status
        self._line = (start, start + reason)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        # an interim "100 Continue" may come first; it keeps its phrase
        if self._line is not None and bytes(data[: len(self._line[0])]) == self._line[0]:
            _, separator, rest = bytes(data).partition(b"\r\n")
            data = self._line[1] + separator + rest
            self._line = None
        self.wire.write(data)

    def close(self) -> None:
        self.wire.close()

    def abort(self) -> None:
        self.wire.abort()

    def get_write_buffer_size(self) -> int:
        return self.wire.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self.wire.is_closing()

    def can_write_eof(self) -> bool:
        return self.wire.can_write_eof()

    def write_eof(self) -> None:
        self.wire.write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.wire.get_extra_info(name, default)
