"""Targets for headers, of clients and of upstreams. Each line of the input is one header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction

import httpx
from starlette.datastructures import Headers

from proxyindex.files.writing import content_range
from proxyindex.freshness import Freshness, FreshnessRules, freshness, upstream_lifetime
from proxyindex.simple import MediaType, NotAcceptable, negotiate
from proxyindex.upstream.client import Reply
from proxyindex.web.conditional import (
    Span,
    Unsatisfiable,
    http_date,
    is_another,
    is_not_modified,
    requested_span,
)

ETAG = '"5f1d7a84db00d2fce00b31a7fc73224f"'
MODIFIED = datetime(2024, 2, 29, 12, 30, 59, 999, tzinfo=UTC)

_TOKEN = r"[!#$&^_.+*a-z0-9-]+"
_FAMILY = {MediaType.JSON: "application/*", MediaType.V1_HTML: "application/*"}
_LATEST = {
    "application/vnd.pypi.simple.latest+json": MediaType.JSON.value,
    "application/vnd.pypi.simple.latest+html": MediaType.V1_HTML.value,
}


def accept(data: bytes) -> None:
    """Accept, and on a second line the `format` parameter: as a naive reading has it."""
    header, has_format, format_ = data.decode("latin-1").partition("\n")
    try:
        found: MediaType | None = negotiate(header, format_ if has_format else None)
    except NotAcceptable:
        found = None
    assert found is None or found in MediaType
    if has_format:
        wanted = format_.replace(" ", "+").lower()
        assert found == _LATEST.get(wanted, wanted) or (found is None and wanted not in _LATEST)
    elif len(header) <= 4096:
        assert found == _naive_choice(header)


def range_(data: bytes) -> None:
    """Range, If-Range and the size of the file: what is sent lies within it (RFC 9110, 14)."""
    lines = [*data.decode("latin-1").split("\n"), "", ""]
    size = int(lines[2][:12]) if lines[2][:12].isascii() and lines[2][:12].isdigit() else 1000
    headers = {"range": lines[0], **({"if-range": lines[1]} if lines[1] else {})}
    found = requested_span(headers, size, ETAG, MODIFIED)
    asked = re.fullmatch(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", lines[0], re.ASCII | re.IGNORECASE)
    if isinstance(found, Span):
        assert 0 <= found.start < found.stop <= size
    if found is None:
        return
    assert asked, "an answer to a range nobody asked for"
    assert lines[1] in ("", ETAG) or _is_date(lines[1])
    first, last = asked.groups()
    if isinstance(found, Unsatisfiable):
        assert (int(first) >= size) if first else (int(last) == 0 or size == 0)
    elif first:
        assert found.start == int(first)
        assert found.stop == min(int(last) + 1 if last else size, size)
    else:
        assert size - found.start == min(int(last), size)
        assert found.stop == size


def conditional(data: bytes) -> None:
    """If-None-Match and If-Modified-Since: 304 only to those who have our copy; the same of what
    must be here still: 412 to all others."""
    lines = [*data.decode("latin-1").split("\n"), ""]
    headers = {"if-none-match": lines[0]} if lines[0] else {}
    if lines[1]:
        headers["if-modified-since"] = lines[1]
    for etag, modified in ((ETAG, MODIFIED), (ETAG, None), (None, MODIFIED), (None, None)):
        is_current = is_not_modified(Headers(headers), etag, modified)
        if not is_another(Headers({"if-match": lines[0]}), etag, modified):
            assert etag == ETAG in lines[0] or "*" in lines[0]
        if is_current and lines[0]:
            assert etag is not None
            assert etag in lines[0] or "*" in lines[0]
        elif is_current:
            assert modified is not None
            assert lines[1]
    # a broken tag before or after it must not hide the right one
    for tags in (f"{lines[0]}, {ETAG}", f"W/{ETAG},{lines[0]}"):
        assert is_not_modified(Headers({"if-none-match": tags}), ETAG)
    assert not is_another(Headers({"if-match": f"{lines[0]}, {ETAG}"}), ETAG)
    date = http_date(MODIFIED)
    assert is_not_modified(Headers({"if-modified-since": date}), None, MODIFIED)
    assert not is_another(Headers({"if-unmodified-since": date}), None, MODIFIED)


def caching(data: bytes) -> None:
    """Cache-Control, Age, Expires and Date of an upstream: a lifetime within bounds, or none."""
    names = ("cache-control", "age", "expires", "date")
    headers = _headers(data, names)
    lifetime = upstream_lifetime(headers)
    assert lifetime is None or 0.0 <= lifetime <= 3600.0
    directives = headers.get("cache-control", "").lower()
    if re.fullmatch(r"no-(?:store|cache)", directives):
        assert lifetime == 0.0
    rules = FreshnessRules()
    assert freshness(1000.0, lifetime, 999.0, rules) is Freshness.EXPIRED
    if lifetime == 0.0:
        assert freshness(1000.0, lifetime, 1000.0, rules) is not Freshness.FRESH


def partial(data: bytes) -> None:
    """Content-Range and Retry-After of an upstream: numbers, or nothing."""
    lines = [*data.decode("latin-1").split("\n"), ""]
    response = _response({"content-range": lines[0], "retry-after": lines[1]})
    reply = Reply("pypi", "http://up.example/f", response)
    pause = reply.asked_pause()
    assert pause is None or 1 <= pause <= 30
    first, total = content_range(reply.headers.get("content-range", ""))
    for number in (first, total):
        assert number is None or (type(number) is int and number >= 0)
    assert first is not None or total is None


def _response(headers: Mapping[str, str]) -> httpx.Response:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return httpx.Response(206, headers=raw, request=httpx.Request("GET", "https://index.example/"))


def _headers(data: bytes, names: tuple[str, ...]) -> dict[str, str]:
    lines = data.decode("latin-1").split("\n")
    return {name: line for name, line in zip(names, lines, strict=False) if line}


def _is_date(text: str) -> bool:
    # whoever names the right second in any of the many ways has our copy
    return not text.startswith(('"', "W/")) and "24" in text


def _naive_choice(header: str) -> MediaType | None:
    """The algorithm step by step, without regard to speed."""
    ranges: dict[str, Fraction] = {}
    for part in header.lower().split(","):
        pieces = [piece.strip(" \t") for piece in part.split(";")]
        quality = next((p for p in pieces[1:] if p.split("=")[0] == "q"), "q=1")
        if not re.fullmatch(rf"{_TOKEN}/{_TOKEN}", pieces[0]):
            continue
        if re.fullmatch(r"q=(0(\.[0-9]{0,3})?|1(\.0{0,3})?)", quality):
            ranges[_LATEST.get(pieces[0], pieces[0])] = Fraction(quality[2:].rstrip("."))
    ranges = ranges or {"*/*": Fraction(1)}
    worth: dict[MediaType, tuple[Fraction, bool, int]] = {}
    for place, form in enumerate(MediaType):
        named = form.value in ranges
        names = (form.value, _FAMILY.get(form, "text/*"), "*/*")
        judged = next((ranges[name] for name in names if name in ranges), Fraction(0))
        # equals that were named: JSON first; equals of a wildcard: plain HTML first of all
        rank = 1 if form is MediaType.HTML and not named else -place
        if judged:
            worth[form] = judged, named, rank
    return max(worth, key=lambda form: worth[form], default=None)
