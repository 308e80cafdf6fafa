"""The ways to one upstream: straight, by our own pool, or through a forward proxy, by httpx.

The one door to httpx. What both answer is read alike: an `Answer` has what we want of an httpx
response. Foreign exceptions become ours here and nowhere else.
"""

import re
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Protocol
from urllib.parse import urljoin

import httpcore
import httpx

from proxyindex.errors import ConnectionBroken, UpstreamInvalid, UpstreamUnavailable
from proxyindex.texts import with_ascii_host
from proxyindex.upstream.border import DEFAULT_PORTS, Border, UrlOrigin
from proxyindex.upstream.connection import Connection
from proxyindex.upstream.network import GuardedBackend
from proxyindex.upstream.pool import Headers, NotHttp, Pool
from proxyindex.upstream.proxies import Proxies, ProxyUnusable
from proxyindex.upstream.reasons import reason
from proxyindex.upstream.tls import trusting

Transport = httpx.AsyncBaseTransport  # what stands in for the network in tests
_KEEPALIVE_SECONDS = 60.0

# nothing in it that has to be encoded, decoded or left out. httpx's reader of URLs, which does all
# that, took 7 % of the processor's time of a cold install of 91 distributions
_PLAIN = re.compile(
    r"https?://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[1-9]\d{0,4})?"
    r"(/(?:[\w/.~+=,:@!$&()*-]|%[0-9A-F]{2})*)",
    re.ASCII,
)


# a TLS alert after the handshake (no client certificate, say) comes as it is: an `OSError`
BROKEN = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpx.HTTPError,
    httpx.StreamError,
    OSError,
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


class Ways:
    """How one upstream is reached: straight, or through a forward proxy where there is one."""

    def __init__(
        self, connection: Connection, border: Border, limit: int, transport: Transport | None
    ) -> None:
        self._connection = connection
        self._tls = connection.tls or trusting(None)
        self._limit = limit
        self._timeout = httpx.Timeout(connection.read_timeout, connect=connection.connect_timeout)
        self._proxies = None if transport else Proxies(connection.proxy)
        self.straight: Way = self._foreign(transport) if transport else self._straight(border)
        self._through: dict[str, Way] = {}

    def to(self, url: str) -> Way:
        """The one that leads to `url`."""
        proxy = self._proxies and self._proxies.of(url)
        if not proxy:
            return self.straight
        if proxy not in self._through:
            limits = httpx.Limits(max_connections=self._limit, keepalive_expiry=_KEEPALIVE_SECONDS)
            self._through[proxy] = self._foreign(
                httpx.AsyncHTTPTransport(verify=self._tls, proxy=proxy, limits=limits)
            )
        return self._through[proxy]

    async def aclose(self) -> None:
        for way in (self.straight, *self._through.values()):
            await way.aclose()

    def _foreign(self, transport: Transport) -> Way:
        return Foreign(transport, self._timeout)

    def _straight(self, border: Border) -> Way:
        return Straight(
            Pool(
                ssl_context=self._tls,
                max_connections=self._limit,
                keepalive_expiry=_KEEPALIVE_SECONDS,
                connect_timeout=self._connection.connect_timeout,
                read_timeout=self._connection.read_timeout,
                network_backend=GuardedBackend(border.is_named),
            )
        )


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


def joined(url: str, location: str) -> str:
    """Where a redirect from `url` leads. Raises `ValueError` for what is no URL."""
    target = with_ascii_host(urljoin(url, location))
    try:
        httpx.URL(target)
    except httpx.InvalidURL as problem:
        raise ValueError(str(problem)) from problem
    return target


class mapped:  # noqa: N801 - a context manager used like a function
    """Foreign exceptions as ours. Messages of theirs may hold URLs; ours name the kind only."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        match problem:
            case httpx.TimeoutException() | httpcore.TimeoutException() | TimeoutError():
                raise UpstreamUnavailable(self._upstream, "did not answer in time") from problem
            case zlib.error():
                raise UpstreamInvalid(self._upstream, "sent a broken encoding") from problem
            case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpcore.UnsupportedProtocol():
                raise UpstreamInvalid(self._upstream, "gave an unusable link") from problem
            case ProxyUnusable():
                raise UpstreamInvalid(self._upstream, "is behind an unusable proxy") from problem
            case httpx.ConnectError() | httpcore.ConnectError():
                told = f"cannot be reached{reason(problem)}"
                raise UpstreamUnavailable(self._upstream, told) from problem
            case httpx.ProxyError():
                told = f"is behind a proxy that answers {str(problem)[:3]}"
                raise UpstreamUnavailable(self._upstream, told) from problem
            case _ if isinstance(problem, BROKEN):
                is_other = isinstance(problem, NotHttp)  # or the rest of an answer before
                told = f"sent what is not HTTP ({problem})" if is_other else "broke the connection"
                raise ConnectionBroken(self._upstream, told) from problem
