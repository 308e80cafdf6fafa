"""An index as its endpoints see it, and what all that show projects have in common."""

import re
import time
from dataclasses import dataclass

from packaging.utils import NormalizedName
from starlette.requests import Request
from starlette.responses import Response

from proxyindex.access import ANONYMOUS, NO_NAME, Action, Decision, Identity
from proxyindex.errors import LoginRequired, NotHeld, ProjectNotFound, ProxyindexError
from proxyindex.files.service import FileService
from proxyindex.inquiry import OUTCOME_HEADER, Inquiry
from proxyindex.model import ProjectPage
from proxyindex.names import InvalidName, normalize
from proxyindex.repository.base import Repository, there
from proxyindex.uploads.service import Publisher
from proxyindex.web.accesslog import exchange_of
from proxyindex.web.admission import Admission
from proxyindex.web.ahead import LookAhead
from proxyindex.web.conditional import whole_field
from proxyindex.web.express import Express
from proxyindex.web.questions import is_habit
from proxyindex.web.rendered import Renderer
from proxyindex.web.responses import make_private

PAGE_SECONDS = 7.0  # to a page's first byte; clients allow 8 at most before they doubt us
_HOP = re.compile(r"1\.1 proxyindex-[\w.-]{1,40}", re.ASCII)
_MAX_HOPS = 20  # servers in a ring that is noticed
_REFUSED = re.compile(r"[ \t]*q=0(?:\.0{0,3})?[ \t]*", re.IGNORECASE)  # RFC 9110, 12.4.2
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


def index_of(request: Request) -> IndexService:
    """The index that was asked."""
    found = request.state.index
    assert isinstance(found, IndexService)
    return found


async def named(request: Request, index: IndexService) -> tuple[NormalizedName, Identity]:
    """The project that is asked for, and who asks, if he may read it.

    Raises `NotAdmitted`, also for what is no name: that should look like any other.
    """
    try:
        name = normalize(request.path_params["name"])
    except InvalidName as problem:
        await index.admission.admit_reader(request, NO_NAME)
        raise missing(request, request.path_params["name"]) from problem
    return name, await index.admission.admit_reader(request, name)


def missing(request: Request, project: str) -> ProjectNotFound:
    """Tells the index, where there are several to take it for another."""
    is_one = len(request.state.house.indexes) == 1
    return ProjectNotFound(project, None if is_one else index_of(request).name)


def unfetched(
    problem: NotHeld, index: IndexService, identity: Identity, name: NormalizedName
) -> ProxyindexError:
    """What to say of something that is not stored to whom it is not fetched for: to log in, where
    that might help, as PyPI Cloud does."""
    refusal = index.admission.refusal(identity, Action.FETCH, name)
    return refusal if isinstance(refusal, LoginRequired) else problem


async def shown_page(
    request: Request, name: NormalizedName, identity: Identity, inquiry: Inquiry
) -> ProjectPage:
    """The project's page, for one who may read it."""
    index = index_of(request)
    try:
        return await there(index.repository, name, inquiry)
    except NotHeld as problem:
        raise unfetched(problem, index, identity, name) from problem
    except ProjectNotFound as problem:
        raise missing(request, name) from problem


def inquiry_of(request: Request, *, may_fetch: bool) -> Inquiry:
    """How the request wants to be answered."""
    control = whole_field(request.headers, "cache-control") or ""
    agent = request.headers.get("user-agent", "")
    is_habitual = is_habit(control.encode("latin-1"), agent.encode("latin-1"))
    return Inquiry(
        revalidate=bool(control and _FORCES.search(control)) and not is_habitual,
        may_fetch=may_fetch,
        deadline=time.monotonic() + PAGE_SECONDS,
        via=", ".join(_HOP.findall(whole_field(request.headers, "via") or "")[-_MAX_HOPS:]),
    )


def accepts_gzip(request: Request) -> bool:
    """Whether the answer may be compressed."""
    header = whole_field(request.headers, "accept-encoding") or ""
    for part in header.split(","):
        coding, _, parameters = part.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return not any(map(_REFUSED.fullmatch, parameters.split(";")))
    return False


def finish(
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
