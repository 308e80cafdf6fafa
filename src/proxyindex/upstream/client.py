"""The one door to httpx: limits, time-outs, credentials per origin, redirects by hand.

Foreign exceptions become ours here and nowhere else.
"""

from __future__ import annotations

import base64
import logging
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin

import anyio
import httpx

from proxyindex.errors import ConnectionBroken, LoopDetected, UpstreamInvalid, UpstreamUnavailable
from proxyindex.texts import whole_number
from proxyindex.unzip import Unzip
from proxyindex.upstream.border import Border, UrlOrigin, is_closed
from proxyindex.upstream.network import GuardedBackend
from proxyindex.upstream.pool import Pool
from proxyindex.upstream.proxies import Proxies, ProxyUnusable
from proxyindex.upstream.reasons import reason
from proxyindex.upstream.tls import present, trusting

log = logging.getLogger(__name__)

Transport = httpx.AsyncBaseTransport  # what stands in for the network in tests
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPALIVE_SECONDS = 60.0
_DRAIN_SECONDS = 1.0
# Less than this in so many seconds of waiting is no sending: a file that drips would hold a place
# among the downloads for days. A slow line with many downloads gives each more than 1 KiB a second.
_LEAST_BYTES, _PACE_SECONDS = 32 * 1024, 30.0
_MAX_VALUE = 2048  # characters of a header's value; a stored page's head must stay readable
_DRAINED = 64 * 1024  # bytes of a refusal's body worth reading to keep a connection


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
    """A redirect left the upstream's host where only its origin itself may answer."""


def _nothing() -> None:
    return None


class Reply:
    """An open answer: status, headers with lower-case names, final URL, body as a stream."""

    def __init__(self, upstream: str, response: httpx.Response) -> None:
        self._upstream = upstream
        self._response = response
        self.when_heard: Callable[[], object] = _nothing  # at each piece of the body
        self.status = response.status_code
        self.url = str(response.url)
        # what is not short ASCII tells nothing here, and could not be sent back as a validator
        self.headers: Mapping[str, str] = {
            name: value
            for name, value in response.headers.items()
            if len(value) <= _MAX_VALUE and value.isascii()
        }

    async def raw(self) -> AsyncIterator[bytes]:
        """The body as it came over the wire, undecoded.

        Raises `UpstreamUnavailable`, also for a body that does little but keep us waiting.
        """
        waited, received = 0.0, 0  # the time that the reader takes for himself does not count
        with _mapped(self._upstream):
            asked = time.monotonic()
            async for chunk in self._response.aiter_raw():
                self.when_heard()
                waited += time.monotonic() - asked
                received += len(chunk)
                if waited > _PACE_SECONDS:
                    if received < _LEAST_BYTES:
                        raise UpstreamUnavailable(self._upstream, "sends too slowly")
                    waited, received = 0.0, 0
                yield chunk
                asked = time.monotonic()

    async def text(self, limit: int) -> bytes:
        """The whole decoded body. Raises `UpstreamInvalid` over `limit` bytes."""
        coding = self.headers.get("content-encoding", "").strip().lower()
        # httpx decodes each piece whole: 64 KiB of gzip can become 64 MiB
        unzip = Unzip() if coding in ("gzip", "x-gzip") else None
        received = whole_number(self.headers.get("content-length", "")) or 0
        self._check_size(received, limit)
        # gives its bytes away uncopied: a second 8 MB cost 7 ms, all of it touching fresh memory
        body, size, received = BytesIO(), 0, 0
        with _mapped(self._upstream):
            async for chunk in self._response.aiter_raw():
                received += len(chunk)
                self._check_size(received, limit)
                for piece in unzip.add(chunk) if unzip else (chunk,):
                    size += body.write(piece)
                    self._check_size(size, limit)
        if unzip and not unzip.is_whole:
            raise UpstreamInvalid(self._upstream, "sent a broken encoding")
        return body.getvalue()

    def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            raise UpstreamInvalid(self._upstream, f"sent more than {limit} bytes")

    def asked_pause(self) -> int | None:
        """Seconds that upstream asks us to wait (Retry-After), between 1 and 30, if it does."""
        pause = whole_number(self.headers.get("retry-after", ""))
        return None if pause is None else min(max(pause, 1), 30)


class Client:
    """Requests to one upstream. `transport` replaces the network in tests.

    Raises `ProxyUnusable` where the environment's proxy for it is none.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        max_connections: int | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._connection = connection
        self.border = Border(connection.url, connection.file_hosts)
        self._ways = _Ways(
            connection, self.border, max_connections or connection.max_connections, transport
        )
        self._ways.to(connection.url)  # a proxy that cannot be used is told at the start
        self._headers = {
            "Accept": "*/*",
            "Connection": "keep-alive",
            "User-Agent": "proxyindex",
            "Via": f"1.1 {connection.via}",
        }
        timeout = httpx.Timeout(connection.read_timeout, connect=connection.connect_timeout)
        self._extensions = {"timeout": timeout.as_dict()}
        # httpx's own limits are between two reads, and a 1xx now and then keeps them for ever
        self._head_seconds = connection.connect_timeout + connection.read_timeout
        self._credentials: dict[str, str] = {}
        if connection.username is not None:
            pair = f"{connection.username}:{connection.password or ''}"
            basic = base64.b64encode(pair.encode()).decode()
            self._credentials = {"Authorization": f"Basic {basic}"}

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
            await self._drain_refusal(response)
            if response.status_code == 508:
                raise LoopDetected(self._connection.name)
            yield Reply(self._connection.name, response)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._ways.aclose()

    async def _follow(
        self, url: str, headers: Mapping[str, str], *, same_origin: bool
    ) -> httpx.Response:
        name = self._connection.name
        for _ in range(MAX_REDIRECTS + 1):
            if objection := self.border.objection(url):
                log.warning("%s gave a link that %s", name, objection)
                # clients are told no hosts: these are the upstream's affair
                raise UpstreamInvalid(name, "gave a link that may not be followed")
            response = await self._send(url, headers)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or location is None:
                return response
            await self._drain_refusal(response)
            await response.aclose()
            target = self._target(url, location)
            if same_origin:
                self._check_origin(target)
            url = target
        raise UpstreamInvalid(name, f"redirected more than {MAX_REDIRECTS} times")

    def _target(self, url: str, location: str) -> str:
        """Where a redirect leads. What is no URL is not the address of another index either."""
        try:
            target = urljoin(url, location)
            httpx.URL(target)
        except (ValueError, httpx.InvalidURL) as problem:
            raise UpstreamInvalid(self._connection.name, "redirected to no URL") from problem
        return target

    def _check_origin(self, target: str) -> None:
        """Raises `OffOrigin` for another host, and `UpstreamInvalid` for another scheme or port of
        the same one: there the upstream itself would answer, so it has not said "not found"."""
        try:
            origin = UrlOrigin.of(target)
        except ValueError as problem:
            raise OffOrigin from problem
        if origin.host != self.border.index.host:
            raise OffOrigin
        if origin != self.border.index:
            raise UpstreamInvalid(
                self._connection.name,
                f"redirects to {origin.scheme} on port {origin.port} of its host: "
                "its url has to name what answers",
            )

    async def _drain_refusal(self, response: httpx.Response) -> None:
        """Read the short body of an answer that nobody will read: only then is the connection
        kept for the next request (measured: a handshake saved per missing sidecar)."""
        length = whole_number(response.headers.get("content-length", ""))
        if response.status_code >= 300 and length is not None and length <= _DRAINED:
            # the status stands, whatever becomes of the body; TLS breaks with errors of its own
            broken = suppress(httpx.HTTPError, httpx.StreamError, OSError)
            with anyio.move_on_after(_DRAIN_SECONDS), broken:
                async for _ in response.aiter_raw():
                    pass

    async def _send(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """The answer to one request.

        By the transport itself: what httpx's client does around it (redirects, cookies, hooks, what
        the environment says) is not wanted here, and took a tenth of the processor's time of a cold
        small page.
        """
        credentials = self._credentials if self.border.is_index_origin(url) else {}
        with _mapped(self._connection.name), anyio.fail_after(self._head_seconds):
            request = httpx.Request(
                "GET",
                url,
                headers={**self._headers, **headers, **credentials},
                extensions=self._extensions,
            )
            response = await self._ways.to(url).handle_async_request(request)
            response.request = request
            return response


class _mapped:  # noqa: N801 - a context manager used like a function
    """httpx's exceptions as ours. Messages of httpx may hold URLs; ours name the kind only."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        match problem:
            case httpx.TimeoutException() | TimeoutError():
                raise UpstreamUnavailable(self._upstream, "did not answer in time") from problem
            case zlib.error():
                raise UpstreamInvalid(self._upstream, "sent a broken encoding") from problem
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                raise UpstreamInvalid(self._upstream, "gave an unusable link") from problem
            case ProxyUnusable():
                raise UpstreamInvalid(self._upstream, "is behind an unusable proxy") from problem
            case httpx.ConnectError():
                told = f"cannot be reached{reason(problem)}"
                raise UpstreamUnavailable(self._upstream, told) from problem
            case httpx.ProxyError():
                told = f"is behind a proxy that answers {str(problem)[:3]}"
                raise UpstreamUnavailable(self._upstream, told) from problem
            # a TLS alert after the handshake (no client certificate, say) comes as it is
            case httpx.HTTPError() | httpx.StreamError() | OSError():
                raise ConnectionBroken(self._upstream, "broke the connection") from problem


class _Ways:
    """The transports to one upstream: straight, and through a forward proxy where there is one."""

    def __init__(
        self, connection: Connection, border: Border, limit: int, transport: Transport | None
    ) -> None:
        self._tls = _tls(connection)
        self._limit = limit
        self._proxies = None if transport else Proxies(connection.proxy)
        self.straight = transport or self._straight(border)
        self._through: dict[str, Transport] = {}

    def to(self, url: str) -> Transport:
        """The one that leads to `url`."""
        proxy = self._proxies and self._proxies.of(url)
        if not proxy:
            return self.straight
        if proxy not in self._through:
            self._through[proxy] = httpx.AsyncHTTPTransport(
                verify=self._tls,
                proxy=proxy,
                limits=httpx.Limits(
                    max_connections=self._limit, keepalive_expiry=_KEEPALIVE_SECONDS
                ),
            )
        return self._through[proxy]

    async def aclose(self) -> None:
        for transport in (self.straight, *self._through.values()):
            await transport.aclose()

    def _straight(self, border: Border) -> Transport:
        transport = httpx.AsyncHTTPTransport(verify=self._tls)
        # httpx offers no public way to pass it a pool; this one is where it would have put
        # httpcore's (tests/unit/test_upstream_network.py fails if this moves)
        transport._pool = Pool(
            ssl_context=self._tls,
            max_connections=self._limit,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=GuardedBackend(border.is_named, is_closed),
        )
        return transport


def _tls(connection: Connection) -> ssl.SSLContext:
    context = trusting(connection.ca_file)
    if connection.client_cert:
        present(context, connection.client_cert, connection.client_key)
    return context
