"""The endpoints of the Simple API: project list, project page, file."""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from urllib.parse import quote

from packaging.utils import NormalizedName
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxyindex.access import Action, Identity, Rights
from proxyindex.archives.wheel import MAX_METADATA
from proxyindex.errors import (
    FileNotCached,
    FileNotOnPage,
    FileReplaced,
    NotHeld,
    ProjectNotFound,
    ServedElsewhere,
)
from proxyindex.files.content import Content
from proxyindex.inquiry import Ground, Inquiry, Outcome
from proxyindex.model import METADATA_SUFFIX, File, MetadataOrigin, ProjectList, ProjectPage
from proxyindex.names import is_safe_filename, parse_filename
from proxyindex.simple import MediaType, negotiate
from proxyindex.threads import in_thread
from proxyindex.web.accesslog import Exchange, exchange_of
from proxyindex.web.ahead import Reader
from proxyindex.web.conditional import whole_field
from proxyindex.web.given import Answered
from proxyindex.web.index import (
    IndexService,
    accepts_gzip,
    finish,
    index_of,
    inquiry_of,
    missing,
    named,
    shown_page,
    unfetched,
)
from proxyindex.web.people import html_headers, is_browser
from proxyindex.web.rendered import Document
from proxyindex.web.responses import REVALIDATE, file_response, short_response

_REDIRECT_AGE = 86400
_MOST_LOOKS = 4  # at a file that is replaced again and again
_MOST_AGENT = 1000  # characters of a User-Agent, to tell clients apart


async def project_list(request: Request) -> Response:
    """`GET /simple/`"""
    index, exchange = index_of(request), exchange_of(request.scope)
    exchange.kind, exchange.index = "list", index.name
    identity = await index.admission.admit_reader(request, None)
    form = _negotiated(request)
    inquiry = inquiry_of(request, may_fetch=index.admission.may_fetch(identity, None))
    listed = await index.repository.projects(inquiry)
    rights = index.admission.rights
    if not rights.reaches_all(identity, Action.READ):
        listed = await in_thread(_readable, listed, rights, identity)
    return await _document_response(request, index, listed, form, inquiry, exchange)


async def project_page(request: Request) -> Response:
    """`GET /simple/<name>/`; another spelling of the name is redirected in one hop."""
    index, exchange = index_of(request), exchange_of(request.scope)
    exchange.kind, exchange.index = "page", index.name
    name, identity = await named(request, index)
    exchange.project = name
    if request.path_params["name"] != name or not request.scope["path"].endswith("/"):
        return _redirect(request, f"simple/{name}/")
    form = _negotiated(request)
    inquiry = inquiry_of(request, may_fetch=index.admission.may_fetch(identity, name))
    page = await shown_page(request, name, identity, inquiry)
    response = await _document_response(request, index, page, form, inquiry, exchange)
    if index.ahead:
        index.ahead.after_page(page, inquiry.outcome, _reader(request, index, identity, inquiry))
    return response


async def project_file(request: Request) -> Response:
    """`GET /simple/<name>/<filename>`; served only if it is on the page this index would show."""
    index, exchange = index_of(request), exchange_of(request.scope)
    filename = request.path_params["filename"]
    exchange.kind = "metadata" if filename.endswith(METADATA_SUFFIX) else "file"
    exchange.index = index.name
    name, identity = await named(request, index)
    exchange.project, exchange.filename = name, filename
    inquiry = inquiry_of(request, may_fetch=index.admission.may_fetch(identity, name))
    try:
        is_whole = request.method == "GET" and "range" not in request.headers
        file, content = await _opened(index, name, filename, inquiry, whole=is_whole)
    except (ProjectNotFound, ServedElsewhere) as problem:  # of the latter the page has the links
        raise missing(request, name) from problem
    except NotHeld as problem:
        raise unfetched(problem, index, identity, name) from problem
    if index.ahead:
        reader = _reader(request, index, identity, inquiry)
        if isinstance(file.origin, MetadataOrigin) and (data := content.at_hand(MAX_METADATA)):
            index.ahead.after_metadata(file.origin.wheel, data, inquiry.outcome, reader)
        index.ahead.after_file(file, reader)
    response = await file_response(request, filename, content, file.upload_time)
    finish(response, request, index, name, inquiry)
    gate = index.admission.gate(name, is_own=inquiry.outcome is Outcome.LOCAL)
    answered = Answered(request.scope, inquiry, response, exchange, gate)
    index.express.remember_file(answered, content)
    return response


async def redirect_to_file(request: Request) -> Response:
    """`GET /packages/…/FILE`, as pypiserver has it, and lock files that were made with it.

    Nothing is looked at for it: the name tells the project, the answer who may have what.
    """
    filename = request.path_params["path"].rpartition("/")[2]
    project = parse_filename(filename).project
    if project is None or not is_safe_filename(filename):
        raise HTTPException(404)
    return _redirect(request, f"simple/{project}/{filename}")


async def redirect_to_list(request: Request) -> Response:
    """`GET /simple`"""
    return _redirect(request, "simple/")


LIST_ROUTES = (
    Route("/simple", redirect_to_list),
    Route("/simple/", project_list),
)
ROUTES = (
    Route("/simple/{name}", project_page),
    Route("/simple/{name}/", project_page),
    Route("/simple/{name}/{filename}", project_file),
    Route("/packages/{path:path}", redirect_to_file),
)


async def _opened(
    index: IndexService, name: NormalizedName, filename: str, inquiry: Inquiry, *, whole: bool
) -> tuple[File, Content]:
    """The file as it is listed, and its bytes; looked up again if others took its place between."""
    for _ in range(_MOST_LOOKS):
        file = await _listed(index, name, filename, inquiry)
        with suppress(FileReplaced):
            return file, await index.files.open(file, inquiry, whole=whole)
    raise FileReplaced(filename)


async def _listed(
    index: IndexService, name: NormalizedName, filename: str, inquiry: Inquiry
) -> File:
    """The file on the page. An old page will do; only if it lacks the file a new one is asked.
    The inquiry is told what is unsure of the page: that goes for the file as well."""
    hasty = replace(inquiry, revalidate=False, accepts_stale=True)
    page: ProjectPage = await index.repository.project(name, hasty)
    inquiry.unsure = hasty.unsure
    try:
        return page.file(filename)
    except FileNotOnPage as problem:
        if index.files.is_offline and hasty.outcome is not Outcome.LOCAL:
            raise FileNotCached(filename) from problem
        if not hasty.met_stale:
            raise
    # nothing is asked twice for it: it joins what the first look has begun
    patient = replace(inquiry, revalidate=False, insists=True, ground=Ground())
    page = await index.repository.project(name, patient)
    inquiry.unsure = patient.unsure
    return page.file(filename)


async def _document_response(
    request: Request,
    index: IndexService,
    document: Document,
    form: MediaType,
    inquiry: Inquiry,
    exchange: Exchange,
) -> Response:
    takes_gzip = accepts_gzip(request)
    is_styled = is_browser(form, whole_field(request.headers, "accept") or "")
    rendered = await index.renderer.render(
        document, form, accepts_gzip=takes_gzip, is_styled=is_styled
    )
    short = {
        "Cache-Control": REVALIDATE,
        "ETag": rendered.etag,
        "Vary": "Accept, Accept-Encoding",
    }
    headers = dict(short)
    if rendered.is_gzip:
        headers["Content-Encoding"] = "gzip"
    if form is not MediaType.JSON:
        headers |= html_headers(is_styled=is_styled)
    headers["Content-Type"] = form.content_type
    name = document.name if isinstance(document, ProjectPage) else None
    response = Response(rendered.body, headers=headers)
    finish(response, request, index, name, inquiry)
    if name is not None:
        # also for who has it already: many clients ask for nothing but whether it changed
        gate = index.admission.gate(name, is_own=inquiry.outcome is Outcome.LOCAL)
        answered = Answered(request.scope, inquiry, response, exchange, gate)
        index.express.remember(answered, rendered.body)
    if (brief := short_response(request, rendered.etag, None, short)) is None:
        return response
    finish(brief, request, index, name, inquiry)
    return brief


def _readable(listed: ProjectList, rights: Rights, identity: Identity) -> ProjectList:
    """What of the list the identity may read."""
    names = listed.names
    return ProjectList(tuple(n for n in names if rights.allows(identity, Action.READ, n)))


def _negotiated(request: Request) -> MediaType:
    """Raises `NotAcceptable`."""
    return negotiate(whole_field(request.headers, "accept"), request.query_params.get("format"))


def _reader(request: Request, index: IndexService, identity: Identity, inquiry: Inquiry) -> Reader:
    may_fetch = partial(index.admission.may_fetch, identity)
    is_alone = request.scope["state"]["house"].has_one_guest
    host = request.client.host if request.client else ""
    agent = request.headers.get("user-agent", "")[:_MOST_AGENT]
    return Reader(may_fetch, is_alone, inquiry.via, (host, agent))


def _redirect(request: Request, target: str) -> Response:
    """301 below our own prefix, never with a host: immune to a forged one."""
    location = f"{request.scope['root_path']}/{target}"
    if query := request.scope["query_string"]:  # not of `request.url`, into which Host goes, too
        location += "?" + quote(query, safe="=&%+:;,/?@!$'()*~.-_")
    headers = {
        "Location": location,
        "Cache-Control": f"max-age={_REDIRECT_AGE}",
        "Vary": "Accept",
    }
    return Response(status_code=301, headers=headers)
