"""TLS on a connection: a read gives all records that have arrived, where one holds 16 KiB at most.

asyncio's own TLS has a buffer before its reader (see `wire`); anyio's gives a record at a time.
"""

import ssl
from typing import Any

import httpcore

from proxyindex.upstream.deadline import in_time
from proxyindex.upstream.wire import LARGEST_READ

# bytes in one record, at most (RFC 8446, 5.1). Python makes room for all that a read may give, and
# for 256 KiB that took longer than decrypting (measured: 0.8 ms for a MB, and 0.3 with 16 KiB)
_RECORD = 16 * 1024


async def secured(
    stream: httpcore.AsyncNetworkStream, context: ssl.SSLContext, host: str, timeout: float | None
) -> "SecureStream":
    """The same connection, encrypted. Raises `ConnectError` and `ConnectTimeout`."""
    secure = SecureStream(stream, context, host)
    shaking = secure.shake_hands()
    try:
        await in_time(shaking, timeout, httpcore.ConnectTimeout, httpcore.ConnectError)
    except httpcore.NetworkError as problem:
        raise httpcore.ConnectError(str(problem)) from problem
    return secure


class SecureStream(httpcore.AsyncNetworkStream):
    """What is read and written is encrypted on `stream`, once hands were shaken."""

    def __init__(
        self, stream: httpcore.AsyncNetworkStream, context: ssl.SSLContext, host: str
    ) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._problem: ssl.SSLError | None = None  # met behind what was still to be read
        self._has_ended = False

    async def shake_hands(self) -> None:
        """Raises `ssl.SSLError`, and what the stream raises."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                return await self._send()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As the stream's; raises `ssl.SSLError`, too (for an alert of the other side, say)."""
        if (data := self._decrypted()) is not None:
            return data
        # one limit for the whole record: it may drip in
        return await in_time(self._more(), timeout, httpcore.ReadTimeout, httpcore.ReadError)

    async def _more(self) -> bytes:
        while (data := self._decrypted()) is None:
            await self._exchange()
        return data

    def _decrypted(self) -> bytes | None:
        """All that can be read now; `None` if a record is not whole yet."""
        if self._problem is not None:  # OpenSSL tells it once, and then an end
            raise self._problem
        parts: list[bytes] = []
        try:
            # to ask for what is not there costs an exception, as much as a short record
            while not self._has_ended and self._holds_some():
                parts.append(part := self._tls.read(_RECORD))
                self._has_ended = not part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:  # without a farewell, as is usual: lengths tell what is whole
            self._has_ended = True
        except ssl.SSLError as problem:
            self._problem = problem
            if not parts:
                raise
        return b"".join(parts) if parts or self._has_ended else None

    def _holds_some(self) -> bool:
        """Whether there may be something to decrypt, or the end."""
        return bool(self._incoming.pending or self._incoming.eof or self._tls.pending())

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._tls.write(buffer)
        except ssl.SSLError as problem:
            raise httpcore.WriteError(str(problem)) from problem
        await self._send(timeout)

    async def _exchange(self) -> None:
        """Send what is to be sent, and take what arrives."""
        await self._send()
        if data := await self._stream.read(LARGEST_READ):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _send(self, timeout: float | None = None) -> None:
        if self._outgoing.pending:
            await self._stream.write(self._outgoing.read(), timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._holds_more() if info == "holds_more" else self._stream.get_extra_info(info)

    def _holds_more(self) -> bool:
        """Whether whole records wait in memory, where no look at the socket finds them. The end of
        the stream is such a record; a session ticket (TLS 1.3) is read here and tells nothing."""
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            pass
        return True
