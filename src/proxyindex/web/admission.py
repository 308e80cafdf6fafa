"""Who may do what on one index: to be asked before anything else is looked at."""

from dataclasses import dataclass

from packaging.utils import NormalizedName
from starlette.requests import Request

from proxyindex.access import ANONYMOUS, Action, Decision, Identity, Rights
from proxyindex.errors import Forbidden, LoginRequired
from proxyindex.web.accesslog import exchange_of
from proxyindex.web.given import Gate
from proxyindex.web.identity import Identities

_PHRASES = {
    Action.READ: "read this project",
    Action.FETCH: "have this fetched from an upstream",
    Action.UPLOAD: "upload to this project",
    Action.DELETE: "delete from this project",
    Action.YANK: "yank files of this project",
    Action.ADMIN: "manage this project",
}


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may do what on one index; to be asked before anything else is looked at."""

    identities: Identities
    rights: Rights

    async def admit(
        self, request: Request, action: Action, project: NormalizedName | None
    ) -> Identity:
        """Who asks, if he may do this; nobody in particular where everybody may.

        `None` for a project that is not known yet: whether he may to any. Raises `NotAdmitted`.
        """
        if self.rights.is_open(action, project):
            return ANONYMOUS
        return await self._admitted(request, action, project)

    async def admit_reader(self, request: Request, project: NormalizedName | None) -> Identity:
        """As `admit`, to read; `None` is the list of projects.

        Whether he may have it fetched makes a difference later: then it matters who he is.
        """
        if self.is_public(project):
            return ANONYMOUS
        return await self._admitted(request, Action.READ, project)

    def refusal(
        self, identity: Identity, action: Action, project: NormalizedName | None
    ) -> LoginRequired | Forbidden | None:
        """What to raise where the identity may not do this."""
        match self.rights.decide(identity, action, project):
            case Decision.ALLOWED:
                return None
            case Decision.LOG_IN:
                return LoginRequired()
            case Decision.FORBIDDEN:
                by_token = self.rights.exceeds_token(identity, action, project)
                return Forbidden(identity.user, _PHRASES[action], by_token=by_token)

    def may_fetch(self, identity: Identity, project: NormalizedName | None) -> bool:
        """Whether the project, or for `None` any, is fetched for the identity."""
        return self.rights.allows(identity, Action.FETCH, project)

    def may_upload(self, identity: Identity, project: NormalizedName) -> bool:
        """Whether the identity may upload to the project."""
        return self.rights.allows(identity, Action.UPLOAD, project)

    def is_public(self, project: NormalizedName | None) -> bool:
        """Whether everybody may read the project, or all of them, and have it fetched."""
        is_open = self.rights.is_open
        return is_open(Action.READ, project) and is_open(Action.FETCH, project)

    def gate(self, project: NormalizedName, *, is_own: bool) -> Gate | None:
        """Who may have a remembered answer about this project; `None` for everybody.

        `is_own`: nothing of it came from an upstream, and for nobody anything would.
        """
        return None if self.is_public(project) else Gate(self.rights, project, is_own)

    async def _admitted(
        self, request: Request, action: Action, project: NormalizedName | None
    ) -> Identity:
        identity = await self.identities.identify(request.scope)
        exchange_of(request.scope).user = identity.user
        if problem := self.refusal(identity, action, project):
            raise problem
        return identity
