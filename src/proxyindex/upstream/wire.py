"""Bytes of a connected socket, with no buffer of our own between the kernel and the reader.

A stream of the event loop keeps whatever it has read before anybody wanted it: with uvloop the
whole receive buffer of the kernel, 4 MiB for each of a hundred fast downloads (measured). Here a
read takes what it asks for, and the rest waits in the kernel, which then slows the sender down.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import anyio
import httpcore

from proxyindex.upstream.deadline import in_time
from proxyindex.upstream.hostnames import Entry, Hostnames

# bytes of one read: larger ones while the kernel has more. Each piece of a file goes to a thread
# and wakes all who wait for it; measured, fifty clients of 200 MB: 4 s of the processor, not 6.4 s
_FIRST_READ, LARGEST_READ = 64 * 1024, 256 * 1024
_HEAD_START = 0.25  # seconds that one address of a host has before the next is tried as well


class Wire(httpcore.AsyncNetworkStream):
    """A connected, non-blocking TCP socket. Raises httpcore's errors; time-outs in seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._size = _FIRST_READ

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived, or arrives next; nothing at the end."""
        size = min(self._size, max_bytes)
        try:
            data = self._socket.recv(size)
            # what the kernel holds needs no waiting: let others run, and notice being cancelled
            await asyncio.sleep(0)
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            waiting = loop.sock_recv(self._socket, size)
            data = await in_time(waiting, timeout, httpcore.ReadTimeout, httpcore.ReadError)
        except OSError as problem:
            raise httpcore.ReadError(str(problem)) from problem
        is_full = len(data) == size
        self._size = min(2 * size, LARGEST_READ) if is_full else max(size // 2, _FIRST_READ)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            sent = self._socket.send(buffer)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            raise httpcore.WriteError(str(problem)) from problem
        if sent < len(buffer):
            waiting = asyncio.get_running_loop().sock_sendall(self._socket, buffer[sent:])
            await in_time(waiting, timeout, httpcore.WriteTimeout, httpcore.WriteError)

    async def aclose(self) -> None:
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "socket":
                return self._socket
            case "is_readable":  # bytes, an end or an error: anything but silence
                return self._is_readable()
        return None

    def _is_readable(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


class WireBackend:
    """Makes wires; a host with several addresses is tried at the next one when one does not answer
    at once (RFC 8305)."""

    def __init__(self) -> None:
        self._names = Hostnames()

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Raises `httpcore.ConnectError` and `httpcore.ConnectTimeout`."""
        first = self._first(host, port)
        return await in_time(first, timeout, httpcore.ConnectTimeout, httpcore.ConnectError)

    async def _first(self, host: str, port: int) -> Wire:
        """A wire to the address of `host` that answers first. Raises the `OSError` of the last."""
        found = await self._addresses(host, port)
        try:
            return await _fastest(found)
        except BaseException:
            self._names.forget(host, port)
            raise

    async def _addresses(self, host: str, port: int) -> Sequence[Entry]:
        return await self._names.addresses(host, port)


async def _fastest(found: Sequence[Entry]) -> Wire:
    """A wire to the address that answers first. Raises the `OSError` of the last."""
    made: list[Wire] = []
    problems = [OSError("no address")]

    async def attempt(entry: Any, failed: anyio.Event) -> None:
        try:
            wire = await _connected(*entry)
        except OSError as problem:
            problems.append(problem)
            failed.set()
        else:
            made.append(wire)
            tasks.cancel_scope.cancel()

    first = None
    try:
        async with anyio.create_task_group() as tasks:
            for entry in found:
                failed = anyio.Event()
                tasks.start_soon(attempt, entry, failed)
                with anyio.move_on_after(_HEAD_START):
                    await failed.wait()
        first = made[0] if made else None
    finally:
        for late in made:
            if late is not first:
                await late.aclose()
    if first is None:
        raise problems[-1]
    return first


async def _connected(family: int, kind: int, protocol: int, _: str, address: Any) -> Wire:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return Wire(sock)
