"""Found by attacking a running server: each test is an attack that once did harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import http
from tests.support.builders import put_sdist
from tests.support.fixtures import Index, ServerFactory, start_server
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.ports import HeldPort
from tests.support.reply import BEFORE_HEADERS, Generated, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

WRONG = {"sha256": "0" * 64}


def path_of(name: str, file: FileSpec, suffix: str = "") -> str:
    return f"/simple/{name}/{file.filename}{suffix}"


def blob_of(index: Index, body: bytes | Generated) -> Path:
    digest = sha256_of(body)
    return index.server.cache_dir / "blobs" / digest[:2] / digest


def stored(index: Index) -> tuple[str, FileSpec]:
    """A project whose only file is in the cache."""
    name = index.new_name()
    file = wheel_spec(name, payload=20_000)
    index.project(file, name=name)
    assert index.get(path_of(name, file)).body == file.body
    return name, file


@pytest.mark.parametrize("form", ["sized", "chunked", "pipelined"])
def test_a_body_that_is_cut_off_is_one_warning_and_no_traceback(index: Index, form: str) -> None:
    name = index.new_name()
    is_chunked = form == "chunked"
    file = sdist_spec(name, hashes=WRONG, size=None if is_chunked else -1)
    index.project(file, name=name)
    index.upstream.file(file, chunked=is_chunked)
    before = len(index.server.logs)
    with index.server.connect() as connection:
        connection.start(path_of(name, file))
        if form == "pipelined":
            connection.start("/health")
        answer = connection.answer()
        with pytest.raises(http.ShortBodyError):
            answer.read()
        assert connection.is_closed()
    wait_until(lambda: "aborted" in index.server.logs[before:] or None, "the access line")
    said = index.server.logs[before:]
    assert said.count("a file was broken off") == 1
    assert "Traceback" not in said
    assert "uvicorn" not in said


@pytest.mark.parametrize(("suffix", "count"), [("", 2), (".metadata", 32)])
def test_an_upstream_that_holds_all_it_may_leaves_others_theirs(
    upstream: FakeUpstream,
    other_upstream: FakeUpstream,
    server: ServerFactory,
    suffix: str,
    count: int,
) -> None:
    both = [part for one in (upstream, other_upstream) for part in ("--upstream", one.simple_url)]
    transfers = ["--max-transfers", "2"] if count == 2 else []
    made = server(*both, *transfers)
    with ExitStack() as stack:
        for number in range(count):
            name = f"slow-{number}"
            file = replace(wheel_spec(name, payload=100_000), metadata=None)
            upstream.project(name, file)
            upstream.file(file, hold_at=BEFORE_HEADERS if suffix else 10)
            stack.enter_context(made.connect()).start(path_of(name, file, suffix))
        upstream.wait_held(count=count)
        good = replace(wheel_spec("good"), metadata=None)
        other_upstream.project("good", good)
        assert made.get(path_of("good", good, suffix)).status == 200
        upstream.release()


def test_a_file_cut_short_on_disk_while_it_is_sent_ends_as_a_short_body(index: Index) -> None:
    name = index.new_name()
    file = FileSpec(filename=f"{name.replace('-', '_')}-1.0.tar.gz", body=Generated(64_000_000))
    index.project(file, name=name)
    assert index.get(path_of(name, file)).status == 200
    before = len(index.server.logs)
    with index.server.connect() as connection:
        answer = connection.request(path_of(name, file))
        answer.read(1)
        os.truncate(blob_of(index, file.body), 1)
        with pytest.raises(http.ShortBodyError):
            answer.read()
    assert "Traceback" not in index.server.logs[before:]


@pytest.mark.parametrize("size", [2**52, 10**12])
def test_a_claimed_size_evicts_nothing(index: Index, size: int) -> None:
    name, file = stored(index)
    liar = index.new_name()
    claimed = wheel_spec(liar, size=size)
    index.project(claimed, name=liar)
    assert index.get(path_of(liar, claimed)).status == 502
    assert index.get(path_of(name, file)).header("x-proxyindex") == "hit"


def test_a_false_size_costs_no_other_project_its_file(index: Index) -> None:
    name, file = stored(index)
    liar = index.new_name()
    claimed = sdist_spec(liar, body=file.body, size=1)
    index.project(claimed, name=liar)
    assert index.get(path_of(liar, claimed)).status in (502, 503)
    again = index.get(path_of(name, file))
    assert (again.header("x-proxyindex"), again.body) == ("hit", file.body)


@pytest.mark.parametrize("size", [0, None])
def test_an_empty_body_is_no_way_around_the_digest(index: Index, size: int | None) -> None:
    name = index.new_name()
    file = sdist_spec(name, body=b"", hashes=WRONG, size=size)
    index.project(file, name=name)
    assert index.get(path_of(name, file)).status == 502


def test_an_empty_file_may_not_be_followed_by_more(index: Index) -> None:
    name = index.new_name()
    file = sdist_spec(name, size=0)
    index.project(file, name=name)
    index.upstream.file(file, chunked=True)
    assert index.get(path_of(name, file)).status == 502


def test_an_empty_file_is_served(index: Index) -> None:
    name = index.new_name()
    file = sdist_spec(name, body=b"")
    index.project(file, name=name)
    for outcome in ("fetched", "hit"):
        answer = index.get(path_of(name, file))
        assert (answer.status, answer.header("x-proxyindex")) == (200, outcome)
        assert answer.header("content-length") == "0"


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"X" + data[1:]])
def test_a_sidecar_damaged_on_disk_is_found_again(index: Index, damage: object) -> None:
    name = index.new_name()
    file = wheel_spec(name)
    index.project(file, name=name)
    target = path_of(name, file, ".metadata")
    assert file.metadata is not None
    assert index.get(target).body == file.metadata
    blob_of(index, file.metadata).write_bytes(damage(file.metadata))  # type: ignore[operator]
    assert index.get(target).body == file.metadata
    assert index.get(target).header("x-proxyindex") == "hit"


def test_what_is_no_file_is_no_signature(index: Index) -> None:
    for name in ("piped", "shelved"):
        put_sdist(index.folder, name)
    os.mkfifo(index.folder / "piped-1.0.tar.gz.asc")
    (index.folder / "shelved-1.0.tar.gz.asc").mkdir()
    seen = index.upstream.count()
    for name in ("piped", "shelved"):
        assert index.get(f"/simple/{name}/{name}-1.0.tar.gz.asc").status == 404
    assert index.upstream.count() == seen


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ProxyIndex]]:
    """Three servers, each the upstream of the one before it."""
    home = tmp_path_factory.mktemp("ring")
    ports = [HeldPort() for _ in range(3)]
    servers = [
        start_server(
            home / str(number),
            *("--port", str(port.number)),
            *("--upstream", f"http://127.0.0.1:{ports[number - 2].number}/simple/"),
        )
        for number, port in enumerate(ports)
    ]
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            server.kill()


@pytest.mark.parametrize("target", ["/simple/lost/", "/simple/gone/gone-1.0.tar.gz"])
def test_a_ring_of_servers_is_noticed_at_once(ring: list[ProxyIndex], target: str) -> None:
    before = [server.logs.count(f"GET {target[:13]}") for server in ring]
    answer = ring[0].get(target)
    assert answer.status == 508
    after = [server.logs.count(f"GET {target[:13]}") for server in ring]
    assert sum(after) - sum(before) <= 2 * len(ring)


def test_other_servers_in_via_are_not_told_to_upstreams(index: Index) -> None:
    name, _ = index.project(name=index.new_name()), None
    index.get(f"/simple/{name}/", {"Via": "1.1 inner.corp.example, 1.1 proxyindex-feed"})
    (asked,) = index.upstream.requests(f"/simple/{name}/")
    told = asked.header("via") or ""
    assert told.startswith("1.1 proxyindex-feed, 1.1 proxyindex-")
    assert "corp" not in told


def test_a_stop_is_orderly_although_a_download_hangs(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    file = FileSpec(filename="hung-1.0.tar.gz", body=Generated(4_000_000))
    upstream.project("hung", file)
    upstream.file(file, hang_after=2_000_000)
    running = server("--grace", "1s", upstream=upstream, workers=2)
    with running.connect() as connection:
        answer = connection.request("/simple/hung/hung-1.0.tar.gz")
        answer.read(1000)
        assert running.stop().code == 0
        with pytest.raises(http.ShortBodyError):
            answer.read()
    assert "Traceback" not in running.logs
