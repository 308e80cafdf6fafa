"""Access lines written by the score are the lines that `logging` writes."""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest

from proxyindex.lines import AccessLines
from proxyindex.logs import JsonFormatter, TextFormatter
from proxyindex.web.accesslog import LINE, Exchange, line_fields, logger

PATHS = ["/simple/demo/", "/simple/demo/demo-1.0+a.b.tar.gz", '/odd "quoted"\\ \x1b[31m\u2028é/']


def fields(path: str, user: str | None = None, client: str = "") -> dict[str, object]:
    scope: dict[str, Any] = {"client": (client, 1), "method": "GET", "path": path}
    exchange = Exchange("file", "root", "demo", "demo-1.0.tar.gz", "hit", user)
    return line_fields(scope, exchange, 200, 12345)


def by_logging(known: dict[str, object], log_format: str) -> str:
    known = {**known, "milliseconds": 1.3}
    record = logger.makeRecord(
        logger.name, logging.INFO, "", 0, LINE, (known,), None, extra={"fields": known}
    )
    return (JsonFormatter() if log_format == "json" else TextFormatter()).format(record) + "\n"


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("user", [None, "alice", 'a\u00e4"\\\x85'])
@pytest.mark.parametrize("client", ["192.0.2.1", 'a\u00e4"\\\x1b[31m pxi_00000000'])
async def test_the_lines_are_those_of_logging(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    log_format: Literal["text", "json"],
    path: str,
    user: str | None,
    client: str,
) -> None:
    caplog.set_level(logging.INFO)
    lines, known = AccessLines(log_format), fields(path, user, client)
    lines.write(lines.prepare(fields(path)), client, user or "-", 0.00128)
    lines.flush()
    written, expected = capsys.readouterr().err, by_logging(known, log_format)
    if log_format == "json":
        one, other = json.loads(written), json.loads(expected)
        assert len(one.pop("time")) == len(other.pop("time"))
        assert list(one.items()) == list(other.items())
    else:
        assert written.partition(" ")[2] == expected.partition(" ")[2]
        assert len(written) == len(expected)


async def test_lines_are_written_by_themselves_in_pieces_that_pipes_keep_whole(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lines = AccessLines("text")
    prepared = lines.prepare(fields("/simple/demo/"))
    for _ in range(500):
        lines.write(prepared, "192.0.2.1", "-", 0.0)
    written = ""
    with anyio.fail_after(10):
        while written.count("\n") < 500:
            await anyio.lowlevel.checkpoint()
            written += capsys.readouterr().err
    assert set(map(len, written.splitlines())) == {len(written) // 500 - 1}


async def test_below_the_level_nothing_is_written(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    lines = AccessLines("text")
    lines.write(lines.prepare(fields("/")), "192.0.2.1", "-", 0.0)
    lines.flush()
    assert capsys.readouterr().err == ""
