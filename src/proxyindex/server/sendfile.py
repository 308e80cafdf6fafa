"""Part of a file from the disk to a connection by the kernel alone (`sendfile`).

The bytes never come up into this process. uvloop has no `loop.sendfile`, but it watches a
duplicate of a connection's descriptor, by which we learn when there is room to write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from proxyindex import disk

_TURN = 2 * 1024**2  # bytes for one connection before the others get a turn
_AT_ONCE = 256 * 1024  # bytes
_AHEAD = 1024**2  # bytes looked for in the page cache, and read into it, before they are sent


class Sending:
    """A head and `fd`'s bytes from `start` up to `stop` on their way to a client.

    For uvicorn's protocol it stands where the cycle of a request under way stands: `keep_alive`,
    `disconnected`, `message_event`, `response_started` and `response_complete` are those of a
    cycle. Closes `fd`, of a file of `size` bytes. `on_end(sent)` is called once, with the number of
    body bytes.
    """

    response_started = True
    more_body = False
    body = b""

    def __init__(
        self,
        connection: socket.socket,
        fd: int,
        size: int,
        start: int,
        stop: int,
        on_end: Callable[[int], None],
    ) -> None:
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._fd = fd
        self._size = size
        self._start = self._position = start
        self._stop = stop
        self._on_end: Callable[[int], None] | None = on_end
        self._is_watching = False
        self._cached = start  # known to be in the page cache up to here
        self._head: bytes | bytearray = b""

    @property
    def message_event(self) -> Sending:
        """`set()` is how a cycle is told that the client has left."""
        return self

    def begin(self, head: bytes | bytearray, sent: int = 0) -> None:
        """Send the head, and the body behind it, but for the first `sent` bytes of both."""
        self._head = head[sent:]
        self._position = self._cached = self._start + max(0, sent - len(head))
        self._go()

    def set(self) -> None:
        """The client has left."""
        self._end()

    def cancel(self, msg: object = None) -> None:
        """The server stops, and does not wait any longer."""
        self._loop.call_soon(self._end)  # it goes through all that it waits for

    def _go(self) -> None:
        if self.response_complete:
            return
        turn_ends = min(self._position + _TURN, self._stop)
        try:
            is_going = self._push(turn_ends)
        except BlockingIOError:
            self._watch()
        except OSError:
            self._end()
        else:
            if not is_going:
                return
            if turn_ends <= self._position < self._stop:
                self._unwatch()
                self._loop.call_soon(self._go)
            else:
                self._end()

    def _push(self, turn_ends: int) -> bool:
        """Send up to `turn_ends`, or up to where the file was cut short; `False` while the disk is
        read. Raises `BlockingIOError` when there is no room."""
        while self._head:
            self._head = self._head[self._connection.send(self._head, socket.MSG_MORE) :]
        while self._position < turn_ends:
            if self._cached <= self._position and not self._look_ahead():
                return False
            count = min(turn_ends, self._cached) - self._position
            sent = os.sendfile(self._connection.fileno(), self._fd, self._position, count)
            if sent == 0:
                break
            self._position += sent
        return True

    def _look_ahead(self) -> bool:
        """Whether the next bytes are in memory; if not they are read in a thread, and then sent."""
        stop = min(self._position + _AHEAD, self._stop)
        if disk.are_cached(self._fd, self._position, stop) is not False:
            self._cached = stop
            return True
        self._unwatch()
        self._cached = stop
        reading = self._loop.run_in_executor(None, _read, os.dup(self._fd), self._position, stop)
        reading.add_done_callback(lambda _: self._go())
        return False

    def _watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self._loop.add_writer(self._connection.fileno(), self._go)

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_writer(self._connection.fileno())

    def _end(self) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        self._unwatch()
        disk.close(self._fd, self._size)
        on_end, self._on_end = self._on_end, None  # it refers to us
        assert on_end is not None
        on_end(self._position - self._start)


def at_once(
    connection: socket.socket, head: bytes | bytearray, fd: int, start: int, stop: int
) -> int:
    """How many bytes of a head and a small part behind it could be sent without waiting.

    Ranges of 64 KiB: 28 µs instead of 86, most of them for a `Sending` and its descriptors.
    """
    sent = 0
    if stop - start <= _AT_ONCE and disk.are_cached(fd, start, stop) is not False:
        with contextlib.suppress(OSError):  # no room; if the client has left it will show again
            sent = connection.send(head)
            if sent == len(head):
                sent += os.sendfile(connection.fileno(), fd, start, stop - start)
    return sent


def read_behind(head: bytes, fd: int, start: int, stop: int) -> bytearray | None:
    """A head and a small part behind it in one piece, if the part is read without waiting for the
    disk."""
    message = bytearray(len(head) + stop - start)
    message[: len(head)] = head
    try:
        count = os.preadv(fd, [memoryview(message)[len(head) :]], start, os.RWF_NOWAIT)
    except (OSError, AttributeError):  # not in memory; no Linux
        return None
    return message if count == stop - start else None


def _read(fd: int, start: int, stop: int) -> None:
    """Have these bytes read into the page cache. Closes `fd`."""
    try:
        while start < stop and (got := len(os.pread(fd, 256 * 1024, start))):
            start += got
    finally:
        os.close(fd)
