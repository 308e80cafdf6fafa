"""The access log: one line and one count per request, after its last byte."""

import logging
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCOPE_KEY = "proxyindex"
PEER_KEY = "proxyindex.peer"  # where the scope has the socket's peer, whatever was forwarded
LEFT_KEY = "proxyindex.left"  # where it has what tells, when called, that the client has left
TOLD_KEY = "proxyindex.told"  # where it has the status that the server told instead, if it did
CROWDED_KEY = "proxyindex.crowded"  # where it is said that more are connected than may be
HOUSES_KEY = "houses"  # where the application's state has them (`web.house.Houses`)
REFUSALS_KEY = "refusals"  # where the application's state has `note_refusal` with its metrics
PATH_LIMIT = 1000  # characters of a path worth a log line
MIDDLE = " %(method)s %(path)s %(status)d %(project)s %(file)s %(outcome)s %(bytes)dB "
LINE = f"%(client)s %(user)s{MIDDLE}%(milliseconds).1fms"

Kind = Literal["page", "file", "metadata", "list", "health", "upload", "change", "other"]

logger = logging.getLogger("proxyindex.access")


@dataclass(slots=True)
class Exchange:
    """What an endpoint tells about the request it answers; `outcome` as in `X-Proxyindex`, `user`
    where it mattered who asked."""

    kind: Kind = "other"
    index: str | None = None
    project: str | None = None
    filename: str | None = None
    outcome: str | None = None
    user: str | None = None


class RequestCounter(Protocol):
    """Counts answered requests (`metrics.Metrics`)."""

    def request(self, kind: str, status: int, outcome: str, seconds: float, size: int) -> None: ...


def exchange_of(scope: MutableMapping[str, object]) -> Exchange:
    """The exchange to be filled in for this request; a new one if nobody logs."""
    found = scope.setdefault(SCOPE_KEY, Exchange())
    if not isinstance(found, Exchange):
        raise TypeError(f"scope[{SCOPE_KEY!r}] is not an Exchange")
    return found


class AccessLog:
    """ASGI middleware, to be put outermost: logs and counts every request when it has ended.

    The line has method, path (never the query), status, project, file, outcome, body bytes handed
    to the connection, milliseconds, the client's address and the user. `aborted` says that the
    answer was not complete, because the client left or because we ended it on purpose.
    """

    def __init__(self, app: ASGIApp, metrics: RequestCounter) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange()
        scope[SCOPE_KEY] = exchange
        has_left = scope.get(LEFT_KEY, bool)
        answer = _Answer(receive, send, has_left, has_body=scope["method"] != "HEAD")
        started = time.perf_counter()
        try:
            await self._app(scope, answer.receive, answer.send)
        finally:
            self._note(scope, exchange, answer, time.perf_counter() - started)

    def _note(self, scope: Scope, exchange: Exchange, answer: "_Answer", seconds: float) -> None:
        outcome, status = exchange.outcome or "-", scope.get(TOLD_KEY, answer.status)
        self._metrics.request(exchange.kind, status, outcome, seconds, answer.size)
        fields = line_fields(scope, exchange, status, answer.size)
        write_line(fields, seconds, is_complete=answer.is_complete)


def note_refusal(
    metrics: RequestCounter, client: str, method: str, path: str, status: int, size: int
) -> None:
    """Count and log what the server refused by itself, before the application was asked."""
    exchange = Exchange(outcome="refused")
    metrics.request(exchange.kind, status, "refused", 0.0, size)
    scope = {"client": (client, 0), "method": method, "path": path}
    write_line(line_fields(scope, exchange, status, size), 0.0, is_complete=True)


def write_line(fields: dict[str, object], seconds: float, *, is_complete: bool) -> None:
    """One access line, now."""
    fields["milliseconds"] = round(seconds * 1000, 1)
    fields["aborted"] = not is_complete
    line = LINE if is_complete else LINE + " aborted"
    logger.info(line, fields, extra={"fields": fields})


def line_fields(
    scope: MutableMapping[str, Any], exchange: Exchange, status: int, size: int
) -> dict[str, object]:
    """What an access line tells, in its order, but for how long the answer took."""
    client = scope.get("client")
    return {
        "client": client[0] if client else "-",
        "user": exchange.user or "-",
        "method": scope["method"],
        # decoded, hence with any character in it: the formatters escape
        "path": scope["path"][:PATH_LIMIT].replace(" ", "%20"),
        "status": status,
        "index": exchange.index or "-",
        "project": exchange.project or "-",
        "file": exchange.filename or "-",
        "outcome": exchange.outcome or "-",
        "bytes": size,
        "milliseconds": 0.0,
        "aborted": False,
    }


class _Answer:
    """Watches the messages of one answer."""

    def __init__(
        self, receive: Receive, send: Send, has_left: Callable[[], bool], *, has_body: bool
    ) -> None:
        self._receive = receive
        self._send = send
        self._has_left = has_left
        self._has_body = has_body
        self._is_disconnected = False
        self.status = 500  # what the server sends if the application sends nothing
        self.size = 0
        self.is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_disconnected = True
        return message

    async def send(self, message: Message) -> None:
        # uvicorn drops what is sent to a client that has left, without an error
        is_sent = not self._is_disconnected and not self._has_left()
        if message["type"] == "http.response.body" and self._has_body and is_sent:
            # before it may wait for room: who leaves meanwhile, which ends this, has had some of it
            self.size += len(message.get("body", b""))
        await self._send(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False) and is_sent
