"""The endpoints of the Simple API: project list, project page, file."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import quote

from packaging.utils import NormalizedName
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxyindex.access import ANONYMOUS, NO_NAME, Action, Decision, Identity, Rights
from proxyindex.errors import (
    FileNotCached,
    FileNotOnPage,
    FileReplaced,
    LoginRequired,
    NotHeld,
    ProjectNotFound,
    ProxyindexError,
    ServedElsewhere,
)
from proxyindex.files.content import Content
from proxyindex.files.service import FileService
from proxyindex.inquiry import OUTCOME_HEADER, Ground, Inquiry, Outcome
from proxyindex.model import METADATA_SUFFIX, File, MetadataOrigin, ProjectList, ProjectPage
from proxyindex.names import InvalidName, is_safe_filename, normalize, parse_filename
from proxyindex.repository.base import Repository
from proxyindex.simple import MediaType, negotiate
from proxyindex.threads import in_thread
from proxyindex.uploads.service import Publisher
from proxyindex.web.accesslog import Exchange, exchange_of
from proxyindex.web.admission import Admission
from proxyindex.web.ahead import LookAhead, Reader
from proxyindex.web.conditional import whole_field
from proxyindex.web.express import Express
from proxyindex.web.given import Answered
from proxyindex.web.people import html_headers, is_browser
from proxyindex.web.questions import is_habit
from proxyindex.web.rendered import Document, Renderer
from proxyindex.web.responses import REVALIDATE, file_response, make_private, short_response
from proxyindex.wheel import MAX_METADATA

PAGE_SECONDS = 7.0  # to a page's first byte; clients allow 8 at most before they doubt us
_REDIRECT_AGE = 86400
_HOP = re.compile(r"1\.1 proxyindex-[\w.-]{1,40}", re.ASCII)
_MOST_LOOKS = 4  # at a file that is replaced again and again
_MAX_HOPS = 20  # servers in a ring that is noticed
_MOST_AGENT = 1000  # characters of a User-Agent, to tell clients apart
_FORCES = re.compile(r"(?:^|[,\s])(?:no-cache|max-age=0)(?:$|[,\s])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IndexService:
    """One index as the endpoints see it. `publisher` changes its first folder, if it has one."""

    name: str
    repository: Repository
    files: FileService
    renderer: Renderer
    express: Express
    admission: Admission
    publisher: Publisher | None
    ahead: LookAhead | None = None

    @property
    def takes_uploads(self) -> bool:
        """Whether there is anybody who may upload."""
        decision = self.admission.rights.decide(ANONYMOUS, Action.UPLOAD, None)
        return self.publisher is not None and decision is not Decision.FORBIDDEN


async def project_list(request: Request) -> Response:
    """`GET /simple/`"""
    index, exchange = index_of(request), exchange_of(request.scope)
    exchange.kind, exchange.index = "list", index.name
    identity = await index.admission.admit_reader(request, None)
    form = _negotiated(request)
    inquiry = _inquiry(request, may_fetch=index.admission.may_fetch(identity, None))
    listed = await index.repository.projects(inquiry)
    rights = index.admission.rights
    if not rights.reaches_all(identity, Action.READ):
        listed = await in_thread(_readable, listed, rights, identity)
    return await _document_response(request, index, listed, form, inquiry, exchange)


async def project_page(request: Request) -> Response:
    """`GET /simple/<name>/`; another spelling of the name is redirected in one hop."""
    index, exchange = index_of(request), exchange_of(request.scope)
    exchange.kind, exchange.index = "page", index.name
    name, identity = await _named(request, index)
    exchange.project = name
    if request.path_params["name"] != name or not request.scope["path"].endswith("/"):
        return _redirect(request, f"simple/{name}/")
    form = _negotiated(request)
    inquiry = _inquiry(request, may_fetch=index.admission.may_fetch(identity, name))
    try:
        page = await index.repository.project(name, inquiry)
    except NotHeld as problem:
        raise _unfetched(problem, index, identity, name) from problem
    except ProjectNotFound as problem:
        raise _missing(request, name) from problem
    if page.is_gone:
        raise _missing(request, name)
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
    name, identity = await _named(request, index)
    exchange.project, exchange.filename = name, filename
    inquiry = _inquiry(request, may_fetch=index.admission.may_fetch(identity, name))
    try:
        is_whole = request.method == "GET" and "range" not in request.headers
        file, content = await _opened(index, name, filename, inquiry, whole=is_whole)
    except (ProjectNotFound, ServedElsewhere) as problem:  # of the latter the page has the links
        raise _missing(request, name) from problem
    except NotHeld as problem:
        raise _unfetched(problem, index, identity, name) from problem
    if index.ahead:
        reader = _reader(request, index, identity, inquiry)
        if isinstance(file.origin, MetadataOrigin) and (data := content.at_hand(MAX_METADATA)):
            index.ahead.after_metadata(file.origin.wheel, data, inquiry.outcome, reader)
        index.ahead.after_file(file, reader)
    response = await file_response(request, filename, content, file.upload_time)
    _finish(response, request, index, name, inquiry)
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
    """The file on the page. An old page will do; only if it lacks the file a new one is asked."""
    hasty = replace(inquiry, revalidate=False, accepts_stale=True)
    page: ProjectPage = await index.repository.project(name, hasty)
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
    return page.file(filename)


async def _document_response(
    request: Request,
    index: IndexService,
    document: Document,
    form: MediaType,
    inquiry: Inquiry,
    exchange: Exchange,
) -> Response:
    accepts_gzip = _accepts_gzip(whole_field(request.headers, "accept-encoding") or "")
    is_styled = is_browser(form, whole_field(request.headers, "accept") or "")
    rendered = await index.renderer.render(
        document, form, accepts_gzip=accepts_gzip, is_styled=is_styled
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
    _finish(response, request, index, name, inquiry)
    if name is not None:
        # also for who has it already: many clients ask for nothing but whether it changed
        gate = index.admission.gate(name, is_own=inquiry.outcome is Outcome.LOCAL)
        answered = Answered(request.scope, inquiry, response, exchange, gate)
        index.express.remember(answered, rendered.body)
    if (brief := short_response(request, rendered.etag, None, short)) is None:
        return response
    _finish(brief, request, index, name, inquiry)
    return brief


def index_of(request: Request) -> IndexService:
    """The index that was asked."""
    found = request.state.index
    assert isinstance(found, IndexService)
    return found


async def _named(request: Request, index: IndexService) -> tuple[NormalizedName, Identity]:
    """The project that is asked for, and who asks, if he may read it.

    Raises `NotAdmitted`, also for what is no name: that should look like any other.
    """
    try:
        name = normalize(request.path_params["name"])
    except InvalidName as problem:
        await index.admission.admit_reader(request, NO_NAME)
        raise _missing(request, request.path_params["name"]) from problem
    return name, await index.admission.admit_reader(request, name)


def _missing(request: Request, project: str) -> ProjectNotFound:
    """Tells the index, where there are several to take it for another."""
    is_one = len(request.state.house.indexes) == 1
    return ProjectNotFound(project, None if is_one else index_of(request).name)


def _unfetched(
    problem: NotHeld, index: IndexService, identity: Identity, name: NormalizedName
) -> ProxyindexError:
    """What to say of something that is not stored to whom it is not fetched for: to log in, where
    that might help, as PyPI Cloud does."""
    refusal = index.admission.refusal(identity, Action.FETCH, name)
    return refusal if isinstance(refusal, LoginRequired) else problem


def _readable(listed: ProjectList, rights: Rights, identity: Identity) -> ProjectList:
    """What of the list the identity may read."""
    names = listed.names
    return ProjectList(tuple(n for n in names if rights.allows(identity, Action.READ, n)))


def _negotiated(request: Request) -> MediaType:
    """Raises `NotAcceptable`."""
    return negotiate(whole_field(request.headers, "accept"), request.query_params.get("format"))


def _inquiry(request: Request, *, may_fetch: bool) -> Inquiry:
    control = whole_field(request.headers, "cache-control") or ""
    agent = request.headers.get("user-agent", "")
    is_habitual = is_habit(control.encode("latin-1"), agent.encode("latin-1"))
    return Inquiry(
        revalidate=bool(control and _FORCES.search(control)) and not is_habitual,
        may_fetch=may_fetch,
        deadline=time.monotonic() + PAGE_SECONDS,
        via=", ".join(_HOP.findall(whole_field(request.headers, "via") or "")[-_MAX_HOPS:]),
    )


def _reader(request: Request, index: IndexService, identity: Identity, inquiry: Inquiry) -> Reader:
    may_fetch = partial(index.admission.may_fetch, identity)
    is_alone = request.scope["state"]["house"].has_one_guest
    host = request.client.host if request.client else ""
    agent = request.headers.get("user-agent", "")[:_MOST_AGENT]
    return Reader(may_fetch, is_alone, inquiry.via, (host, agent))


def _accepts_gzip(header: str) -> bool:
    for part in header.split(","):
        coding, _, parameters = part.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return parameters.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


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


def _finish(
    response: Response,
    request: Request,
    index: IndexService,
    name: NormalizedName | None,
    inquiry: Inquiry,
) -> None:
    """Tell where the answer came from, and keep it out of caches that serve others what not
    everybody may have."""
    if request.state.house.select_by_user:
        response.headers.add_vary_header("Authorization")
    if inquiry.outcome is not None:
        exchange_of(request.scope).outcome = inquiry.outcome.value
        response.headers[OUTCOME_HEADER] = inquiry.outcome.value
    if not index.admission.rights.is_open(Action.READ, name):
        make_private(response)
