"""Connections to upstreams: used again where that is safe, never too many, never lost."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpcore
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from proxyindex.upstream.border import UrlOrigin
from proxyindex.upstream.pool import Answer, NotHttp, Pool
from proxyindex.upstream.tls import trusting
from proxyindex.upstream.wire import WireBackend
from tests.support.certificates import Certificates
from tests.support.hermetic import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOT_MODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
LIFETIME = 60.0


class Answering:
    """A server on loopback that gives `answers` in turn, and writes down what it was asked.

    An answer of `None` ends the connection before the question is answered.
    """

    def __init__(self, answers: Iterable[bytes | None]) -> None:
        self.answers = iter(answers)
        self.questions: list[bytes] = []
        self.connections = self.ended = 0
        self.streams: list[Any] = []
        self.port = 0
        self.scheme = "http"

    async def serve(self, stream: Any) -> None:
        self.connections += 1
        self.streams.append(stream)
        async with stream:
            head = b""
            while True:
                try:
                    head += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    self.ended += 1
                    return
                if head.endswith(b"\r\n\r\n"):
                    self.questions.append(head)
                    head = b""
                    if (answer := next(self.answers)) is None:
                        return
                    await stream.send(answer)


@asynccontextmanager
async def answering(
    *answers: bytes | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Answering]:
    made = Answering(answers)
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    made.port = listener.extra(SocketAttribute.local_port)
    if tls is not None:
        listener, made.scheme = TLSListener(listener, tls, standard_compatible=False), "https"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, made.serve)
        with anyio.fail_after(20):
            yield made
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def pool_of(
    connections: int = 4,
    lifetime: float = LIFETIME,
    authority: Path | None = None,
    patience: float = 5.0,
) -> AsyncIterator[Pool]:
    pool = Pool(
        ssl_context=trusting(authority),
        max_connections=connections,
        keepalive_expiry=lifetime,
        connect_timeout=5.0,
        read_timeout=patience,
        network_backend=WireBackend(),
    )
    yield pool
    await pool.aclose()


async def begin(pool: Pool, server: Answering, *fields: tuple[bytes, bytes]) -> Answer:
    headers = [(b"Host", b"127.0.0.1"), *fields]
    return await pool.get(UrlOrigin(server.scheme, "127.0.0.1", server.port), b"/x", headers)


async def ask(pool: Pool, server: Answering) -> tuple[int, bytes]:
    answer = await begin(pool, server)
    try:
        return answer.status_code, await whole(answer)
    finally:
        await answer.aclose()


async def whole(answer: Answer) -> bytes:
    return b"".join([piece async for piece in answer.aiter_raw()])


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        NOT_MODIFIED,
        b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 100\r\n\r\n',
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n" + CHUNKED,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
    ],
)
async def test_a_connection_is_used_again_after_a_whole_answer(answer: bytes) -> None:
    async with answering(answer, OK) as server, pool_of() as pool:
        await ask(pool, server)
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 1


@pytest.mark.parametrize("answer", [NOT_MODIFIED, b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_an_answer_without_a_body_need_not_be_read_for_that(answer: bytes) -> None:
    async with answering(answer, OK) as server, pool_of() as pool:
        response = await begin(pool, server)
        await response.aclose()
        await ask(pool, server)
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK + OK,  # whose is the second?
        OK + b"\r\nrubbish",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_is_not_used_again_where_that_is_not_safe(answer: bytes) -> None:
    async with answering(answer, OK) as server, pool_of() as pool:
        assert await ask(pool, server) == (200, b"ok")
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 2


def padded(size: int) -> bytes:
    """An answer of `size` bytes with its head."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    body = size - len(head % size)
    return head % body + b"x" * body


RECORD = 16 * 1024  # plain bytes of a TLS record: what is behind them comes in one of its own


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("behind", "connections"),
    [(b"", 1), (OK, 2), (b"rubbish", 2)],
)
async def test_what_tls_holds_behind_an_answer_is_not_the_next_one(
    version: ssl.TLSVersion, behind: bytes, connections: int, tmp_path: Path
) -> None:
    made = Certificates.make(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.cert, made.key)
    tls.minimum_version = tls.maximum_version = version
    wanted = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nwanted"
    async with (
        answering(padded(RECORD) + behind, wanted, tls=tls) as server,
        pool_of(authority=made.authority) as pool,
    ):
        await ask(pool, server)
        assert await ask(pool, server) == (200, b"wanted")
    assert server.connections == connections


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
async def test_a_body_of_a_told_length_is_whole_however_it_arrives(size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    async with answering(head + body, head + body, OK) as server, pool_of(1) as pool:
        for _ in range(2):
            answer = await begin(pool, server)
            assert await whole(answer) == body
            assert await whole(answer) == b""
            await answer.aclose()
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 1


async def test_a_body_that_was_not_read_to_its_end_ends_the_connection() -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"
    async with answering(long, OK) as server, pool_of(1) as pool:
        response = await begin(pool, server)
        async for piece in response.aiter_raw():
            assert piece == b"ok"
            break
        await response.aclose()
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 2


async def test_tiny_chunks_come_together_and_others_have_their_turn_in_between() -> None:
    head, count = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 5000
    turns, seen = 0, []

    async def tick() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0)
            turns += 1

    async with answering(head + b"1\r\nx\r\n" * count + b"0\r\n\r\n") as server, pool_of() as pool:
        response = await begin(pool, server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            async for piece in response.aiter_raw():
                seen.append((turns, len(piece)))
            tasks.cancel_scope.cancel()
        await response.aclose()
        assert pool._resting
    assert sum(size for _, size in seen) == count
    assert len(seen) < count / 100
    assert all(one < other for (one, _), (other, _) in pairwise(seen[:-1]))


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\nall of it") as server, pool_of() as pool:
        response = await begin(pool, server)
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"all of it"
        await server.streams[0].aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        await response.aclose()


async def test_a_body_that_is_cut_short_is_an_error() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"
    async with answering(answer, OK) as server, pool_of(1) as pool:
        response = await begin(pool, server)
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"ok"
        await server.streams[0].aclose()
        with pytest.raises(httpcore.RemoteProtocolError):
            await anext(pieces)
        assert await ask(pool, server) == (200, b"ok")


async def test_a_resting_connection_that_the_server_ended_is_not_used() -> None:
    async with answering(OK, OK) as server, pool_of() as pool:
        await ask(pool, server)
        await server.streams[0].aclose()
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 2


async def test_a_connection_rests_for_so_long_only() -> None:
    async with answering(OK, OK) as server, pool_of(lifetime=0.0) as pool:
        await ask(pool, server)
        await ask(pool, server)
    assert server.connections == 2


async def test_no_more_than_the_allowed_are_in_use() -> None:
    async with answering(OK, OK) as server, pool_of(1, patience=0.5) as pool:
        first = await begin(pool, server)
        with pytest.raises(httpcore.PoolTimeout):
            await begin(pool, server)
        answers: list[tuple[int, bytes]] = []

        async def second() -> None:
            answers.append(await ask(pool, server))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            await whole(first)
            await first.aclose()
        assert answers == [(200, b"ok")]
    assert server.connections == 1


async def test_a_connection_that_rests_makes_room_for_one_to_another_origin() -> None:
    async with answering(OK) as one, answering(OK) as other, pool_of(1) as pool:
        await ask(pool, one)
        await ask(pool, other)
        await until(lambda: one.ended, "the end of the connection that rests")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, httpcore.RemoteProtocolError),
        (b"rubbish\r\n\r\n", NotHttp),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 101 * 1024, NotHttp),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", NotHttp),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", NotHttp),
        (b"HTTP/1.1 200 OK\r\n", httpcore.ReadTimeout),
    ],
)
async def test_no_usable_head_is_an_error_and_gives_the_place_back(
    answer: bytes | None, error: type[Exception]
) -> None:
    async with answering(answer, OK) as server, pool_of(1, patience=0.5) as pool:
        with pytest.raises(error) as caught:
            await begin(pool, server)
        assert type(caught.value) is error
        assert "rubbish" not in str(caught.value)
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 2


async def test_who_is_no_longer_waited_for_gives_the_place_back() -> None:
    async with answering(b"", OK) as server, pool_of(1) as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, pool, server)
            await until(lambda: server.questions, "the question")
            tasks.cancel_scope.cancel()
        assert await ask(pool, server) == (200, b"ok")


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\n" + CHUNKED, NOT_MODIFIED])
async def test_an_answer_that_nobody_waited_for_is_not_the_next_ones(answer: bytes) -> None:
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"
    async with answering(answer, b"", OK) as server, pool_of(1) as pool:
        await ask(pool, server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, pool, server)
            await until(lambda: len(server.questions) == 2, "the question")
            tasks.cancel_scope.cancel()
        assert not pool._resting
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await server.streams[0].send(late)
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 2


async def test_a_head_that_did_not_come_ends_a_connection_that_was_used_before() -> None:
    async with (
        answering(OK, b"HTTP/1.1 200 OK\r\n", OK) as server,
        pool_of(1, patience=0.2) as pool,
    ):
        await ask(pool, server)
        with pytest.raises(httpcore.ReadTimeout):
            await begin(pool, server)
        assert await ask(pool, server) == (200, b"ok")
    assert server.connections == 2


async def test_a_host_that_cannot_be_reached_gives_the_place_back() -> None:
    async with answering(OK) as server, pool_of(1) as pool:
        with pytest.raises(httpcore.ConnectError):
            await pool.get(UrlOrigin("http", "127.0.0.1", 9), b"/x", [(b"Host", b"x")])
        assert await ask(pool, server) == (200, b"ok")


async def test_a_field_that_would_be_two_lines_is_not_sent() -> None:
    async with answering(OK) as server, pool_of(1) as pool:
        with pytest.raises(httpcore.LocalProtocolError):
            await begin(pool, server, (b"X", b"a\r\nHost: evil.example"))
        assert await ask(pool, server) == (200, b"ok")


async def test_closing_the_pool_ends_what_is_in_use_and_what_rests() -> None:
    hanging = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"
    async with answering(OK, hanging) as server:
        async with pool_of() as pool:
            await ask(pool, server)
            response = await begin(pool, server)
        with pytest.raises(httpcore.ReadError):
            await whole(response)


class Ending(httpcore.AsyncNetworkStream):
    """Gives one answer, and has come to its end when it is looked at again."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return OK

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def get_extra_info(self, info: str) -> bool:
        return info == "is_readable"


class EndingBackend(httpcore.AsyncNetworkBackend):
    async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        return Ending()


async def test_any_number_of_resting_connections_may_have_ended() -> None:
    origin, most = UrlOrigin("http", "up.example", 80), 1000  # as many as may be configured
    async with pool_of(most) as pool:
        pool._network_backend = EndingBackend()
        answers = [await pool.get(origin, b"/", [(b"Host", b"x")]) for _ in range(most)]
        for answer in answers:
            await whole(answer)
            await answer.aclose()
        assert len(pool._resting) == most
        last = await pool.get(origin, b"/", [(b"Host", b"x")])
        assert await whole(last) == b"ok"
        assert not pool._resting
        await last.aclose()


class Dripping(httpcore.AsyncNetworkStream):
    """Says nothing more but a byte now and then, behind what it began with."""

    def __init__(self, begun: bytes) -> None:
        self._begun = begun

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data, self._begun = self._begun, b""
        if not data:
            if timeout is not None and timeout < 0.01:
                raise httpcore.ReadTimeout
            await anyio.sleep(0.01)
        return data or b"x"

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def get_extra_info(self, info: str) -> None:
        return None


class DrippingBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, begun: bytes) -> None:
        self._begun = begun

    async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        return Dripping(self._begun)


async def test_a_line_between_chunks_that_drips_is_given_up() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n2;"
    async with pool_of(1, patience=0.1) as pool:
        pool._network_backend = DrippingBackend(head)
        answer = await pool.get(UrlOrigin("http", "up.example", 80), b"/", [(b"Host", b"x")])
        with anyio.fail_after(20), pytest.raises(httpcore.ReadTimeout):
            await whole(answer)


async def test_a_head_that_drips_is_given_up() -> None:
    async with pool_of(1, patience=0.1) as pool:
        pool._network_backend = DrippingBackend(b"HTTP/1.1 200 OK\r\nX: ")
        with anyio.fail_after(20), pytest.raises(httpcore.ReadTimeout):
            await pool.get(UrlOrigin("http", "up.example", 80), b"/", [(b"Host", b"x")])
