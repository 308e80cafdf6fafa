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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from proxyindex.files.content import Content
from proxyindex.inquiry import Ground
from proxyindex.web.accesslog import RequestCounter, line_fields, write_line
from proxyindex.web.given import (
    AccessLines,
    Answered,
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
_SMALL = 64 * 1024  # bytes of a file that is kept in memory
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


class Express:
    """The remembered answers of one worker, least recently used ones leaving first.

    Small bodies are kept in memory, files as open descriptors. `seen`: whole requests, as they
    arrived, with what they ask for; kept by `see`.
    """

    def __init__(
        self, metrics: RequestCounter, lines: AccessLines, known: Known, *, by_user: bool
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

    def note(
        self, given: Given, client: str, seconds: float, user: str = "-", sent: int | None = None
    ) -> None:
        """Count and log the answer, of which only `sent` bytes were taken if that is said."""
        exchange, part = given.exchange, given.part
        whole = len(given.body) if part is None else part.stop - part.start
        size = whole if sent is None else sent
        outcome = exchange.outcome or "-"
        self._metrics.request(exchange.kind, given.status, outcome, seconds, size)
        if sent is None:
            self._lines.write(given.line, client, user, seconds)
        else:
            path = part.path if part else ""
            scope = {"client": (client, 0), "method": "GET", "path": path}
            fields = line_fields(scope, exchange, given.status, sent) | {"user": user}
            write_line(fields, seconds, is_complete=False)

    def remember(self, answered: Answered, body: bytes) -> None:
        """Give this answer to the same question from now on, if it is one that may be, and to all
        whom its gate admits. What was just fetched may be when it is stored."""
        known = answered.inquiry.ground.when_known
        remember = partial(self._remember, answered, body)
        if answered.is_fetched:
            # behind the answer, which is waited for: 0.15 ms of the 3 that a cold page takes here
            asyncio.get_running_loop().call_soon(known, remember)
        else:
            known(remember)

    def _remember(self, answered: Answered, body: bytes) -> None:
        question = self._question(answered)
        if question is None or question.span or answered.response.status_code != 200:
            return
        key = question.key
        known = self._ready.get(key)
        if known is not None and known.full.body == body and stands(known.ground):
            return  # asked in a way that is answered on the plain way only
        self._drop(key)
        self._ready[key] = self._made(answered, body)
        self._size += len(body)
        while self._size > _BUDGET or len(self._ready) > _LIMIT:
            self._drop(next(iter(self._ready)))

    def remember_file(self, answered: Answered, content: Content) -> None:
        """As `remember`, of a file: in memory if it is small, else by its open descriptor."""
        if answered.response.status_code not in (200, 206) or self._question(answered) is None:
            return
        body = content.at_hand(_SMALL)
        if body is not None:
            self.remember(answered, body)
        if (fd := content.descriptor()) is not None:
            self._files.keep(answered, fd)

    def sweep(self) -> None:
        """Let go of files that were evicted or changed; to be called now and then."""
        self._files.sweep()

    def close(self) -> None:
        """Close what is open."""
        self._files.close()

    def _made(self, answered: Answered, body: bytes) -> _Ready:
        headers, exchange = answered.again()

        def given(status: int, headers: Sequence[Header], body: bytes) -> Given:
            fields = line_fields(answered.scope, exchange, status, len(body))
            line = self._lines.prepare(fields)
            return Given(status, wire_fields(headers) + b"\r\n", body, exchange, line)

        short = [header for header in headers if header[0] in _SHORT]
        etag = dict(headers).get(b"etag", b"")
        full, brief = given(200, headers, body), given(304, short, b"")
        return _Ready(etag, full, brief, answered.inquiry.ground, answered.gate)

    def _question(self, answered: Answered) -> Question | None:
        """What was asked, if its answer may be remembered."""
        if not answered.may_recur or not stands(answered.inquiry.ground):
            return None
        return self.asked(answered.scope["raw_path"], answered.scope["headers"])

    def _admits(self, asker: Asker, question: Question, gate: Gate | None) -> bool:
        if gate is None:
            return True
        identity = self._known.at_hand(question.authorization, question.headers, asker)
        if identity is None or not gate.admits(identity):
            return False
        asker.user = identity.user or "-"
        return True

    def _drop(self, key: Key) -> None:
        if (old := self._ready.pop(key, None)) is not None:
            self._size -= len(old.full.body)
