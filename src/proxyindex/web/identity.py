"""Who asks: the log-in of a request as an identity, verified slowly once and known quickly after.

Where everybody may do what is asked for, nobody is asked who he is. Else credentials that are
wrong are refused (401) and none at all, or a user name with an empty password, are anonymous: uv
sends that first where its URL has a user name only, and asks its keyring after the 401 (measured).
"""

import hashlib
import ipaddress
import logging
import secrets
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import anyio
import anyio.to_thread

from proxyindex import audit
from proxyindex.access import ANONYMOUS, UNIX_PEER, Identity, is_user_name
from proxyindex.errors import LoginRequired, TooManyAttempts
from proxyindex.flight import Shared
from proxyindex.inquiry import Ground
from proxyindex.memo import Memo
from proxyindex.threads import in_thread
from proxyindex.units import format_minute
from proxyindex.users.attempts import Attempts, seconds
from proxyindex.users.htpasswd import Htpasswd
from proxyindex.users.tokens import TokenExpired, TokenFile, is_token
from proxyindex.web.accesslog import PEER_KEY
from proxyindex.web.credentials import as_text, basic
from proxyindex.web.given import Asker, Header, Looks, Verified, stands

CHALLENGE = 'Basic realm="proxyindex", charset="UTF-8"'  # RFC 7617, 2.1

_REMEMBERED_SECONDS = 600.0
_MOST_REMEMBERED = 10_000
_HASHERS = 2  # threads: hashing is meant to be slow, and must leave the cores to others
_MOST_WAITING = 100  # for a thread
_LONGEST = 4096  # bytes of an Authorization field

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Front:
    """A server before ours that has logged its users in: it names them in `header` (in lower
    case), and is believed if the connection itself comes from one of `peers`: addresses, networks,
    or `unix` for our Unix socket."""

    header: bytes
    peers: tuple[str, ...]

    def named(self, peer: str, headers: Iterable[Header]) -> list[bytes]:
        """What the front says who asks. Nothing if the peer is none; nor if it says that it is
        nobody, which some do by an empty value."""
        if not _is_among(peer, self.peers):
            return []
        named = [value for name, value in headers if name == self.header]
        return [] if named == [b""] else named


@dataclass(frozen=True, slots=True)
class _Check:
    """What verifying came to: nothing for a log-in with a problem, or seconds to wait before."""

    verified: Verified | None = None
    wait: float = 0.0
    problem: str = "The log-in is wrong"


class Identities:
    """Makes identities of requests. One per process; `groups` by user name."""

    def __init__(
        self,
        passwords: Htpasswd,
        tokens: TokenFile | None,
        groups: Mapping[str, frozenset[str]],
        front: Front | None,
        attempts: Attempts,
    ) -> None:
        self._passwords = passwords
        self._tokens = tokens
        self._groups = groups
        self._front = front
        self._attempts = attempts
        self._hashers = anyio.CapacityLimiter(_HASHERS)
        # by a keyed digest: passwords do not stay in memory, nor can their look-up be timed
        self._key = secrets.token_bytes(32)
        self._verified: Memo[bytes, Verified] = Memo(_MOST_REMEMBERED)
        self._looks = Looks()
        self._checks: Shared[bytes, _Check] = Shared()
        self._from_front: Memo[str, Identity] = Memo(_MOST_REMEMBERED)

    async def identify(self, scope: MutableMapping[str, Any]) -> Identity:
        """Who sent the request. Raises `LoginRequired` for a log-in that is wrong, and
        `TooManyAttempts`."""
        client = scope["client"][0] if scope.get("client") else "-"
        peer = scope.get(PEER_KEY, client)
        if self._front is not None and (named := self._front.named(peer, scope["headers"])):
            return self._named_by_front(named)
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if not shown:
            return ANONYMOUS
        if len(shown) > 1 or len(shown[0]) > _LONGEST:
            raise LoginRequired("The log-in cannot be understood")
        return await self._logged_in(shown[0], client)

    def at_hand(
        self, authorization: bytes, headers: Sequence[Header], asker: Asker
    ) -> Identity | None:
        """The identity if that takes no work; `None` if it is to be found out. For the event loop:
        a comparison or a digest, and a `stat` per file of accounts."""
        if self._front is not None and (named := self._front.named(asker.peer, headers)):
            return self._from_front.get(as_text(named[0])) if len(named) == 1 else None
        if not authorization:
            return ANONYMOUS
        verified = asker.verified
        if verified is None or asker.shown != authorization:
            verified = self._verified.get(self._digest(authorization))
        if verified is None or not self._looks.stands(verified.ground, asker):
            asker.verified = None
            return None
        asker.shown, asker.verified = authorization, verified
        return verified.identity

    def _named_by_front(self, named: Sequence[bytes]) -> Identity:
        user = as_text(named[0])
        if len(named) > 1 or not is_user_name(user):
            # a front that adds its field to the client's own would believe anybody
            log.warning("the front names no user that there can be, or several: %s", named)
            raise LoginRequired("The front server names no user")
        identity = self._from_front.get(user)
        if identity is None:
            identity = self._identity(user)
            self._from_front.put(user, identity)
        return identity

    async def _logged_in(self, authorization: bytes, client: str) -> Identity:
        key = self._digest(authorization)
        if (known := self._known(key)) is not None:
            return known
        scheme, user, secret = _credentials(authorization)
        if scheme == "basic" and not secret:
            return ANONYMOUS
        # once for all that show the same at the same time
        check = await self._checks.get(key, partial(self._check, key, user, secret, client))
        if check.wait:
            raise TooManyAttempts(seconds(check.wait))
        if check.verified is None:
            raise LoginRequired(check.problem)
        return check.verified.identity

    async def _check(self, key: bytes, user: str, secret: str, client: str) -> _Check:
        if is_token(secret):
            check = await self._by_token(secret)
        else:
            check = await self._by_password(user, secret, client)
        if check.verified is not None:
            self._verified.put(key, check.verified)
        elif not check.wait:
            audit.note("log in", "refused", user=user or "-", client=client)
        return check

    async def _by_token(self, text: str) -> _Check:
        now = time.time()
        if self._tokens is None:
            return _Check()
        try:
            found = await in_thread(self._tokens.find, text, now)
        except TokenExpired as expired:  # told to none but those who have the token
            return _Check(problem=f"The token expired on {format_minute(expired.at)} UTC")
        if found is None:
            return _Check()
        token = found.token
        until = min(token.scope.expires, now + _REMEMBERED_SECONDS)
        identity = Identity(token.user, self._groups.get(token.user, frozenset()), token.scope)
        return _Check(Verified(identity, Ground(until=until, witnesses=[found.witness])))

    async def _by_password(self, user: str, secret: str, client: str) -> _Check:
        if self._hashers.statistics().tasks_waiting >= _MOST_WAITING:
            return _Check(wait=2.0)
        if wait := self._attempts.take(client, user):
            return _Check(wait=wait)
        until = time.time() + _REMEMBERED_SECONDS
        is_right, witnesses = await anyio.to_thread.run_sync(
            self._passwords.verify, user, secret, limiter=self._hashers
        )
        if not is_right:
            return _Check()
        self._attempts.succeeded(client, user)
        return _Check(
            Verified(self._identity(user), Ground(until=until, witnesses=list(witnesses)))
        )

    def _identity(self, user: str) -> Identity:
        return Identity(user, self._groups.get(user, frozenset()))

    def _known(self, key: bytes) -> Identity | None:
        verified = self._verified.get(key)
        if verified is None:
            return None
        if not stands(verified.ground):
            self._verified.pop(key)
            return None
        return verified.identity

    def _digest(self, authorization: bytes) -> bytes:
        return hashlib.blake2b(authorization, digest_size=16, key=self._key).digest()


def _credentials(authorization: bytes) -> tuple[str, str, str]:
    """Scheme in lower case, user and secret. Raises `LoginRequired`.

    RFC 7617 Basic; RFC 6750 Bearer, which uv can send.
    """
    scheme, _, value = authorization.strip().partition(b" ")
    token = as_text(value.strip())
    if scheme.lower() == b"bearer" and is_token(token):
        return "bearer", "", token
    if pair := basic(authorization):
        return "basic", *pair
    raise LoginRequired("The log-in cannot be understood")


@lru_cache(1024)
def _is_among(peer: str, peers: tuple[str, ...]) -> bool:
    if peer in peers:
        return True
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(one) for one in peers if one != UNIX_PEER)
