"""Bytes of a connected socket, with no buffer of our own between the kernel and the reader.

anyio's stream keeps whatever the event loop has read before anybody wanted it: with uvloop the
whole receive buffer of the kernel, 4 MiB for each of a hundred fast downloads (measured). Here a
read takes what it asks for, and the rest waits in the kernel, which then slows the sender down.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import httpcore
from anyio.abc import ByteStream, SocketAttribute
from httpcore._backends.anyio import AnyIOStream

from proxyindex.upstream.hostnames import Entry, Hostnames

# bytes of one read: larger ones while the kernel has more. Each piece of a file goes to a thread
# and wakes all who wait for it; measured, fifty clients of 200 MB: 4 s of the processor, not 6.4 s
_FIRST_READ, LARGEST_READ = 64 * 1024, 256 * 1024
_HEAD_START = 0.25  # seconds that one address of a host has before the next is tried as well


class Wire(ByteStream):
    """A connected, non-blocking TCP socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._size = _FIRST_READ

    async def receive(self, max_bytes: int = LARGEST_READ) -> bytes:
        self._check_open()
        size = min(self._size, max_bytes)
        try:
            data = await self._read(size)
        except OSError as problem:
            raise anyio.BrokenResourceError from problem
        if not data:
            raise anyio.EndOfStream
        is_full = len(data) == size
        self._size = min(2 * size, LARGEST_READ) if is_full else max(size // 2, _FIRST_READ)
        return data

    async def _read(self, size: int) -> bytes:
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return await asyncio.get_running_loop().sock_recv(self._socket, size)
        # what the kernel holds needs no waiting: let others run, and notice being cancelled
        await anyio.lowlevel.checkpoint()
        return data

    async def send(self, item: bytes) -> None:
        self._check_open()
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, item)
        except OSError as problem:
            raise anyio.BrokenResourceError from problem

    def _check_open(self) -> None:
        if self._socket.fileno() == -1:
            raise anyio.ClosedResourceError

    async def send_eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        self._socket.close()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {SocketAttribute.raw_socket: lambda: self._socket}


class WireBackend(httpcore.AsyncNetworkBackend):
    """Makes wires for httpcore; a host with several addresses is tried at the next one when one
    does not answer at once (RFC 8305)."""

    def __init__(self) -> None:
        self._names = Hostnames()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises `httpcore.ConnectError` and `httpcore.ConnectTimeout`."""
        try:
            with anyio.fail_after(timeout):
                # httpcore's own stream over ours: it knows what the pool asks a connection for
                return AnyIOStream(await self._first(host, port))
        except TimeoutError as problem:
            raise httpcore.ConnectTimeout(f"no connection to {host} in time") from problem
        except (OSError, UnicodeError) as problem:  # the latter: a name that no DNS can hold
            raise httpcore.ConnectError(str(problem)) from problem

    async def _first(self, host: str, port: int) -> Wire:
        """A wire to the address of `host` that answers first. Raises the `OSError` of the last."""
        found = await self._names.addresses(host, port)
        try:
            return await _fastest(found, OSError(f"no address for {host}"))
        except BaseException:
            self._names.forget(host, port)
            raise


async def _fastest(found: Sequence[Entry], nobody: OSError) -> Wire:
    """A wire to the address that answers first. Raises the `OSError` of the last, or `nobody`."""
    made: list[Wire] = []
    problems = [nobody]

    async def attempt(entry: Any, failed: anyio.Event) -> None:
        try:
            wire = await _connected(*entry)
        except OSError as problem:
            problems.append(problem)
            failed.set()
        else:
            made.append(wire)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for entry in found:
            failed = anyio.Event()
            tasks.start_soon(attempt, entry, failed)
            with anyio.move_on_after(_HEAD_START):
                await failed.wait()
    for late in made[1:]:
        await late.aclose()
    if made:
        return made[0]
    raise problems[-1]


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
