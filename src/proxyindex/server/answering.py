"""uvicorn's HTTP/1.1 protocol with what it lacks towards the application.

It gives an ASGI application no say in the reason phrase, and tells only the newest of pipelined
requests that the client has left. Written against uvicorn 0.54.

Used of its protocol, here, in `server/protocol.py` and in `server/express.py`, besides what
`asyncio.Protocol` has: `app`, `app_state`, `client`, `config`, `connections`, `cycle`, `flow`,
`headers`, `limit_concurrency`, `loop`, `parser`, `pipeline`, `scope`, `server_state`, `tasks`,
`timeout_keep_alive`, `timeout_keep_alive_task`, `transport`, `url`; the parser's callbacks,
`on_response_complete`, `send_400_response`, `timeout_keep_alive_handler`,
`_unset_keepalive_if_required` and `_unsupported_upgrade_warning`; of a cycle `disconnected`,
`keep_alive`, `message_event`, `response_complete`, `response_started` and `scope`; and of the flow
`drain`, `pause_reading`, `read_paused`, `resume_reading` and `write_paused`.
`tests/faults/test_server_protocol.py` notices if they change.
"""

import asyncio
import math
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxyindex.access import UNIX_PEER
from proxyindex.server.heads import reason_phrase
from proxyindex.server.statuslines import StatusLines
from proxyindex.web.accesslog import CROWDED_KEY, LEFT_KEY, PEER_KEY
from proxyindex.web.responses import REASON_HEADER

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        HTTPResponseStartEvent,
        Scope,
    )

_REASON = REASON_HEADER.encode()


class AnsweringProtocol(HttpToolsProtocol):
    """One client connection: uvicorn's, which the application tells and asks more than there.

    `x-proxyindex-reason` in an `http.response.start` becomes the reason phrase: for a refused
    file installers show only that (measured with pip and uv). The scope has the peer, whatever a
    front forwarded, what tells that the client has left, and whether more are connected than
    `limit_concurrency`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._application = self.app
        self.app = self._answer
        # uvicorn would answer by itself, behind the back of the access log
        self._most, self.limit_concurrency = self.limit_concurrency or math.inf, None
        self._running: Any = None  # the cycle being answered; `cycle` is the newest one read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._lines = StatusLines(transport)
        self.transport = self._lines
        self.client = _client_address(self.client)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_keepalive_if_required()  # uvicorn leaves it, and us with it, after a reset
        self.app = self._application  # ends a reference cycle: no waiting for the collector
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells the newest only: others were pipelined
            self._running.disconnected = True
            self._running.message_event.set()
        if self.pipeline:  # its requests, the newest included, have cycles that refer to us
            self.pipeline.clear()
            self.cycle = self._running

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_crowded(self) -> bool:
        """Whether more are connected, or answered, than descriptors are reckoned for."""
        return max(len(self.connections), len(self.tasks)) > self._most

    def _tell_more(self, scope: MutableMapping[str, Any], cycle: Any) -> None:
        # before a front's X-Forwarded-For takes its place
        scope[PEER_KEY] = self.client[0] if self.client else UNIX_PEER
        scope[LEFT_KEY] = lambda: cycle.disconnected or self.transport.is_closing()
        if self._is_crowded():
            scope[CROWDED_KEY] = True
            cycle.keep_alive = False

    async def _answer(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        is_begun = is_ended = False
        own = self._running = cast(Any, send).__self__
        self._tell_more(cast(Any, scope), own)

        async def send_with_reason(message: "ASGISendEvent") -> None:
            nonlocal is_begun, is_ended
            own.disconnected |= self.transport.is_closing()
            if message["type"] == "http.response.start":
                is_begun = True
                message = self._with_reason(message)
            elif message["type"] == "http.response.body":
                is_ended = not message.get("more_body", False)
            await send(message)
            if not is_ended and self.flow.write_paused:
                # uvicorn would wait before the next write: with a second piece at hand
                await self.flow.drain()

        try:
            await self._application(scope, receive, send_with_reason)
        except asyncio.CancelledError:  # the grace period of a stop is over
            is_begun = True
        finally:
            cast(Any, scope).pop(LEFT_KEY, None)  # ends a reference cycle
            if self._running is own:  # the next of the pipeline may have begun
                self._running = None
        if is_begun and not is_ended:
            # Left unfinished on purpose, and logged where that was decided: uvicorn would log a
            # fault of the program. `self.cycle` is another one if a request was pipelined.
            own.disconnected = True
            self.transport.close()

    def _with_reason(self, message: "HTTPResponseStartEvent") -> "HTTPResponseStartEvent":
        """The reason phrase goes where it belongs, and is no header any more."""
        headers = list(message.get("headers", ()))
        reasons = [v for k, v in headers if k.lower() == _REASON]
        if not reasons:
            return message
        self._lines.announce(message["status"], reason_phrase(reasons[0]))
        return {**message, "headers": [(k, v) for k, v in headers if k.lower() != _REASON]}


def _client_address(client: tuple[str, int] | None) -> tuple[str, int]:
    """The peer as logs and the list of trusted proxies name it.

    A dual-stack socket shows IPv4 peers as `::ffff:192.0.2.1`; a Unix socket's peer has no
    address at all and is called `UNIX_PEER`.
    """
    if client is None:
        return (UNIX_PEER, 0)
    return (client[0].removeprefix("::ffff:"), client[1])
