"""The connections to one upstream, for plain GETs over HTTP/1.1: httpcore's seams and h11's parser,
without httpcore's own book-keeping.

httpcore asks the kernel about each idle connection at each request, takes three locks for it, and
looks in vain for an optional module each time. Measured, a request for a small page: 0.70 ms of the
processor with httpcore's pool, 1.4 ms with 32 at a time; 0.40 ms with this one, however many.
Forward proxies go by httpcore's own pool, which is the plain way.
"""

import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import h11
import httpcore

from proxyindex.upstream.wire import LARGEST_READ

# in one piece: a single read holds 40,000 chunks of a byte each, a second's work
_MOST_CHUNKS = 256
_MAX_HEAD = 100 * 1024  # bytes of an answer's head, or of any line between its chunks

_Key = tuple[bytes, bytes, int]


class Pool(httpcore.AsyncConnectionPool):
    """At most `max_connections` at a time, in use or idle; idle ones are kept for
    `keepalive_expiry` seconds."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext,
        max_connections: int,
        keepalive_expiry: float,
        network_backend: httpcore.AsyncNetworkBackend,
    ) -> None:
        super().__init__(
            ssl_context=ssl_context,
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=keepalive_expiry,
            network_backend=network_backend,
        )
        ssl_context.set_alpn_protocols(["http/1.1"])
        self._tls = ssl_context
        self._lifetime = keepalive_expiry
        self._slots = anyio.Semaphore(max_connections, fast_acquire=True)
        self._busy: set[_Connection] = set()
        self._resting: list[_Connection] = []  # the one used last at the end

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """The answer's head, its body to be read; raises what httpcore's own pool raises."""
        if request.url.scheme not in (b"http", b"https"):
            raise httpcore.UnsupportedProtocol("neither http nor https")
        timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
        await self._wait(timeouts.get("pool"))
        connection = None
        try:
            connection = await self._take(request.url.origin, timeouts.get("connect"))
            head = await connection.ask(request, timeouts)
        except BaseException:
            await self._put_back(connection)
            raise
        return httpcore.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            content=_Body(self, connection, timeouts.get("read")),
            extensions={"http_version": b"HTTP/" + head.http_version},
        )

    async def aclose(self) -> None:
        for connection in [*self._busy, *self._resting]:
            await connection.aclose()
        self._busy.clear()
        self._resting.clear()

    async def _wait(self, timeout: float | None) -> None:
        """For a place among the connections in use."""
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            try:
                with anyio.fail_after(timeout):
                    await self._slots.acquire()
            except TimeoutError as problem:
                raise httpcore.PoolTimeout("all connections are in use") from problem

    async def _take(self, origin: httpcore.Origin, timeout: float | None) -> "_Connection":
        key = origin.scheme, origin.host, origin.port
        for connection in reversed(self._resting):
            if connection.key == key:
                self._resting.remove(connection)
                if connection.is_usable(self._lifetime):
                    self._busy.add(connection)
                    return connection
                await connection.aclose()
                return await self._take(origin, timeout)
        while len(self._resting) > self._slots.value:  # there is no place for another
            await self._resting.pop(0).aclose()
        connection = _Connection(key, await self._connected(origin, timeout))
        self._busy.add(connection)
        return connection

    async def _connected(
        self, origin: httpcore.Origin, timeout: float | None
    ) -> httpcore.AsyncNetworkStream:
        host = origin.host.decode("ascii")
        stream = await self._network_backend.connect_tcp(host, origin.port, timeout)
        if origin.scheme == b"http":
            return stream
        try:
            return await stream.start_tls(self._tls, host, timeout)
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

    def __init__(self, key: _Key, stream: httpcore.AsyncNetworkStream) -> None:
        self.key = key
        self._stream = stream
        self._since = 0.0
        self._tls: ssl.SSLObject | None = stream.get_extra_info("ssl_object")
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)

    async def ask(
        self, request: httpcore.Request, timeouts: Mapping[str, float | None]
    ) -> h11.Response:
        try:
            question = h11.Request(
                method=request.method, target=request.url.target, headers=request.headers
            )
            data = self._state.send(question) or b""
            data += self._state.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as problem:
            raise httpcore.LocalProtocolError(str(problem)) from problem
        with suppress(httpcore.WriteError):  # some answer and close without reading the question
            await self._stream.write(data, timeouts.get("write"))
        while not isinstance(event := await self._event(timeouts.get("read")), h11.Response):
            await anyio.lowlevel.checkpoint()  # interim answers, for as long as the caller waits
        return event

    async def piece(self, timeout: float | None) -> bytes:
        """The next bytes of the body; none at its end.

        Chunks that have arrived come together: each piece costs its reader a turn or a thread.
        """
        if self._state.their_state not in (h11.SEND_BODY, h11.ERROR):
            return b""
        event, parts = await self._event(timeout), []
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
        try:
            if self._state.their_state is h11.SEND_BODY:
                self._state.next_event()  # of an answer without a body, this is the end
            if self._state.trailing_data != (b"", False) or self._holds_more():
                return False
            self._state.start_next_cycle()
        except h11.ProtocolError:
            return False
        self._since = time.monotonic()
        return True

    def _holds_more(self) -> bool:
        """Whether TLS has more for us than was read: whole records that came with the answer wait
        in memory, where no look at the socket finds them. The end of the stream is such a record;
        a session ticket (TLS 1.3) is read here and tells nothing."""
        try:
            return self._tls is not None and self._tls.read(1) is not None
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True

    def is_over(self, lifetime: float) -> bool:
        return time.monotonic() - self._since > lifetime

    def is_usable(self, lifetime: float) -> bool:
        """Whether a resting connection is still open: what can be read now is the end of it."""
        return not self.is_over(lifetime) and not self._stream.get_extra_info("is_readable")

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()

    async def _event(self, timeout: float | None) -> Any:
        while (event := self._parsed()) is h11.NEED_DATA:
            data = await self._stream.read(LARGEST_READ, timeout)
            if self._tls is not None and data:
                data = self._with_other_records(data, self._tls)
            if not data and self._state.their_state is h11.SEND_RESPONSE:
                raise httpcore.RemoteProtocolError("closed without an answer")
            self._state.receive_data(data)
        return event

    def _with_other_records(self, data: bytes, tls: ssl.SSLObject) -> bytes:
        """A read gives one TLS record, of 16 KiB at most: here are all that have arrived, too."""
        parts = [data]
        with suppress(ssl.SSLError):  # it wants more, or breaks: the next read will tell
            while part := tls.read(LARGEST_READ):
                parts.append(part)
        return b"".join(parts)

    def _parsed(self) -> Any:
        """The next event of what has been read."""
        try:
            return self._state.next_event()
        except h11.RemoteProtocolError as problem:
            raise httpcore.RemoteProtocolError(str(problem)) from problem


class _Body:
    """The body of one answer; closed, it gives its connection back."""

    def __init__(self, pool: Pool, connection: _Connection, timeout: float | None) -> None:
        self._pool = pool
        self._connection: _Connection | None = connection
        self._timeout = timeout

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while self._connection and (piece := await self._connection.piece(self._timeout)):
                yield piece
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._pool._put_back(connection)
