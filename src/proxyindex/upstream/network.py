"""Connections that go only where they may: httpcore's network seam with an address check.

The name is resolved once, every address is judged, and the connection is made to the address that
was judged, so that a second answer of the name server cannot slip in (DNS rebinding).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable

import anyio
import httpcore

SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves and judges before it connects; `is_trusted(host)` skips the judgement."""

    def __init__(
        self,
        is_trusted: Callable[[str], bool],
        is_closed: Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], bool],
    ) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._is_trusted = is_trusted
        self._is_closed = is_closed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to `host`; raises `httpcore.ConnectError` where it may not go."""
        target = host
        if not self._is_trusted(host):
            target = await self._checked_address(host, port, timeout)
        return await self._inner.connect_tcp(target, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: no URL leads to a socket file."""
        raise httpcore.ConnectError("unix sockets are not upstreams")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    async def _checked_address(self, host: str, port: int, timeout: float | None) -> str:
        try:
            with anyio.fail_after(timeout):
                found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as problem:
            raise httpcore.ConnectTimeout(f"no address for {host} in time") from problem
        except (OSError, UnicodeError) as problem:  # the latter: a name that no DNS can hold
            raise httpcore.ConnectError(f"no address for {host}") from problem
        addresses = [ipaddress.ip_address(entry[4][0].split("%")[0]) for entry in found]
        if not addresses or any(self._is_closed(address) for address in addresses):
            raise httpcore.ConnectError(f"{host} resolves to an address inside a closed network")
        return str(addresses[0])
