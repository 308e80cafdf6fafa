"""A remembered answer as it goes over the wire, and whether it still stands."""

import asyncio
import os
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from packaging.utils import NormalizedName
from starlette.responses import Response

from proxyindex.access import Identity, Rights
from proxyindex.inquiry import OUTCOME_HEADER, Ground, Inquiry, Outcome
from proxyindex.web.accesslog import Exchange

_AT_HAND = frozenset({Outcome.HIT, Outcome.LOCAL})
_JUST_FETCHED = frozenset({Outcome.FETCHED, Outcome.JOINED})
_OUTCOME = OUTCOME_HEADER.encode()

Header = tuple[bytes, bytes]
Prepared = tuple[str, str]  # all of an access line that does not change between requests


class AccessLines(Protocol):
    """Writes access lines (`lines.AccessLines`)."""

    def prepare(self, fields: MutableMapping[str, Any]) -> Prepared: ...

    def write(self, prepared: Prepared, client: str, user: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Gate:
    """Who may have an answer that was given before: whoever may read the project and, unless it
    `is_own` and nothing else, have it fetched. `None` in place of a gate: everybody."""

    rights: Rights
    project: NormalizedName
    is_own: bool

    def admits(self, identity: Identity) -> bool:
        """For the event loop: a look-up, most of the time."""
        return self.rights.may_get(identity, self.project, is_own=self.is_own)


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """A log-in that was right, for as long as the files that say so are as they were."""

    identity: Identity
    ground: Ground


@dataclass(slots=True)
class Asker:
    """Who asks on one connection: the address of its socket, the user of the latest request that
    was answered, `-` where that did not matter, and what the connection showed last and was known
    by: most show the same each time. `is_polled`: its bytes are handled in the turn of the event
    loop in which they were found to have arrived."""

    peer: str = "-"
    user: str = "-"
    shown: bytes = b""
    verified: Verified | None = None
    is_polled: bool = False


class Known(Protocol):
    """Who is known without any work (`identity.Identities`)."""

    def at_hand(
        self, authorization: bytes, headers: Sequence[Header], asker: Asker
    ) -> Identity | None: ...


class Part(NamedTuple):
    """Bytes of an open file of `size` from `start` up to `stop`; `fd` stays open until callbacks
    that are scheduled now have run. `path` is the one asked for."""

    fd: int
    size: int
    start: int
    stop: int
    path: str


class Given(NamedTuple):
    """What is to be sent: status, fields with the empty line, body; and what is noted of it.

    The body are bytes, or part of a file.
    """

    status: int
    fields: bytes
    body: bytes
    exchange: Exchange
    line: Prepared
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the plain way: the request, what was learned for it, what was sent and noted,
    and who may have it besides (`None`: everybody)."""

    scope: MutableMapping[str, Any]
    inquiry: Inquiry
    response: Response
    exchange: Exchange
    gate: Gate | None = None

    @property
    def is_fetched(self) -> bool:
        """Whether an upstream was asked for it."""
        return self.inquiry.outcome in _JUST_FETCHED

    @property
    def may_recur(self) -> bool:
        """Whether the same request may have the same answer: not if that is stale."""
        is_plain = self.scope["method"] == "GET" and not self.scope["query_string"]
        return is_plain and (self.is_fetched or self.inquiry.outcome in _AT_HAND)

    def again(self) -> tuple[list[Header], Exchange]:
        """Its fields and what is noted when it is given again: nobody is asked for it then."""
        fields = self.response.raw_headers
        if not self.is_fetched:
            return fields, self.exchange
        told = Outcome.HIT.value
        fields = [(name, told.encode() if name == _OUTCOME else value) for name, value in fields]
        return fields, replace(self.exchange, outcome=told)


def wire_fields(headers: Sequence[Header]) -> bytes:
    """Fields as they go over the wire, without the empty line."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def stands(ground: Ground) -> bool:
    """Whether all that an answer rests on is as it was."""
    if (
        not ground.witnesses
        or not ground.is_known
        or not ground.since <= time.time() < ground.until
    ):
        return False
    for path, stamp in ground.witnesses:
        if stamp is None:  # half of what an error costs
            if os.access(path, os.F_OK):
                return False
            continue
        try:
            found = os.stat(path)
        except OSError:
            return False
        # as `disk.signature`, without a call for each
        if stamp != (found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns):
            return False
    return True


class Looks:
    """Looks at what answers rest on, once per turn of the event loop for all that arrived in it.

    What is answered in a turn had arrived before the turn began, and so before the look: a request
    that is sent after a change was confirmed meets a later one. Under load a turn has many
    requests: each is spared a `stat` per witness (ranges of 64 KiB: 8 µs of 46).
    """

    def __init__(self) -> None:
        self._stood: set[Ground] = set()

    def stands(self, ground: Ground, asker: Asker) -> bool:
        """As the function `stands`, for a request of `asker`. For the event loop."""
        if not asker.is_polled:
            return stands(ground)
        if ground in self._stood:
            return True
        if not stands(ground):
            return False
        if not self._stood:
            asyncio.get_running_loop().call_soon(self._stood.clear)
        self._stood.add(ground)
        return True
