"""Bytes at random, and good requests with random damage: the server answers on, whatever comes."""

from __future__ import annotations

import contextlib
import select

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import hostile, http
from tests.support.fixtures import Index
from tests.support.server import ProxyIndex

bounded = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELDS = (
    b"Range: bytes=0-9",
    b"If-None-Match: *",
    b"If-Modified-Since: Wed, 17 Jan 2024 16:53:12 GMT",
    b"Accept: application/vnd.pypi.simple.v1+json, text/html;q=0.1",
    b"Accept-Encoding: gzip;q=0.5, *;q=0",
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: h2c",
    b"Via: 1.1 other",
    b"Expect: 100-continue",
    b"Cache-Control: no-cache",
    b"X-Forwarded-For: 127.0.0.1",
)
TARGETS = (
    b"/",
    b"/simple/",
    b"/simple/foo-bar/",
    b"/simple/foo-bar/foo_bar-1.0-py3-none-any.whl",
    b"/simple/foo-bar/foo_bar-1.0-py3-none-any.whl.metadata",
    b"/simple/local-lib/local_lib-1.0-py3-none-any.whl",
    b"/simple/?format=application/vnd.pypi.simple.v1%2Bjson",
    b"/health",
    b"/metrics",
)
BYTES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%", b"/", b"..", b"\x80"]),
    st.sampled_from(
        [b"%2e", b"%00", b"%ff", b";", b",", b"9" * 30, b"-", b"HTTP/1.1", b"\r\n\r\n"]
    ),
)
# where (a share of the length), how many bytes go, what comes
DAMAGE = st.tuples(st.floats(0, 1), st.integers(0, 12), BYTES)
REQUESTS = st.builds(
    lambda method, target, fields, body: (
        method
        + b" "
        + target
        + b" HTTP/1.1\r\nHost: a\r\n"
        + b"".join(field + b"\r\n" for field in fields)
        + b"\r\n"
        + body
    ),
    st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT"]),
    st.sampled_from(TARGETS),
    st.lists(st.sampled_from(FIELDS), max_size=4),
    st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", hostile.LAST]),
)


@pytest.fixture
def running(index: Index) -> ProxyIndex:
    """The server alone: an example that fails is shown with all its arguments."""
    return index.server


def damaged(request: bytes, damages: list[tuple[float, int, bytes]]) -> bytes:
    for share, count, new in damages:
        at = int(share * len(request))
        request = request[:at] + new + request[at + count :]
    return request


def assert_answers_on(running: ProxyIndex, data: bytes) -> None:
    """Send it; whatever is said is HTTP; nothing is logged as a fault; others are served."""
    before = len(running.logs)
    with running.connect() as connection, contextlib.suppress(ConnectionError):
        connection.send(data)
        assert running.get("/health").status == 200  # so the server has seen it, too
        # an answer need not come: what was sent may be the beginning of a request
        if select.select([connection.socket], [], [], 0.02)[0]:
            said = connection.receive(http.PIECE)
            assert not said or said.startswith(b"HTTP/1.1 "), said
    assert running.get("/health").status == 200
    assert "Traceback" not in running.logs[before:]
    assert running.is_running


@given(st.binary(max_size=400))
@bounded
def test_random_bytes_harm_nobody(running: ProxyIndex, data: bytes) -> None:
    assert_answers_on(running, data)


@given(st.lists(REQUESTS, min_size=1, max_size=4), st.lists(DAMAGE, max_size=4))
@bounded
def test_damaged_requests_harm_nobody(
    running: ProxyIndex, requests: list[bytes], damages: list[tuple[float, int, bytes]]
) -> None:
    assert_answers_on(running, damaged(b"".join(requests), damages))
    page = running.get("/simple/foo-bar/", {"Accept": "text/html"})
    assert page.text.count("<a ") == 3


@given(
    st.sampled_from(TARGETS), st.lists(st.tuples(st.sampled_from(FIELDS), BYTES, BYTES), max_size=6)
)
@bounded
def test_fields_of_any_value_harm_nobody(
    running: ProxyIndex, target: bytes, fields: list[tuple[bytes, bytes, bytes]]
) -> None:
    lines = [field + new + again for field, new, again in fields]
    assert_answers_on(running, hostile.get(target, *lines))
