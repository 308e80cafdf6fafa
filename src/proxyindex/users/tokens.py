"""API tokens: random texts that stand for a user within a scope. Only their digests are stored."""

import hashlib
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from proxyindex.access import Action, Scope, is_user_name
from proxyindex.disk import Signature
from proxyindex.users.followed import AccountsError, Followed, changing, read_whole, replace

PREFIX = "pxi_"  # lets people and secret scanners know one when they see it
_RANDOM_BYTES = 32
_TAIL = 4
_LONGEST = 200


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a token. Times in seconds since the epoch; `tail` are its last characters.

    `digest` is the SHA-256 of the text: 256 random bits need no slow hash.
    """

    id: str
    digest: str
    tail: str
    user: str
    created: int
    expires: int | None = None
    indexes: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()

    @property
    def scope(self) -> Scope:
        end = math.inf if self.expires is None else float(self.expires)
        return Scope(self.indexes, self.projects, frozenset(self.actions), end)


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    tokens: list[Token] = []  # msgspec copies it


class TokenExpired(Exception):
    """The text is that of a token whose time is over, since `at` (seconds since the epoch)."""

    def __init__(self, at: float) -> None:
        super().__init__(at)
        self.at = at


@dataclass(frozen=True, slots=True)
class Found:
    """A token that was shown, and the state of the file that has it."""

    token: Token
    witness: tuple[str, Signature | None]


class TokenFile:
    """The tokens of one file (JSON, 0600)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Followed[Mapping[str, Token]] = Followed(path, _by_digest)

    def find(self, text: str, now: float) -> Found | None:
        """Whose token this is. Reads a file: not for the event loop. Raises `TokenExpired`."""
        found, by_digest = self._file.now()
        # how long the look-up takes tells of digests alone: nobody can choose the text to one, so
        # that a comparison in constant time would hide nothing
        if (token := by_digest.get(digest_of(text))) is None:
            return None
        if now >= token.scope.expires:
            raise TokenExpired(token.scope.expires)
        return Found(token, (str(self.path), found))

    def all(self) -> list[Token]:
        """All of them, expired ones too. Raises `AccountsError`."""
        return _decoded(self.path, read_whole(self.path))

    def create(self, user: str, scope: Scope) -> tuple[str, Token]:
        """Make one: its text, which nobody can tell afterwards, and what is kept.

        Raises `AccountsError`.
        """
        if not is_user_name(user):
            raise AccountsError(f"{user!r} cannot be the name of a user.")
        text = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        with changing(self.path) as body:
            tokens = _decoded(self.path, body)
            token = Token(
                id=_new_id(tokens),
                digest=digest_of(text),
                tail=text[-_TAIL:],
                user=user,
                created=int(time.time()),
                expires=None if scope.expires == math.inf else int(scope.expires),
                indexes=scope.indexes,
                projects=scope.projects,
                actions=tuple(sorted(scope.actions)),
            )
            replace(self.path, _encoded([*tokens, token]))
        return text, token

    def revoke(self, ids: frozenset[str]) -> list[Token]:
        """Take tokens out of the file; those that were there. Raises `AccountsError`."""
        if not read_whole(self.path):  # nor is a folder made for it
            return []
        with changing(self.path) as body:
            tokens = _decoded(self.path, body)
            gone = [token for token in tokens if token.id in ids]
            if gone:
                replace(self.path, _encoded([one for one in tokens if one.id not in ids]))
            return gone


def is_token(text: str) -> bool:
    """Whether the text looks like one of ours."""
    return text.startswith(PREFIX) and len(text) <= _LONGEST


def digest_of(text: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


def _new_id(tokens: list[Token]) -> str:
    taken = {token.id for token in tokens}
    return next(one for one in iter(lambda: secrets.token_hex(4), "") if one not in taken)


def _by_digest(body: bytes) -> Mapping[str, Token]:
    return {token.digest: token for token in _parsed(body)}


def _parsed(body: bytes) -> list[Token]:
    """Raises `ValueError`."""
    if not body.strip():
        return []
    try:
        return msgspec.json.decode(body, type=_Stored).tokens
    except (msgspec.MsgspecError, RecursionError) as problem:
        raise ValueError(f"it is no list of tokens ({problem})") from problem


def _decoded(path: Path, body: bytes) -> list[Token]:
    try:
        return _parsed(body)
    except ValueError as problem:
        raise AccountsError(f"{path} cannot be used: {problem}.") from problem


def _encoded(tokens: list[Token]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_Stored(tokens)), indent=2) + b"\n"
