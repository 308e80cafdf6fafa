"""Requests that arrived before are known by their bytes: only where these are a whole request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import http
from tests.support.fixtures import start_server
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, wheel_spec
from tests.support.reply import Generated
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

PAGE = "/simple/demo/"
SEEN = f"GET {PAGE} HTTP/1.1\r\nHost: index.example\r\nAccept: */*\r\n\r\n".encode()
BODY = Generated(100_000)
FILE = "/simple/demo/demo-0.9.tar.gz"
OTHER = b"GET /simple/none/ HTTP/1.1\r\nHost: index.example\r\n\r\n"


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyIndex]:
    """A server that knows the request."""
    with FakeUpstream() as upstream:
        hashes = {"sha256": BODY.sha256()}
        sdist = FileSpec(filename="demo-0.9.tar.gz", body=BODY, hashes=hashes)
        upstream.project("demo", wheel_spec("demo"), sdist)
        front = ["--trusted-proxies", "127.0.0.1"]
        with start_server(tmp_path_factory.mktemp("warm"), *front, upstream=upstream) as server:
            with server.connect() as connection:
                for _ in range(4):
                    assert ask(connection, SEEN) == 200
                    assert connection.request(FILE).body == BODY.read(0, BODY.size)
            yield server


@pytest.fixture
def connection(warm: ProxyIndex) -> Iterator[http.Connection]:
    with warm.connect() as made:
        yield made


def ask(connection: http.Connection, data: bytes) -> int:
    connection.send(data)
    return read(connection)


def read(connection: http.Connection) -> int:
    answer = connection.answer()
    body = answer.read()
    assert (answer.status == 200) == (b"demo-1.0" in body)
    return answer.status


def test_it_is_answered_again_and_again(connection: http.Connection) -> None:
    for _ in range(50):
        assert ask(connection, SEEN) == 200
    assert ask(connection, OTHER) == 404
    assert ask(connection, SEEN) == 200


@pytest.mark.parametrize("cut", [1, 20, len(SEEN) - 2, len(SEEN) - 1])
def test_in_pieces_it_is_the_same_request(connection: http.Connection, cut: int) -> None:
    assert ask(connection, SEEN) == 200
    connection.send(SEEN[:cut])
    assert ask(connection, SEEN[cut:]) == 200
    assert ask(connection, SEEN) == 200


def test_several_at_once_are_answered_each(connection: http.Connection) -> None:
    for _ in range(3):
        connection.send(SEEN + OTHER + SEEN + SEEN)
        assert [read(connection) for _ in range(4)] == [200, 404, 200, 200]


def test_behind_an_empty_line_it_is_a_request(connection: http.Connection) -> None:
    for _ in range(3):
        assert ask(connection, b"\r\n" + SEEN) == 200
        assert ask(connection, SEEN + b"\r\n") == 200
        assert ask(connection, SEEN) == 200


def test_in_the_head_of_another_request_it_is_no_request(connection: http.Connection) -> None:
    connection.send(b"GET /simple/none/ HTTP/1.1\r\nHost: index.example\r\nX-Note: ")
    connection.send(SEEN)  # the value, and the rest of the fields
    answer = connection.answer()
    answer.read()
    assert answer.status != 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_in_a_body_it_is_no_request(connection: http.Connection, method: str) -> None:
    size = len(SEEN)
    head = f"{method} /simple/none/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: {2 * size}\r\n"
    connection.send(f"{head}\r\n".encode())
    connection.send(SEEN)
    connection.send(SEEN)
    assert connection.answer().read()
    assert ask(connection, OTHER) == 404, "and nothing came in between"


def test_one_that_ends_the_connection_ends_it_each_time(warm: ProxyIndex) -> None:
    last = SEEN[:-2] + b"Connection: close\r\n\r\n"
    for _ in range(3):
        with warm.connect() as connection:
            assert ask(connection, last) == 200
            assert connection.is_closed()


def test_each_client_is_named_in_its_line(warm: ProxyIndex, connection: http.Connection) -> None:
    clients = ["192.0.2.7", "192.0.2.8"]
    for client in clients * 3:
        assert ask(connection, SEEN[:-2] + f"X-Forwarded-For: {client}\r\n\r\n".encode()) == 200
    for client in clients:
        wait_until(lambda who=client: warm.logs.count(f"{who} - GET {PAGE}") == 3, client)  # type: ignore[misc]


def test_a_page_that_changed_is_not_given_to_a_known_request(
    connection: http.Connection, warm: ProxyIndex
) -> None:
    assert ask(connection, SEEN) == 200
    (page,) = (path for path in (warm.cache_dir / "pages").rglob("demo") if path.is_file())
    page.unlink()
    connection.send(SEEN)
    answer = connection.answer()
    assert answer.header("x-proxyindex") == "fetched"
    answer.read()


RANGES = [
    "Range: bytes=10-19",
    "range: bytes=10-19",
    "Range: bytes=70000-",
    "Range: bytes=-7",
    "Range: bytes=",
    "Range: bytes=-",
    "Range: bytes=9-5",
    "Range: bytes=1-2,4-5",
    "Range: bytes= 1-2",
    "Range: lines=1-2",
    "Range: bytes=99999-200000",
    "Range: bytes=100000-",
    "Range: bytes=9999999999999999999-",
    "Range: bytes=1-2\r\nRange: bytes=",
    "Range: bytes=\r\nRange: bytes=1-2",
    "Range: bytes=1-2\r\nRange: bytes=4-5",
    "Range: bytes=1-2\r\nX-Range: bytes=4-5",
    "X-Note: a\r\nRange: bytes=1-2\r\nX-Note: b",
]


@pytest.mark.parametrize("first", RANGES)
def test_one_for_another_range_is_answered_as_the_plain_way_does(
    connection: http.Connection, first: str
) -> None:
    for field in [first, *RANGES, first]:
        plain = part(connection, f"{field}\r\nPragma: x")
        assert part(connection, field) == plain, field


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('If-Match: "other"', 412),
        ("If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT", 412),
        ('If-Range: "other"', 200),
    ],
)
def test_of_another_version_than_was_asked_for_no_part_is_sent(
    connection: http.Connection, condition: str, status: int
) -> None:
    known = part(connection, "Range: bytes=1-2")
    assert known[0] == 206
    for _ in range(2):
        assert part(connection, f"Range: bytes=1-2\r\n{condition}")[0] == status
    assert part(connection, "Range: bytes=1-2") == known


def part(connection: http.Connection, fields: str) -> tuple[int, str | None, bytes]:
    connection.send(f"GET {FILE} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n\r\n".encode())
    answer = connection.answer()
    return answer.status, answer.header("content-range"), answer.read()
