"""Answers remembered whole and given before routing: the express way of what is asked for again.

Most requests of a busy index are for pages and small files that were asked for a moment ago. Their
answers are kept as the bytes that go over the wire, those of larger files as an open descriptor,
with what they rest on (`inquiry.Ground`): while that stands, and it is looked at each time, they
are right. An answer that is not for everybody has a gate, before which the identity of who asks is
looked up. Everything unusual (conditions other than one entity tag, cache directives, log-ins that
are not known yet, our own requests coming back) takes the plain way, which works without this one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from starlette.responses import Response

from proxyindex.files.content import Content
from proxyindex.inquiry import Ground, Inquiry, Outcome
from proxyindex.web.accesslog import (
    OUTCOME_HEADER,
    Exchange,
    RequestCounter,
    line_fields,
    write_line,
)
from proxyindex.web.given import (
    AccessLines,
    Asker,
    Gate,
    Given,
    Header,
    Known,
    Looks,
    stands,
    wire_fields,
)
from proxyindex.web.openfiles import OpenFiles
from proxyindex.web.questions import Key, Question, asked

_BUDGET = 64 * 1024**2  # bytes of remembered answers, per worker
_LIMIT = 20_000  # answers: clients choose the wording of their Accept
EXPRESS_KEY = "express"  # where the application's state has them
_SMALL = 64 * 1024  # bytes of a file that is kept in memory
# what the same question is answered with next, by what it was answered with; not at all if stale
_NEXT = {
    Outcome.LOCAL: Outcome.LOCAL,
    Outcome.HIT: Outcome.HIT,
    Outcome.FETCHED: Outcome.HIT,
    Outcome.JOINED: Outcome.HIT,
}
_AT_HAND = frozenset({Outcome.HIT, Outcome.LOCAL})
_OUTCOME = OUTCOME_HEADER.encode()

# fields of a 304: RFC 9110, 15.4.5, and our own
_SHORT = frozenset({b"cache-control", b"etag", b"last-modified", b"vary", b"x-proxyindex"})


_MOST_SEEN = 4096  # requests
_SEEN_SIZE = 2048  # bytes of one


@dataclass(frozen=True, slots=True)
class _Ready:
    """An answer in full and as a 304, its strong entity tag, what it rests on, and for whom."""

    etag: bytes
    full: Given
    short: Given
    ground: Ground
    gate: Gate | None


class ExpressSource(Protocol):
    """Has the remembered answers of the configuration now in force."""

    @property
    def express(self) -> "Express": ...


class Express:
    """The remembered answers of one worker, least recently used ones leaving first.

    Small bodies are kept in memory, files as open descriptors. `seen`: whole requests, as they
    arrived, with what they ask for; kept by `see`.
    """

    def __init__(
        self,
        metrics: RequestCounter,
        lines: AccessLines,
        known: Known | None = None,
        *,
        by_user: bool = False,
    ) -> None:
        """`by_user`: user names select indexes, so that log-ins take the plain way."""
        self._metrics = metrics
        self._known = known
        self._by_user = by_user
        self._lines = lines
        self._looks = Looks()
        self._ready: OrderedDict[Key, _Ready] = OrderedDict()
        self.seen: dict[bytes, Question] = {}
        self._size = 0
        self._files: OpenFiles = OpenFiles(lines)

    def asked(self, target: bytes, headers: Sequence[Header]) -> Question | None:
        """What a GET asks for; `None` if not so simply."""
        question = asked(target, headers)
        return None if question and self._by_user and question.authorization else question

    def answer_to(self, question: Question, asker: Asker) -> Given | None:
        """The answer, if it is remembered, stands, and is for the `asker`.

        For the event loop: a look-up and a `stat` per witness.
        """
        key, condition = question.key, question.condition
        asker.user = "-"
        ready = self._ready.get(key)
        if ready is None or question.span:
            return None if condition else self._part(question, asker)
        if not self._admits(asker, question, ready.gate):
            return None  # the plain way tells why
        if not self._looks.stands(ready.ground, asker):
            self._drop(key)
            return None
        if condition and condition != ready.etag:
            return None  # a list, a weak tag, an old tag: the plain way tells
        self._ready.move_to_end(key)
        for use in ready.ground.uses:
            use()
        return ready.short if condition else ready.full

    def _part(self, question: Question, asker: Asker) -> Given | None:
        target = question.key[0]
        file = self._files.find(target)
        if file is None or not self._admits(asker, question, file.gate):
            return None
        if not self._looks.stands(file.ground, asker):
            self._files.drop(target)
            return None
        return self._files.answer(target, file, question.span)

    def see(self, request: bytes, question: Question) -> None:
        """Know this request again."""
        if len(request) <= _SEEN_SIZE:
            if len(self.seen) >= _MOST_SEEN:
                self.seen.clear()
            self.seen[request] = question

    def note(self, given: Given, client: str, seconds: float, user: str = "-") -> None:
        """Count and log that the answer was given."""
        exchange, part = given.exchange, given.part
        size = len(given.body) if part is None else part.stop - part.start
        outcome = exchange.outcome or "-"
        self._metrics.request(exchange.kind, given.status, outcome, seconds, size)
        self._lines.write(given.line, client, user, seconds)

    def note_broken(
        self, given: Given, sent: int, client: str, seconds: float, user: str = "-"
    ) -> None:
        """Count and log that only `sent` bytes of the part were taken."""
        exchange = given.exchange
        outcome = exchange.outcome or "-"
        self._metrics.request(exchange.kind, given.status, outcome, seconds, sent)
        path = given.part.path if given.part else ""
        scope = {"client": (client, 0), "method": "GET", "path": path}
        fields = line_fields(scope, exchange, given.status, sent) | {"user": user}
        write_line(fields, seconds, is_complete=False)

    def remember(
        self,
        scope: MutableMapping[str, Any],
        inquiry: Inquiry,
        response: Response,
        body: bytes,
        exchange: Exchange,
        gate: Gate | None = None,
    ) -> None:
        """Give this answer to the same question from now on, if it is one that may be, and to all
        whom the gate admits. What was just fetched may be when it is stored."""
        known = inquiry.ground.when_known
        remember = partial(self._remember, scope, inquiry, response, body, exchange, gate)
        if inquiry.outcome in _AT_HAND:
            known(remember)
        else:  # behind the answer: its client has waited for an upstream already
            asyncio.get_running_loop().call_soon(known, remember)

    def _remember(
        self,
        scope: MutableMapping[str, Any],
        inquiry: Inquiry,
        response: Response,
        body: bytes,
        exchange: Exchange,
        gate: Gate | None,
    ) -> None:
        question = self._question(scope, inquiry)
        if question is None or question.span or response.status_code != 200:
            return
        key = question.key
        known = self._ready.get(key)
        if known is not None and known.full.body == body and stands(known.ground):
            return  # asked in a way that is answered on the plain way only
        self._drop(key)
        self._ready[key] = self._made(scope, inquiry, response, body, exchange, gate)
        self._size += len(body)
        while self._size > _BUDGET or len(self._ready) > _LIMIT:
            self._drop(next(iter(self._ready)))

    def remember_file(
        self,
        scope: MutableMapping[str, Any],
        inquiry: Inquiry,
        response: Response,
        content: Content,
        exchange: Exchange,
        gate: Gate | None = None,
    ) -> None:
        """As `remember`, of a file: in memory if it is small, else by its open descriptor."""
        if response.status_code not in (200, 206) or self._question(scope, inquiry) is None:
            return
        body = content.at_hand(_SMALL)
        if body is not None:
            self.remember(scope, inquiry, response, body, exchange, gate)
        if (fd := content.descriptor()) is not None:
            self._files.keep(scope, inquiry.ground, response, fd, exchange, gate)

    def sweep(self) -> None:
        """Let go of files that were evicted or changed; to be called now and then."""
        self._files.sweep()

    def close(self) -> None:
        """Close what is open."""
        self._files.close()

    def _made(
        self,
        scope: MutableMapping[str, Any],
        inquiry: Inquiry,
        response: Response,
        body: bytes,
        exchange: Exchange,
        gate: Gate | None,
    ) -> _Ready:
        assert inquiry.outcome is not None
        outcome = _NEXT[inquiry.outcome].value
        exchange = replace(exchange, outcome=outcome)
        headers = [
            h if h[0] != _OUTCOME else (_OUTCOME, outcome.encode()) for h in response.raw_headers
        ]

        def given(status: int, headers: Sequence[Header], body: bytes) -> Given:
            line = self._lines.prepare(line_fields(scope, exchange, status, len(body)))
            return Given(status, wire_fields(headers) + b"\r\n", body, exchange, line)

        short = [header for header in headers if header[0] in _SHORT]
        etag = dict(headers).get(b"etag", b"")
        return _Ready(etag, given(200, headers, body), given(304, short, b""), inquiry.ground, gate)

    def _question(self, scope: MutableMapping[str, Any], inquiry: Inquiry) -> Question | None:
        """What was asked, if its answer may be remembered."""
        if scope["method"] != "GET" or scope["query_string"] or inquiry.outcome not in _NEXT:
            return None
        return self.asked(scope["raw_path"], scope["headers"]) if stands(inquiry.ground) else None

    def _admits(self, asker: Asker, question: Question, gate: Gate | None) -> bool:
        if gate is None:
            return True
        if self._known is None:
            return False
        identity = self._known.at_hand(question.authorization, question.headers, asker)
        if identity is None or not gate.admits(identity):
            return False
        asker.user = identity.user or "-"
        return True

    def _drop(self, key: Key) -> None:
        if (old := self._ready.pop(key, None)) is not None:
            self._size -= len(old.full.body)
