"""What may continue a file that was begun, and what may not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxyindex.files.writing import Writing, content_range
from proxyindex.model import File, UpstreamOrigin
from proxyindex.store.partials import Partial, Partials
from proxyindex.upstream.client import Reply
from tests.support.builders import noise
from tests.support.reply import sha256_of

DATA = noise(1000, seed="file")
OTHER = noise(1000, seed="other")
ETAG = '"v1"'
SHA = {"sha256": sha256_of(DATA)}


def file(**facts: Any) -> File:
    return File("f-1.whl", UpstreamOrigin("up", "http://up.example/f"), **facts)


def reply(status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply("up", "http://up.example/f", httpx.Response(status, headers=named))


@pytest.fixture
def partial(tmp_path: Path) -> Partial:
    return Partials(tmp_path).create("key")


def begun(partial: Partial, got: int = 400, *, first: Reply | None = None, **facts: Any) -> Writing:
    """A file whose transfer broke off after `got` bytes."""
    writing = Writing(file(**facts))
    writing.begin(partial)
    writing.accept(first or reply(content_length="1000", etag=ETAG))
    writing.add(DATA[:got])
    return writing


def content(partial: Partial) -> bytes:
    return partial.path.read_bytes()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-99/1000", (0, 1000)),
        ("bytes 5-99/*", (5, None)),
        ("bytes */1000", (None, None)),
        ("items 0-1/2", (None, None)),
        ("bytes", (None, None)),
        ("", (None, None)),
        ("bytes a-b/c", (None, None)),
        ("bytes 1-2/x", (1, None)),
    ],
)
def test_content_range(header: str, expected: tuple[int | None, int | None]) -> None:
    assert content_range(header) == expected


def test_a_whole_file_in_one_go(partial: Partial) -> None:
    writing = Writing(file(hashes=SHA))
    writing.begin(partial)
    assert writing.headers() == {}
    assert writing.accept(reply(content_length="1000")) == 1000
    assert not writing.is_complete
    assert len(writing.add(DATA[:600])) == 600
    assert len(writing.add(b"")) == 0
    assert len(writing.add(DATA[600:])) == 400
    assert writing.is_complete
    assert writing.mismatch() is None
    assert content(partial) == DATA


def test_a_continuation_is_asked_for_conditionally(partial: Partial) -> None:
    writing = begun(partial, hashes=SHA)
    assert writing.headers() == {"Range": "bytes=400-", "If-Range": ETAG}


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"etag": 'W/"v1"'}, None),
        ({"etag": 'W/"v1"', "last_modified": "then"}, None),
        ({"last_modified": "then"}, "then"),
        ({}, None),
    ],
)
def test_only_strong_validators_are_conditions(
    partial: Partial, headers: dict[str, str], sent: str | None
) -> None:
    writing = begun(partial, first=reply(**headers), hashes=SHA)
    assert writing.headers().get("If-Range") == sent
    assert "Range" in writing.headers()


@pytest.mark.parametrize("headers", [{}, {"etag": 'W/"v1"', "last_modified": "then"}])
def test_without_digest_or_strong_validator_no_continuation_is_asked_for(
    partial: Partial, headers: dict[str, str]
) -> None:
    assert begun(partial, first=reply(**headers)).headers() == {}


def test_a_weak_tag_beside_another_date_does_not_continue_the_file(partial: Partial) -> None:
    writing = begun(partial, first=reply(content_length="1000", last_modified="then"))
    assert writing.headers() == {"Range": "bytes=400-", "If-Range": "then"}
    other = {"etag": 'W/"v2"', "last_modified": "later"}
    with pytest.raises(ValueError, match="answered another"):
        writing.accept(reply(206, content_range="bytes 400-999/1000", **other))


@pytest.mark.parametrize(
    "answer",
    [
        reply(206, content_range="bytes 400-999/1000"),
        reply(206, content_range="bytes 400-999/*", etag=ETAG),
        reply(206, content_range="bytes 400-999/1000", etag='W/"weak"'),
    ],
)
def test_the_range_asked_for_continues_the_file(partial: Partial, answer: Reply) -> None:
    writing = begun(partial, hashes=SHA, size=1000)
    assert writing.accept(answer) == 1000
    assert len(writing.add(DATA[400:])) == 600
    assert writing.mismatch() is None
    assert content(partial) == DATA


@pytest.mark.parametrize(
    "answer",
    [
        reply(206, content_range="bytes 401-999/1000", etag=ETAG),
        reply(206, content_range="bytes 0-999/1000", etag=ETAG),
        reply(206, content_range="bytes 400-999/1001", etag=ETAG),
        reply(206, content_range="bytes 400-999/1000", etag='"v2"'),
        reply(206, content_range="bytes 400-999/" + "9" * 3000),
        reply(206, content_range="junk", etag=ETAG),
        reply(206),
        reply(416),
    ],
)
def test_another_range_or_version_is_refused_and_not_asked_for_again(
    partial: Partial, answer: Reply
) -> None:
    writing = begun(partial, hashes=SHA, size=1000)
    with pytest.raises(ValueError, match=r"answered another|refused to continue"):
        writing.accept(answer)
    assert writing.headers() == {}


def test_a_server_without_ranges_sends_again_and_the_known_part_is_compared(
    partial: Partial,
) -> None:
    writing = begun(partial)
    assert writing.accept(reply(content_length="1000")) == 1000
    assert len(writing.add(DATA[:300])) == 0
    assert len(writing.add(DATA[300:500])) == 100
    assert len(writing.add(DATA[500:])) == 500
    assert content(partial) == DATA


def test_bytes_of_two_versions_are_never_stitched(partial: Partial) -> None:
    writing = begun(partial)
    writing.accept(reply(content_length="1000"))
    with pytest.raises(ValueError, match="changed the file"):
        writing.add(OTHER)
    assert content(partial) == DATA[:400]


def test_a_length_that_contradicts_the_page_is_refused() -> None:
    writing = Writing(file(size=1000))
    with pytest.raises(ValueError, match="announced 999 bytes, not 1000"):
        writing.accept(reply(content_length="999"))


def test_the_length_of_an_encoded_body_says_nothing() -> None:
    writing = Writing(file(size=1000))
    assert writing.accept(reply(content_length="999", content_encoding="gzip")) == 1000
    assert Writing(file()).accept(reply(content_length="x")) is None


def test_what_a_dead_writer_left_is_used_if_the_digest_can_prove_it(partial: Partial) -> None:
    partial.write(DATA[:300], 0)
    writing = Writing(file(hashes=SHA, size=1000))
    writing.begin(partial)
    assert writing.has_begun
    assert writing.headers() == {"Range": "bytes=300-"}
    writing.accept(reply(206, content_range="bytes 300-999/1000"))
    writing.add(DATA[300:])
    assert writing.mismatch() is None


@pytest.mark.parametrize("facts", [{}, {"hashes": {"md5": "0" * 32}}, {"hashes": SHA, "size": 100}])
def test_what_cannot_be_proven_or_is_too_long_is_dropped(
    partial: Partial, facts: dict[str, Any]
) -> None:
    partial.write(DATA[:300], 0)
    writing = Writing(file(**facts))
    writing.begin(partial)
    assert (writing.written, content(partial)) == (0, b"")


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512", "md5"])
def test_every_digest_of_the_page_is_checked(partial: Partial, algorithm: str) -> None:
    right = hashlib.new(algorithm, DATA, usedforsecurity=False).hexdigest()
    wrong = hashlib.new(algorithm, OTHER, usedforsecurity=False).hexdigest()
    for expected in (right, wrong):
        writing = Writing(file(hashes={algorithm: expected}))
        writing.begin(partial)
        writing.accept(reply())
        writing.add(DATA)
        assert writing.mismatch() == (None if expected == right else (wrong, right))


def test_the_strongest_digest_decides(partial: Partial) -> None:
    strong = hashlib.sha512(DATA).hexdigest()
    writing = Writing(file(hashes={"md5": "0" * 32, "sha512": strong}))
    writing.begin(partial)
    writing.add(DATA)
    assert writing.mismatch() is None
    assert writing.sha256() == SHA["sha256"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(breaks=st.lists(st.integers(1, 400), max_size=5), ranged=st.lists(st.booleans(), min_size=6))
def test_however_often_it_breaks_the_file_is_whole(
    tmp_path: Path, breaks: list[int], ranged: list[bool]
) -> None:
    partial = Partials(tmp_path).create("key")
    writing = Writing(file())
    writing.begin(partial)
    try:
        for got, honours in zip([*breaks, len(DATA)], ranged, strict=False):
            asked = writing.headers().get("Range")
            if asked and honours:
                start = writing.written
                assert asked == f"bytes={start}-"
                writing.accept(reply(206, content_range=f"bytes {start}-999/1000", etag=ETAG))
            else:
                start = 0
                writing.accept(reply(content_length="1000", etag=ETAG))
            writing.add(DATA[start : start + got])
        writing.accept(reply(content_length="1000", etag=ETAG))
        writing.add(DATA)
        assert content(partial) == DATA
        assert writing.sha256() == SHA["sha256"]
    finally:
        partial.close()
