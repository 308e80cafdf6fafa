"""Every answer is to its own question, whoever has left, and whatever the server did before."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import anyio
import httpcore
import pytest

from proxyindex.upstream.border import UrlOrigin
from proxyindex.upstream.pool import Pool
from proxyindex.upstream.tls import trusting
from proxyindex.upstream.wire import WireBackend
from tests.support.hermetic import until

QUESTIONS, AT_ONCE = 720, 12


class Moody:
    """A server that answers with what it was asked for, many times: late, in pieces, in chunks,
    with no body at all, or not."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.serving = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            while True:
                question = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(self._chance.choice([0, 0, 0, 0.002, 0.01, 0.03]))
                if not await self._answer(question.split(b" ")[1], writer):
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.serving -= 1

    async def _answer(self, target: bytes, writer: asyncio.StreamWriter) -> bool:
        body = target * self._chance.choice([1, 1, 50, 3000])
        mood = self._chance.random()
        if mood < 0.1:
            return False
        if mood < 0.15:
            writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n")
            return True
        is_chunked = mood < 0.35
        length = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n")
        for start in range(0, len(body), 30_000):
            piece = body[start : start + 30_000]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            await asyncio.sleep(self._chance.choice([0, 0.001, 0.004]))
        writer.write(b"0\r\n\r\n" if is_chunked else b"")
        await writer.drain()
        return True


@pytest.mark.parametrize("seed", range(3))
async def test_every_answer_is_to_its_own_question(seed: int) -> None:
    chance, wrong, right = random.Random(seed), [], []
    moody = Moody(chance)
    server = await asyncio.start_server(moody.serve, "127.0.0.1", 0)
    pool = Pool(
        ssl_context=trusting(None),
        max_connections=AT_ONCE // 2,
        keepalive_expiry=60,
        connect_timeout=5,
        read_timeout=0.025,
        network_backend=WireBackend(),
    )
    origin = UrlOrigin("http", "127.0.0.1", server.sockets[0].getsockname()[1])

    async def ask(number: int) -> None:
        target = b"/%06d" % number
        read, leaves = b"", chance.random() < 0.15
        with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            with anyio.move_on_after(chance.choice([0.001, 0.005, 0.02, 0.05, 9])):
                answer = await pool.get(origin, target, [(b"Host", b"x")])
                try:
                    async for piece in answer.aiter_raw():
                        read += piece
                        if leaves:
                            break
                finally:
                    await answer.aclose()
        expected = target * (len(read) // len(target) + 1)
        (right if read == expected[: len(read)] else wrong).append(number)

    with anyio.fail_after(60):
        for first in range(0, QUESTIONS, AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for number in range(first, first + AT_ONCE):
                    tasks.start_soon(ask, number)
    assert (wrong, len(right)) == ([], QUESTIONS)
    assert not pool._busy
    await pool.aclose()
    server.close()
    await until(lambda: not moody.serving, "the end of all connections")
