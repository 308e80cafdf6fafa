"""Who may do what on which index: pure decisions, taken before anything else is looked at.

A decision depends on the configuration, on who asks and on the name that is asked for, never on
whether anything of that name exists.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import lru_cache

from packaging.utils import NormalizedName

from proxyindex.names import matches_pattern

UNIX_PEER = "unix"  # what whoever comes by our Unix socket is called: he has no address
EVERYBODY = "*"
LOGGED_IN = "@users"
TOKEN_USER = "__token__"  # noqa: S105 - whose password is a token (PyPI)
_LONGEST_USER = 100
_MOST_REMEMBERED = 20_000  # decisions per index; clients choose the names they ask for
NO_NAME = NormalizedName("")  # stands for a text that is no project name: only `*` covers it


class Action(StrEnum):
    """What somebody may do on an index. `ADMIN` includes the others."""

    READ = "read"  # see and download
    FETCH = "fetch"  # have something fetched from an upstream that is not stored yet
    UPLOAD = "upload"
    DELETE = "delete"
    YANK = "yank"
    ADMIN = "admin"


CHANGING = (Action.UPLOAD, Action.DELETE, Action.YANK)  # what is in the folder of an index
# what a token must be good for to be good for an action
_INCLUDING = {action: {action, Action.ADMIN} for action in Action}
_INCLUDING[Action.FETCH].add(Action.READ)


class Decision(Enum):
    """`LOG_IN`: not as things are, but somebody who logs in might (401). `FORBIDDEN`: 403."""

    ALLOWED = "allowed"
    LOG_IN = "log in"
    FORBIDDEN = "forbidden"


class InvalidGrant(ValueError):
    """The text is no grant; `str()` says what was expected."""


@dataclass(frozen=True, slots=True)
class Grant:
    """`who` (a user, `@group`, `@users` for whoever logged in, `*` for everybody) may do something
    with the projects whose normalized names match one of the globs; with all if there is none."""

    who: str
    projects: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Grant":
        """`WHO [PROJECT-GLOB ...]`. Raises `InvalidGrant`."""
        words = text.split()
        if not words or not _is_who(words[0]):
            raise InvalidGrant("a user, @group, @users or *, and maybe project globs behind it")
        return cls(words[0], tuple(words[1:]))

    def __str__(self) -> str:
        return " ".join((self.who, *self.projects))

    def covers(self, project: NormalizedName | None) -> bool:
        """Whether it is about this project; about any at all for `None`."""
        return project is None or not self.projects or _matches(project, self.projects)


@dataclass(frozen=True, slots=True)
class Scope:
    """To what a token is confined: indexes and projects by glob, actions, an end.

    Empty means all of them; `READ` includes `FETCH`, as far as the user may. `expires` in seconds
    since the epoch.
    """

    indexes: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    actions: frozenset[Action] = frozenset()
    expires: float = math.inf

    def covers(self, index: str, action: Action, project: NormalizedName | None) -> bool:
        """Whether it reaches that far; for any project at all with `None`."""
        return (
            (not self.indexes or _matches(NormalizedName(index), self.indexes))
            and (not self.actions or not self.actions.isdisjoint(_INCLUDING[action]))
            and (project is None or not self.projects or _matches(project, self.projects))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """Who asks. `user` is `None` for somebody who did not log in.

    Compared and hashed by identity, which is what makes it cheap as a key: one is made per log-in.
    """

    user: str | None = None
    groups: frozenset[str] = frozenset()
    scope: Scope = Scope()

    def is_meant_by(self, who: str) -> bool:
        """Whether a grant to `who` is one to this identity."""
        if who == EVERYBODY:
            return True
        if self.user is None:
            return False
        return who in (LOGGED_IN, self.user) or (who[:1] == "@" and who[1:] in self.groups)


ANONYMOUS = Identity()


class Rights:
    """What is granted on one index. Whatever is not granted is refused."""

    def __init__(self, index: str, grants: Mapping[Action, Sequence[Grant]]) -> None:
        self._index = index
        admins = tuple(grants.get(Action.ADMIN, ()))
        self._grants = {action: (*grants.get(action, ()), *admins) for action in Action}
        # 2.5 µs otherwise, a fifth of an answer by the express way
        self._may_get = lru_cache(_MOST_REMEMBERED)(self._judge_get)

    def decide(
        self, identity: Identity, action: Action, project: NormalizedName | None
    ) -> Decision:
        """`None` asks whether the identity may do this to any project at all.

        Whether somebody is asked to log in does not depend on the project: else the answers would
        show which names the configuration speaks of.
        """
        if any(grant.covers(project) for grant in self._open(action)):
            return Decision.ALLOWED  # who shows a token is not worse off than who shows none
        if identity.user is None:
            helps = any(grant.who != EVERYBODY for grant in self._grants[action])
            return Decision.LOG_IN if helps else Decision.FORBIDDEN
        is_within = identity.scope.covers(self._index, action, project)
        granted = any(grant.covers(project) for grant in self._reaching(identity, action))
        return Decision.ALLOWED if is_within and granted else Decision.FORBIDDEN

    def may_get(self, identity: Identity, project: NormalizedName, *, is_own: bool) -> bool:
        """Whether the identity may read the project and, if an upstream may be asked, have it
        fetched; remembered. `is_own`: all of it is ours."""
        return self._may_get(identity, project, is_own)

    def _judge_get(self, identity: Identity, project: NormalizedName, is_own: bool) -> bool:
        wanted = (Action.READ,) if is_own else (Action.READ, Action.FETCH)
        return all(self.allows(identity, action, project) for action in wanted)

    def allows(self, identity: Identity, action: Action, project: NormalizedName | None) -> bool:
        """Whether the decision is `ALLOWED`."""
        return self.decide(identity, action, project) is Decision.ALLOWED

    def exceeds_token(
        self, identity: Identity, action: Action, project: NormalizedName | None
    ) -> bool:
        """Whether what the identity showed is a token that does not reach that far."""
        return not identity.scope.covers(self._index, action, project)

    def is_open(self, action: Action, project: NormalizedName | None) -> bool:
        """Whether everybody may do this, so that nobody needs to be asked who he is.

        With `None`: with every project.
        """
        if project is not None:
            return self.allows(ANONYMOUS, action, project)
        return self.reaches_all(ANONYMOUS, action)

    def reaches_all(self, identity: Identity, action: Action) -> bool:
        """Whether the identity may do this with every project, whatever its name."""
        is_confined = bool(identity.scope.projects)
        reaching = self._open(action) if is_confined else self._reaching(identity, action)
        return any(not grant.projects for grant in reaching)

    def _reaching(self, identity: Identity, action: Action) -> list[Grant]:
        if not identity.scope.covers(self._index, action, None):
            return self._open(action)
        return [grant for grant in self._grants[action] if identity.is_meant_by(grant.who)]

    def _open(self, action: Action) -> list[Grant]:
        return [grant for grant in self._grants[action] if grant.who == EVERYBODY]


def is_user_name(text: str) -> bool:
    """Whether this may be the name of a user: printable, without blanks, colons, commas, quotes
    and control characters, at most 100 characters, none of the words that mean several, and not
    the one beside which clients send a token."""
    return (
        0 < len(text) <= _LONGEST_USER
        and text.isprintable()
        and not set(text) & set(" :,;\"'")
        and text[0] not in "@#*"
        and text != TOKEN_USER
    )


def _is_who(word: str) -> bool:
    return word == EVERYBODY or is_user_name(word.removeprefix("@"))


@lru_cache(4096)  # each request is judged four times: with four globs, 13 µs of some 200
def _matches(name: NormalizedName, patterns: tuple[str, ...]) -> bool:
    return any(matches_pattern(name, pattern) for pattern in patterns)
