"""Log lines: one line each, nothing secret, nothing forged."""

import io
import json
import logging
import sys

import pytest

from proxyindex import logs
from proxyindex.logs import JsonFormatter, TextFormatter, escape, mask


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("proxyindex.test", logging.INFO, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return made


def failed(message: str) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise ValueError(message)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET https://bob:pa55@up.example/simple/", "GET https://****@up.example/simple/"),
        ("https://token@up.example/x", "https://****@up.example/x"),
        ("https://bob:p@ss@up.example/x", "https://****@up.example/x"),
        ("socks5://u:p@proxy.example:1080", "socks5://****@proxy.example:1080"),
        ("https://f.example/a.whl?Signature=abc&Expires=1", "https://f.example/a.whl?****"),
        ("'https://f.example/a?sig=1' next", "'https://f.example/a?****' next"),
        ("Authorization: Basic Ym9iOnBhNTU=", "Authorization: Basic ****"),
        ("{b'authorization': b'Token abcdef'}", "{b'authorization': b'Token ****'}"),
        ("authorization: bearer pypi-AgEIcHl.x_y", "authorization: bearer ****"),
        ("the proxy wants Bearer pypi-AgE1cHl.x_y", "the proxy wants Bearer ****"),
        ("log in refused user=pxi_x7-YzAb_c0", "log in refused user=pxi_****"),
    ],
)
def test_credentials_and_queries_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "https://up.example/simple/idna/#sha256=ab",
        "mail someone@host.example about basic authentication?",
        "http://[::1]:8080/simple/",
        "https://up.example/@scope/name",
    ],
)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert mask(text) == text


def test_control_characters_are_escaped() -> None:
    assert escape("a\r\nb\x1b[31m\x7f\x85\u2028ü") == "a\\r\\nb\\x1b[31m\\x7f\\x85\\u2028ü"


def test_text_line_has_time_level_logger_and_message() -> None:
    made = record("hello %s", "world")
    made.created = 0.5
    line = TextFormatter().format(made)
    assert line == "1970-01-01T00:00:00.500Z INFO proxyindex.test: hello world"


def test_text_line_cannot_be_forged_by_a_value() -> None:
    line = TextFormatter().format(record("path %s", "/x\n1970-01-01 INFO forged"))
    assert "\n" not in line
    assert "\\n1970" in line


def test_text_traceback_is_indented_and_masked() -> None:
    lines = TextFormatter().format(failed("https://a:b@c.example/\nforged")).split("\n")
    assert all(line.startswith("    ") for line in lines[1:])
    assert "    forged" in lines
    assert "a:b@" not in "\n".join(lines)


def test_json_line_is_one_object_with_the_fields() -> None:
    fields = {"status": 200, "path": "/a\nb", "url": "https://u:p@h.example/", "level": "forged"}
    line = JsonFormatter().format(record("done", fields=fields))
    assert "\n" not in line
    entry = json.loads(line)
    assert entry["message"] == "done"
    assert entry["level"] == "info"
    assert entry["status"] == 200
    assert entry["path"] == "/a\nb"
    assert entry["url"] == "https://****@h.example/"


def test_json_line_carries_the_traceback_masked() -> None:
    entry = json.loads(JsonFormatter().format(failed("https://a:b@c.example/")))
    assert "ValueError: https://****@c.example/" in entry["trace"]


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize(("log_format", "start"), [("json", "{"), ("text", "2")])
def test_setup_chooses_format_and_level(
    log_format: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.setup(log_format, "info")  # type: ignore[arg-type]
    logging.getLogger("proxyindex.x").debug("quiet")
    logging.getLogger("httpx").info("GET https://up.example/")
    logging.getLogger("proxyindex.x").info("said")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(start)
    assert "said" in lines[0]


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize(("level", "told"), [("warning", ["WARNING"]), ("error", [])])
def test_a_stop_that_cuts_answers_off_is_a_warning_for_those_who_want_warnings(
    level: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.setup("text", level)
    server = logging.getLogger("uvicorn.error")
    server.error("Cancel %s running task(s), timeout graceful shutdown exceeded", 3)
    server.error("it failed")
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == [*told, "ERROR"]
