"""Files given by the kernel alone: whole and right, whatever the client does meanwhile."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxyindex.disk import are_cached
from tests.support import http
from tests.support.certificates import Certificates
from tests.support.crowd import open_in, together
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec
from tests.support.reply import Generated
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

SIZE = 30 * 1024**2
BODY = Generated(SIZE)
TARGET = "/simple/big/big-1.0.tar.gz"
PLAIN = [("Pragma", "x")]  # what is asked for with this is answered on the plain way


def offer(upstream: FakeUpstream) -> None:
    upstream.project(
        "big", FileSpec(filename="big-1.0.tar.gz", body=BODY, hashes={"sha256": BODY.sha256()})
    )


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyIndex]:
    """A server that has been asked for the file twice."""
    home = tmp_path_factory.mktemp("warm")
    with FakeUpstream() as upstream:
        offer(upstream)
        server = ProxyIndex("--upstream", upstream.simple_url, workdir=home)
        with server:
            for _ in range(2):
                assert server.get(TARGET).body == BODY.read(0, SIZE)
            yield server


def open_sockets(server: ProxyIndex) -> int:
    return sum(name.startswith("socket:") for name in open_in(server.pid))


def broken_lines(server: ProxyIndex) -> int:
    """The requests for the file whose client left, by the access log, which is a moment late."""
    return sum(f"GET {TARGET} " in line and "aborted" in line for line in server.logs.splitlines())


@pytest.mark.parametrize(
    ("start", "stop"), [(0, SIZE), (0, 1), (SIZE - 1, SIZE), (1, 70_000), (1_048_570, 9_000_000)]
)
def test_every_range_is_that_of_the_plain_way(warm: ProxyIndex, start: int, stop: int) -> None:
    asked = [("Range", f"bytes={start}-{stop - 1}")]
    quick, plain = warm.get(TARGET, asked), warm.get(TARGET, [*asked, *PLAIN])
    assert quick.status == plain.status == 206
    assert quick.body == plain.body == BODY.read(start, stop)
    assert fields(quick) == fields(plain)


def fields(answer: http.Response) -> list[tuple[str, str]]:
    return sorted(field for field in answer.headers if field[0] != "date")


def test_many_requests_on_one_connection(warm: ProxyIndex) -> None:
    with warm.connect() as connection:
        for number in range(50):
            asked = [("Range", f"bytes={number}-{number + 100_000}")]
            answer = connection.request(TARGET, asked)
            assert answer.body == BODY.read(number, number + 100_001)
            assert connection.request("/health").body == b"alive\n"


def test_pipelined_requests_are_answered_in_their_order(warm: ProxyIndex) -> None:
    with warm.connect() as connection:
        connection.start(TARGET)
        connection.start("/simple/big/")
        connection.start(TARGET, [("Range", "bytes=5-9")])
        connection.start("/health")
        assert connection.answer().body == BODY.read(0, SIZE)
        assert connection.answer().body.startswith(b"<!DOCTYPE html>")
        assert connection.answer().body == BODY.read(5, 10)
        assert connection.answer().body == b"alive\n"


def test_a_slow_reader_gets_all_and_delays_nobody(warm: ProxyIndex) -> None:
    with warm.connect() as slow:
        answer = slow.request(TARGET)
        begun = answer.read(1000)
        bodies = together(4, lambda: warm.get(TARGET).body)
        assert bodies == [BODY.read(0, SIZE)] * 4
        assert begun + answer.read() == BODY.read(0, SIZE)


def test_a_client_that_leaves_takes_nothing_with_it(warm: ProxyIndex) -> None:
    before, logged = open_sockets(warm), broken_lines(warm)
    for _ in range(20):
        with warm.connect() as connection:
            assert connection.request(TARGET).read(1000) == BODY.read(0, 1000)
    wait_until(lambda: broken_lines(warm) == logged + 20 or None, "their lines")
    wait_until(lambda: open_sockets(warm) <= before or None, "their end")
    assert "Traceback" not in warm.logs
    assert warm.get(TARGET).body == BODY.read(0, SIZE)


def test_a_stop_lets_the_file_be_finished(server: ServerFactory, upstream: FakeUpstream) -> None:
    offer(upstream)
    running = server(upstream=upstream)
    for _ in range(2):
        running.get(TARGET)
    with running.connect() as connection:
        answer = connection.request(TARGET)
        begun = answer.read(1000)
        os.kill(running.pid, 15)
        wait_until(lambda: not accepts(running) or None, "that it takes no more")
        assert begun + answer.read() == BODY.read(0, SIZE)
    assert running.stop().code == 0


def accepts(server: ProxyIndex) -> bool:
    try:
        http.Connection(server.url, timeout=1.0).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_file_that_is_removed_or_cut_meanwhile_is_never_wrong(
    server: ServerFactory, upstream: FakeUpstream, is_cut: bool
) -> None:
    offer(upstream)
    running = server(upstream=upstream)
    for _ in range(2):
        running.get(TARGET)
    digest = BODY.sha256()
    blob = running.cache_dir / "blobs" / digest[:2] / digest
    with running.connect() as connection:
        answer = connection.request(TARGET)
        begun = answer.read(1000)
        if is_cut:
            os.truncate(blob, SIZE // 2)
            with pytest.raises(http.ShortBodyError):
                answer.read()
        else:
            blob.unlink()
            assert begun + answer.read() == BODY.read(0, SIZE)
    assert running.get(TARGET).body == BODY.read(0, SIZE), "found damaged, and fetched again"


def test_an_evicted_file_does_not_fill_the_disk_for_long(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    offer(upstream)
    running = server(upstream=upstream)
    for _ in range(3):
        running.get(TARGET)
    digest = BODY.sha256()
    assert is_open(running, digest)
    (running.cache_dir / "blobs" / digest[:2] / digest).unlink()
    wait_until(lambda: not is_open(running, digest), "its end")


def is_open(server: ProxyIndex, digest: str) -> bool:
    """Whether a server has that file of its cache open, also where it is gone."""
    return any(f"/blobs/{digest[:2]}/{digest}" in name for name in open_in(server.pid))


def test_a_file_that_left_the_page_cache_is_read_again(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    offer(upstream)
    running = server(upstream=upstream)
    for _ in range(2):
        running.get(TARGET)
    digest = BODY.sha256()
    fd = os.open(running.cache_dir / "blobs" / digest[:2] / digest, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    assert running.get(TARGET).body == BODY.read(0, SIZE)


def test_under_tls_files_and_parts_are_whole(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    offer(upstream)
    shown = Certificates.make(tmp_path)
    running = server("--tls-cert", shown.cert, "--tls-key", shown.key, upstream=upstream)
    trusting = ssl.create_default_context(cafile=shown.authority)
    for _ in range(3):
        assert running.get(TARGET, tls=trusting).body == BODY.read(0, SIZE)
    with running.connect(tls=trusting) as connection:
        for start in range(0, SIZE, 1_000_000):
            connection.start(TARGET, [("Range", f"bytes={start}-{start + 65_535}")])
            assert connection.answer().body == BODY.read(start, start + 65_536)
        for start in range(9):  # pipelined, and short or long
            connection.start(TARGET, [("Range", f"bytes={start}-{10**start}")])
        for start in range(9):
            assert connection.answer().body == BODY.read(start, min(SIZE, 10**start + 1))


@pytest.mark.parametrize("target", [TARGET, "/simple/big/"])
def test_a_client_of_http_1_0_is_answered_to_the_end_of_the_connection(
    warm: ProxyIndex, target: str
) -> None:
    with warm.connect() as connection:
        head = f"GET {target} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
        connection.send(head.encode())
        assert connection.answer().status == 200
        wait_until(lambda: not connection.receive(65536) or None, "the end of the connection")


def test_the_name_of_the_client_is_told_by_a_trusted_front(warm: ProxyIndex) -> None:
    named = [("X-Forwarded-For", '203.0.113.7, "\\\xe4')]
    with warm.connect() as connection:
        for more in ([], PLAIN):
            connection.request(TARGET, [("Range", "bytes=0-99"), *named, *more]).read()
    wait_until(lambda: warm.logs.count('access: "\\\xe4 - GET') == 2, "their lines")


def test_a_part_of_which_only_the_end_was_read_lately_is_waited_for_elsewhere(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if are_cached(file.fileno(), 0, SIZE) is not False:
            pytest.skip("this file system is in memory, or cannot tell")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

        def is_told_apart() -> bool:
            """Again and again: the kernel need not drop what it is asked to."""
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(file.fileno(), 100, SIZE - 100)
            has_end = are_cached(file.fileno(), SIZE - 100, SIZE)
            return has_end is True and not are_cached(file.fileno(), 0, SIZE)

        wait_until(is_told_apart, "only the end in memory")


def test_a_file_that_a_stop_cuts_off_has_its_line(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    offer(upstream)
    running = server("--grace", "0.1", upstream=upstream)
    for _ in range(2):
        running.get(TARGET)
    logged = broken_lines(running)
    with running.connect() as connection:
        connection.request(TARGET).read(1000)
        assert running.stop().code == 0
    assert broken_lines(running) == logged + 1
