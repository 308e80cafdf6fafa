"""The fake upstream's own process: HTTP/1.1 by hand, so that it can be as rude as scripted.

Commands arrive as lines of JSON on standard input and are answered on standard output, each under
its `id`, in any order. It ends when standard input closes, so it cannot outlive the test run.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tests.support.answer import NO_BODY, Plan, Seen, head, part, plan
from tests.support.ports import HeldPort
from tests.support.reply import BEFORE_HEADERS, NOT_FOUND, Body, Reply

PIECE = 65_536
LINE_LIMIT = 2**28  # a command carries whole bodies


class CutError(Exception):
    """The script says: break the connection here."""


@dataclass(slots=True, eq=False)
class Peer:
    """One connection from a client."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def unless_gone(self, waiting: Coroutine[Any, Any, Any]) -> None:
        """Await `waiting`; raises `ConnectionResetError` if the client leaves first."""
        wanted = asyncio.ensure_future(waiting)
        gone = asyncio.ensure_future(self.reader.read(1))
        try:
            await asyncio.wait({wanted, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                raise ConnectionResetError("the client left")
        finally:
            wanted.cancel()
            gone.cancel()
            await asyncio.wait({wanted, gone})  # only then may the stream be read again

    def reset(self) -> None:
        """Close with an RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


async def read_request(peer: Peer) -> Seen | None:
    """The next request of a connection, `None` at its end."""
    try:
        head = await peer.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = [line.partition(":") for line in lines]
    headers = [(name, value.strip()) for name, _, value in pairs]
    seen = Seen(method, target, headers, time.monotonic(), peer.number)
    await peer.reader.readexactly(int(seen.header("content-length") or 0))
    return seen


class Upstream:
    """Scripts, records, gates, and the listening socket."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.port = HeldPort()
        self.server: asyncio.Server | None = None
        self.numbers = itertools.count(1)
        self.peers: set[Peer] = set()
        self.changed = asyncio.Condition()
        self.clear()

    def clear(self) -> None:
        self.scripts: dict[tuple[str | None, str], list[Reply]] = {}
        self.otherwise = NOT_FOUND
        self.seen: list[Seen] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.held: Counter[str] = Counter()
        self.opened = 0

    async def listen(self) -> None:
        if self.server is None:
            self.server = await asyncio.start_server(
                partial(self.connected, self.seen),
                "127.0.0.1",
                self.port.number,
                ssl=self.tls,
                limit=PIECE,
            )

    def silence(self) -> None:
        """Stop listening and break every connection: what a dead host looks like."""
        if self.server is not None:
            self.server.close()
            self.server = None
        self.drop()

    def drop(self) -> None:
        for peer in self.peers:
            peer.writer.transport.abort()
            peer.reader.feed_eof()  # wakes whoever waits in `unless_gone`

    async def reset(self) -> None:
        self.silence()
        self.clear()
        await self.listen()

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def connected(
        self, record: list[Seen], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection. `record` is the one of its time: what clients of an earlier test
        sent may be read only after a reset, and is none of the present one's."""
        if record is not self.seen:
            writer.transport.abort()
            return
        # so that "sent" means handed to the kernel; asyncio's TLS never resumes from a limit of 0
        writer.transport.set_write_buffer_limits(1 if writer.get_extra_info("sslcontext") else 0)
        peer = Peer(next(self.numbers), reader, writer)
        self.peers = self.peers | {peer}
        self.opened += 1
        try:
            while (seen := await read_request(peer)) and record is self.seen:
                if not await self.answer(peer, seen):
                    break
        except (OSError, asyncio.IncompleteReadError, CutError):
            pass
        finally:
            self.peers = self.peers - {peer}
            writer.close()

    def choose(self, seen: Seen) -> Reply:
        """The reply whose turn it is. A HEAD looks without using up a turn."""
        for method in (seen.method, None):
            for key in ((method, seen.target), (method, seen.path)):
                if turns := self.scripts.get(key):
                    is_peek = seen.method == "HEAD" and method is None
                    return turns[0] if is_peek or len(turns) == 1 else turns.pop(0)
        return self.otherwise

    async def answer(self, peer: Peer, seen: Seen) -> bool:
        """Answer one request; whether the connection may be used again."""
        self.seen.append(seen)
        await self.notify()
        reply = self.choose(seen)
        try:
            may_go_on = await self.perform(peer, seen, reply)
            seen.is_finished = True
            return may_go_on
        except CutError:
            if reply.reset:
                peer.reset()
            raise
        except OSError:
            seen.is_left = True
            raise
        finally:
            await self.notify()

    async def perform(self, peer: Peer, seen: Seen, reply: Reply) -> bool:
        await peer.unless_gone(asyncio.sleep(reply.delay)) if reply.delay else None
        await self.pause(peer, reply, BEFORE_HEADERS)
        if reply.raw is not None:
            await peer.send(reply.raw)
            return False
        content = reply.content()
        chosen = plan(reply, seen, content)
        seen.status = chosen.status
        has_body = seen.method != "HEAD" and chosen.status not in NO_BODY
        await peer.send(head(reply, chosen))
        if has_body:
            await self.send_body(peer, seen, reply, content, chosen)
        asked = (seen.header("connection") or "").lower()
        return chosen.headers.get("Connection") != "close" and asked != "close"

    async def send_body(
        self, peer: Peer, seen: Seen, reply: Reply, content: Body, chosen: Plan
    ) -> None:
        await self.pause(peer, reply, 0)
        total = chosen.stop - chosen.start
        piece = max(1, min(PIECE, reply.rate // 20)) if reply.rate else PIECE
        while seen.sent < total:
            ends = [total, seen.sent + piece]
            stops = (reply.hold_at, reply.cut_after, reply.hang_after)
            ends += [stop for stop in stops if stop is not None and stop > seen.sent]
            at = chosen.start + seen.sent
            data = part(content, at, chosen.start + min(ends))
            if reply.rate:
                await asyncio.sleep(len(data) / reply.rate)
            await peer.send(b"%x\r\n%b\r\n" % (len(data), data) if reply.chunked else data)
            seen.sent = min(ends)
            await self.pause(peer, reply, seen.sent)
        if reply.chunked:
            await peer.send(b"0\r\n\r\n")

    async def pause(self, peer: Peer, reply: Reply, position: int) -> None:
        """Whatever the script wants to happen at this count of body bytes."""
        if reply.hold_at == position:
            self.held[reply.gate] += 1
            await self.notify()
            await peer.unless_gone(self.gate(reply.gate).wait())
        if reply.cut_after == position:
            raise CutError
        if reply.hang_after == position:
            await peer.unless_gone(asyncio.Event().wait())

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    async def until(self, command: dict[str, Any]) -> None:
        """Wait until so many requests were seen, were answered, or are held at a gate."""
        what, path, wanted = command["what"], command["path"], int(command["count"])

        def holds() -> bool:
            if what == "held":
                return self.held[str(command["gate"])] >= wanted
            matching = [seen for seen in self.seen if seen.matches(path, None)]
            return len([s for s in matching if what == "seen" or getattr(s, what)]) >= wanted

        async with self.changed, asyncio.timeout(command["timeout"]):
            await self.changed.wait_for(holds)

    async def obey(self, command: dict[str, Any]) -> Any:
        """Carry out one command of the test; the value goes back to it."""
        do = command["do"]
        if do in ("until", "reset"):
            return await (self.until(command) if do == "until" else self.reset())
        if do in ("up", "down"):
            return await self.listen() if do == "up" else self.silence()
        return getattr(self, f"do_{do}")(command)

    def do_script(self, command: dict[str, Any]) -> None:
        replies = [Reply.from_json(plain) for plain in command["replies"]]
        self.scripts[command["method"], command["path"]] = replies

    def do_otherwise(self, command: dict[str, Any]) -> None:
        self.otherwise = Reply.from_json(command["reply"])

    def do_seen(self, command: dict[str, Any]) -> list[dict[str, Any]]:
        return [asdict(seen) for seen in self.seen]

    def do_connections(self, command: dict[str, Any]) -> list[int]:
        return [self.opened, len(self.peers)]

    def do_release(self, command: dict[str, Any]) -> None:
        self.gate(command["gate"]).set()


async def _respond(upstream: Upstream, command: dict[str, Any]) -> None:
    try:
        answer = {"id": command["id"], "value": await upstream.obey(command)}
    except TimeoutError:
        answer = {"id": command["id"], "error": f"still waiting after {command['timeout']} s"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main(cert: str | None, key: str | None) -> None:
    """Serve until standard input closes."""
    tls = None
    if cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(cert, key)
    upstream = Upstream(tls)
    await upstream.listen()
    print(json.dumps({"port": upstream.port.number}), flush=True)
    commands = asyncio.StreamReader(limit=LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    waits: set[asyncio.Task[None]] = set()
    while line := await commands.readline():
        command = json.loads(line)
        if command["do"] == "until":
            waits = {w for w in waits if not w.done()}
            waits.add(asyncio.ensure_future(_respond(upstream, command)))
        else:
            await _respond(upstream, command)
    upstream.silence()
    for wait in waits:
        wait.cancel()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:3] if len(sys.argv) > 2 else (None, None))))
