"""Who asks: the log-in of a request as an identity, verified slowly once and known quickly after.

Where everybody may do what is asked for, nobody is asked who he is. Else credentials that are
wrong are refused (401) and none at all, or a user name with an empty password, are anonymous: uv
sends that first where its URL has a user name only, and asks its keyring after the 401 (measured).
"""

import asyncio
import base64
import binascii
import hashlib
import ipaddress
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import anyio
import anyio.to_thread

from proxyindex import audit
from proxyindex.access import ANONYMOUS, Identity, is_user_name
from proxyindex.errors import LoginRequired, TooManyAttempts
from proxyindex.inquiry import Ground
from proxyindex.users.attempts import Attempts, seconds
from proxyindex.users.htpasswd import Htpasswd, Witness
from proxyindex.users.tokens import TokenFile, is_token
from proxyindex.web.access import PEER_KEY
from proxyindex.web.given import Asker, Header, Verified, stands

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

    def speaks(self, peer: str) -> bool:
        """Whether this is the front."""
        return _is_among(peer, self.peers)


class _Check:
    """A verification under way, for all who show the same."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.is_broken = True  # until it has come to its end
        self.verified: Verified | None = None
        self.wait = 0.0


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
        self._verified: OrderedDict[bytes, Verified] = OrderedDict()
        self._looked_at: set[Verified] = set()
        self._checks: dict[bytes, _Check] = {}
        self._from_front: dict[str, Identity] = {}

    async def identify(self, scope: MutableMapping[str, Any]) -> Identity:
        """Who sent the request. Raises `LoginRequired` for a log-in that is wrong, and
        `TooManyAttempts`."""
        client = scope["client"][0] if scope.get("client") else "-"
        peer = scope.get(PEER_KEY, client)
        if self._front is not None and self._front.speaks(peer):
            named = [value for name, value in scope["headers"] if name == self._front.header]
            if named:
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
        if self._front is not None and self._front.speaks(asker.peer):
            named = [value for name, value in headers if name == self._front.header]
            if named:
                return self._from_front.get(_text(named[0])) if len(named) == 1 else None
        if not authorization:
            return ANONYMOUS
        verified = asker.verified
        if verified is None or asker.shown != authorization:
            verified = self._verified.get(self._digest(authorization))
        if verified is None or not self._still_stands(verified, asker):
            asker.verified = None
            return None
        asker.shown, asker.verified = authorization, verified
        return verified.identity

    def _still_stands(self, verified: Verified, asker: Asker) -> bool:
        """Looks at the files of accounts once per turn of the loop for all who showed the same.

        What is answered in a turn had arrived before the turn began, and so before the look: a
        request that is sent after a revocation meets a later one.
        """
        if asker.is_polled and verified in self._looked_at:
            return True
        if not stands(verified.ground):
            return False
        if asker.is_polled:
            if not self._looked_at:
                asyncio.get_running_loop().call_soon(self._looked_at.clear)
            self._looked_at.add(verified)
        return True

    def _named_by_front(self, named: Sequence[bytes]) -> Identity:
        user = _text(named[0])
        if len(named) > 1 or not is_user_name(user):
            # a front that adds its field to the client's own would believe anybody
            log.warning("the front names no user, or several: %s", named)
            raise LoginRequired("The front server names no user")
        if user not in self._from_front:
            if len(self._from_front) >= _MOST_REMEMBERED:
                self._from_front.clear()
            self._from_front[user] = self._identity(user)
        return self._from_front[user]

    async def _logged_in(self, authorization: bytes, client: str) -> Identity:
        key = self._digest(authorization)
        if (known := self._known(key)) is not None:
            return known
        scheme, user, secret = _credentials(authorization)
        if scheme == "basic" and not secret:
            return ANONYMOUS
        check = await self._checked(key, user, secret, client)
        if check.wait:
            raise TooManyAttempts(seconds(check.wait))
        if check.verified is None:
            raise LoginRequired("The log-in is wrong")
        return check.verified.identity

    async def _checked(self, key: bytes, user: str, secret: str, client: str) -> _Check:
        """The result of verifying, once for all that show the same at the same time."""
        while running := self._checks.get(key):
            await running.done.wait()
            if not running.is_broken:
                return running
        check = self._checks[key] = _Check()
        try:
            await self._verify(check, user, secret, client)
            check.is_broken = False
        finally:
            del self._checks[key]
            check.done.set()
        if check.verified is not None:
            self._verified[key] = check.verified
            while len(self._verified) > _MOST_REMEMBERED:
                self._verified.popitem(last=False)
        return check

    async def _verify(self, check: _Check, user: str, secret: str, client: str) -> None:
        if is_token(secret):
            check.verified = await self._by_token(secret)
        else:
            await self._by_password(check, user, secret, client)
        if check.verified is None and not check.wait:
            audit.note("log in", "refused", user=user or "-", client=client)

    async def _by_token(self, text: str) -> Verified | None:
        now = time.time()
        if self._tokens is None:
            return None
        found = await anyio.to_thread.run_sync(self._tokens.find, text, now)
        if found is None:
            return None
        token = found.token
        until = min(token.scope.expires, now + _REMEMBERED_SECONDS)
        identity = Identity(token.user, self._groups.get(token.user, frozenset()), token.scope)
        return Verified(identity, Ground(until=until, witnesses=[found.witness]))

    async def _by_password(self, check: _Check, user: str, secret: str, client: str) -> None:
        if self._hashers.statistics().tasks_waiting >= _MOST_WAITING:
            check.wait = 2.0
            return
        if wait := self._attempts.take(client, user):
            check.wait = wait
            return
        until = time.time() + _REMEMBERED_SECONDS
        is_right, witnesses = await anyio.to_thread.run_sync(
            self._passwords.verify, user, secret, limiter=self._hashers
        )
        if is_right:
            self._attempts.succeeded(client, user)
            check.verified = Verified(self._identity(user), _resting_on(witnesses, until))

    def _identity(self, user: str) -> Identity:
        return Identity(user, self._groups.get(user, frozenset()))

    def _known(self, key: bytes) -> Identity | None:
        verified = self._verified.get(key)
        if verified is None:
            return None
        if not stands(verified.ground):
            del self._verified[key]
            return None
        return verified.identity

    def _digest(self, authorization: bytes) -> bytes:
        return hashlib.blake2b(authorization, digest_size=16, key=self._key).digest()


def _credentials(authorization: bytes) -> tuple[str, str, str]:
    """Scheme in lower case, user and secret. Raises `LoginRequired`.

    RFC 7617 Basic, in UTF-8 as we ask for; requests, and so pip, sends Latin-1 all the same.
    RFC 6750 Bearer, which uv can send.
    """
    scheme, _, value = authorization.strip().partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer" and is_token(_text(value)):
        return "bearer", "", _text(value)
    if scheme.lower() == b"basic":
        try:
            user, colon, secret = _text(base64.b64decode(value, validate=True)).partition(":")
        except binascii.Error:
            colon = ""
        if colon:
            return "basic", user, secret
    raise LoginRequired("The log-in cannot be understood")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _resting_on(witnesses: Sequence[Witness], until: float) -> Ground:
    return Ground(until=until, witnesses=list(witnesses))


@lru_cache(1024)
def _is_among(peer: str, peers: tuple[str, ...]) -> bool:
    if peer in peers:
        return True
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(one) for one in peers if one != "unix")
