"""Requests to one upstream: limits, time-outs, credentials per origin, redirects by hand."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from io import BytesIO

import anyio
import anyio.lowlevel

from proxyindex.errors import LoopDetected, UpstreamInvalid, UpstreamUnavailable
from proxyindex.texts import whole_number
from proxyindex.unzip import Unzip
from proxyindex.upstream.border import Border, UrlOrigin
from proxyindex.upstream.connection import Connection
from proxyindex.upstream.ways import BROKEN, Response, Transport, Ways, joined, mapped

log = logging.getLogger(__name__)

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DRAIN_SECONDS = 1.0
# Less than this in so many seconds of waiting is no sending: a file that drips would hold a place
# among the downloads for days. A slow line with many downloads gives each more than 1 KiB a second.
_LEAST_BYTES, _PACE_SECONDS = 32 * 1024, 30.0
_MAX_VALUE = 2048  # characters of a header's value; a stored page's head must stay readable
_TURN = 512 * 1024  # bytes that are decoded before others have their turn: 2 to 4 ms
_DRAINED = 64 * 1024  # bytes of a refusal's body worth reading to keep a connection


class OffOrigin(Exception):
    """A redirect left the upstream's host where only its origin itself may answer."""


class Reply:
    """An open answer: status, headers with lower-case names, final URL, body as a stream."""

    def __init__(self, upstream: str, url: str, response: Response) -> None:
        self._upstream = upstream
        self._response = response
        self.when_heard: Callable[[], object] = lambda: None  # at each piece of the body
        self.status = response.status_code
        self.url = url
        # what is not short ASCII tells nothing here, and could not be sent back as a validator
        self.headers: Mapping[str, str] = {
            name: value
            for name, value in response.headers.items()
            if len(value) <= _MAX_VALUE and value.isascii()
        }

    @property
    def tells_end(self) -> bool:
        """Whether a body cut short can be told from a whole one: by its length or its last chunk,
        and not by nothing but the end of the connection (RFC 9112, 6.3)."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    async def raw(self) -> AsyncIterator[bytes]:
        """The body as it came over the wire, undecoded.

        Raises `UpstreamUnavailable`, also for a body that does little but keep us waiting.
        """
        waited, received = 0.0, 0  # the time that the reader takes for himself does not count
        with mapped(self._upstream):
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
        body, size, received, turn = BytesIO(), 0, 0, _TURN
        with mapped(self._upstream):
            async for chunk in self._response.aiter_raw():
                received += len(chunk)
                self._check_size(received, limit)
                for piece in unzip.add(chunk) if unzip else (chunk,):
                    size += body.write(piece)
                    self._check_size(size, limit)
                    if size >= turn:
                        await anyio.lowlevel.checkpoint()
                        turn = size + _TURN
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
        self._ways = Ways(
            connection, self.border, max_connections or connection.max_connections, transport
        )
        self._ways.to(connection.url)  # a proxy that cannot be used is told at the start
        self._headers = {
            "Accept": "*/*",
            "Connection": "keep-alive",
            "User-Agent": "proxyindex",
            "Via": f"1.1 {connection.via}",
        }
        # other limits are between two reads, and a 1xx now and then keeps them for ever
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
        url, response = await self._follow(url, headers, same_origin=same_origin)
        try:
            await self._drain_refusal(response)
            if response.status_code == 508:
                raise LoopDetected(self._connection.name)
            yield Reply(self._connection.name, url, response)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._ways.aclose()

    async def _follow(
        self, url: str, headers: Mapping[str, str], *, same_origin: bool
    ) -> tuple[str, Response]:
        """The last answer, and where it came from."""
        name = self._connection.name
        for _ in range(MAX_REDIRECTS + 1):
            if objection := self.border.objection(url):
                log.warning("%s gave a link that %s", name, objection)
                # clients are told no hosts: these are the upstream's affair
                raise UpstreamInvalid(name, "gave a link that may not be followed")
            response = await self._send(url, headers)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or location is None:
                return url, response
            await self._drain_refusal(response)
            await response.aclose()
            try:
                url = joined(url, location)
            except ValueError as problem:  # nor is it the address of another index
                raise UpstreamInvalid(name, "redirected to no URL") from problem
            if same_origin:
                self._check_origin(url)
        raise UpstreamInvalid(name, f"redirected more than {MAX_REDIRECTS} times")

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

    async def _drain_refusal(self, response: Response) -> None:
        """Read the short body of an answer that nobody will read: only then is the connection
        kept for the next request (measured: a handshake saved per missing sidecar)."""
        length = whole_number(response.headers.get("content-length", ""))
        if response.status_code >= 300 and length is not None and length <= _DRAINED:
            # the status stands, whatever becomes of the body; TLS breaks with errors of its own
            broken = suppress(*BROKEN)
            with anyio.move_on_after(_DRAIN_SECONDS), broken:
                async for _ in response.aiter_raw():
                    pass

    async def _send(self, url: str, headers: Mapping[str, str]) -> Response:
        credentials = self._credentials if self.border.is_index_origin(url) else {}
        with mapped(self._connection.name), anyio.fail_after(self._head_seconds):
            return await self._ways.to(url).get(url, {**self._headers, **headers, **credentials})
