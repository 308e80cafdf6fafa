"""uvicorn's HTTP/1.1 protocol with what it lacks towards clients: bounds and deadlines.

uvicorn waits for ever for the end of a request's head, and keeps any number of header bytes.
"""

import asyncio
import enum
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from proxyindex.access import UNIX_PEER
from proxyindex.server.answering import AnsweringProtocol
from proxyindex.server.heads import has_body, head_fault, with_path
from proxyindex.web.accesslog import REFUSALS_KEY, TOLD_KEY
from proxyindex.web.body import BODY_KEY, BodyTerms

HEAD_LIMIT = 32 * 1024
TARGET_LIMIT = 8 * 1024
# Requests that wait for earlier answers. One read brings up to 256 KiB, 9,000 requests of 2 KiB of
# memory each, and each answer begun has the next read follow.
QUEUE_LIMIT = 128
SLOWEST = 1024  # bytes a second of a body that an endpoint waits for
LINGER_SECONDS = 2.0
STOPPING_KEY = "stopping"  # where the application's state says that the server stops
UNWANTED_SECONDS = 5.0


class _Phase(enum.Enum):
    """What the bytes that arrive next belong to."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class _Refused(Exception):
    """Stops the parser; the protocol has noted what to answer."""


class BoundedProtocol(AnsweringProtocol):
    """One client connection, with bounds on all that a client may send.

    A request whose head is not complete within `head_seconds` of its first byte (or of the
    connection) is answered 408, a head over `HEAD_LIMIT` bytes 400, a target over `TARGET_LIMIT`
    414, an unsent body 408, contradictory framing and a missing or second `Host` 400
    (RFC 9112 §3.2, §6.1, §6.3). Of pipelined requests `QUEUE_LIMIT` may wait: they are answered,
    and then the connection ends, so that the client sends the others anew (RFC 9112 §9.3.2).
    None of this touches a client that reads its response slowly.
    """

    head_seconds = 10.0
    body_seconds = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._phase = _Phase.IDLE
        self._received = 0  # bytes since the phase began, without the read it began in
        self._head_size = 0
        self._fruitless = 0  # bytes of a body's coding and trailer fields, since its last piece
        self._deadline: asyncio.TimerHandle | None = None
        self._body = BodyTerms()  # of the request being read
        self._counted = 0  # bytes of its body at the last deadline
        self._refusal: tuple[int, str] | None = None
        self._is_deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()
        if self.app_state.get(STOPPING_KEY):
            self.shutdown()  # the others have been told

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        self._lines.on_close = None  # ends a reference cycle

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._received += len(data)
        self._fruitless += len(data)
        super().data_received(data)
        if self._is_deaf:
            return  # the parser's callbacks have refused it already: one read can break two bounds
        if self._phase is _Phase.HEAD and self._received > HEAD_LIMIT:
            self._refuse(400, "The request's header fields are too large.")
        elif self._phase is _Phase.BODY and self._received > self._body.limit:
            self._refuse(413, "The request's body is too large.")
        elif self._phase is _Phase.BODY and self._fruitless > HEAD_LIMIT:
            # the parser collects a field until its line ends
            self._refuse(400, "The fields behind the request's body are too large.")
        else:
            self._arm()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._body = BodyTerms()
        self._counted = 0
        self.scope["extensions"] = {BODY_KEY: self._body}  # type: ignore[dict-item]
        self._enter(_Phase.HEAD)
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > TARGET_LIMIT:
            self._stop(414, "The request's target is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _Phase.HEAD:
            return  # a trailer field: uvicorn would add it to the headers of a request under way
        self._head_size += len(name) + len(value) + 4
        if self._head_size > HEAD_LIMIT:
            self._stop(400, "The request's header fields are too large.")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if fault := head_fault(self.headers, self.parser.get_http_version()):
            self._stop(400, fault)
        if self.parser.should_upgrade() and has_body(self.headers):
            self._stop(501, "No Upgrade of a request with a body; send it without.")
        if len(self.pipeline) >= QUEUE_LIMIT:
            self._stop(400, "Too many requests wait for their answers.")
        self.url = with_path(self.url)
        self._begin()
        self._enter(_Phase.BODY)
        self._fruitless = 0
        self._lines.on_close = self._leave_unread

    def on_body(self, body: bytes) -> None:
        self._fruitless = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._lines.on_close = None
        self._end()
        self._enter(_Phase.IDLE)

    def _begin(self) -> None:
        """A sound head has arrived."""
        super().on_headers_complete()

    def _end(self) -> None:
        """The request has arrived."""
        super().on_message_complete()

    def _is_between(self) -> bool:
        """Whether nothing has arrived of the next request."""
        return self._phase is _Phase.IDLE and not self._received

    def _stop(self, status: int, problem: str) -> None:
        self._refusal = (status, problem)
        raise _Refused

    # uvicorn calls these two where parsing ended

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self._refusal or (400, msg)))

    def _unsupported_upgrade_warning(self) -> None:
        # The parser takes what follows an Upgrade for another protocol, even the body of this
        # very request, which is refused for it. Others are answered in HTTP/1.1, once.
        self.cycle.keep_alive = False
        self._is_deaf = True

    # Deadlines

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._received = 0
        self._disarm()

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _arm(self) -> None:
        # between requests uvicorn's keep-alive time-out rules
        is_kept = self.timeout_keep_alive_task is not None
        is_at_rest = self._phase is _Phase.IDLE and (is_kept or self._is_answering())
        if self._deadline is None and not is_at_rest and not self._is_deaf:
            seconds = self.body_seconds if self._phase is _Phase.BODY else self.head_seconds
            self._deadline = self.loop.call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        if self.flow.read_paused or (self._phase is _Phase.HEAD and self._is_answering()):
            self._arm()  # we do not listen, or owe the answer to an earlier request
        elif self._phase is _Phase.BODY and self._is_coming():
            self._arm()
        elif self._phase is _Phase.IDLE:
            self.transport.close()
        else:
            self._refuse(408, "The request did not arrive in time.")

    def _is_coming(self) -> bool:
        """Whether a body that is waited for came at a pace worth waiting for, or at ours."""
        came, self._counted = self._received - self._counted, self._received
        wanted = self._body.is_wanted and self._is_answering()
        return wanted and came >= SLOWEST * self.body_seconds

    # Refusing

    def _refuse(self, status: int, problem: str) -> None:
        """Answer the request being read with an error and end the connection.

        Answers under way are finished first: an error must not land inside a file's bytes.
        """
        self._is_deaf = True
        self._disarm()
        # what is not read makes the end a reset, by which a client loses what it was sent last
        self.flow.resume_reading()
        is_own = self._phase is _Phase.BODY  # the newest cycle answers the refused request
        if is_own and self.pipeline:
            self._tell_in_turn(status, problem)
        elif is_own and not self._is_answering():
            self._end_after(UNWANTED_SECONDS)  # answered already
        elif self._is_answering() and (not is_own or self.cycle.response_started):
            self.cycle.keep_alive = False
            # behind the answer, and behind what the client may still be sending
            self._lines.on_close = partial(self._end_after, LINGER_SECONDS)
        else:
            self._tell(status, problem)

    def _tell_in_turn(self, status: int, problem: str) -> None:
        """Tell it in place of the answer for which the newest request waits."""
        cycle, _ = self.pipeline.popleft()

        async def tell(*_: object) -> None:
            cycle.disconnected = cycle.response_complete = True
            self._tell(status, problem)

        self.pipeline.appendleft((cycle, tell))

    def _tell(self, status: int, problem: str) -> None:
        if self._is_answering():
            cast(Any, self.cycle.scope)[TOLD_KEY] = status
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif note := self.app_state.get(REFUSALS_KEY):
            note(*self._asked(), status, len(problem) + 1)
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{k.decode()}: {v.decode()}" for k, v in self.server_state.default_headers),
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(problem) + 1}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*lines, "", problem + "\n"]).encode())
        self._end_after(LINGER_SECONDS)

    def _asked(self) -> tuple[str, str, str]:
        """Client, method and path of the request being read, as far as it came."""
        client = self.client[0] if self.client else UNIX_PEER
        if self._phase is _Phase.IDLE or not self.url:
            return client, "-", "-"
        path = self.url.partition(b"?")[0]
        return client, self.parser.get_method().decode(), path.decode("latin-1")

    def _leave_unread(self) -> None:
        """End the connection, in answer to a request whose body was not read: without a lingering
        urllib, and nginx before us, showed a reset instead of the refusal (measured)."""
        self._is_deaf = True
        self._disarm()
        self.flow.resume_reading()
        self._end_after(UNWANTED_SECONDS)

    def _end_after(self, seconds: float) -> None:
        # RFC 9112 §9.6: closing with unread bytes resets the connection, and the client may
        # lose the answer; so keep reading (and dropping) for a moment.
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.loop.call_later(seconds, self.transport.close)
