"""Negotiation: the table of real clients' headers and of odd ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.simple import MediaType, NotAcceptable, negotiate

JSON = "application/vnd.pypi.simple.v1+json"
V1 = "application/vnd.pypi.simple.v1+html"
LATEST_JSON = "application/vnd.pypi.simple.latest+json"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, MediaType.HTML),
        ("", MediaType.HTML),
        ("*/*", MediaType.HTML),
        (f"{JSON}, {V1}; q=0.1, text/html; q=0.01", MediaType.JSON),  # pip, pdm
        (f"{JSON}, {V1};q=0.2, text/html;q=0.01", MediaType.JSON),  # uv
        (f"{JSON}, */*;q=0.1", MediaType.JSON),  # poetry
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", MediaType.HTML),
        (V1, MediaType.V1_HTML),
        (LATEST_JSON, MediaType.JSON),
        ("application/vnd.pypi.simple.latest+html", MediaType.V1_HTML),
        (f"{JSON};q=0.1, text/html;q=0.9", MediaType.HTML),
        (f"{JSON}, text/html", MediaType.JSON),
        (f"text/html, {V1}", MediaType.V1_HTML),
        ("text/*", MediaType.HTML),
        ("application/*", MediaType.JSON),
        ("text/html;q=0, */*", MediaType.JSON),
        (f"text/html;q=0, {JSON};q=0, */*;q=0.001", MediaType.V1_HTML),
        (f"*/*, {JSON}", MediaType.JSON),
        ("TEXT/HTML", MediaType.HTML),
        (f"{JSON};q=abc, text/html;q=0.1", MediaType.HTML),
        (f"{JSON};q=1.1, {V1};q=0.5", MediaType.V1_HTML),
        (f"{JSON};q, {V1};q=0.5", MediaType.V1_HTML),
        (f"{JSON};q=0.1234, {V1};q=0.5", MediaType.V1_HTML),
        (f"{JSON} ; Q=0.4\t,{V1};q=0.", MediaType.JSON),
        ("text/html;charset=utf-8;q=0.3, application/json", MediaType.HTML),
        ("garbage", MediaType.HTML),
        (",,;;,", MediaType.HTML),
        ("x" * 100_000, MediaType.HTML),
    ],
)
def test_accept_headers(accept, expected):
    assert negotiate(accept) is expected


@pytest.mark.parametrize("accept", ["application/json", "*/*;q=0", "image/*", "text/html;q=0.000"])
def test_what_cannot_be_satisfied_is_refused_with_the_alternatives(accept):
    with pytest.raises(NotAcceptable, match="text/html") as refusal:
        negotiate(accept)
    assert JSON in str(refusal.value)
    assert V1 in str(refusal.value)


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        (JSON, MediaType.JSON),
        (JSON.replace("+", " "), MediaType.JSON),
        (LATEST_JSON, MediaType.JSON),
        (V1, MediaType.V1_HTML),
        ("text/html", MediaType.HTML),
    ],
)
def test_format_beats_accept(format_, expected):
    assert negotiate("image/png", format_) is expected


@pytest.mark.parametrize("format_", ["", "foo", "*/*", "text/*", "text/html;q=1", "json"])
def test_unknown_format_is_refused_whatever_is_accepted(format_):
    with pytest.raises(NotAcceptable):
        negotiate("*/*", format_)


def test_content_types_are_lower_case_without_space_before_parameters():
    assert [media_type.content_type for media_type in MediaType] == [
        JSON,
        f"{V1}; charset=utf-8",
        "text/html; charset=utf-8",
    ]


@given(st.text(alphabet="*/;,q=01. +abtexhml", max_size=40) | st.text(max_size=40))
def test_any_header_is_answered_or_refused(accept):
    try:
        assert negotiate(accept) in MediaType
    except NotAcceptable:
        assert "/" in accept
