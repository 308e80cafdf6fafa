"""The one door to httpx: limits, time-outs, credentials per origin, redirects by hand.

Foreign exceptions become ours here and nowhere else.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
import truststore

from proxyindex.errors import LoopDetected, UpstreamInvalid, UpstreamUnavailable
from proxyindex.upstream.border import Border, is_closed
from proxyindex.upstream.network import GuardedBackend

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPALIVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Connection:
    """How to speak to one upstream. Times in seconds; `via` names this server to others."""

    name: str
    url: str
    via: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    connect_timeout: float = 3.0
    read_timeout: float = 20.0
    max_connections: int = 20
    file_hosts: tuple[str, ...] = ()


class OffOrigin(Exception):
    """A redirect left the upstream's origin where only the origin itself may answer."""


class Reply:
    """An open answer: status, headers with lower-case names, final URL, body as a stream."""

    def __init__(self, upstream: str, response: httpx.Response) -> None:
        self._upstream = upstream
        self._response = response
        self.status = response.status_code
        self.url = str(response.url)
        self.headers: Mapping[str, str] = response.headers

    async def raw(self) -> AsyncIterator[bytes]:
        """The body as it came over the wire, undecoded. Raises `UpstreamUnavailable`."""
        with _mapped(self._upstream):
            async for chunk in self._response.aiter_raw():
                yield chunk

    async def text(self, limit: int) -> bytes:
        """The whole decoded body. Raises `UpstreamInvalid` over `limit` bytes."""
        parts, size = [], 0
        with _mapped(self._upstream):
            async for chunk in self._response.aiter_bytes():
                size += len(chunk)
                if size > limit:
                    raise UpstreamInvalid(self._upstream, f"sent more than {limit} bytes")
                parts.append(chunk)
        return b"".join(parts)

    def retry_after(self) -> int:
        """Seconds that upstream asks us to wait, between 1 and 30; 2 if it does not say."""
        text = self.headers.get("retry-after", "")
        return min(max(int(text), 1), 30) if text.isascii() and text.isdigit() else 2


class Client:
    """Requests to one upstream. `transport` replaces the network in tests."""

    def __init__(
        self,
        connection: Connection,
        *,
        max_connections: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._connection = connection
        self.border = Border(connection.url, connection.file_hosts)
        limit = max_connections or connection.max_connections
        self._http = httpx.AsyncClient(
            transport=transport or _transport(connection, self.border, limit),
            mounts={} if transport else _proxy_mounts(connection, limit),
            timeout=httpx.Timeout(
                connection.read_timeout,
                connect=connection.connect_timeout,
                pool=connection.read_timeout,
            ),
            follow_redirects=False,
            trust_env=False,  # netrc and CA variables are read where the configuration is
            headers={"User-Agent": "proxyindex", "Via": f"1.1 {connection.via}"},
        )
        self._auth = (
            httpx.BasicAuth(connection.username, connection.password or "")
            if connection.username is not None
            else None
        )

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str], *, same_origin: bool = False
    ) -> AsyncIterator[Reply]:
        """The answer to a GET, redirects followed, each hop checked at the border.

        Raises `UpstreamUnavailable` (no connection, time-out), `UpstreamInvalid` (a URL that must
        not be asked, a redirect loop), and `OffOrigin` when `same_origin` and a redirect leaves.
        """
        response = await self._follow(url, headers, same_origin=same_origin)
        try:
            if response.status_code == 508:
                raise LoopDetected
            yield Reply(self._connection.name, response)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _follow(
        self, url: str, headers: Mapping[str, str], *, same_origin: bool
    ) -> httpx.Response:
        name = self._connection.name
        for _ in range(MAX_REDIRECTS + 1):
            if objection := self.border.objection(url):
                raise UpstreamInvalid(name, f"gave a link that {objection}")
            response = await self._send(url, headers)
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return response
            await response.aclose()
            target = urljoin(url, response.headers["location"])
            if same_origin and not self._is_same_origin(target):
                raise OffOrigin
            url = target
        raise UpstreamInvalid(name, f"redirected more than {MAX_REDIRECTS} times")

    async def _send(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        auth = self._auth if self.border.is_index_origin(url) else None
        with _mapped(self._connection.name):
            request = self._http.build_request("GET", url, headers=dict(headers))
            return await self._http.send(request, stream=True, auth=auth)

    def _is_same_origin(self, url: str) -> bool:
        try:
            return self.border.is_index_origin(url)
        except ValueError:
            return False


class _mapped:  # noqa: N801 - a context manager used like a function
    """httpx's exceptions as ours. Messages of httpx may hold URLs; ours name the kind only."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        match problem:
            case httpx.TimeoutException():
                raise UpstreamUnavailable(self._upstream, "did not answer in time") from problem
            case httpx.DecodingError():
                raise UpstreamInvalid(self._upstream, "sent a broken encoding") from problem
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                raise UpstreamInvalid(self._upstream, "gave an unusable link") from problem
            case httpx.ConnectError():
                raise UpstreamUnavailable(self._upstream, "cannot be reached") from problem
            case httpx.HTTPError() | httpx.StreamError():
                raise UpstreamUnavailable(self._upstream, "broke the connection") from problem


def _transport(
    connection: Connection, border: Border, max_connections: int
) -> httpx.AsyncBaseTransport:
    tls = _tls(connection)
    transport = httpx.AsyncHTTPTransport(verify=tls)
    # httpx offers no public way to pass httpcore a network backend; the pool is what it would
    # have built itself, plus ours (tests/unit/test_upstream_network.py fails if this moves)
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=tls,
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=_KEEPALIVE_SECONDS,
        network_backend=GuardedBackend(border.is_named, is_closed),
    )
    return transport


def _proxy_mounts(
    connection: Connection, max_connections: int
) -> Mapping[str, httpx.AsyncBaseTransport]:
    """Transports through a forward proxy: the configured one, else the environment's, like pip."""
    proxies = urllib.request.getproxies_environment()
    mounts: dict[str, httpx.AsyncBaseTransport] = {}
    hosts = [urlsplit(connection.url).netloc.rpartition("@")[2], *connection.file_hosts]
    for host in hosts:
        for scheme in ("http", "https"):
            proxy = connection.proxy or proxies.get(scheme) or proxies.get("all")
            bypassed = not connection.proxy and urllib.request.proxy_bypass(host)
            if proxy and not bypassed:
                mounts[f"{scheme}://{host}"] = httpx.AsyncHTTPTransport(
                    verify=_tls(connection),
                    proxy=proxy,
                    limits=httpx.Limits(
                        max_connections=max_connections, keepalive_expiry=_KEEPALIVE_SECONDS
                    ),
                )
    return mounts


def _tls(connection: Connection) -> ssl.SSLContext:
    """The system's trust store as pip has it, or the configured CA file alone."""
    context: ssl.SSLContext
    if connection.ca_file:
        context = ssl.create_default_context(cafile=os.fspath(connection.ca_file))
    else:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if connection.client_cert:
        context.load_cert_chain(connection.client_cert, connection.client_key)
    return context
