"""What the server refuses by itself has a line in the access log, and is counted, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import http
from tests.support.fixtures import ServerFactory, start_server
from tests.support.hermetic import wait_until
from tests.support.server import ProxyIndex

PAGE = b"GET /simple/demo/?a=secret HTTP/1.1\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /legacy/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyIndex]:
    home = tmp_path_factory.mktemp("home")
    (home / "own").mkdir()
    with start_server(home / "server", home / "own") as made:
        yield made


def lines(server: ProxyIndex) -> list[str]:
    """The access lines, without time."""
    found = [line.partition("proxyindex.access: ")[2] for line in server.logs.splitlines()]
    return [line for line in found if line and "/health" not in line and "/metrics" not in line]


def counted(server: ProxyIndex, status: int) -> float:
    rows = server.get("/metrics").text.splitlines()
    ours = [row for row in rows if "requests_total{" in row and f'status="{status}"' in row]
    return sum(float(row.rpartition(" ")[2]) for row in ours)


@pytest.mark.parametrize(
    ("request_", "status", "line"),
    [
        (b"NONSENSE\r\n\r\n", 400, "127.0.0.1 - - - 400 - - refused 31B "),
        (PAGE + b"\r\n", 400, "127.0.0.1 - GET /simple/demo/ 400 - - refused 46B "),
        (b"GET /" + b"a" * 9000, 414, f"127.0.0.1 - GET /{'a' * 999} 414 - - refused 34B "),
        (CHUNKED, 400, "127.0.0.1 - POST /legacy/ 400 - - denied 0B "),
        (HEALTH + CHUNKED, 400, "127.0.0.1 - POST /legacy/ 400 - - refused 31B "),
    ],
)
def test_a_refused_request_has_one_line_and_is_counted(
    running: ProxyIndex, request_: bytes, status: int, line: str
) -> None:
    before, known = counted(running, status), len(lines(running))
    with running.connect() as connection:
        connection.send(request_)
        answers = [connection.answer() for _ in range(2 if HEALTH in request_ else 1)]
        assert answers[-1].body
        assert answers[-1].status == status
        assert connection.is_closed()
    wait_until(lambda: counted(running, status) > before, "its count")
    assert "uvicorn" not in running.logs
    assert counted(running, status) == before + 1
    (new,) = lines(running)[known:]
    assert new.startswith(line)
    assert "secret" not in new


def test_a_crowd_is_refused_with_lines_that_say_so(server: ServerFactory, tmp_path: Path) -> None:
    (own := tmp_path / "own").mkdir()
    running = server(own, is_started=False)
    running.wrapper = ["sh", "-c", 'ulimit -n 96; exec "$@"', "sh"]
    running.start()
    with ExitStack() as stack:
        crowd = [stack.enter_context(running.connect()) for _ in range(40)]
        answer = crowd[-1].request("/simple/demo/")
        assert answer.status == 503
        assert b"Too many clients" in answer.body
        assert answer.header("connection") == "close"
        assert crowd[-1].is_closed()
        for connection in crowd[:-1]:
            connection.close()
        wait_until(lambda: is_served(running), "room again")
    (line,) = lines(running)
    assert line.startswith("127.0.0.1 - GET /simple/demo/ 503 - - - 32B ")
    assert counted(running, 503) > 0


def is_served(server: ProxyIndex) -> bool:
    try:
        return server.get("/health").status == 200
    except http.NoAnswerError:
        return False
