"""Files whose end nothing tells: no digest and no size on the page, and a body that lasts until
the connection is closed. Nobody could see that one was cut."""

from __future__ import annotations

import pytest

from tests.support.builders import make_sdist, make_wheel, metadata, noise
from tests.support.crowd import attempt
from tests.support.fixtures import ServerFactory
from tests.support.pages import FileSpec
from tests.support.reply import Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

WHEEL = make_wheel("cargo", "1.0", payload=60_000)
SDIST = make_sdist("cargo", payload=60_000)
INSTALLER = noise(60_000, seed="installer")
FILES = {
    "cargo-1.0-py3-none-any.whl": WHEEL,
    "cargo-1.0.tar.gz": SDIST,
    "cargo-1.0.exe": INSTALLER,
}


def untold(body: bytes) -> Reply:
    """As a server of HTTP/1.0 sends what it makes as it goes: it ends where the connection does."""
    return Reply(raw=b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n" + body)


def offer(upstream: FakeUpstream, filename: str, body: bytes, *replies: Reply) -> str:
    """A file of which the page tells nothing; its target."""
    spec = FileSpec(filename=filename, body=body, hashes={}, size=None)
    upstream.project("cargo", spec)
    upstream.script(spec.path, *replies)
    return f"/simple/cargo/{filename}"


def kept(server: ProxyIndex) -> set[str]:
    return {path.name for path in (server.cache_dir / "blobs").glob("*/*")}


@pytest.mark.parametrize(
    ("filename", "missing"),
    [("cargo-1.0-py3-none-any.whl", 30_000), ("cargo-1.0.tar.gz", 1), ("cargo-1.0.exe", 30_000)],
)
def test_what_was_cut_where_nothing_tells_the_end_is_fetched_to_its_end(
    server: ServerFactory, upstream: FakeUpstream, filename: str, missing: int
) -> None:
    body = FILES[filename]
    target = offer(upstream, filename, body, untold(body[:-missing]), untold(body))
    running = server(upstream=upstream)
    assert attempt(running.url, target) == body
    assert kept(running) == {sha256_of(body)}


def test_a_broken_archive_whose_end_nothing_tells_is_never_given_whole(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    target = offer(upstream, "cargo-1.0.tar.gz", SDIST, untold(SDIST[:-9]))
    running = server(upstream=upstream)
    assert attempt(running.url, target) is None
    assert kept(running) == set()
    assert upstream.count("/files/cargo-1.0.tar.gz") == 2


@pytest.mark.parametrize("filename", FILES)
def test_what_ends_where_nothing_tells_it_is_kept_where_its_format_or_a_second_answer_does(
    server: ServerFactory, upstream: FakeUpstream, filename: str
) -> None:
    body = FILES[filename]
    target = offer(upstream, filename, body, untold(body))
    running = server(upstream=upstream)
    for _ in range(2):
        assert attempt(running.url, target) == body
    assert upstream.count(f"/files/{filename}") == 1 + filename.endswith(".exe")


def test_core_metadata_that_may_be_cut_is_taken_from_the_wheel(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    told = metadata("cargo", "1.0", requires_dist=("other",))
    wheel = make_wheel("cargo", "1.0", requires_dist=("other",))
    filename = "cargo-1.0-py3-none-any.whl"
    target = offer(upstream, filename, wheel, Reply(body=wheel, ranges="none"))
    upstream.script(f"/files/{filename}.metadata", untold(told[: told.index(b"Requires-Dist")]))
    running = server(upstream=upstream)
    assert running.get(target + ".metadata").body == told


def test_a_digest_resumes_what_was_cut_where_nothing_tells_the_end(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = FileSpec(filename="cargo-1.0.tar.gz", body=SDIST, size=None)
    upstream.project("cargo", spec)
    upstream.script(spec.path, untold(SDIST[:30_000]), Reply(body=SDIST))
    running = server(upstream=upstream)
    assert attempt(running.url, "/simple/cargo/cargo-1.0.tar.gz") == SDIST
    assert upstream.requests(spec.path)[-1].header("range") == "bytes=30000-"
