"""Where the disk refuses: files still arrive, whole and right or not at all, and nothing is kept.

The disk is made to refuse without a small file system: something else lies where partial files go
(refused at the beginning), or the processes may not write files over a limit (refused in the
middle). Full file systems are in `test_disk.py`.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import http
from tests.support.builders import noise
from tests.support.crowd import attempt, together
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.reply import Generated, Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

LIMIT = 1_000_000  # bytes that a file may have under `limited`
BODY = noise(2_000_000, seed="cargo")
OTHER = noise(2_000_000, seed="other")
CARGO = FileSpec(filename="cargo-1.0.tar.gz", body=BODY)
TARGET = "/simple/cargo/cargo-1.0.tar.gz"


@contextmanager
def refusing(server: ProxyIndex) -> Iterator[None]:
    """Nothing can be begun in `partials`."""
    partials = server.cache_dir / "partials"
    for file in partials.glob("*"):
        file.unlink()
    if partials.exists():
        partials.rmdir()
    partials.touch()
    yield
    partials.unlink()


@contextmanager
def limited(server: ProxyIndex) -> Iterator[None]:
    """No file can grow over `LIMIT`."""
    workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    pids = [server.pid, *map(int, workers)]
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE, (LIMIT, -1)) for pid in pids]
    yield
    for pid, limits in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def kept(server: ProxyIndex) -> list[Path]:
    folders = [server.cache_dir / "blobs", server.cache_dir / "partials"]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_refusing_disk_costs_nobody_a_file(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    wheel = wheel_spec("mixed", payload=50_000)
    upstream.project("cargo", CARGO)
    upstream.project("mixed", wheel)
    running = server(upstream=upstream, workers=workers)
    with refusing(running):
        bodies = together(10, lambda: attempt(running.url, TARGET))
        assert bodies == [BODY] * 10
        answer = running.get(f"/simple/mixed/{wheel.filename}")
        assert (answer.status, answer.body) == (200, wheel.body)
        assert running.get(f"/simple/mixed/{wheel.filename}.metadata").body == wheel.metadata
        assert {path.name for path in kept(running)}.isdisjoint(map(sha256_of, (BODY, wheel.body)))
    said = running.logs
    assert 1 <= said.count("Serving on without keeping") <= workers, "once, not once per file"
    assert "Traceback" not in said
    assert b'proxyindex_alarms_total{kind="store-failed"}' in running.get("/metrics").body
    seen = upstream.count(CARGO.path)
    assert running.get(TARGET).body == BODY
    assert running.get(TARGET).body == BODY
    assert upstream.count(CARGO.path) == seen + 1, "kept again as soon as there is room"


def test_a_folder_that_may_not_be_looked_into_costs_nobody_a_file(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    wheel = wheel_spec("mixed", payload=50_000)
    upstream.project("mixed", wheel)
    running = server(upstream=upstream, is_started=False)
    if os.geteuid() == 0:  # who may look into any
        running.wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    running.start()
    folder = running.cache_dir / "blobs" / sha256_of(wheel.body)[:2]
    folder.mkdir(parents=True, mode=0)
    try:
        for _ in range(2):
            answer = running.get(f"/simple/mixed/{wheel.filename}")
            assert (answer.status, answer.body) == (200, wheel.body)
        assert running.get(f"/simple/mixed/{wheel.filename}.metadata").body == wheel.metadata
    finally:
        folder.chmod(0o755)
    assert "Traceback" not in running.logs


def test_a_disk_that_refuses_in_mid_file_costs_nobody_the_rest(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("cargo", CARGO)
    upstream.script(CARGO.path, Reply(body=BODY, hold_at=500_000), Reply(body=BODY))
    running = server(upstream=upstream)
    with limited(running), running.connect() as one, running.connect() as other:
        answers = [one.request(TARGET), other.request(TARGET, [("Range", "bytes=1000-1499999")])]
        begun = [answer.read(400_000) for answer in answers]
        upstream.release()
        assert [begun[0] + answers[0].read(), begun[1] + answers[1].read()] == [
            BODY,
            BODY[1000:1_500_000],
        ]
    assert kept(running) == []
    assert running.get(TARGET).body == BODY
    assert kept(running) != []


def test_nobody_waits_for_ever_for_those_who_do_not_read(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("cargo", replace(CARGO, body=Generated(80_000_000)))
    other = sdist_spec("other")
    upstream.project("other", other)
    running = server("--max-transfers", "1", upstream=upstream)
    target = f"/simple/other/{other.filename}"
    with refusing(running):
        with running.connect() as idle:
            idle.request(TARGET).read(1)  # and no more: it has the one place
            assert running.get(target).status == 503
        assert wait_until(lambda: running.get(target).body == other.body, "the place is free")


def test_nobody_waits_for_ever_in_mid_file(server: ServerFactory, upstream: FakeUpstream) -> None:
    big = replace(CARGO, body=Generated(80_000_000))
    upstream.project("cargo", big)
    upstream.script(CARGO.path, Reply(body=big.body, hold_at=500_000), Reply(body=big.body))
    running = server("--max-transfers", "1", upstream=upstream)
    with limited(running), running.connect() as one, running.connect() as other:
        answers = [connection.request(TARGET) for connection in (one, other)]
        for answer in answers:
            answer.read(1000)
        upstream.release()
        # nobody reads, so that whoever comes first has the one place
        wait_until(lambda: "is busy with other files" in running.logs, "the log tells why")
        assert sorted(is_cut(answer) for answer in answers) == [False, True]


def is_cut(answer: http.Response) -> bool:
    try:
        answer.read()
    except http.ShortBodyError:
        return True
    return False


def test_two_versions_are_not_stitched_when_the_disk_refuses_in_mid_file(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("cargo", CARGO)
    upstream.script(CARGO.path, Reply(body=OTHER[:500_000] + BODY[500_000:]), Reply(body=BODY))
    running = server(upstream=upstream)
    with limited(running):
        with running.connect() as connection:
            answer = connection.request(TARGET)
            assert answer.read(1000) == OTHER[:1000], "nothing could tell yet"
            with pytest.raises(http.ShortBodyError):
                answer.read()
        assert running.get(TARGET).body == BODY


@pytest.mark.parametrize("size", [-1, None], ids=["sized", "unsized"])
def test_wrong_bytes_are_never_passed_through_whole(
    server: ServerFactory, upstream: FakeUpstream, size: int | None
) -> None:
    upstream.project("cargo", FileSpec(filename=CARGO.filename, body=BODY, size=size))
    upstream.script(CARGO.path, Reply(body=OTHER, chunked=size is None))
    small = sdist_spec("small")
    upstream.project("small", small)
    upstream.script(small.path, Reply(body=small.body[:-1] + b"!"))
    running = server(upstream=upstream)
    with refusing(running):
        assert attempt(running.url, TARGET) is None
        assert running.get(f"/simple/small/{small.filename}").status == 502
        assert b'proxyindex_alarms_total{kind="digest-mismatch"}' in running.get("/metrics").body


def test_a_range_of_all_there_is_is_not_given_whole_before_the_digest(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    unsized = FileSpec(filename=CARGO.filename, body=BODY, size=None)
    upstream.project("cargo", unsized, form="html")
    wrong = Reply(body=OTHER, chunked=True, ranges="none")
    probed = Reply(body=OTHER)
    upstream.script(CARGO.path, probed, wrong)
    running = server(upstream=upstream)
    with refusing(running), running.connect() as connection:
        answer = connection.request(TARGET, [("Range", "bytes=0-")])
        assert answer.status == 206
        with pytest.raises(http.ShortBodyError):
            answer.read()


def test_core_metadata_is_found_without_keeping_the_wheel(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    wheel = wheel_spec("bare", payload=50_000, core_metadata=None)
    upstream.project("bare", wheel)
    upstream.script(wheel.path, Reply(body=wheel.body, ranges="none"))
    upstream.script(wheel.path + ".metadata", Reply(status=404))
    running = server(upstream=upstream)
    with refusing(running):
        answer = running.get(f"/simple/bare/{wheel.filename}.metadata")
        assert (answer.status, answer.body) == (200, wheel.metadata)


def test_a_coded_file_is_passed_through(server: ServerFactory, upstream: FakeUpstream) -> None:
    upstream.project("cargo", CARGO)
    upstream.script(CARGO.path, Reply(body=BODY, gzip=True))
    running = server(upstream=upstream)
    with refusing(running):
        assert running.get(TARGET).body == BODY


def test_a_file_of_unknown_size_is_passed_through(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("cargo", FileSpec(filename=CARGO.filename, body=BODY, size=None))
    upstream.script(CARGO.path, Reply(body=BODY, chunked=True))
    running = server(upstream=upstream)
    with refusing(running):
        assert running.get(TARGET).body == BODY


def test_what_is_passed_through_is_resumed_when_upstream_breaks(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("cargo", CARGO)
    cut = Reply(body=BODY, cut_after=700_000, reset=True)
    upstream.script(
        CARGO.path, cut, Reply(body=BODY, ranges="ignore", cut_after=900_000), Reply(body=BODY)
    )
    running = server(upstream=upstream)
    with refusing(running):
        assert running.get(TARGET).body == BODY
    assert upstream.requests(CARGO.path)[-1].header("range")


def test_a_range_is_passed_through(server: ServerFactory, upstream: FakeUpstream) -> None:
    upstream.project("cargo", CARGO)
    running = server(upstream=upstream)
    with refusing(running):
        for start, stop in ((0, 100), (1000, 1_500_000), (1_999_000, 2_000_000)):
            answer = running.get(TARGET, [("Range", f"bytes={start}-{stop - 1}")])
            assert (answer.status, answer.body) == (206, BODY[start:stop])


def test_a_file_that_upstream_lacks_is_404_on_a_refusing_disk(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("cargo", CARGO)
    upstream.script(CARGO.path, Reply(status=404))
    running = server(upstream=upstream)
    with refusing(running):
        assert running.get(TARGET).status == 404
