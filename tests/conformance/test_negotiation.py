"""Conformance checks 14-32: which form of a page a client gets."""

from __future__ import annotations

import pytest

from tests.support.fixtures import Index

JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"
HTML = "text/html"
LATEST_JSON = "application/vnd.pypi.simple.latest+json"
LATEST_HTML = "application/vnd.pypi.simple.latest+html"

# byte for byte what the clients send
PIP = f"{JSON}, {V1_HTML}; q=0.1, {HTML}; q=0.01"
UV = f"{JSON}, {V1_HTML};q=0.2, {HTML};q=0.01"
POETRY = f"{JSON}, */*;q=0.1"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

CASES = [
    pytest.param([], HTML, id="014-no-header"),
    pytest.param(["*/*"], HTML, id="015-anything"),
    pytest.param([PIP], JSON, id="016-pip"),
    pytest.param([UV], JSON, id="017-uv"),
    pytest.param([POETRY], JSON, id="018-poetry"),
    pytest.param([BROWSER], HTML, id="019-browser"),
    pytest.param([V1_HTML], V1_HTML, id="020-v1-html"),
    pytest.param([LATEST_JSON], JSON, id="021-latest-json"),
    pytest.param([LATEST_HTML], V1_HTML, id="021-latest-html"),
    pytest.param([f"{JSON};q=0.1, {HTML};q=0.9"], HTML, id="022-qualities"),
    pytest.param([f"{JSON}, {HTML}"], JSON, id="023-equals-named"),
    pytest.param([f"{HTML}, {JSON}"], JSON, id="023-equals-named-in-any-order"),
    pytest.param([f"{HTML}, {V1_HTML}"], V1_HTML, id="023-equals-named-html"),
    pytest.param(["application/json"], None, id="024-plain-json"),
    pytest.param(["application/xhtml+xml, image/*"], None, id="024-foreign-types"),
    pytest.param(["*/*;q=0"], None, id="025-nothing-at-all"),
    pytest.param([f"{JSON};q=0, {V1_HTML};q=0.0, {HTML};q=0.000"], None, id="025-each-refused"),
    pytest.param(["TEXT/HTML"], HTML, id="026-upper-case"),
    pytest.param([JSON.upper() + ";Q=0.5"], JSON, id="026-upper-case-with-quality"),
    pytest.param([f"{JSON};q=abc, {HTML}"], HTML, id="027-bad-quality-ignored"),
    pytest.param([f"{JSON};q=1.5, {V1_HTML};q=0.1"], V1_HTML, id="027-quality-beyond-one"),
    pytest.param([f"{JSON};q=0.1234, {HTML};q=0.001"], HTML, id="027-too-many-decimals"),
    pytest.param([f"{JSON};q=abc"], HTML, id="027-no-valid-range-left"),
    pytest.param(["garbage"], HTML, id="027-no-range-at-all"),
    pytest.param(["text/html;q=0.1", f"{JSON};q=0.9"], JSON, id="028-two-lines"),
    pytest.param(["application/json", "text/html"], HTML, id="028-second-line-counts"),
    pytest.param(["text/*"], HTML, id="015-any-text"),
    pytest.param(["application/*"], JSON, id="015-any-application"),
    pytest.param([f"{HTML};q=0, */*"], JSON, id="025-html-refused"),
    pytest.param([f"*/*, {JSON};q=0.5"], HTML, id="022-named-with-less"),
    pytest.param([f"*/*;q=0.9, text/*;q=0.1, {JSON};q=0.5"], V1_HTML, id="022-most-specific"),
]


def _check(index: Index, target: str, accept: list[str], expected: str | None) -> None:
    response = index.get(target, [("Accept", line) for line in accept])
    assert "Accept" in _vary(response.all("vary"))
    content_type = response.header("content-type") or ""
    if expected is None:
        assert response.status == 406
        assert content_type.startswith("text/plain")
        assert all(form in response.text for form in (JSON, V1_HTML, HTML))
    else:
        assert response.status == 200
        assert content_type == (JSON if expected == JSON else f"{expected}; charset=utf-8")
        assert response.text.startswith("{" if expected == JSON else "<!DOCTYPE html>")


def _vary(lines: list[str]) -> set[str]:
    return {name.strip() for line in lines for name in line.split(",")}


@pytest.mark.parametrize(("accept", "expected"), CASES)
def test_the_page_comes_in_the_form_asked_for(
    index: Index, accept: list[str], expected: str | None
) -> None:
    _check(index, "/simple/foo-bar/", accept, expected)


@pytest.mark.parametrize(("accept", "expected"), CASES)
def test_032_the_list_comes_in_the_form_asked_for(
    index: Index, accept: list[str], expected: str | None
) -> None:
    _check(index, "/simple/", accept, expected)


@pytest.mark.parametrize("target", ["/simple/foo-bar/", "/simple/"])
@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ("application/vnd.pypi.simple.v1%2Bjson", JSON),
        ("application/vnd.pypi.simple.v1+json", JSON),
        ("application%2Fvnd.pypi.simple.latest%2Bjson", JSON),
        ("application/vnd.pypi.simple.v1+html", V1_HTML),
    ],
)
def test_029_the_format_parameter_beats_the_header(
    index: Index, target: str, format_: str, expected: str
) -> None:
    response = index.get(f"{target}?format={format_}", {"Accept": "text/html"})
    assert response.status == 200
    assert (response.header("content-type") or "").partition(";")[0] == expected
    other = index.get(f"{target}?format=text/html", {"Accept": JSON})
    assert other.header("content-type") == "text/html; charset=utf-8"


@pytest.mark.parametrize("target", ["/simple/foo-bar/", "/simple/"])
@pytest.mark.parametrize("format_", ["foo", "", "*/*", "text/*", "text/html;q=0.5", "json"])
def test_030_an_unknown_format_is_not_acceptable(index: Index, target: str, format_: str) -> None:
    response = index.get(f"{target}?format={format_}", {"Accept": "*/*"})
    assert response.status == 406


@pytest.mark.parametrize("target", ["/simple/foo-bar/", "/simple/local-lib/", "/simple/"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("form", [JSON, V1_HTML, HTML])
def test_031_every_answer_of_a_page_varies_by_accept_and_nothing_odd(
    index: Index, target: str, coding: str, form: str
) -> None:
    asked = {"Accept": form, "Accept-Encoding": coding}
    page = index.get(target, asked)
    unchanged = index.get(target, {**asked, "If-None-Match": page.header("etag") or ""})
    refused = index.get(target, {"Accept": "image/png"})
    moved = index.get("/simple/Foo.Bar/", asked)
    answers = [page, unchanged, refused, moved]
    assert [answer.status for answer in answers] == [200, 304, 406, 301]
    for answer in answers:
        named = {name.lower() for name in _vary(answer.all("vary"))}
        assert "accept" in named
        assert named <= {"accept", "accept-encoding"}
    assert "Accept-Encoding" in _vary(page.all("vary"))
