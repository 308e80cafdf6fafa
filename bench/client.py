"""A cheap HTTP client for what wrk cannot do: many at once, first bytes, tails, latencies.

One thread, one selector, plain sockets. Bodies whose length is announced are dropped in the kernel
(MSG_TRUNC), so that fifty clients of a big file cost the load generator's core next to nothing;
only the last 64 KiB are read, to be compared.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import httptools

KEPT_BYTES = 64 * 1024
PATIENCE = 120.0
_BUFFER = bytearray(4 * 1024**2)
_ROOM = memoryview(_BUFFER)
_MOST_HOPS = 3
_BODILESS = (204, 304)


class Failed(Exception):
    """No whole answer: refused, broken off, or not in time."""


@dataclass(frozen=True, slots=True)
class Request:
    """A GET of `url` (http only)."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def target(self) -> str:
        parts = urlsplit(self.url)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def head(self) -> bytes:
        lines = [f"GET {self.target} HTTP/1.1", f"Host: {urlsplit(self.url).netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass(slots=True)
class Answer:
    """What came: times are seconds after the request was sent, `size` body bytes, `tail` the last
    of them; `hops` counts the redirects that were followed."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0
    tail: bytes = b""
    first_byte: float = 0.0
    total: float = 0.0
    hops: int = 0


class _Exchange:
    """One request on a connection of its own, or one after the other if it is kept."""

    def __init__(self, request: Request, *, kept: int | None = KEPT_BYTES) -> None:
        self.request = request
        self.answer = Answer()
        self._kept = kept  # bytes of the end of a body that are read; None: all
        self.begun = time.perf_counter()
        self.sock = socket.create_connection(request.address, timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send()

    def send(self) -> None:
        """Ask (again) on this connection."""
        self._head = b""
        self._pieces = bytearray()
        self._left: int | None = None  # bytes to come; None: the parser will tell
        self._parser: httptools.HttpResponseParser | None = None
        self._is_whole = False
        self.answer = Answer(hops=self.answer.hops)
        self.begun = time.perf_counter()
        self.sock.settimeout(10)
        self.sock.sendall(self.request.head())
        self.sock.setblocking(False)

    def read(self) -> bool:
        """Take what is there; whether the answer is whole. Raises `Failed`."""
        while True:
            try:
                count = self._receive()
            except BlockingIOError:
                return False
            except (OSError, ValueError, httptools.HttpParserError) as problem:
                raise Failed(str(problem)) from problem
            if count == 0 and not self._ends_by_closing():
                raise Failed(f"broken off after {self.answer.size} bytes")
            if self._is_over() or count == 0:
                self.answer.total = time.perf_counter() - self.begun
                self.answer.tail = bytes(
                    self._pieces[-self._kept :] if self._kept else self._pieces
                )
                return True

    def _receive(self) -> int:
        if self._kept is not None and self._left is not None and self._left > self._kept:
            wanted = min(self._left - self._kept, len(_BUFFER))
            count = self.sock.recv_into(_ROOM, wanted, socket.MSG_TRUNC)
            self._note(count)
            self._left -= count
            return count
        count = self.sock.recv_into(_ROOM, min(self._left or len(_BUFFER), len(_BUFFER)))
        data = bytes(_ROOM[:count])
        if not self.answer.status:
            self._take_head(data)
        elif self._parser is not None:
            self._parser.feed_data(data)
        else:
            self.on_body(data)
        return count

    def _take_head(self, data: bytes) -> None:
        self._head += data
        head, separator, rest = self._head.partition(b"\r\n\r\n")
        if not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        self.answer.status = int(first.split(" ")[1])
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.answer.headers = headers
        if self.answer.status in _BODILESS:
            self._left = 0
        elif "content-length" in headers:
            self._left = int(headers["content-length"])
            self.on_body(rest)
        else:
            self._parser = httptools.HttpResponseParser(self)
            self._parser.feed_data(self._head)

    def on_body(self, data: bytes) -> None:
        self._note(len(data))
        self._pieces += data
        if self._kept is not None and len(self._pieces) > 2 * self._kept:
            del self._pieces[: -self._kept]
        if self._left is not None:
            self._left -= len(data)

    def on_message_complete(self) -> None:
        self._is_whole = True

    def _note(self, count: int) -> None:
        if count and not self.answer.size:
            self.answer.first_byte = time.perf_counter() - self.begun
        self.answer.size += count

    def _ends_by_closing(self) -> bool:
        chunked = "chunked" in self.answer.headers.get("transfer-encoding", "")
        return bool(self.answer.status) and self._left is None and not chunked

    def _is_over(self) -> bool:
        return self._is_whole or self._left == 0

    def redirect(self) -> _Exchange | None:
        """The exchange that follows this one, if the server sent us away."""
        location = self.answer.headers.get("location")
        if self.answer.status not in (301, 302, 303, 307, 308) or not location:
            return None
        if self.answer.hops >= _MOST_HOPS:
            raise Failed("redirected in circles")
        follower = _Exchange(Request(urljoin(self.request.url, location), self.request.headers))
        follower.begun = self.begun
        follower.answer.hops = self.answer.hops + 1
        return follower


def together(
    requests: Sequence[Request],
    *,
    patience: float = PATIENCE,
    probe: Request | None = None,
    tick: Callable[[], None] | None = None,
) -> tuple[list[Answer], list[float]]:
    """All requests at once, each on its own connection; raises `Failed`.

    `probe` is asked one time after the other meanwhile; its latencies (seconds) come second.
    `tick` is called about every 50 ms.
    """
    return _Crowd(patience, tick).run(requests, probe)


class _Crowd:
    def __init__(self, patience: float, tick: Callable[[], None] | None) -> None:
        self._selector = selectors.DefaultSelector()
        self._deadline = time.perf_counter() + patience
        self._tick = tick
        self._answers: dict[int, Answer] = {}
        self._latencies: list[float] = []

    def run(
        self, requests: Sequence[Request], probe: Request | None
    ) -> tuple[list[Answer], list[float]]:
        exchanges = []
        try:
            if probe is not None:
                exchanges.append(self._watch(_Exchange(probe), None))
            exchanges += [self._watch(_Exchange(one), n) for n, one in enumerate(requests)]
            self._until_done(len(requests), exchanges)
        except OSError as problem:
            raise Failed(str(problem)) from problem
        finally:
            for exchange in exchanges:
                exchange.sock.close()
            self._selector.close()
        return [self._answers[number] for number in range(len(requests))], self._latencies

    def _watch(self, exchange: _Exchange, number: int | None) -> _Exchange:
        self._selector.register(exchange.sock, selectors.EVENT_READ, (exchange, number))
        return exchange

    def _until_done(self, count: int, exchanges: list[_Exchange]) -> None:
        ticked = time.perf_counter()
        while len(self._answers) < count:
            for key, _ in self._selector.select(0.05):
                self._serve(*key.data, exchanges)
            now = time.perf_counter()
            if now > self._deadline:
                raise Failed("not in time")
            if self._tick and now - ticked > 0.05:
                self._tick()
                ticked = now

    def _serve(self, exchange: _Exchange, number: int | None, exchanges: list[_Exchange]) -> None:
        if number is None:
            self._serve_probe(exchange, exchanges)
            return
        if not exchange.read():
            return
        self._selector.unregister(exchange.sock)
        if (follower := exchange.redirect()) is not None:
            exchanges.append(self._watch(follower, number))
        else:
            self._answers[number] = exchange.answer

    def _serve_probe(self, exchange: _Exchange, exchanges: list[_Exchange]) -> None:
        try:
            if exchange.read():
                self._latencies.append(exchange.answer.total)
                exchange.send()
        except (Failed, OSError):
            # some servers close a connection after an answer or two
            self._selector.unregister(exchange.sock)
            exchange.sock.close()
            exchanges[exchanges.index(exchange)] = self._watch(_Exchange(exchange.request), None)


def one(request: Request, *, patience: float = PATIENCE) -> Answer:
    """One request on a fresh connection; raises `Failed`."""
    return together([request], patience=patience)[0][0]


def in_turn(request: Request, count: int, *, patience: float = PATIENCE) -> list[float]:
    """Latencies in seconds of `count` requests on one kept connection; raises `Failed`."""
    deadline = time.perf_counter() + patience
    exchange = _Exchange(request)
    latencies = []
    try:
        while len(latencies) < count:
            _wait(exchange, deadline)
            if exchange.answer.status not in (200, 206, 304):
                raise Failed(f"status {exchange.answer.status}")
            latencies.append(exchange.answer.total)
            if len(latencies) < count:
                exchange.send()
    finally:
        exchange.sock.close()
    return latencies


def _wait(exchange: _Exchange, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(exchange.sock, selectors.EVENT_READ)
        while not exchange.read():
            if time.perf_counter() > deadline:
                raise Failed("not in time")
            selector.select(0.05)


def _goes_on(begun: float, seconds: float, has_begun: bool) -> bool:
    """Until the time is over, but not before anything has come."""
    elapsed = time.perf_counter() - begun
    return elapsed < seconds or (not has_begun and elapsed < PATIENCE)


def throughput(request: Request, connections: int, seconds: float) -> float:
    """Bytes a second of bodies fetched over and over on kept connections; raises `Failed`."""
    begun = time.perf_counter()
    done = 0
    exchanges = [_Exchange(request) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for exchange in exchanges:
            selector.register(exchange.sock, selectors.EVENT_READ, exchange)
        try:
            while _goes_on(begun, seconds, bool(done or exchanges[0].answer.size)):
                for key, _ in selector.select(0.05):
                    exchange = key.data
                    if exchange.read():
                        if exchange.answer.status != 200:
                            raise Failed(f"status {exchange.answer.status}")
                        done += exchange.answer.size
                        exchange.send()
            elapsed = time.perf_counter() - begun
            return (done + sum(exchange.answer.size for exchange in exchanges)) / elapsed
        finally:
            for exchange in exchanges:
                exchange.sock.close()


def body(request: Request, *, patience: float = PATIENCE) -> tuple[Answer, bytes]:
    """One answer with its whole body, for comparing; raises `Failed`."""
    exchange = _Exchange(request, kept=None)
    try:
        _wait(exchange, time.perf_counter() + patience)
    finally:
        exchange.sock.close()
    if (follower := exchange.redirect()) is not None:
        follower.sock.close()
        answer, whole = body(follower.request, patience=patience)
        answer.hops += 1
        return answer, whole
    return exchange.answer, exchange.answer.tail
