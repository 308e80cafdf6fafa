"""The HTTP protocol's bounds, spoken to over raw sockets by clients that mean no good."""

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxyindex.server import protocol as protocol_module
from proxyindex.server.heads import head_fault, reason_phrase, with_path
from proxyindex.server.protocol import (
    HEAD_LIMIT,
    QUEUE_LIMIT,
    TARGET_LIMIT,
    BoundedProtocol,
)
from tests.support.hermetic import wait_until

T = TypeVar("T")

BIG = 8 * 1024**2
OK = b"HTTP/1.1 200 OK\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Hasty(BoundedProtocol):
    """The protocol with deadlines a test can wait for."""

    head_seconds = 0.3
    body_seconds = 0.3


class App:
    """Answers with its path; `/big` and `/pieces` are slow to read, `/wait` waits for release."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.calls: list[str] = []
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.calls.append(path)
        self.scopes.append(scope)
        headers = [(b"x-proxyindex-reason", scope["query_string"])] if path == "/denied" else []
        if path == "/wait":
            self.entered.set()
            await asyncio.to_thread(self.release.wait, 20)
        if path == "/crlf":
            headers = [(b"x-proxyindex-reason", b"no\r\nSet-Cookie: a=b\xff" + b"x" * 500)]
        if path == "/body":
            while (await receive()).get("more_body"):
                pass
        size = BIG if path in ("/big", "/pieces") else len(path)
        headers.append((b"content-length", str(size).encode()))
        status = 403 if path in ("/denied", "/crlf") else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if path == "/pieces":
            for _ in range(64):
                piece = {"type": "http.response.body", "body": bytes(BIG // 64), "more_body": True}
                await send(piece)
        body = {"/big": b"x" * BIG, "/pieces": b""}.get(path, path.encode())
        await send({"type": "http.response.body", "body": body})


class Running:
    def __init__(self, port: int, app: App) -> None:
        self.port = port
        self.app = app

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, *parts: bytes) -> bytes:
        """All bytes the server sends to a client that writes `parts` and waits for the end."""
        with self.connect() as sock:
            for part in parts:
                sock.sendall(part)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        part = sock.recv(65536)
        assert part, data
        data += part
    return data


@contextmanager
def running(protocol: type[BoundedProtocol]) -> Iterator[Running]:
    app = App()
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="uvloop",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        timeout_keep_alive=3600,
    )
    server = uvicorn.Server(config)
    sock = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        yield Running(sock.getsockname()[1], app)
    finally:
        app.release.set()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def patient() -> Iterator[Running]:
    with running(BoundedProtocol) as server:
        yield server


@pytest.fixture
def server(patient: Running) -> Running:
    patient.app.calls.clear()
    return patient


@pytest.fixture
def hurried(server: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """As `server`, which takes what nobody wants for less long."""
    monkeypatch.setattr(protocol_module, "UNWANTED_SECONDS", 0.5)
    return server


@pytest.fixture
def hasty() -> Iterator[Running]:
    with running(Hasty) as server:
        yield server


# Reason phrases


def test_reason_becomes_the_status_line_and_no_header(server: Running) -> None:
    request = b"GET /denied?too-young HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = server.ask(request)
    assert answer.startswith(b"HTTP/1.1 403 too-young\r\n")
    assert b"proxyindex-reason" not in answer
    assert answer.endswith(b"\r\n\r\n/denied")


def test_reason_cannot_split_the_answer(server: Running) -> None:
    answer = server.ask(b"GET /crlf HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    line, *headers = answer.split(b"\r\n\r\n")[0].split(b"\r\n")
    assert line.startswith(b"HTTP/1.1 403 no Set-Cookie: a=b?xxx")
    assert len(line) == len(b"HTTP/1.1 403 ") + 200
    assert not any(header.lower().startswith(b"set-cookie") for header in headers)


def test_only_the_answer_with_the_reason_gets_it(server: Running) -> None:
    denied = b"GET /denied?why HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = server.ask(denied + LAST)
    assert answer.startswith(b"HTTP/1.1 403 why\r\n")
    assert answer.count(b"why") == 1
    assert OK in answer


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"plain words", b"plain words"),
        (b" a\r\nb\tc \x0b d ", b"a b c d"),
        (b"nul\x00 del\x7f \xc3\xbc", b"nul? del? ??"),
        (b"", b""),
        (b"y" * 999, b"y" * 200),
    ],
)
def test_reason_phrase_is_printable_and_short(text: bytes, phrase: bytes) -> None:
    assert reason_phrase(text) == phrase


# Framing


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n",
        b"NONSENSE\r\n",
    ],
)
def test_faulty_head_is_refused_and_the_connection_closed(server: Running, head: bytes) -> None:
    answer = server.ask(head + b"\r\n", b"0\r\n\r\n" + LAST)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 4") == 1
    assert server.app.calls == []


@pytest.mark.parametrize(
    ("names", "version"),
    [([b"host"], "1.1"), ([], "1.0"), ([b"host", b"content-length"], "1.1")],
)
def test_ordinary_head_has_no_fault(names: list[bytes], version: str) -> None:
    assert head_fault([(name, b"1") for name in names], version) is None


def test_contradictory_lengths_are_a_fault_whatever_the_parser_says() -> None:
    host = (b"host", b"a")
    length, chunked = (b"content-length", b"1"), (b"transfer-encoding", b"chunked")
    assert head_fault([host, length, length], "1.1")
    assert head_fault([host, length, chunked], "1.1")


@pytest.mark.parametrize(
    "host", ["", "index.example", "INDEX.example:8080", "[::1]:80", "a_b", "a \t"]
)
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert head_fault([(b"host", host.encode())], "1.1") is None
    for fault in (b" b", b"/", b"\xc3\xa9", b'"', b"@x", b"?", b"#", b"\\", b"\tb"):
        assert head_fault([(b"host", b"a" + fault)], "1.1")


UPGRADE = b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize("fields", [b"", b"Content-Length: 0\r\n"])
def test_what_follows_an_upgrade_request_is_no_request(server: Running, fields: bytes) -> None:
    answer = server.ask(UPGRADE + fields + b"\r\n" + LAST)
    assert answer.startswith(OK)
    assert b"connection: close" in answer
    assert server.app.calls == ["/up"]


@pytest.mark.parametrize("field", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_upgrade_request_with_a_body_is_told_that_it_must_not(
    server: Running, field: bytes
) -> None:
    answer = server.ask(UPGRADE + field + b"\r\n\r\n" + LAST)
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert b"Upgrade" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert server.app.calls == []


def test_body_of_an_upgrade_that_the_connection_does_not_name_is_read(server: Running) -> None:
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n"
    assert server.ask(head + b"abc", LAST).count(OK) == 2


def test_trailer_fields_do_not_become_headers(server: Running) -> None:
    head = b"GET /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = server.ask(head, b"1\r\nx\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n" + LAST)
    assert answer.count(OK) == 2
    assert not any(k == b"x-forwarded-for" for s in server.app.scopes for k, _ in s["headers"])


@pytest.mark.parametrize(
    ("target", "whole"),
    [
        (b"http://a.example", b"http://a.example/"),
        (b"http://a.example:80?b=/c", b"http://a.example:80/?b=/c"),
        (b"http://[::1]", b"http://[::1]/"),
        (b"http://a.example/b", b"http://a.example/b"),
        (b"file:///b", b"file:///b"),
        (b"/b?c=http://a.example", b"/b?c=http://a.example"),
        (b"b?c=http://a.example", b"b?c=http://a.example"),
        (b"*", b"*"),
    ],
)
def test_only_an_absolute_target_without_path_gets_one(target: bytes, whole: bytes) -> None:
    assert with_path(target) == whole


# Sizes


def head_of(size: int) -> bytes:
    start = b"GET /sized HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    return start + b"X-A: " + b"y" * (size - len(start) - 9) + b"\r\n\r\n"


def test_large_but_allowed_head_is_served(server: Running) -> None:
    assert server.ask(head_of(HEAD_LIMIT - 100)).startswith(OK)


def test_head_over_the_limit_is_refused(server: Running) -> None:
    assert server.ask(head_of(HEAD_LIMIT + 100)).startswith(b"HTTP/1.1 400 ")
    assert server.app.calls == []


def test_endless_head_is_refused(server: Running) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Endless: "
    assert ask_endlessly(server, head, b"y" * 65536).startswith(b"HTTP/1.1 400 ")


def test_head_over_two_limits_at_once_is_refused_once(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """That of its fields, and that of bytes since the read in which it began."""
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(10_000))
    with server.connect() as sock:
        sock.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET / HTTP/1.1\r\n")
        assert read_until(sock, b"/first").startswith(OK)
        sock.sendall(fields[: HEAD_LIMIT + 10_000])
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"5;"], ids=["a trailer field", "an extension"])
def test_endless_coding_of_a_body_is_refused(hurried: Running, start: bytes) -> None:
    """The parser collects a field, or reads on, until its line ends."""
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + start
    assert ask_endlessly(hurried, head, b"y" * 65536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /body HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /one HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" * 2 + b"?\r\n\r\n",
    ],
    ids=["an interim answer", "the next answer"],
)
def test_nothing_is_written_behind_the_end(
    server: Running, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert server.ask(head).count(b"HTTP/1.1 ") >= 1
    assert server.ask(LAST).startswith(OK)
    assert "Traceback" not in caplog.text


def test_who_is_refused_amid_a_body_can_read_why(server: Running) -> None:
    """Also where the connection is to end: as urllib asks for, and nginx by default."""
    size = 8 * 1024**2
    head = b"POST /denied?no HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answer = server.ask(head % size, bytes(size))
    assert answer.startswith(b"HTTP/1.1 403 no\r\n")
    assert answer.endswith(b"/denied")


def test_limits_count_each_pipelined_request_alone(server: Running) -> None:
    one = b"GET /one HTTP/1.1\r\nHost: a\r\nX-A: " + b"y" * 20000 + b"\r\n\r\n"
    assert server.ask(one * 10 + LAST).count(OK) == 11


def test_target_over_the_limit_is_refused(server: Running) -> None:
    target = b"/" + b"a" * TARGET_LIMIT
    assert server.ask(b"GET " + target + b" HTTP/1.1\r\n").startswith(b"HTTP/1.1 414 ")


def test_target_within_the_limit_is_served(server: Running) -> None:
    target = b"/" + b"a" * (TARGET_LIMIT - 1)
    request = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert server.ask(request).startswith(OK)


def test_unwanted_body_is_drained_and_the_connection_kept(server: Running) -> None:
    size = 3 * 1024**2
    head = b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    answer = server.ask(head, b"z" * size, LAST)
    assert answer.count(OK) == 2
    assert server.app.calls == ["/post", "/last"]


def test_endless_unwanted_body_ends_the_connection(hurried: Running) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"
    answer = ask_endlessly(hurried, head, b"z" * 1024**2)
    assert answer.startswith(OK)
    assert answer.count(b"HTTP/1.1") == 1


def test_endless_awaited_body_is_refused(hurried: Running) -> None:
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"
    assert ask_endlessly(hurried, head, b"z" * 1024**2).startswith(b"HTTP/1.1 413 ")


def ask_endlessly(server: Running, head: bytes, block: bytes) -> bytes:
    """What arrives for a request that goes on until the server ends the connection."""
    with server.connect() as sock:
        sock.sendall(head)
        sender = threading.Thread(target=send_while_taken, args=(sock, block))
        sender.start()
        answer = b""
        try:
            while part := sock.recv(65536):
                answer += part
        except ConnectionResetError:
            pass  # the server closed while we were sending
        sender.join(20)
        assert not sender.is_alive()
        return answer


def send_while_taken(sock: socket.socket, block: bytes) -> None:
    try:
        while True:
            sock.sendall(block)
    except OSError:
        return


# Time


def test_silent_connection_is_closed(hasty: Running) -> None:
    assert hasty.ask() == b""


def test_connection_that_only_sends_empty_lines_is_closed(hasty: Running) -> None:
    with hasty.connect() as sock:
        sock.sendall(GET)
        read_until(sock, b"\r\n\r\n/")
        sock.sendall(b"\r\n")
        assert read_all(sock) == b""  # uvicorn's own time-out is an hour here


def test_dribbled_head_is_refused_in_time(hasty: Running) -> None:
    with hasty.connect() as sock:
        sock.settimeout(0.05)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")

        def answer() -> bytes:
            try:
                sock.sendall(b"x")
                return sock.recv(65536)
            except TimeoutError:
                return b""

        assert wait_until(answer, "an answer", every=0).startswith(b"HTTP/1.1 408 ")
    assert hasty.app.calls == []


def test_head_deadline_holds_for_every_request_of_a_connection(hasty: Running) -> None:
    answer = hasty.ask(GET, b"GET / HT")
    assert answer.startswith(OK)
    assert b"HTTP/1.1 408 " in answer


def test_idle_connection_outlives_the_head_deadline(hasty: Running) -> None:
    with hasty.connect() as sock, hasty.connect() as witness:
        sock.sendall(GET)
        read_until(sock, b"\r\n\r\n/")
        assert witness.recv(1) == b""  # closed by its deadline, which began later
        sock.sendall(LAST)
        assert read_all(sock).startswith(OK)


def test_body_that_never_comes_is_refused(hasty: Running) -> None:
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
    assert hasty.ask(head).startswith(b"HTTP/1.1 408 ")


def test_unsent_body_of_an_answered_request_ends_the_connection(hasty: Running) -> None:
    answer = hasty.ask(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.startswith(OK)


def test_slow_reader_gets_all_of_a_long_answer(hasty: Running) -> None:
    with hasty.connect() as sock, hasty.connect() as witness:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        read_until(sock, b"\r\n\r\n")
        assert witness.recv(1) == b""
        assert len(read_all(sock)) > BIG - 65536


# Answers under way


def test_refusal_waits_for_the_answer_under_way(server: Running) -> None:
    with server.connect() as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert server.app.entered.wait(10)
        sock.sendall(b"NONSENSE\r\n\r\n")
        # a second connection's answer proves that the server has seen the nonsense
        assert server.ask(LAST).startswith(OK)
        server.app.release.set()
        answer = read_all(sock)
    assert answer.startswith(OK)
    assert answer.endswith(b"\r\n\r\n/wait")
    assert answer.count(b"HTTP/1.1") == 1


def test_partial_next_request_does_not_cut_the_answer_under_way(hasty: Running) -> None:
    with hasty.connect() as sock, hasty.connect() as witness:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /next HT")
        assert witness.recv(1) == b""
        hasty.app.release.set()
        answer = read_all(sock)
    assert answer.startswith(OK)
    assert b"\r\n\r\n/waitHTTP/1.1 408 " in answer


def test_broken_body_behind_an_answer_under_way_does_not_cut_it(server: Running) -> None:
    server.app.entered.clear()
    server.app.release.clear()
    with server.connect() as sock:
        broken = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + GET + broken)
        assert server.app.entered.wait(10)
        assert server.ask(LAST).startswith(OK)
        server.app.release.set()
        answer = read_all(sock)
    assert answer.count(OK) == 2
    assert b"\r\n\r\n/waitHTTP/1.1 200 " in answer
    assert b"\r\n\r\n/HTTP/1.1 400 " in answer
    assert "/body" not in server.app.calls


def test_answer_under_way_is_not_reset_by_what_its_client_goes_on_sending(
    server: Running,
) -> None:
    with server.connect() as sock:
        sock.sendall(b"GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n")
        read = len(read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")[2])
        is_over = threading.Event()

        def go_on() -> None:
            with suppress(OSError):
                while not is_over.is_set():
                    sock.sendall(b"NONSENSE\r\n" * 1000)

        sending = threading.Thread(target=go_on)
        sending.start()
        try:
            while read < BIG:
                part = sock.recv(65536)
                assert part, "it was cut"
                read += len(part)
        finally:
            is_over.set()
            sending.join(10)


# Pipelined requests


def test_of_pipelined_requests_a_bounded_number_waits(hasty: Running) -> None:
    with hasty.connect() as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 2000)
        assert hasty.app.entered.wait(10)
        hasty.app.release.set()
        answers = read_all(sock)
    assert answers.count(OK) == answers.count(b"HTTP/1.1") == 1 + QUEUE_LIMIT
    assert len(hasty.app.calls) == 1 + QUEUE_LIMIT


def test_pipelined_requests_of_a_client_that_left_are_forgotten(hasty: Running) -> None:
    with hasty.connect() as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 20)
        assert hasty.app.entered.wait(10)
        assert len(queued()) == 20
    hasty.app.release.set()  # while it waits nothing is read, the end of the connection neither
    wait_until(lambda: not queued(), "the end of the connection")
    assert hasty.app.calls == ["/wait"]


def test_connection_that_was_reset_is_forgotten(hasty: Running) -> None:
    for _ in range(5):
        with hasty.connect() as sock:
            sock.sendall(GET)
            read_until(sock, b"\r\n\r\n/")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_until(lambda: not protocols(), "the end of the connections")


def test_answered_requests_are_forgotten_without_a_collection(hasty: Running) -> None:
    """Which comes seldom: under TLS each left 70 KiB until then."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert hasty.ask(LAST).startswith(OK)
        wait_until(lambda: not alive(RequestResponseCycle), "the end of the requests")
    finally:
        gc.enable()


def queued() -> list[object]:
    """What waits in any connection, or is only kept."""
    return [waiting for one in protocols() for waiting in one.pipeline]


def protocols() -> list[Hasty]:
    """All connections that are in memory."""
    return alive(Hasty)


def alive(kind: type[T]) -> list[T]:
    return [one for one in gc.get_objects() if isinstance(one, kind)]
