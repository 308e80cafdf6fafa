"""One access line and one count per request, whatever becomes of it."""

import logging

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxyindex.logs import TextFormatter
from proxyindex.web.access import AccessLog, Exchange, exchange_of

Counted = tuple[str, int, str, int]


class Counter:
    def __init__(self) -> None:
        self.counted: list[Counted] = []

    def request(self, kind: str, status: int, outcome: str, seconds: float, size: int) -> None:
        assert seconds >= 0
        self.counted.append((kind, status, outcome, size))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    exchange = exchange_of(scope)
    exchange.kind, exchange.outcome = "file", "hit"
    exchange.project, exchange.filename = "demo", "demo-1.0.tar.gz"
    await send({"type": "http.response.start", "status": 206, "headers": []})
    await send({"type": "http.response.body", "body": b"12345", "more_body": True})
    await send({"type": "http.response.body", "body": b"678"})


def scope_of(path: str = "/simple/demo/", method: str = "GET") -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"token=secret",
        "client": ("192.0.2.1", 5000),
    }


async def answered(
    application: ASGIApp, caplog: pytest.LogCaptureFixture, scope: Scope | None = None
) -> tuple[list[Counted], str]:
    counter = Counter()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        assert message["type"].startswith("http.response.")

    with caplog.at_level(logging.INFO, "proxyindex.access"):
        try:
            await AccessLog(application, counter)(scope or scope_of(), receive, send)
        finally:
            assert len(caplog.records) == 1
    return counter.counted, TextFormatter().format(caplog.records[0])


async def test_line_and_count_say_what_the_endpoint_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted, line = await answered(app, caplog)
    assert counted == [("file", 206, "hit", 8)]
    assert " 192.0.2.1 GET /simple/demo/ 206 demo demo-1.0.tar.gz hit 8B " in line
    assert line.endswith("ms")
    assert "secret" not in line


async def test_fields_are_there_for_the_json_formatter(caplog: pytest.LogCaptureFixture) -> None:
    await answered(app, caplog)
    fields = vars(caplog.records[0])["fields"]
    assert fields["bytes"] == 8
    assert fields["aborted"] is False
    assert fields["index"] == "-"


async def test_head_counts_no_body(caplog: pytest.LogCaptureFixture) -> None:
    counted, _ = await answered(app, caplog, scope_of(method="HEAD"))
    assert counted == [("file", 206, "hit", 0)]


async def test_path_cannot_forge_a_line_or_a_column(caplog: pytest.LogCaptureFixture) -> None:
    _, line = await answered(
        app, caplog, scope_of("/a 200\r\n2026 INFO x\u2028\x1b[2J" + "y" * 9999)
    )
    assert len(line.splitlines()) == 1
    assert "/a%20200\\r\\n2026%20INFO%20x\\u2028\\x1b[2Jyyy" in line
    assert len(line) < 1500


async def test_failed_application_is_logged_as_500_and_aborted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await answered(failing, caplog)
    assert vars(caplog.records[0])["fields"]["status"] == 500
    assert caplog.records[0].getMessage().endswith(" aborted")


async def test_answer_to_a_client_that_has_left_is_aborted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await app(scope, receive, send)

    _, line = await answered(listening, caplog)
    assert line.endswith(" aborted")


async def test_unknown_requests_and_clients_have_dashes(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})

    counted, line = await answered(silent, caplog, {**scope_of(), "client": None})
    assert counted == [("other", 404, "-", 0)]
    assert " - GET /simple/demo/ 404 - - - 0B " in line


async def test_lifespan_is_passed_on_unlogged(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None: ...

    await AccessLog(lifespan, Counter())({"type": "lifespan"}, receive, send)
    assert seen == ["lifespan"]
    assert caplog.records == []


def test_exchange_is_made_where_nobody_logs() -> None:
    scope: Scope = {}
    exchange_of(scope).kind = "page"
    assert exchange_of(scope) == Exchange(kind="page")


def test_foreign_value_in_the_scope_is_an_error() -> None:
    with pytest.raises(TypeError):
        exchange_of({"proxyindex": {}})
