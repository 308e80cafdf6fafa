"""The transport as uvicorn's responses see it: reason phrases of our own, and an end that comes."""

import asyncio
import fcntl
import termios
from collections.abc import Callable
from typing import Any

# TLS ends with a farewell of both sides, for which nobody needs to wait (RFC 8446, 6.1), and which
# idle clients do not say: each held a stop for the whole of its grace. Longer than a round trip.
_FAREWELL_SECONDS = 2.0
_NOTHING = bytes(4)  # the number zero, as the kernel writes it


class StatusLines(asyncio.Transport):
    """A connection whose next status line can be given a reason.

    uvicorn writes the standard phrase for each status, and that is all that installers show of a
    refused file.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self.wire = transport
        # what the next close does instead; once
        self.on_close: Callable[[], None] | None = None
        self._has_ended = False  # nothing can be written any more
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
        """Close when all is sent; under TLS without waiting for the client's farewell."""
        if self.wire.is_closing():
            return
        if self.on_close is not None:
            act, self.on_close = self.on_close, None
            act()
            return
        self.wire.close()
        if self.wire.get_extra_info("sslcontext") is not None:
            self._leave_soon()

    def _leave_soon(self) -> None:
        asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, self._leave)

    def _leave(self) -> None:
        """End the connection, unless its client is still reading."""
        sock = self.wire.get_extra_info("socket")
        if sock is None:
            return  # it has ended
        if _is_all_taken(sock.fileno()):
            self.wire.abort()
        else:
            self._leave_soon()

    def abort(self) -> None:
        self.wire.abort()

    def get_write_buffer_size(self) -> int:
        return self.wire.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._has_ended or self.wire.is_closing()

    def can_write_eof(self) -> bool:
        return self.wire.can_write_eof()

    def write_eof(self) -> None:
        self._has_ended = True
        self.wire.write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.wire.get_extra_info(name, default)


def _is_all_taken(fd: int) -> bool:
    """Whether the client's system has all that was written to a socket; `True` where none can tell.

    uvloop says of TLS only what is not encrypted yet, and up to 1 MiB waits behind that.
    """
    try:
        return fcntl.ioctl(fd, termios.TIOCOUTQ, _NOTHING) == _NOTHING
    except OSError:
        return True
