"""The connections to one upstream, for plain GETs over HTTP/1.1: httpcore's streams and h11's
parser, without the book-keeping of httpcore's own pool, and without httpx around it.

httpcore asks the kernel about each idle connection at each request, takes three locks for it, and
looks in vain for an optional module each time; httpx takes URLs and headers apart and together
again. Forward proxies go by httpx, which is the plain way.
"""

import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import h11
import httpcore

from proxyindex.upstream.border import UrlOrigin
from proxyindex.upstream.counted import Counted, counted
from proxyindex.upstream.secure import secured
from proxyindex.upstream.wire import LARGEST_READ

# in one piece: a single read holds 40,000 chunks of a byte each, a second's work
_MOST_CHUNKS = 256
_MAX_HEAD = 100 * 1024  # bytes of an answer's head, or of any line between its chunks

Headers = list[tuple[bytes, bytes]]


class Network(Protocol):
    """Makes connections; raises `httpcore.ConnectError` and `httpcore.ConnectTimeout`."""

    async def connect_tcp(
        self, host: str, port: int, timeout: float
    ) -> httpcore.AsyncNetworkStream: ...


class NotHttp(httpcore.RemoteProtocolError):
    """What came is no head of an answer. The text names the fault, and nothing that was sent."""


class Pool:
    """At most `max_connections` at a time, in use or idle; idle ones are kept for
    `keepalive_expiry` seconds. `connect_timeout` and `read_timeout` in seconds; the latter is also
    how long a place among the connections is waited for."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext,
        max_connections: int,
        keepalive_expiry: float,
        connect_timeout: float,
        read_timeout: float,
        network_backend: Network,
    ) -> None:
        ssl_context.set_alpn_protocols(["http/1.1"])
        self._tls = ssl_context
        self._lifetime = keepalive_expiry
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._network_backend = network_backend
        self._slots = anyio.Semaphore(max_connections, fast_acquire=True)
        self._busy: set[_Connection] = set()
        self._resting: list[_Connection] = []  # the one used last at the end

    async def get(self, origin: UrlOrigin, target: bytes, headers: Headers) -> "Answer":
        """The answer's head, its body to be read; raises what httpcore's own pool raises.

        The host of `origin` as it goes to a name server: ASCII, an IPv6 address bare.
        """
        await self._wait()
        connection = None
        try:
            connection = await self._take(origin)
            head = await connection.ask(target, headers)
        except BaseException:
            await self._put_back(connection)
            raise
        return Answer(self, connection, head)

    async def aclose(self) -> None:
        for connection in [*self._busy, *self._resting]:
            await connection.aclose()
        self._busy.clear()
        self._resting.clear()

    async def _wait(self) -> None:
        """For a place among the connections in use."""
        try:
            with anyio.fail_after(self._read_timeout):
                await self._slots.acquire()
        except TimeoutError as problem:
            raise httpcore.PoolTimeout("all connections are in use") from problem

    async def _take(self, origin: UrlOrigin) -> "_Connection":
        while connection := self._resting_at(origin):
            self._resting.remove(connection)
            if connection.is_usable(self._lifetime):
                self._busy.add(connection)
                return connection
            await connection.aclose()
        while len(self._resting) > self._slots.value:  # there is no place for another
            await self._resting.pop(0).aclose()
        connection = _Connection(origin, await self._connected(origin), self._read_timeout)
        self._busy.add(connection)
        return connection

    def _resting_at(self, origin: UrlOrigin) -> "_Connection | None":
        """The one used last: the others may come to their end."""
        return next((one for one in reversed(self._resting) if one.origin == origin), None)

    async def _connected(self, origin: UrlOrigin) -> httpcore.AsyncNetworkStream:
        timeout = self._connect_timeout
        stream = await self._network_backend.connect_tcp(origin.host, origin.port, timeout)
        if origin.scheme == "http":
            return stream
        try:
            return await secured(stream, self._tls, origin.host, timeout)
        except BaseException:
            await stream.aclose()
            raise

    async def _put_back(self, connection: "_Connection | None") -> None:
        """The connection is not used any more: keep it if its answer came to its end."""
        self._slots.release()
        if connection is None:
            return
        self._busy.discard(connection)
        if connection.rests():
            self._resting.append(connection)
        else:
            await connection.aclose()
        while self._resting and self._resting[0].is_over(self._lifetime):
            await self._resting.pop(0).aclose()


class _Connection:
    """One connection: a question, its answer, and again."""

    def __init__(
        self, origin: UrlOrigin, stream: httpcore.AsyncNetworkStream, timeout: float
    ) -> None:
        self.origin = origin
        self._stream = stream
        self._timeout = timeout
        self._since = 0.0
        self._state = _parser()
        self._counted: Counted | None = None

    async def ask(self, target: bytes, headers: Headers) -> h11.Response:
        self._counted = None  # that of the answer before says nothing of this one
        try:
            question = h11.Request(method=b"GET", target=target, headers=headers)
            data = self._state.send(question) or b""
            data += self._state.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as problem:
            raise httpcore.LocalProtocolError(str(problem)) from problem
        with suppress(httpcore.WriteError):  # some answer and close without reading the question
            await self._stream.write(data, self._timeout)
        while not isinstance(event := await self._event(), h11.Response):
            await anyio.lowlevel.checkpoint()  # interim answers, for as long as the caller waits
        self._counted = counted(event, self._state.trailing_data[0])
        return event

    async def piece(self) -> bytes:
        """The next bytes of the body; none at its end.

        Chunks that have arrived come together: each piece costs its reader a turn or a thread.
        """
        if self._counted is not None:
            return await self._counted.piece(self._stream, self._timeout)
        if self._state.their_state not in (h11.SEND_BODY, h11.ERROR):
            return b""
        event, parts = await self._event(), []
        while isinstance(event, h11.Data):
            parts.append(event.data)
            if len(parts) == _MOST_CHUNKS:
                await anyio.lowlevel.checkpoint()
                break
            event = self._parsed()
        return b"".join(parts)

    def rests(self) -> bool:
        """Whether the answer was read to its end, with nothing behind it, so that another may be
        asked for."""
        if not self._is_whole() or self._stream.get_extra_info("holds_more"):
            return False
        self._since = time.monotonic()
        return True

    def _is_whole(self) -> bool:
        """Makes the parser ready for the next answer."""
        if self._counted is not None:
            self._state = _parser()  # the one before waits for that body
            return self._counted.may_go_on
        try:
            if self._state.their_state is h11.SEND_BODY:
                self._state.next_event()  # of an answer without a body, this is the end
            if self._state.trailing_data != (b"", False):
                return False
            self._state.start_next_cycle()
        except h11.ProtocolError:
            return False
        return True

    def is_over(self, lifetime: float) -> bool:
        return time.monotonic() - self._since > lifetime

    def is_usable(self, lifetime: float) -> bool:
        """Whether a resting connection is still open: what can be read now is the end of it."""
        return not self.is_over(lifetime) and not self._stream.get_extra_info("is_readable")

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()

    async def _event(self) -> Any:
        late = time.monotonic() + self._timeout  # for all of it: a line between chunks may drip in
        while (event := self._parsed()) is h11.NEED_DATA:
            left = max(0.0, late - time.monotonic())
            data = await self._stream.read(LARGEST_READ, left)
            if not data and self._state.their_state is h11.SEND_RESPONSE:
                raise httpcore.RemoteProtocolError("closed without an answer")
            self._state.receive_data(data)
        return event

    def _parsed(self) -> Any:
        """The next event of what has been read."""
        is_head = self._state.their_state is h11.SEND_RESPONSE
        try:
            return self._state.next_event()
        except h11.RemoteProtocolError as problem:
            if is_head:
                raise NotHttp(_fault(problem)) from problem
            raise httpcore.RemoteProtocolError(str(problem)) from problem


def _parser() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)


def _fault(problem: h11.RemoteProtocolError) -> str:
    if problem.error_status_hint == 431:
        return f"a head of more than {_MAX_HEAD} bytes"
    # behind the colon is what was sent; of what begins no line, h11 says that it is no question
    return str(problem).partition(":")[0].replace("request line", "status line")


class Answer:
    """An answer whose body is still to come: as httpx's own response, for what we want of it.
    Closed, it gives its connection back."""

    def __init__(self, pool: Pool, connection: _Connection, head: h11.Response) -> None:
        self.status_code = head.status_code
        self.headers = _joined(head.headers)
        self._pool = pool
        self._connection: _Connection | None = connection

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        try:
            while self._connection and (piece := await self._connection.piece()):
                yield piece
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._pool._put_back(connection)


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """By lower-case name; several of a name are one with commas (RFC 9110, 5.2)."""
    fields: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("ascii"), value.decode("utf-8", "replace")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields
