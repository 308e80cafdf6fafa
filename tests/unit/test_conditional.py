"""Conditional and range requests against a model of what RFC 9110 says."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from proxyindex.web.conditional import (
    Span,
    Unsatisfiable,
    http_date,
    is_another,
    is_not_modified,
    requested_span,
)

ETAG = '"abc"'
MODIFIED = datetime(2024, 1, 17, 16, 53, 12, 779164, tzinfo=UTC)
DATE = "Wed, 17 Jan 2024 16:53:12 GMT"
EARLIER = "Wed, 17 Jan 2024 16:53:11 GMT"
LATER = "Wed, 17 Jan 2024 16:53:13 GMT"
HUGE = "Wed, 17 Jan 99999999999999999999 16:53:13 GMT"
HUGE_OFFSET = "Wed, 17 Jan 2024 16:53:13 +99999999999999999999"


def span(header: str, size: int = 1000, **more: str) -> tuple[int, int] | str | None:
    headers = {"range": header} | {name.replace("_", "-"): text for name, text in more.items()}
    found = requested_span(headers, size, ETAG, MODIFIED)
    if isinstance(found, Span):
        return found.start, found.stop
    return "416" if isinstance(found, Unsatisfiable) else None


def test_a_date_is_written_in_utc() -> None:
    assert http_date(MODIFIED.astimezone(timezone(timedelta(hours=5)))) == DATE


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"if-none-match": '"abc"'}, True),
        ({"if-none-match": 'W/"abc"'}, True),
        ({"if-none-match": '"x", W/"abc" , "y"'}, True),
        ({"if-none-match": "*"}, True),
        ({"if-none-match": '"x"'}, False),
        ({"if-none-match": "abc"}, False),
        ({"if-none-match": ""}, False),
        ({"if-modified-since": DATE}, True),
        ({"if-modified-since": LATER}, True),
        ({"if-modified-since": EARLIER}, False),
        ({"if-modified-since": "yesterday"}, False),
        ({"if-modified-since": HUGE}, False),
        ({"if-modified-since": HUGE_OFFSET}, False),
        ({"if-modified-since": "Wed, 17 Jan 2024 16:53:12 -0000"}, True),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, False),  # the tag alone decides
    ],
)
def test_whether_the_copy_is_current(headers: dict[str, str], expected: bool) -> None:
    assert is_not_modified(Headers(headers), ETAG, MODIFIED) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"if-match": '"abc"'}, False),
        ({"if-match": '"x", "abc" , "y"'}, False),
        ({"if-match": "*"}, False),
        ({"if-match": '"x"'}, True),
        ({"if-match": 'W/"abc"'}, True),
        ({"if-match": "abc"}, True),
        ({"if-unmodified-since": DATE}, False),
        ({"if-unmodified-since": LATER}, False),
        ({"if-unmodified-since": EARLIER}, True),
        ({"if-unmodified-since": "yesterday"}, False),
        ({"if-unmodified-since": HUGE}, False),
        ({"if-match": '"abc"', "if-unmodified-since": EARLIER}, False),  # the tag alone decides
        ({"if-match": '"x"', "if-unmodified-since": LATER}, True),
    ],
)
def test_whether_another_version_is_wanted(headers: dict[str, str], expected: bool) -> None:
    assert is_another(Headers(headers), ETAG, MODIFIED) is expected


def test_of_what_is_unknown_no_version_but_any_is_wanted() -> None:
    assert is_another(Headers({"if-match": ETAG}), None, MODIFIED)
    assert not is_another(Headers({"if-match": "*"}), None, MODIFIED)
    assert not is_another(Headers({"if-unmodified-since": EARLIER}), ETAG)


@pytest.mark.parametrize("tags", [('"x"', '"abc"'), ('"abc"', '"x"')])
def test_lists_go_on_in_further_lines(tags: tuple[str, str]) -> None:
    raw = [(name, tag.encode()) for name in (b"if-match", b"if-none-match") for tag in tags]
    assert is_not_modified(Headers(raw=raw), ETAG)
    assert not is_another(Headers(raw=raw), ETAG)


def test_without_validators_no_copy_is_current() -> None:
    assert not is_not_modified(Headers({"if-none-match": "*"}), None, MODIFIED)
    assert not is_not_modified(Headers({"if-modified-since": LATER}), ETAG)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-99", (0, 100)),
        ("bytes=500-", (500, 1000)),
        ("bytes=-500", (500, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=10-999999", (10, 1000)),
        ("bytes=999-999", (999, 1000)),
        ("BYTES=0-0", (0, 1)),
        ("bytes= 0-0 ", (0, 1)),
        ("bytes=1000-", "416"),
        ("bytes=1000-2000", "416"),
        ("bytes=-0", "416"),
        ("bytes=5-2", None),
        ("bytes=5-4", None),
        ("bytes=abc", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("items=0-1", None),
        ("bytes=0-9,20-29", None),
        ("bytes=0-9999999999999999999", None),
        ("bytes=\u0661-\u0662", None),
        ("", None),
    ],
)
def test_ranges(header: str, expected: object) -> None:
    assert span(header) == expected


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_an_empty_file_has_no_satisfiable_range(header: str) -> None:
    assert span(header, size=0) == "416"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('"abc"', True),
        ('"x"', False),
        ('W/"abc"', False),
        (DATE, True),
        (LATER, False),
        (EARLIER, False),
        ("", False),
        (HUGE, False),
    ],
)
def test_a_range_is_served_only_of_the_very_version(condition: str, holds: bool) -> None:
    assert span("bytes=0-9", if_range=condition) == ((0, 10) if holds else None)


def test_a_condition_on_what_is_unknown_does_not_hold() -> None:
    for condition in (ETAG, DATE):
        headers = {"range": "bytes=0-9", "if-range": condition}
        assert requested_span(headers, 1000, None, None) is None


@given(
    size=st.integers(0, 50),
    first=st.none() | st.integers(0, 60),
    last=st.none() | st.integers(0, 60),
)
def test_a_range_selects_what_the_model_selects(
    size: int, first: int | None, last: int | None
) -> None:
    data = bytes(range(size))
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    wanted: bytes | str | None
    if first is None:
        wanted = None if last is None else (data[-last:] if last else b"") or "416"
    elif last is not None and last < first:
        wanted = None
    else:
        wanted = data[first : None if last is None else last + 1] or "416"
    found = span(header, size)
    assert (data[slice(*found)] if isinstance(found, tuple) else found) == wanted


LATIN = st.text(st.characters(codec="latin-1"), max_size=40)


@given(st.text(max_size=30), LATIN, LATIN)
def test_no_header_breaks_the_decision(range_: str, condition: str, since: str) -> None:
    headers = {"range": "bytes=" + range_, "if-range": condition}
    found = requested_span(headers, 10, ETAG, MODIFIED)
    assert not isinstance(found, Span) or 0 <= found.start < found.stop <= 10
    since_when = {"if-modified-since": since, "if-unmodified-since": since}
    is_not_modified(Headers(since_when), ETAG, MODIFIED)
    is_another(Headers(since_when), ETAG, MODIFIED)
