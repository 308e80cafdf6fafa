"""Projects and releases in the form of PyPI's JSON API, below the address of an index.

At `/pypi/<name>/json` as there, and at `/<name>/json`, where pypiserver has it and pip-tools looks
for any index but PyPI.
"""

from __future__ import annotations

import logging
import math
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxyindex.archives.wheel import MAX_METADATA
from proxyindex.errors import ProxyindexError, ReleaseNotFound, ServedElsewhere, TooManyFiles
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, ProjectPage
from proxyindex.simple.described import files_of, known, latest
from proxyindex.threads import in_thread
from proxyindex.upstream.border import DEFAULT_PORTS
from proxyindex.web.accesslog import exchange_of
from proxyindex.web.index import (
    IndexService,
    accepts_gzip,
    finish,
    index_of,
    inquiry_of,
    missing,
    named,
    shown_page,
)
from proxyindex.web.rendered import Rendered
from proxyindex.web.responses import REVALIDATE, make_private, short_response

log = logging.getLogger(__name__)

# each takes 1.5 kB of an answer; the largest real project has 12,000
_MOST_FILES = 20_000  # and versions


async def description(request: Request) -> Response:
    """`GET /pypi/<name>/json`, `/pypi/<name>/<version>/json`, and `/<name>/json`"""
    index, exchange = index_of(request), exchange_of(request.scope)
    exchange.kind, exchange.index = "page", index.name
    name, identity = await named(request, index)
    exchange.project = name
    inquiry = inquiry_of(request, may_fetch=index.admission.may_fetch(identity, name))
    try:
        page = await shown_page(request, name, identity, inquiry)
    except ServedElsewhere as problem:  # whoever is sent on to a page of the other form is lost
        raise missing(request, name) from problem
    wanted = request.path_params.get("version")
    if (count := max(len(page.files), len(page.versions))) > _MOST_FILES:
        raise TooManyFiles(name, count)
    version, wheel = await in_thread(_chosen, page, wanted)
    if wanted is not None and version is None:
        raise ReleaseNotFound(name, wanted)
    metadata = await _metadata(index, wheel, inquiry)
    home = f"{_base_url(request)}/simple/{name}/"
    response = _response(
        request,
        await index.renderer.describe(
            page, version, metadata, home, accepts_gzip=accepts_gzip(request)
        ),
    )
    finish(response, request, index, name, inquiry)
    make_private(response)  # it may hold the address that this client has reached us by
    return response


ROUTES = (
    Route("/pypi/{name}/json", description),
    Route("/pypi/{name}/{version}/json", description),
    Route("/{name}/json", description),
)


def _chosen(page: ProjectPage, wanted: str | None) -> tuple[str | None, File | None]:
    """The version as the page has it, and the wheel of it that is asked for core metadata."""
    version = latest(page) if wanted is None else known(page, wanted)
    wheels = [file for file in files_of(page, version) if file.metadata()]
    return version, min(wheels, key=_cost, default=None)


async def _metadata(index: IndexService, wheel: File | None, inquiry: Inquiry) -> bytes:
    """What the wheel says; nothing where there is none, or it cannot be had now: most who ask want
    the list of files."""
    if wheel is None or (sidecar := wheel.metadata()) is None:
        return b""
    outcome = inquiry.outcome
    try:
        content = await index.files.open(sidecar, inquiry, whole=True)
        await content.aclose()
    except ProxyindexError as problem:
        log.debug("described without core metadata: %s", problem)
        return b""
    finally:
        inquiry.outcome = outcome  # told is that of the page
    return content.at_hand(MAX_METADATA) or b""


def _cost(wheel: File) -> tuple[bool, float]:
    """What is promised is a small request; of others the whole wheel may have to be fetched."""
    return not wheel.core_metadata, math.inf if wheel.size is None else wheel.size


def _response(request: Request, described: Rendered) -> Response:
    headers = {
        "Cache-Control": REVALIDATE,
        "Vary": "Accept-Encoding",
        **({"Content-Encoding": "gzip"} if described.is_gzip else {}),
        "ETag": described.etag,
    }
    if (short := short_response(request, described.etag, None, headers)) is not None:
        return short
    return Response(described.body, media_type="application/json", headers=headers)


def _base_url(request: Request) -> str:
    """Of the index, absolute as this API's links are: by `public-url`, else by the address of ours
    that the client has reached. What it calls us by itself leaves no trace in any answer."""
    root = request.scope["root_path"]
    if public := request.state.house.public_url:
        return f"{urlsplit(public)._replace(path='').geturl()}{root}"
    host, port = request.scope.get("server") or ("", None)
    if port is None:  # a Unix socket: its front has to be told
        return str(root)
    scheme, name = request.scope["scheme"], f"[{host}]" if ":" in host else host
    usual = DEFAULT_PORTS.get(scheme) == port
    return f"{scheme}://{name}{'' if usual else f':{port}'}{root}"
