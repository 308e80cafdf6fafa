"""The endpoint of uploads: PyPI's legacy API, which twine, uv and all others speak."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxyindex.access import Action
from proxyindex.inquiry import UNCHANGED
from proxyindex.uploads.form import boundary_of
from proxyindex.uploads.rejection import UploadRejected, no_uploads
from proxyindex.uploads.service import Publisher, too_large
from proxyindex.web.accesslog import exchange_of
from proxyindex.web.body import declared_size, pieces, want
from proxyindex.web.changes import changed_index, changing, done
from proxyindex.web.index import index_of
from proxyindex.web.responses import REASON_HEADER


async def upload(request: Request) -> Response:
    """`POST /legacy/`: 200 when the file is on its page, for every worker's very next request.

    Nothing of the body is read before it is clear that the client may upload at all.
    """
    exchange, index = exchange_of(request.scope), index_of(request)
    exchange.kind, exchange.index = "upload", index.name
    if not index.takes_uploads:  # before a log-in is judged, which could not help
        raise no_uploads()
    index, publisher = changed_index(request)
    await index.admission.admit(request, Action.UPLOAD, None)
    boundary = _boundary(request, publisher)
    want(request.scope, publisher.max_body)
    async with publisher.receiving(boundary) as receiving:
        # at the pace of the disk, which is all that keeps the client waiting
        async for piece in pieces(request, publisher.max_body):
            await publisher.feed(receiving, piece)
        found = await publisher.finish(receiving)
        exchange.project, exchange.filename = found.project, found.filename
        identity = await index.admission.admit(request, Action.UPLOAD, found.project)
        by = changing(request, index.name, identity, "upload", sha256=found.sha256)
        is_new = await publisher.publish(receiving, found, identity.user, by=by)
    answer = PlainTextResponse(f"{found.filename} is published.\n")
    if not is_new:
        return done(answer, request, UNCHANGED)
    by.note([found.filename])
    return done(answer, request)


def _boundary(request: Request, publisher: Publisher) -> bytes:
    """What separates the fields of a form whose size is acceptable. Raises `UploadRejected`."""
    coding = request.headers.get("content-encoding", "identity")
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None or coding.lower() != "identity":
        raise UploadRejected(415, "Uploads are taken as plain multipart/form-data only.")
    if (declared_size(request) or 0) > publisher.max_body:
        raise too_large(publisher.terms.max_size)
    return boundary


class _Either:
    """Another endpoint, or with POST the upload, where the index takes any at all."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._upload = Route(route.path, upload, methods=["POST"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        takes_uploads = scope["state"]["index"].takes_uploads
        if scope["method"] in ("GET", "HEAD"):
            await self._route.app(scope, receive, send)
        elif scope["method"] == "POST" and takes_uploads:
            await self._upload.app(scope, receive, send)
        else:
            headers = {"Allow": "GET, HEAD, POST" if takes_uploads else "GET, HEAD"}
            problem = str(no_uploads()) if scope["method"] == "POST" else None
            if problem:  # twine shows the status line alone
                headers[REASON_HEADER] = problem
            raise HTTPException(405, problem, headers=headers)


def also_upload(*routes: Route) -> list[Route]:
    """The same routes, where an upload may be sent to as well."""
    return [Route(route.path, _Either(route)) for route in routes]


ROUTES = (
    # both: twine takes a redirect without `Location` for success, poetry refuses all of them
    Route("/legacy", upload, methods=["POST"]),
    Route("/legacy/", upload, methods=["POST"]),
)
