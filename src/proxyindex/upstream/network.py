"""Connections that go only where they may: each address is judged before it is connected to.

The name is resolved once, every address is judged, and the connection is made to an address that
was judged, so that a second answer of the name server cannot slip in (DNS rebinding).
"""

import ipaddress
import logging
import time
from collections.abc import Callable

import httpcore

from proxyindex.upstream import hostnames
from proxyindex.upstream.border import is_closed
from proxyindex.upstream.deadline import in_time
from proxyindex.upstream.wire import WireBackend

log = logging.getLogger(__name__)

_MOST_ADDRESSES = 4  # tried of one name: each gets a share of the time, which must stay a real one


class ClosedNetwork(httpcore.UnsupportedProtocol):
    """The host's address is none that a link may lead to. Unlike a dead host it is not asked again:
    httpx knows this family of errors as a fault of the URL."""


class GuardedBackend:
    """Resolves and judges before it connects; `is_trusted(host)` skips the judgement."""

    def __init__(self, is_trusted: Callable[[str], bool]) -> None:
        self._inner = WireBackend()
        self._is_trusted = is_trusted

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """A connection to `host`; raises `ClosedNetwork` where it may not go.

        A judged name's addresses are tried in the name server's order; `timeout` is for all.
        """
        begun = time.monotonic()
        if self._is_trusted(host):
            targets = [host]
        else:
            targets = await self._checked_addresses(host, port, timeout)
        for left in range(len(targets), 0, -1):
            share = None
            if timeout is not None:
                share = max(0.0, timeout - (time.monotonic() - begun)) / left
            try:
                return await self._inner.connect_tcp(targets[-left], port, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
        raise AssertionError("no address was tried")

    async def _checked_addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        asking = hostnames.ask(host, port)
        found = await in_time(asking, timeout, httpcore.ConnectTimeout, httpcore.ConnectError)
        addresses = [ipaddress.ip_address(entry[4][0].split("%")[0]) for entry in found]
        if not addresses:
            raise httpcore.ConnectError(f"no address for {host}")
        if any(is_closed(address) for address in addresses):
            log.warning("a link leads to %s, whose address is inside a closed network", host)
            raise ClosedNetwork(f"{host} resolves to an address inside a closed network")
        return [str(address) for address in dict.fromkeys(addresses)][:_MOST_ADDRESSES]
