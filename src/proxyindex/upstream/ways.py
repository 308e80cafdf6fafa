"""The ways to one upstream: straight, by our own pool, or through a forward proxy, by httpx.

What both answer is read alike: an `Answer` has what we want of an httpx response.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import httpx

from proxyindex.upstream.border import DEFAULT_PORTS, UrlOrigin
from proxyindex.upstream.pool import Headers, Pool

Transport = httpx.AsyncBaseTransport  # what stands in for the network in tests

# nothing in it that has to be encoded, decoded or left out. httpx's reader of URLs, which does all
# that, took 7 % of the processor's time of a cold install of 91 distributions
_PLAIN = re.compile(
    r"https?://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[1-9]\d{0,4})?"
    r"(/(?:[\w/.~+=,:@!$&()*-]|%[0-9A-F]{2})*)",
    re.ASCII,
)


class Response(Protocol):
    """An open answer; names of headers are in lower case."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def aiter_raw(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Way(Protocol):
    """Raises errors of httpx or httpcore."""

    async def get(self, url: str, headers: Mapping[str, str]) -> Response: ...
    async def aclose(self) -> None: ...


class Straight:
    """To the upstream itself."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def get(self, url: str, headers: Mapping[str, str]) -> Response:
        origin, target = read(url)
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        if origin.port != DEFAULT_PORTS[origin.scheme]:
            host = f"{host}:{origin.port}"
        fields = {"Host": host, **headers}
        asked: Headers = [
            (name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()
        ]
        return await self.pool.get(origin, target, asked)

    async def aclose(self) -> None:
        await self.pool.aclose()


class Foreign:
    """By a transport of httpx: through a forward proxy, or one that stands in for the network."""

    def __init__(self, transport: Transport, timeout: httpx.Timeout) -> None:
        self.transport = transport
        self._extensions = {"timeout": timeout.as_dict()}

    async def get(self, url: str, headers: Mapping[str, str]) -> Response:
        request = httpx.Request("GET", url, headers=headers, extensions=self._extensions)
        return await self.transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self.transport.aclose()


def read(url: str) -> tuple[UrlOrigin, bytes]:
    """Who is asked, and for what, by a URL that the border let pass. Raises `httpx.InvalidURL` and
    `httpx.UnsupportedProtocol`."""
    plain = _PLAIN.fullmatch(url)
    if plain and "/." not in url:
        return UrlOrigin.of(url), plain[1].encode("ascii")
    parsed = httpx.URL(url)
    if parsed.scheme not in DEFAULT_PORTS or not parsed.host:
        raise httpx.UnsupportedProtocol("neither http nor https")
    port = DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    return UrlOrigin(parsed.scheme, parsed.raw_host.decode("ascii"), port), parsed.raw_path
