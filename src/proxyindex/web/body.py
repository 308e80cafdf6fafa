"""Request bodies: how much of one may come, and a small one read as JSON.

The server throws unwanted bodies away, up to a bound (`server/protocol.py`). An endpoint that wants
one says so before it reads: only then "100 Continue" is sent, and a large or slow body taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from proxyindex.texts import whole_number
from proxyindex.uploads.rejection import UploadRejected, bad

BODY_KEY = "proxyindex.body"  # among the extensions of an ASGI scope
UNWANTED = 32 * 1024**2  # bytes of a body nobody asked for, which are thrown away
_PIECE = 1024**2
_MAX_JSON = 64 * 1024

T = TypeVar("T")


@dataclass(slots=True)
class BodyTerms:
    """What the server takes of the body of one request, in bytes.

    `is_wanted`: an endpoint is reading this body, so the deadline is extended while at least
    `server.protocol.SLOWEST` bytes a second arrive.
    """

    limit: int = UNWANTED
    is_wanted: bool = False


def want(scope: MutableMapping[str, Any], limit: int) -> None:
    """Let the client send so many bytes, and keep waiting for them while they come."""
    terms = scope.get("extensions", {}).get(BODY_KEY)
    if isinstance(terms, BodyTerms):
        # the slack lets the endpoint, not the server, reject an oversized body
        terms.limit, terms.is_wanted = limit + UNWANTED, True


def declared_size(request: Request) -> int | None:
    """What `Content-Length` says."""
    return whole_number(request.headers.get("content-length", ""))


async def pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in pieces of about 1 MiB. Raises `UploadRejected` (413), `ClientDisconnect`."""
    total, piece = 0, bytearray()
    async for data in request.stream():
        total += len(data)
        if total > limit:
            raise UploadRejected(413, f"The body is over the {limit} bytes that are taken here.")
        piece += data
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


async def json_body(request: Request, shape: type[T]) -> T:
    """A small JSON body of this shape; an empty body is `{}`. Raises `UploadRejected`."""
    body = b"".join([piece async for piece in pieces(request, _MAX_JSON)])
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise bad(f"The body is not the JSON it should be: {problem}.") from problem
