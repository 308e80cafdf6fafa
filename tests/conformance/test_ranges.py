"""Ranges: docs/conformance.md, checks 68 to 75."""

from __future__ import annotations

import pytest

from tests.support import http
from tests.support.builders import noise, wheel_name
from tests.support.fixtures import Index, ServerFactory
from tests.support.pages import FileSpec, wheel_spec
from tests.support.reply import Generated
from tests.support.upstream import FakeUpstream

MIB = 1024**2


@pytest.fixture(params=["cold", "warm", "local"])
def target(index: Index, request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """A file nobody asked for yet, one in the cache, and one in a folder: target and bytes."""
    if request.param == "local":
        return f"/simple/local-lib/{index.local_filename}", index.local_wheel
    name = index.new_name()
    spec = wheel_spec(name, payload=20_000)
    index.project(spec, name=name)
    path = f"/simple/{name}/{spec.filename}"
    if request.param == "warm":
        index.get(path)
    assert isinstance(spec.body, bytes)
    return path, spec.body


def ask(index: Index, path: str, value: str, **more: str) -> http.Response:
    headers = {"Range": value, **{name.replace("_", "-"): text for name, text in more.items()}}
    return index.get(path, headers)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=-100", -100, None),
        ("bytes=10-999999999", 10, None),
        ("bytes=0-0", 0, 1),
        ("bytes=-1", -1, None),
        ("Bytes=5-9", 5, 10),
    ],
)
def test_068_one_range_is_answered_206(
    index: Index, target: tuple[str, bytes], asked: str, start: int, stop: int | None
) -> None:
    path, body = target
    expected = body[start:stop]
    first = start % len(body)
    answer = ask(index, path, asked)
    assert answer.status == 206
    assert answer.body == expected
    last = first + len(expected) - 1
    assert answer.header("content-range") == f"bytes {first}-{last}/{len(body)}"
    assert answer.header("content-length") == str(len(expected))
    assert answer.header("content-encoding") is None
    assert answer.header("etag")


@pytest.mark.parametrize("asked", ["bytes={n}-", "bytes={n}-{n}", "bytes=999999999-", "bytes=-0"])
def test_069_a_range_beyond_the_end_is_416(
    index: Index, target: tuple[str, bytes], asked: str
) -> None:
    path, body = target
    answer = ask(index, path, asked.format(n=len(body)))
    assert answer.status == 416
    assert answer.header("content-range") == f"bytes */{len(body)}"
    assert "immutable" not in (answer.header("cache-control") or "")


def test_070_a_suffix_longer_than_the_file_is_the_whole_file(
    index: Index, target: tuple[str, bytes]
) -> None:
    path, body = target
    answer = ask(index, path, f"bytes=-{len(body) + 1}")
    assert answer.status == 206
    assert answer.header("content-range") == f"bytes 0-{len(body) - 1}/{len(body)}"
    assert answer.body == body


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-2", "bytes=abc", "bytes=", "bytes=-", "items=0-1", "0-1", "bytes 0-1", "bytes=1-x"],
)
def test_071_a_malformed_or_foreign_range_is_ignored(
    index: Index, target: tuple[str, bytes], asked: str
) -> None:
    path, body = target
    answer = ask(index, path, asked)
    assert answer.status == 200
    assert answer.body == body


def test_072_a_range_on_head_is_ignored(index: Index, target: tuple[str, bytes]) -> None:
    path, body = target
    answer = index.get(path, {"Range": "bytes=0-9"}, method="HEAD")
    assert answer.status == 200
    assert answer.header("content-length") == str(len(body))
    assert answer.header("content-range") is None


def test_073_if_range_decides_by_strong_comparison(index: Index, target: tuple[str, bytes]) -> None:
    path, body = target
    known = index.get(path, method="HEAD")
    etag, modified = known.header("etag") or "", known.header("last-modified") or ""
    holding = [etag, modified]
    failing = [f"W/{etag}", '"other"', "Mon, 01 Jan 2001 00:00:00 GMT", etag.strip('"'), "rubbish"]
    for condition in holding:
        assert ask(index, path, "bytes=1-9", If_Range=condition).status == 206, condition
    for condition in failing:
        answer = ask(index, path, "bytes=1-9", If_Range=condition)
        assert (answer.status, answer.body) == (200, body), condition


def test_074_many_ranges_do_not_amplify(index: Index, target: tuple[str, bytes]) -> None:
    path, body = target
    two = ask(index, path, "bytes=0-9,20-29")
    if two.status == 206:
        assert "multipart/byteranges" in (two.header("content-type") or "")
    else:
        assert (two.status, two.body) == (200, body)
    thousand = ask(index, path, "bytes=" + ",".join(["0-"] * 1000))
    assert thousand.status in (200, 206, 400, 416)
    assert len(thousand.body) <= len(body) + 1000
    assert ask(index, path, "bytes=0-1").status == 206


def test_075_ranges_of_a_cold_500_mb_file_do_not_wait_for_it(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    size = 500 * MIB
    content = Generated(size, seed=75)
    # nobody gets to verify a digest in this test, and making 500 MiB of them takes a second
    spec = FileSpec(
        filename="giant-1.0-py3-none-any.whl", body=content, hashes={"sha256": "a" * 64}
    )
    upstream.project("giant", spec)
    upstream.file(spec, rate=2_000_000)  # minutes for the whole
    running = server(upstream=upstream)
    path = f"/simple/giant/{spec.filename}"
    for asked, start, stop in [
        ("bytes=-10000", size - 10_000, size),
        (f"bytes={size - 16384}-{size - 1}", size - 16_384, size),
        (f"bytes={size // 2}-{size // 2 + 999}", size // 2, size // 2 + 1000),
        ("bytes=0-999", 0, 1000),
    ]:
        answer = running.get(path, {"Range": asked})
        assert answer.status == 206
        assert answer.body == content.read(start, stop)
        assert answer.header("content-range") == f"bytes {start}-{stop - 1}/{size}"
    ranges = [seen.header("range") for seen in upstream.requests(spec.path)]
    assert not [asked for asked in ranges if asked and asked.startswith("bytes=-")]


def test_075_a_far_tail_is_passed_through_while_the_file_arrives(crowded: Index) -> None:
    name = crowded.new_name()
    body = noise(6 * MIB, seed=name)
    spec = FileSpec(filename=wheel_name(name), body=body)
    crowded.project(spec, name=name)
    gate = f"tail-{name}"
    crowded.upstream.file(spec, hold_at=MIB, gate=gate)  # the tail's 206 is shorter, never held
    path = f"/simple/{name}/{spec.filename}"
    with crowded.server.connect() as slow:
        whole = slow.request(path)
        assert whole.read(1000) == body[:1000]
        crowded.upstream.wait_held(gate)
        assert crowded.get(path, {"Range": "bytes=-500"}).body == body[-500:]
        # what has arrived already is not asked for again
        assert crowded.get(path, {"Range": "bytes=0-999"}).body == body[:1000]
        asked = [seen.header("range") for seen in crowded.upstream.requests(spec.path)]
        assert asked == [None, f"bytes={len(body) - 500}-{len(body) - 1}"]
        crowded.upstream.release(gate)
        assert whole.body == body
    assert crowded.get(path, {"Range": "bytes=-500"}).header("x-proxyindex") == "hit"
    assert crowded.upstream.count(spec.path) == 2


def test_075_a_near_range_is_served_from_the_growing_file(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=400_000)
    index.project(spec, name=name)
    gate = f"growing-{name}"
    index.upstream.file(spec, hold_at=200_000, gate=gate)
    path = f"/simple/{name}/{spec.filename}"
    assert isinstance(spec.body, bytes)
    answer = ask(index, path, "bytes=100000-150000")
    assert answer.body == spec.body[100_000:150_001]
    with index.server.connect() as connection:
        tail = connection.request(path, {"Range": "bytes=-1000"})
        assert tail.status == 206
        index.upstream.release(gate)
        assert tail.body == spec.body[-1000:]
    assert index.upstream.count(spec.path) == 1


def test_075_an_upstream_that_ignores_ranges_is_downloaded_instead(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    body = noise(4 * MIB, seed="rangeless")
    spec = FileSpec(filename="rangeless-1.0-py3-none-any.whl", body=body)
    upstream.project("rangeless", spec)
    upstream.file(spec, ranges="ignore")
    running = server(upstream=upstream)
    path = f"/simple/rangeless/{spec.filename}"
    answer = running.get(path, {"Range": "bytes=-500"})
    assert (answer.status, answer.body) == (206, body[-500:])
    assert running.get(path).body == body
