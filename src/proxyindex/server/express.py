"""Remembered answers (`web/express.py`) given by the protocol itself.

Without a task, a scope and messages, which cost more than such an answer; and without parsing a
request that has arrived before in the same words. Measured for a page of four files, log and
metrics on: 170 µs of this process on the plain way, 14 without tasks, 8 without parsing.
"""

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from proxyindex.server.protocol import BoundedProtocol
from proxyindex.server.sendfile import Sending, at_once, read_behind
from proxyindex.web.accesslog import HOUSES_KEY
from proxyindex.web.express import Express
from proxyindex.web.given import Asker, Given, Part
from proxyindex.web.questions import Question, without_range

if TYPE_CHECKING:  # all of the house: a third of the supervisor's memory
    from proxyindex.web.house import Houses

_JOINED = 16 * 1024  # bytes: longer bodies are not copied to join their head
_BUFFERED = 64 * 1024  # bytes: the transport sends more at once
# Bytes of a part that is read on the loop, for TLS: ranges of 64 KiB in 70 µs instead of 550
_READ = 128 * 1024
# Heads in one read after which the others get a turn. One socket may have 32 reads of 256 KiB in a
# turn: beside a client that pipelined without end a page took 3.5 s instead of 0.1.
_HEADS = 64
_STATUS_LINES = {
    200: b"HTTP/1.1 200 OK\r\n",
    206: b"HTTP/1.1 206 Partial Content\r\n",
    304: b"HTTP/1.1 304 Not Modified\r\n",
}


_Asked = tuple[str, str, float]  # by which client and user, and when


class _Owed(NamedTuple):
    """A part of a file that is to be sent behind `head` at the end of this turn of the loop."""

    given: Given
    part: Part
    head: bytes | bytearray  # under TLS with the part
    asked: _Asked


class ExpressProtocol(BoundedProtocol):
    """One client connection whose requests are answered from memory where that is right."""

    _common: ClassVar[tuple[object, bytes]] = (None, b"")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._houses: Houses | None = self.app_state.get(HOUSES_KEY)
        self._express: Express | None = None
        self._given: Given | None = None
        self._asker = Asker()
        self._read: bytearray | None = None  # head and part of what is given, under TLS
        self._owed: _Owed | None = None
        self._socket: socket.socket | None = None  # a duplicate for `sendfile`, once it is needed
        self._asked_at = 0.0
        self._latest: tuple[bytes, Question | None] = (b"", None)  # with a log-in
        self._heads = 0  # complete ones in this read
        self._question: Question | None = None  # of the last of them, if it was answered here

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._owed is not None:
            owed, self._owed = self._owed, None
            self._note(owed.given, owed.asked, 0)
        if self._socket is not None:  # no longer watched: what was being sent has been told
            self._socket.close()

    def shutdown(self) -> None:
        self._pay()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        self._pay()
        is_between = self._houses is not None and self._is_between()
        if is_between:
            question = self._seen(data)
            if question is not None and self._is_free() and self._look(question):
                # the parser is where it was when it took these bytes
                self._disarm()
                self._unset_keepalive_if_required()
                self.headers = list(question.headers)
                self._end()
                return
        self._heads = 0
        super().data_received(data)
        if self._heads > _HEADS:
            self._rest()
        elif is_between and self._question and self._heads == 1 and self._is_between():
            self._see(data, self._question)

    def _rest(self) -> None:
        """Read on in the next turn of the loop, unless that waits for something else already."""
        if not self.flow.read_paused and not self._is_deaf:
            self.flow.pause_reading()
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        # at the end of an answer under way uvicorn reads on
        if not self._is_answering() and not self.transport.is_closing():
            self.flow.resume_reading()

    def _seen(self, data: bytes) -> Question | None:
        """What these bytes ask for, if they are to the letter a request that was parsed before, or
        are but for the range."""
        express = self._present()
        latest, question = self._latest
        if data == latest:
            return question
        if (known := express.seen.get(data)) is not None:
            return known
        request, span = without_range(data)
        if not span:
            return None
        known = question if request == latest else express.seen.get(request)
        return None if known is None else known.of_range(span)

    def _present(self) -> Express:
        """The remembered answers of the configuration now in force."""
        assert self._houses is not None
        express = self._houses.current.express
        if express is not self._express:  # another one: it may read log-ins otherwise
            self._express, self._latest = express, (b"", None)
            self._asker.verified = None  # and give users other groups
        return express

    def _see(self, data: bytes, question: Question) -> None:
        """Know these bytes again: on this connection if they hold a log-in, else on any; and with
        another range, as clients seldom ask for one part twice."""
        assert self._express is not None
        if question.span:
            data, span = without_range(data)
            if not span:
                return
            question = question.of_range(b"")
        if question.authorization:
            self._latest = data, question
        else:
            self._express.see(data, question)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._asker.peer = self.client[0] if self.client else "-"
        # what TLS has in its buffers may be handled in a later turn of the loop
        self._is_plain = self._asker.is_polled = transport.get_extra_info("sslcontext") is None

    def _begin(self) -> None:
        self._pay()
        self._heads += 1
        self._question = None
        if self._houses is not None and self._is_free() and self._is_simple():
            question = self._present().asked(self.url, self.headers)
            if question is not None and self._look(question):
                self._question = question
                return
        self._unset_keepalive_if_required()  # of an answer that was given in this very read
        super()._begin()

    def _look(self, question: Question) -> bool:
        """Whether there is an answer, which is then to be given."""
        assert self._express is not None
        self._asked_at = time.perf_counter()
        given = self._express.answer_to(question, self._asker)
        if given is None:
            return False
        if given.part is not None and not self._may_owe(given, given.part):
            return False
        self._given = given
        return True

    def _refuse(self, status: int, problem: str) -> None:
        self._pay()
        super()._refuse(status, problem)

    def _end(self) -> None:
        if self._given is None:
            super()._end()
        else:
            given, self._given = self._given, None
            self._give(given)

    def _is_free(self) -> bool:
        """Whether an answer may be written at once: none is under way, or stuck."""
        return not (
            self._is_answering() or self.pipeline or self.flow.write_paused or self._is_deaf
        )

    def _is_simple(self) -> bool:
        """Whether the request is a GET of HTTP/1.1, and not the last one."""
        return (
            self.parser.get_method() == b"GET"
            and self.parser.should_keep_alive()
            # clients of 1.0 wait for the end of the connection, which uvicorn gives them
            and self.parser.get_http_version() == "1.1"
        )

    def _give(self, given: Given) -> None:
        """Send a remembered answer without a task or a message: these cost more than it does."""
        assert self._express is not None
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        asked = self._client_host(), self._asker.user, self._asked_at
        if given.part is None:
            self._write(self._head(given), given.body)
            self._note(given, asked)
        else:
            # Behind all others of this turn, as the transport does with what is short: clients that
            # are kept busy need not be woken for each (ranges of 64 KiB: 54 µs instead of 62, under
            # TLS 74 instead of 87, where the head goes with them).
            head, self._read = self._read or self._head(given), None
            self._owed = _Owed(given, given.part, head, asked)
            self.loop.call_soon(self._pay)

    def _pay(self) -> None:
        """Send the part that is owed, if one is."""
        if self._owed is not None:
            owed, self._owed = self._owed, None
            if self._push(owed):
                self._note(owed.given, owed.asked)

    def _note(self, given: Given, asked: _Asked, sent: int | None = None) -> None:
        """Count and log an answer, of which only `sent` bytes were taken if that is said."""
        assert self._express is not None
        client, user, asked_at = asked
        self._express.note(given, client, time.perf_counter() - asked_at, user, sent)

    def _write(self, head: bytes, body: bytes) -> None:
        wire = self._lines.wire
        if len(body) < _JOINED:
            wire.write(head + body)
        elif len(body) < _BUFFERED:
            wire.writelines((head, body))
        else:
            # the client is woken by the head meanwhile: a page of 200 KB costs 37 µs, not 57
            wire.write(head)
            wire.write(body)

    def _may_owe(self, given: Given, part: Part) -> bool:
        """Whether a part can be sent at the end of the turn: by the kernel alone, but not past what
        waits to be sent, nor for a crowd, as it takes descriptors; under TLS by this process, if it
        is short and at hand."""
        wire = self._lines.wire
        if self._is_plain:
            return not wire.get_write_buffer_size() and not self._is_crowded()
        if part.stop - part.start > _READ:
            return False
        self._read = read_behind(self._head(given), part.fd, part.start, part.stop)
        return self._read is not None

    def _push(self, owed: _Owed) -> bool:
        """Whether all of a part was sent; if not, it is now on its way."""
        part, head = owed.part, owed.head
        if not self._is_plain:
            self._lines.wire.write(head)
            return True
        sent = 0
        try:
            if self._socket is None:
                number = os.dup(self._lines.wire.get_extra_info("socket").fileno())
                self._socket = socket.socket(fileno=number)
            sent = at_once(self._socket, head, part.fd, part.start, part.stop)
            if sent == len(head) + part.stop - part.start:
                return True
            self._send_rest(owed, self._socket, sent)
        except OSError:  # too many are open
            self._note(owed.given, owed.asked, max(0, sent - len(head)))
            self._lines.wire.abort()
        return False

    def _send_rest(self, owed: _Owed, connection: socket.socket, sent: int) -> None:
        def ended(sent: int) -> None:
            self._running = None
            tasks.discard(cast(Any, sending))
            if sent < part.stop - part.start:  # the client left, or the file was cut short
                self._note(owed.given, owed.asked, sent)
                self._lines.wire.abort()
            else:
                self._note(owed.given, owed.asked)
                self.on_response_complete()
                if not sending.keep_alive:
                    self.transport.close()

        part = owed.part
        self._unset_keepalive_if_required()
        sending = Sending(connection, os.dup(part.fd), part.size, part.start, part.stop, ended)
        # it stands where uvicorn expects the cycle of the request under way
        self.cycle = self._running = cast(Any, sending)
        tasks = self.server_state.tasks  # waited for, and cancelled in the end, at a stop
        tasks.add(cast(Any, sending))
        sending.begin(owed.head, sent)

    def _head(self, given: Given) -> bytes:
        return _STATUS_LINES[given.status] + self._common_fields() + given.fields

    def _common_fields(self) -> bytes:
        """What uvicorn adds to each answer: the date. It makes a new list when it changes."""
        fields = self.server_state.default_headers
        known, made = ExpressProtocol._common
        if known is not fields:
            made = b"".join([b"%b: %b\r\n" % field for field in fields])
            ExpressProtocol._common = fields, made
        return made

    def _client_host(self) -> str:
        """Whom the access line names: as uvicorn's middleware for trusted fronts finds it."""
        host = self.client[0] if self.client else "-"
        front = self.config.loaded_app
        if not isinstance(front, ProxyHeadersMiddleware) or host not in front.trusted_hosts:
            return host
        forwarded = [value for name, value in self.headers if name == b"x-forwarded-for"]
        if not forwarded:
            return host
        told, _ = front.trusted_hosts.get_trusted_client_address(
            b", ".join(forwarded).decode("latin-1")
        )
        return told or host  # anybody may have written it
