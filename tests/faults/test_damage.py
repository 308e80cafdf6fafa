"""Stored bytes that change behind our back: never sent, removed, fetched again at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.builders import noise
from tests.support.crowd import attempt, together
from tests.support.fixtures import Index, ServerFactory
from tests.support.pages import FileSpec
from tests.support.reply import Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream


def offered(upstream: FakeUpstream, name: str) -> FileSpec:
    spec = FileSpec(filename=f"{name}-1.0.tar.gz", body=noise(300_000, seed=name))
    upstream.project(name, spec)
    return spec


def target(spec: FileSpec) -> str:
    return f"/simple/{spec.filename.partition('-')[0]}/{spec.filename}"


def damage(server: ProxyIndex, spec: FileSpec) -> Path:
    digest = sha256_of(spec.body)
    path = server.cache_dir / "blobs" / digest[:2] / digest
    with path.open("r+b") as stream:
        stream.seek(150_000)
        stream.write(b"\0\0\0\0")
    return path


@pytest.mark.parametrize("workers", [1, 4])
def test_a_damaged_file_is_mended_under_the_eyes_of_a_crowd(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    spec = offered(upstream, "cargo")
    running = server(upstream=upstream, workers=workers)
    assert running.get(target(spec)).body == spec.body
    for _ in range(3):
        damage(running, spec)
        bodies = together(20, lambda: attempt(running.url, target(spec)))
        assert bodies == [spec.body] * 20
    assert upstream.count(spec.path) == 4, "fetched again once for each damage"
    assert 3 <= running.logs.count("was damaged") <= 3 * workers
    assert b'proxyindex_alarms_total{kind="damaged-file"}' in running.get("/metrics").body


def test_damage_done_while_the_server_was_down_is_noticed(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = offered(upstream, "cargo")
    running = server(upstream=upstream)
    assert running.get(target(spec)).body == spec.body
    running.stop()
    damage(running, spec)
    running.start()
    assert (
        running.get(target(spec), [("Range", "bytes=150000-150009")]).body
        == (spec.body[150_000:150_010])
    )
    assert running.get(target(spec)).body == spec.body


def test_without_upstream_a_damaged_file_is_503_and_never_sent(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = offered(upstream, "cargo")
    running = server(upstream=upstream)
    assert running.get(target(spec)).body == spec.body
    path = damage(running, spec)
    upstream.down()
    answer = running.get(target(spec))
    assert (answer.status, path.exists()) == (503, False)
    upstream.up()
    assert running.get(target(spec)).body == spec.body


def test_core_metadata_is_not_read_from_a_damaged_wheel(index: Index) -> None:
    wheel = index.wheel
    assert index.get(f"/simple/foo-bar/{wheel.filename}").body == wheel.body
    digest = sha256_of(wheel.body)
    path = index.server.cache_dir / "blobs" / digest[:2] / digest
    with path.open("r+b") as stream:
        stream.write(b"no zip")
    assert index.get(f"/simple/foo-bar/{wheel.filename}.metadata").body == wheel.metadata


def test_a_damaged_leftover_is_not_upstreams_fault(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = offered(upstream, "cargo")
    upstream.script(spec.path, Reply(body=spec.body, hold_at=200_000), Reply(body=spec.body))
    running = server(upstream=upstream)
    with running.connect() as connection:
        assert connection.request(target(spec)).read(100_000) == spec.body[:100_000]
        running.kill()
    left = (running.cache_dir / "partials").iterdir()
    (partial,) = [path for path in left if path.suffix != ".state"]
    with partial.open("r+b") as stream:
        stream.write(b"damaged")
    running.start()
    # the damage may be on its way already when the digest tells; the next client is not concerned
    assert attempt(running.url, target(spec)) in (None, spec.body)
    assert running.get(target(spec)).body == spec.body
    assert b'kind="digest-mismatch"' not in running.get("/metrics").body
