"""The answers: files as streams, errors as one plain sentence."""

import logging
from collections.abc import Mapping
from datetime import datetime

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from proxyindex.errors import ProxyindexError
from proxyindex.files.content import ByteStream, Content
from proxyindex.model import METADATA_SUFFIX, PROVENANCE_SUFFIX, SIGNATURE_SUFFIX
from proxyindex.web.conditional import (
    Span,
    Unsatisfiable,
    http_date,
    is_another,
    is_not_modified,
    requested_span,
)

log = logging.getLogger(__name__)

IMMUTABLE = "public, max-age=365000000, immutable"  # PyPI's very words
REVALIDATE = "max-age=0, must-revalidate"
# for an address that is none; the same for everybody, so it names no index
NOTHING_HERE = "Nothing is at this address; indexes end in /simple/ and are listed at /."
REASON_HEADER = "x-proxyindex-reason"  # becomes the status line's reason (server/protocol.py)

_TYPES = {
    METADATA_SUFFIX: "text/plain; charset=utf-8",
    SIGNATURE_SUFFIX: "application/pgp-signature",
    PROVENANCE_SUFFIX: "application/vnd.pypi.integrity.v1+json",
    ".json": "application/json",
}


async def file_response(
    request: Request, filename: str, content: Content, uploaded: datetime | None
) -> Response:
    """The answer to GET or HEAD of an open file; closes the content when it is sent.

    `uploaded` is the Last-Modified where known: unlike the time of storing, it never changes.
    Raises the content's errors before any byte is sent.
    """
    modified = uploaded or content.modified
    etag = f'"{content.sha256}"' if content.sha256 else None
    headers = _file_headers(filename, content, etag, modified)
    if (short := short_response(request, etag, modified, headers)) is not None:
        await content.aclose()
        return short
    headers["Content-Type"] = media_type(filename)
    if content.size is not None:
        headers["Accept-Ranges"] = "bytes"
    if request.method == "HEAD":
        await content.aclose()
        return _HeadResponse(headers, content.size)
    span = (
        requested_span(request.headers, content.size, etag, modified)
        if content.size is not None
        else None
    )
    try:
        return await _body_response(content, span, headers)
    except BaseException:
        await content.aclose()
        raise


async def _body_response(
    content: Content, span: Span | Unsatisfiable | None, headers: dict[str, str]
) -> Response:
    match span:
        case Unsatisfiable():
            headers["Content-Range"] = f"bytes */{content.size}"
            headers["Cache-Control"] = "no-store"
            await content.aclose()
            return PlainTextResponse("The range lies outside the file.\n", 416, headers)
        case Span(start, stop):
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
            headers["Content-Length"] = str(stop - start)
            return StreamResponse(206, headers, content, await content.stream(start, stop))
        case None:
            if content.size is not None:
                headers["Content-Length"] = str(content.size)
            return StreamResponse(200, headers, content, await content.stream())


def short_response(
    request: Request, etag: str | None, modified: datetime | None, headers: Mapping[str, str]
) -> Response | None:
    """The answer if the request's conditions ask for no more than a status: 412 or 304."""
    if is_another(request.headers, etag, modified):
        refused = {**headers, "Cache-Control": "no-store"}
        return PlainTextResponse("What was asked for has been replaced.\n", 412, refused)
    if is_not_modified(request.headers, etag, modified):
        return Response(status_code=304, headers=dict(headers))
    return None


def make_private(response: Response) -> None:
    """Not for caches that serve others: they may keep what only some may have (RFC 9111, 3.5)."""
    allowed = response.headers.get("cache-control", REVALIDATE)
    response.headers["cache-control"] = f"private, {allowed.removeprefix('public, ')}"


def media_type(filename: str) -> str:
    """Never guessed by a framework: a `.tar.gz` is no gzip-coded tar."""
    for suffix, name in _TYPES.items():
        if filename.endswith(suffix):
            return name
    return "application/octet-stream"


def error_response(
    status: int, problem: ProxyindexError, *, reason: str | None, retry_after: int
) -> Response:
    """One plain sentence. `reason` goes into the status line: installers show nothing else."""
    headers = {"Cache-Control": "no-store"}
    if reason:
        headers[REASON_HEADER] = reason.encode("ascii", "replace").decode()
    if retry_after:
        headers["Retry-After"] = str(retry_after)
    return PlainTextResponse(f"{problem}\n", status, headers)


class StreamResponse(Response):
    """Streams an open file; stops reading when the client leaves, and closes the file.

    A failure in mid-body ends the connection without the missing bytes: the client sees a short
    body and refuses it.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], content: Content, stream: ByteStream
    ) -> None:
        self.status_code = status
        self.body = b""
        self.background = None
        self.raw_headers = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
        self._content = content
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_watch, receive, tasks.cancel_scope)
                await self._send(send)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
                await self._content.aclose()

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        try:
            async for chunk in self._stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except ProxyindexError as problem:
            log.warning("a file was broken off: %s", problem)
            return  # an answer left without its end is cut off there (server/protocol.py)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _watch(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _HeadResponse(Response):
    """Headers of a body that is not sent, with the length it would have."""

    def __init__(self, headers: Mapping[str, str], size: int | None) -> None:
        super().__init__(status_code=200, headers=dict(headers))
        del self.headers["content-length"]
        if size is not None:
            self.headers["content-length"] = str(size)


def _file_headers(
    filename: str, content: Content, etag: str | None, modified: datetime | None
) -> dict[str, str]:
    # a variants file may be replaced under its name (PEP 817 draft)
    is_immutable = content.is_immutable and not filename.endswith(".json")
    headers = {
        "Cache-Control": IMMUTABLE if is_immutable else REVALIDATE,
        "X-Content-Type-Options": "nosniff",
    }
    if etag:
        headers["ETag"] = etag
    if modified:
        headers["Last-Modified"] = http_date(modified)
    return headers
