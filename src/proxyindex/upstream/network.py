"""Connections that go only where they may: each address is judged before it is connected to.

The name is resolved once, every address is judged, and the connection is made to an address that
was judged, so that a second answer of the name server cannot slip in (DNS rebinding).
"""

import ipaddress
import logging
from collections.abc import Callable, Sequence

import httpcore

from proxyindex.upstream import hostnames
from proxyindex.upstream.border import is_closed
from proxyindex.upstream.wire import WireBackend

log = logging.getLogger(__name__)

_MOST_ADDRESSES = 4  # tried of one name: whoever owns it may list any number of strangers'


class ClosedNetwork(httpcore.UnsupportedProtocol):
    """The host's address is none that a link may lead to. Unlike a dead host it is not asked again:
    httpx knows this family of errors as a fault of the URL."""


class GuardedBackend(WireBackend):
    """Judges what it resolves, and remembers none of it; hosts that `is_trusted` are as usual."""

    def __init__(self, is_trusted: Callable[[str], bool]) -> None:
        super().__init__()
        self._is_trusted = is_trusted

    async def _addresses(self, host: str, port: int) -> Sequence[hostnames.Entry]:
        """Raises `ClosedNetwork` for a host that may not be connected to."""
        if self._is_trusted(host):
            return await super()._addresses(host, port)
        found = await hostnames.ask(host, port)
        if any(is_closed(ipaddress.ip_address(entry[4][0].split("%")[0])) for entry in found):
            log.warning("a link leads to %s, whose address is inside a closed network", host)
            raise ClosedNetwork(f"{host} resolves to an address inside a closed network")
        return found[:_MOST_ADDRESSES]
