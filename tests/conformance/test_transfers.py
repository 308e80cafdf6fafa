"""Cold files on their way: docs/conformance.md, checks 76 to 79, resuming, leaving, taking over."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import http
from tests.support.builders import noise, wheel_name
from tests.support.crowd import attempt, lock_holder, processes_with_open, together
from tests.support.fixtures import Index, ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec
from tests.support.reply import NOT_FOUND, OLD, Generated, Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

REFUSED = Reply(status=403, etag=None)


@dataclass(slots=True)
class Cargo:
    """A project with one file that nobody asked for yet; `gate` is its own, too."""

    server: ProxyIndex
    upstream: FakeUpstream
    name: str = "cargo"
    size: int = 1_000_000
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.body = noise(self.size, seed=self.name)
        self.offer()

    @property
    def filename(self) -> str:
        return wheel_name(self.name)

    @property
    def target(self) -> str:
        return f"/simple/{self.name}/{self.filename}"

    @property
    def page(self) -> str:
        return f"/simple/{self.name}/"

    @property
    def path(self) -> str:
        """Where upstream has it."""
        return f"/files/{self.filename}"

    @property
    def whole(self) -> Reply:
        return Reply(body=self.body)

    def offer(self, **spec: object) -> None:
        """List the file upstream, and serve it."""
        usual = {"filename": self.filename, "body": self.body}
        self.upstream.project(self.name, FileSpec(**{**usual, **spec}))  # type: ignore[arg-type]

    def serve(self, *replies: Reply) -> None:
        """How upstream answers for the file, in turn."""
        self.upstream.script(self.path, *replies)

    def hold(self, at: int, then: tuple[Reply, ...] = ()) -> None:
        """Upstream waits for `release` after so many bytes."""
        self.serve(self.whole.with_(hold_at=at, gate=self.name), *then)

    def release(self) -> None:
        self.upstream.release(self.name)

    def wait_held(self) -> None:
        self.upstream.wait_held(self.name)

    def connect(self) -> http.Connection:
        return self.server.connect()

    def get(self) -> http.Response:
        return self.server.get(self.target)

    def attempt(self) -> bytes | None:
        return attempt(self.server.url, self.target)

    def is_stored(self, body: bytes | None = None) -> bool:
        """Whether the cache holds these bytes, or the file's, under their digest."""
        digest = sha256_of(self.body if body is None else body)
        return (self.server.cache_dir / "blobs" / digest[:2] / digest).exists()


@pytest.fixture
def cargo(crowded: Index) -> Cargo:
    """On servers with 1 and with 4 workers."""
    return Cargo(crowded.server, crowded.upstream, crowded.new_name())


def test_076_the_first_bytes_arrive_before_upstream_has_finished(cargo: Cargo) -> None:
    cargo.hold(100_000)
    with cargo.connect() as connection:
        answer = connection.request(cargo.target)
        assert answer.header("content-length") == str(len(cargo.body))
        assert answer.read(90_000) == cargo.body[:90_000]
        assert not cargo.upstream.requests(cargo.path)[0].is_finished
        cargo.release()
        assert answer.body == cargo.body


def test_077_two_concurrent_cold_gets_are_one_upstream_get(cargo: Cargo) -> None:
    cargo.hold(100_000)
    with cargo.connect() as first, cargo.connect() as second:
        answers = [first.request(cargo.target), second.request(cargo.target)]
        assert [answer.read(50_000) for answer in answers] == [cargo.body[:50_000]] * 2
        cargo.release()
        assert [answer.body for answer in answers] == [cargo.body, cargo.body]
    assert cargo.upstream.count(cargo.path) == 1


def test_077_fifty_clients_of_a_cold_file_are_one_upstream_get(cargo: Cargo) -> None:
    bodies = together(50, cargo.attempt)
    assert bodies == [cargo.body] * 50
    assert cargo.upstream.count(cargo.path) == 1
    assert cargo.upstream.count(cargo.page) == 1


@pytest.mark.parametrize("is_sized", [True, False])
def test_078_wrong_bytes_are_never_delivered_whole_nor_stored(cargo: Cargo, is_sized: bool) -> None:
    wrong = cargo.body[:-1] + bytes([cargo.body[-1] ^ 1])
    cargo.offer(size=len(wrong) if is_sized else None)
    cargo.serve(Reply(body=wrong, chunked=not is_sized))
    assert together(4, cargo.attempt) == [None] * 4
    assert not cargo.is_stored()
    before = cargo.upstream.count(cargo.path)
    cargo.serve(cargo.whole)
    wait_until(lambda: cargo.attempt() == cargo.body, "the next request tries again")
    assert cargo.upstream.count(cargo.path) == before + 1
    assert cargo.is_stored()


def test_078_every_byte_but_the_last_may_flow_before_the_digest_is_known(cargo: Cargo) -> None:
    cargo.serve(cargo.whole.with_(body=cargo.body[:-1] + b"?"))
    with cargo.connect() as connection:
        answer = connection.request(cargo.target)
        assert answer.status == 200
        with pytest.raises(http.ShortBodyError) as short:
            answer.read()
    assert len(short.value.received) < len(cargo.body)


def test_079_a_truncated_upstream_body_is_not_stored(cargo: Cargo) -> None:
    cargo.serve(cargo.whole.with_(cut_after=300_000), REFUSED)
    assert cargo.attempt() is None
    assert not cargo.is_stored()
    cargo.serve(cargo.whole)
    assert cargo.attempt() == cargo.body


def test_079_a_body_that_ends_early_without_a_length_is_not_stored(cargo: Cargo) -> None:
    cargo.offer(size=None)
    # a clean end: only the digest can tell
    cargo.serve(cargo.whole.with_(body=cargo.body[:-10], chunked=True), REFUSED)
    assert cargo.attempt() is None
    assert not cargo.is_stored()


def test_079_a_length_that_is_not_the_page_s_is_refused(cargo: Cargo) -> None:
    cargo.serve(cargo.whole.with_(body=cargo.body + b"more"), REFUSED)
    assert cargo.attempt() is None
    assert not cargo.is_stored()


def test_079_a_page_that_tells_a_wrong_size_is_no_outage(cargo: Cargo) -> None:
    cargo.offer(size=cargo.size + 1)
    answer = cargo.get()
    assert (answer.status, answer.header("retry-after")) == (502, None)
    assert f"announced {cargo.size} bytes, not {cargo.size + 1}" in answer.text
    assert cargo.upstream.count(cargo.path) > 1, "it may have been another file's for a moment"


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_broken_upstream_body_is_resumed_unseen_by_the_client(
    cargo: Cargo, is_reset: bool
) -> None:
    cargo.serve(cargo.whole.with_(cut_after=400_000, reset=is_reset), cargo.whole)
    answer = cargo.get()
    assert (answer.status, answer.body) == (200, cargo.body)
    first, second = cargo.upstream.requests(cargo.path)
    assert first.header("range") is None
    start = int((second.header("range") or "").removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 400_000
    assert second.header("if-range") == cargo.whole.entity_tag()
    assert second.sent == len(cargo.body) - start
    line = f"resuming {cargo.filename} at {start}\n"
    wait_until(lambda: line in cargo.server.logs, "the log tells where it goes on")
    assert cargo.is_stored()


def test_an_upstream_that_breaks_again_and_again_is_resumed_each_time(cargo: Cargo) -> None:
    cargo.serve(*[cargo.whole.with_(cut_after=300_000)] * 3, cargo.whole)
    assert cargo.get().body == cargo.body
    assert cargo.upstream.count(cargo.path) == 4


@pytest.mark.parametrize(
    "change",
    [{"ranges": "ignore"}, {"ranges": "none"}, {"etag": '"another"'}, {"etag": None}],
    ids=["ignores", "none", "other-etag", "no-etag"],
)
def test_a_body_that_cannot_be_resumed_is_begun_again_unseen(
    cargo: Cargo, change: dict[str, str | None]
) -> None:
    cargo.serve(
        cargo.whole.with_(cut_after=400_000),
        cargo.whole.with_(**change),
    )
    assert cargo.get().body == cargo.body


def test_a_range_beside_what_was_asked_is_not_stitched_in(cargo: Cargo) -> None:
    cargo.serve(
        cargo.whole.with_(cut_after=400_000), cargo.whole.with_(range_shift=-100), cargo.whole
    )
    assert cargo.get().body == cargo.body


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_version_is_not_vouched_for_by_the_tag_of_another(cargo: Cargo, is_behind: bool) -> None:
    cargo.offer(hashes={})
    other = Reply(body=cargo.body[:400_000] + noise(cargo.size - 400_000, seed="another version"))
    if is_behind:  # the second is cut before it has come to where the first one was
        cut = other.with_(etag=None, cut_after=500_000), cargo.whole.with_(cut_after=100_000)
    else:  # it goes on from there, with bytes of its own
        cut = cargo.whole.with_(cut_after=400_000), other.with_(cut_after=700_000)
    cargo.serve(*cut, cargo.whole)
    assert cargo.attempt() in (None, cargo.body, other.body)


@pytest.mark.parametrize(
    "validators",
    [{}, {"etag": None}, {"etag": 'W/"weak"'}, {"etag": 'W/"weak"', "last_modified": OLD}],
)
def test_two_versions_of_a_file_without_hash_are_never_stitched(
    cargo: Cargo, validators: dict[str, str | None]
) -> None:
    cargo.offer(hashes={})
    other = noise(len(cargo.body), seed="another version")
    cargo.serve(
        cargo.whole.with_(cut_after=400_000, **validators),
        Reply(body=other, **validators),  # type: ignore[arg-type]
    )
    assert cargo.attempt() in (None, other)
    assert not cargo.is_stored()


def test_a_client_that_leaves_disturbs_nobody(cargo: Cargo) -> None:
    cargo.hold(200_000)
    with cargo.connect() as staying:
        leaving = cargo.connect()
        assert leaving.request(cargo.target).read(1000)  # it began the transfer
        answer = staying.request(cargo.target)
        assert answer.read(1000) == cargo.body[:1000]
        leaving.close()
        cargo.release()
        assert answer.body == cargo.body
    assert cargo.upstream.count(cargo.path) == 1


def test_the_fill_goes_on_when_its_only_client_leaves(cargo: Cargo) -> None:
    cargo.hold(200_000)
    with cargo.connect() as leaving:
        assert leaving.request(cargo.target).read(1000) == cargo.body[:1000]
    cargo.release()
    cargo.upstream.wait_finished(cargo.path)
    wait_until(cargo.is_stored, "the file is stored")
    answer = cargo.get()
    assert (answer.header("x-proxyindex"), answer.body) == ("hit", cargo.body)
    assert cargo.upstream.count(cargo.path) == 1


def test_a_slow_client_does_not_slow_the_others(cargo: Cargo) -> None:
    with cargo.connect() as slow:
        answer = slow.request(cargo.target)
        assert answer.read(10) == cargo.body[:10]
        assert cargo.get().body == cargo.body
        assert answer.body == cargo.body
    assert cargo.upstream.count(cargo.path) == 1


def test_a_file_evicted_while_it_is_read_is_read_to_its_end(crowded: Index) -> None:
    # more than sockets buffer
    cargo = Cargo(crowded.server, crowded.upstream, crowded.new_name(), size=20_000_000)
    assert cargo.get().body == cargo.body
    with cargo.connect() as connection:
        answer = connection.request(cargo.target)
        assert answer.read(1000) == cargo.body[:1000]
        digest = sha256_of(cargo.body)
        (cargo.server.cache_dir / "blobs" / digest[:2] / digest).unlink()
        assert answer.body == cargo.body


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_upstream_denies_is_404_before_any_byte(cargo: Cargo, status: int) -> None:
    cargo.serve(NOT_FOUND.with_(status=status))
    answers = together(4, cargo.get)
    assert {answer.status for answer in answers} == {404}
    assert all("immutable" not in (answer.header("cache-control") or "") for answer in answers)


def test_a_file_that_upstream_cannot_give_is_503_with_retry_after(cargo: Cargo) -> None:
    cargo.serve(Reply(status=503, etag=None))
    answers = together(4, cargo.get)
    for answer in answers:
        assert answer.status == 503
        assert answer.header("retry-after")
        assert answer.header("cache-control") == "no-store"
    cargo.serve(cargo.whole)
    assert cargo.get().body == cargo.body


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells processes apart by /proc")
def test_a_killed_writer_is_taken_over_by_another_worker(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream, workers=4)
    cargo = Cargo(running, upstream)
    cargo.hold(300_000, then=(cargo.whole,))
    with ExitStack() as stack:
        answers: list[http.Response] = []
        # until the kernel has handed connections to at least two workers
        while len(processes_with_open(running.cache_dir / "partials")) < 2:
            assert len(answers) < 200
            connection = stack.enter_context(running.connect())
            answers.append(connection.request(cargo.target))
            assert answers[-1].read(1000) == cargo.body[:1000]
        cargo.wait_held()
        writer = lock_holder(running.cache_dir / "locks")
        assert writer in processes_with_open(running.cache_dir / "partials")
        os.kill(writer, signal.SIGKILL)
        bodies = [whole_or_nothing(answer) for answer in answers]
    assert bodies.count(cargo.body) >= 1, "no reader of another worker was served to the end"
    assert set(bodies) <= {cargo.body, None}
    assert cargo.get().body == cargo.body
    first, second = cargo.upstream.requests(cargo.path)
    assert first.is_left
    start = int((second.header("range") or "").removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 300_000


def whole_or_nothing(answer: http.Response) -> bytes | None:
    try:
        return answer.body
    except http.ShortBodyError:
        return None


def test_a_server_killed_in_mid_file_resumes_it_when_it_is_back(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    cargo = Cargo(server(upstream=upstream), upstream)
    cargo.hold(300_000, then=(cargo.whole,))
    with cargo.connect() as connection:
        answer = connection.request(cargo.target)
        assert answer.read(200_000) == cargo.body[:200_000]
        cargo.server.kill()
        with pytest.raises(http.ShortBodyError):
            answer.read()
    assert not cargo.is_stored()
    cargo.server.start()
    assert cargo.get().body == cargo.body
    resumed = cargo.upstream.requests(cargo.path)[-1].header("range") or ""
    assert 0 < int(resumed.removeprefix("bytes=").removesuffix("-")) <= 300_000


@pytest.mark.parametrize("is_chunked", [False, True])
def test_more_than_the_file_that_a_killed_server_left_is_in_nobody_s_way(
    server: ServerFactory, upstream: FakeUpstream, is_chunked: bool
) -> None:
    cargo = Cargo(server(upstream=upstream), upstream)
    cargo.offer(size=None)
    other = Reply(body=noise(1_400_000, seed="other"), hold_at=1_200_000, gate="never")
    cargo.serve(other, cargo.whole.with_(chunked=is_chunked))
    with cargo.connect() as connection:
        connection.request(cargo.target).read(1_100_000)
        cargo.server.kill()
    cargo.server.start()
    assert cargo.attempt() == cargo.body
    assert cargo.attempt() == cargo.body
    assert cargo.is_stored()


def test_an_upstream_that_gives_a_megabyte_at_a_time_is_resumed_to_the_end(cargo: Cargo) -> None:
    whole = Reply(body=Generated(13_000_000, seed=12))
    cargo.offer(body=whole.body)
    cargo.serve(*[whole.with_(cut_after=1_100_000)] * 20)
    assert sha256_of(cargo.attempt() or b"") == sha256_of(whole.body)
    assert cargo.upstream.count(cargo.path) == 12


def test_an_upstream_that_denies_the_file_once_a_megabyte_is_borne_to_the_end(cargo: Cargo) -> None:
    whole = Reply(body=Generated(4_000_000, seed=13))
    cargo.offer(body=whole.body)
    cut, denied = whole.with_(cut_after=1_100_000), Reply(status=404, etag=None)
    cargo.serve(*[cut, denied] * 3, whole)
    assert sha256_of(cargo.attempt() or b"") == sha256_of(whole.body)
    assert cargo.upstream.count(cargo.path) == 7


def test_a_page_is_not_taken_for_a_file_of_which_nothing_is_known(cargo: Cargo) -> None:
    cargo.offer(size=None, hashes={})
    notice = Reply(body=b"\n<!DOCTYPE html><title>Please sign in</title>", content_type="text/html")
    cargo.serve(notice, cargo.whole.with_(content_type="text/html; charset=utf-8"))
    assert cargo.attempt() is None
    assert cargo.attempt() == cargo.body


def test_a_range_of_a_size_that_is_belied_is_refused(cargo: Cargo) -> None:
    cargo.offer(size=None)
    probed = Reply(status=206, body=cargo.body[:1], headers={"Content-Range": "bytes 0-0/1000"})
    cargo.serve(probed, cargo.whole)
    answer = cargo.server.get(cargo.target, {"Range": "bytes=0-"})
    assert (answer.status, answer.header("content-range")) == (502, None)


def test_a_range_that_the_file_does_not_reach_is_broken_off(cargo: Cargo) -> None:
    cargo.offer(size=None)
    told = {"Content-Range": f"bytes 0-0/{cargo.size + 1}"}
    probed = Reply(status=206, body=cargo.body[:1], headers=told)
    cargo.serve(probed, cargo.whole.with_(chunked=True))
    with pytest.raises(http.ShortBodyError):
        cargo.server.get(cargo.target, {"Range": "bytes=0-"})
    wait_until(lambda: "fewer bytes than it told of" in cargo.server.logs, "the log tells why")
    assert "Traceback" not in cargo.server.logs


def test_a_range_to_an_end_that_is_none_is_not_given_whole(cargo: Cargo) -> None:
    cargo.offer(size=None)
    told = {"Content-Range": "bytes 0-0/400000"}
    probed = Reply(status=206, body=cargo.body[:1], headers=told)
    cargo.serve(probed, cargo.whole.with_(chunked=True))
    with pytest.raises(http.ShortBodyError):
        cargo.server.get(cargo.target, {"Range": "bytes=0-"})


def test_the_last_bytes_of_a_range_to_the_end_wait_for_the_end_of_the_file(cargo: Cargo) -> None:
    cargo.offer(size=None)
    told = {"Content-Range": "bytes 0-0/400000"}
    probed = Reply(status=206, body=cargo.body[:1], headers=told)
    whole = cargo.whole.with_(chunked=True)
    # all that was told of, and one byte more, before it is known that there is more
    broken = whole.with_(hold_at=400_000, gate=cargo.name, cut_after=400_001)
    cargo.serve(probed, broken, whole)
    with cargo.connect() as connection:
        answer = connection.request(cargo.target, {"Range": "bytes=0-"})
        assert answer.read(100_000) == cargo.body[:100_000]
        cargo.release()
        with pytest.raises(http.ShortBodyError):
            answer.read()


def test_a_refusal_before_the_first_byte_is_believed_at_once(cargo: Cargo) -> None:
    cargo.serve(REFUSED)
    assert cargo.get().status == 502
    assert cargo.upstream.count(cargo.path) == 1


def test_a_coded_body_longer_than_the_file_fills_no_disk(cargo: Cargo) -> None:
    cargo.serve(Reply(body=noise(3_000_000, seed="other"), gzip=True), REFUSED)
    assert cargo.attempt() is None
    assert "sent more than 1081161 bytes" in cargo.server.logs


def test_a_range_of_which_all_bytes_came_is_whole_whatever_its_end(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream)
    far = Cargo(running, upstream, "far", size=5_000_000)
    last = far.body[-1000:]
    head = (
        "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Range: bytes {far.size - 1000}-{far.size - 1}/{far.size}\r\n\r\n3e8\r\n"
    )
    far.serve(Reply(raw=head.encode() + last + b"\r\n"))  # and no last chunk
    answer = running.get(far.target, {"Range": "bytes=-1000"})
    assert (answer.status, answer.body) == (206, last)
    running.stop()
    assert "aborted" not in running.logs
    assert "broken off" not in running.logs


def test_a_busy_upstream_is_asked_again_for_a_range_or_a_head(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream)
    busy = Reply(status=503, etag=None)
    far = Cargo(running, upstream, "far", size=5_000_000)
    far.serve(busy, far.whole)
    answer = running.get(far.target, {"Range": "bytes=-1000"})
    assert (answer.status, answer.body) == (206, far.body[-1000:])
    far.serve(*[busy.with_(headers={"Retry-After": "9"})] * 2, far.whole)
    assert running.get(far.target, {"Range": "bytes=-1000"}).status == 503


def test_a_kept_connection_that_ends_is_no_failure_of_a_range_or_a_head(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream)
    gone = Reply(raw=b"")  # as where it was closed just when it was used again
    far = Cargo(running, upstream, "far", size=5_000_000)
    far.serve(gone, gone, far.whole)
    answer = running.get(far.target, {"Range": "bytes=-1000"})
    assert (answer.status, answer.body) == (206, far.body[-1000:])
    unsized = Cargo(running, upstream, "unsized")
    unsized.offer(size=None)
    unsized.serve(gone, unsized.whole)
    with running.connect() as connection:
        answer = connection.request(unsized.target, method="HEAD")
        assert (answer.status, answer.header("content-length")) == (200, str(unsized.size))
