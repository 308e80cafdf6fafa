"""The fake upstream and the byte-exact client do what the other tests rely on."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from tests.support import http
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec
from tests.support.reply import BEFORE_HEADERS, Generated, Reply, redirect
from tests.support.upstream import ROOT, FakeUpstream, html_reply, json_reply

BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def process() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(process: FakeUpstream) -> FakeUpstream:
    process.reset()
    return process


def get(upstream: FakeUpstream, target: str, **more: object) -> http.Response:
    return http.request(upstream.url, target, **more)  # type: ignore[arg-type]


def test_unknown_paths_are_404(upstream: FakeUpstream) -> None:
    assert get(upstream, "/simple/nope/").status == 404


def test_body_status_reason_and_headers_are_as_scripted(upstream: FakeUpstream) -> None:
    upstream.script(
        "/x", Reply(status=503, reason="Gone Fishing", body=b"b", headers={"Retry-After": "7"})
    )
    response = get(upstream, "/x")
    assert (response.status, response.reason, response.body) == (503, "Gone Fishing", b"b")
    assert response.header("retry-after") == "7"


def test_a_header_can_be_taken_away(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b", headers={"Content-Type": None, "Date": None}))
    response = get(upstream, "/x")
    assert response.header("content-type") is None
    assert response.header("date") is None


def test_replies_are_given_in_turn_and_the_last_one_for_ever(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(status=503), Reply(body=b"1"), Reply(body=b"2"))
    statuses = [(r.status, r.body) for r in (get(upstream, "/x") for _ in range(4))]
    assert statuses == [(503, b""), (200, b"1"), (200, b"2"), (200, b"2")]


def test_a_head_shows_the_next_reply_and_uses_up_no_turn(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"12345"), Reply(body=b"1"))
    head = get(upstream, "/x", method="HEAD")
    assert (head.status, head.header("content-length"), head.body) == (200, "5", b"")
    assert get(upstream, "/x").body == b"12345"


def test_a_method_can_have_a_script_of_its_own(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b"))
    upstream.script("/x", Reply(status=405), method="HEAD")
    assert get(upstream, "/x", method="HEAD").status == 405
    assert get(upstream, "/x").status == 200


def test_every_request_is_recorded_exactly(upstream: FakeUpstream) -> None:
    before = time.monotonic()
    get(upstream, "/a%2Fb?q=1", headers=[("X-Twice", "1"), ("x-twice", "2")])
    (seen,) = upstream.requests("/a%2Fb")
    assert seen == upstream.requests("/a%2Fb?q=1")[0]
    assert (seen.method, seen.target) == ("GET", "/a%2Fb?q=1")
    assert [tuple(h) for h in seen.headers][1:3] == [("X-Twice", "1"), ("x-twice", "2")]
    assert before < seen.at < time.monotonic()
    assert upstream.count() == upstream.count(method="GET") == 1
    assert upstream.count(method="HEAD") == 0


def test_connections_are_counted_and_kept_alive(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b"))
    with http.Connection(upstream.url) as connection:
        for _ in range(3):
            assert connection.request("/x").body == b"b"
        assert (upstream.connections, upstream.open_connections) == (1, 1)
    assert upstream.count("/x") == 3


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "part"),
    [
        ("bytes=0-99", 206, "bytes 0-99/10240", slice(0, 100)),
        ("bytes=10000-", 206, "bytes 10000-10239/10240", slice(10000, None)),
        ("bytes=-16", 206, "bytes 10224-10239/10240", slice(-16, None)),
        ("bytes=10-99999", 206, "bytes 10-10239/10240", slice(10, None)),
        ("bytes=10240-", 416, "bytes */10240", slice(0, 0)),
        ("bytes=abc", 200, None, slice(None)),
        ("items=0-1", 200, None, slice(None)),
    ],
)
def test_ranges_are_honoured(
    upstream: FakeUpstream, asked: str, status: int, content_range: str | None, part: slice
) -> None:
    upstream.script("/x", Reply(body=BODY))
    response = get(upstream, "/x", headers={"Range": asked})
    assert (response.status, response.header("content-range")) == (status, content_range)
    assert response.body == BODY[part]


def test_if_range_protects_against_a_changed_file(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=BODY, etag='"v2"'))
    ask = {"Range": "bytes=5-"}
    assert get(upstream, "/x", headers={**ask, "If-Range": '"v2"'}).status == 206
    assert get(upstream, "/x", headers={**ask, "If-Range": '"v1"'}).status == 200


def test_ranges_can_be_ignored_denied_or_wrong(upstream: FakeUpstream) -> None:
    ask = {"Range": "bytes=5-9"}
    upstream.script("/ignored", Reply(body=BODY, ranges="ignore"))
    ignored = get(upstream, "/ignored", headers=ask)
    assert (ignored.status, ignored.header("accept-ranges")) == (200, "bytes")
    upstream.script("/none", Reply(body=BODY, ranges="none"))
    assert get(upstream, "/none", headers=ask).header("accept-ranges") is None
    upstream.script("/wrong", Reply(body=BODY, range_shift=3))
    wrong = get(upstream, "/wrong", headers=ask)
    assert (wrong.status, wrong.body) == (206, BODY[8:13])
    assert wrong.header("content-range") == "bytes 8-12/10240"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": '"v1"'}, 304),
        ({"If-None-Match": 'W/"v1", "v0"'}, 304),
        ({"If-None-Match": '"v2"', "If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}, 304),
        ({}, 200),
    ],
)
def test_validators_are_honoured(
    upstream: FakeUpstream, headers: dict[str, str], status: int
) -> None:
    reply = Reply(body=b"b", etag='"v1"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
    upstream.script("/x", reply)
    upstream.script("/deaf", reply.with_(conditional=False))
    assert get(upstream, "/x", headers=headers).status == status
    assert get(upstream, "/deaf", headers=headers).status == 200


def test_validators_can_be_left_out(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b", etag=None))
    response = get(upstream, "/x", headers={"If-None-Match": '""'})
    assert (response.status, response.header("etag")) == (200, None)


def test_a_body_can_be_cut_and_the_client_notices(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=BODY, cut_after=100), Reply(body=BODY, chunked=True))
    with pytest.raises(http.ShortBodyError) as caught:
        get(upstream, "/x")
    assert caught.value.received == BODY[:100]
    assert get(upstream, "/x").body == BODY


def test_a_chunked_body_can_be_cut_too(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=BODY, chunked=True, cut_after=100))
    with pytest.raises(http.ShortBodyError) as caught:
        get(upstream, "/x")
    assert caught.value.received == BODY[:100]


def test_a_connection_can_be_reset(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=BODY, cut_after=0, reset=True))
    with http.Connection(upstream.url) as connection:
        connection.start("/x")
        connection.receive_until(b"\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.socket.recv(1)


def test_a_lying_content_length_is_told(upstream: FakeUpstream) -> None:
    upstream.script("/long", Reply(body=b"12345", declare=9))
    upstream.script("/short", Reply(body=b"12345", declare=2))
    with pytest.raises(http.ShortBodyError):
        get(upstream, "/long")
    assert get(upstream, "/short").body == b"12"


def test_a_body_can_be_gzipped_unasked(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=BODY, gzip=True))
    response = get(upstream, "/x", headers={"Accept-Encoding": "identity"})
    assert response.header("content-encoding") == "gzip"
    assert gzip.decompress(response.body) == BODY


def test_raw_bytes_are_sent_as_they_are(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(raw=b"HTTP/1.1 200 OK\r\nX: 1\r\nX: 2\r\n\r\nbody"))
    response = get(upstream, "/x")
    assert (response.all("x"), response.body) == (["1", "2"], b"body")
    upstream.script("/mute", Reply(raw=b""))
    with pytest.raises(http.NoAnswerError):
        get(upstream, "/mute")


def test_a_gate_holds_the_rest_of_a_body_until_released(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=BODY, hold_at=1000))
    with http.Connection(upstream.url) as connection:
        response = connection.request("/x")
        assert response.read(1000) == BODY[:1000]
        upstream.wait_held()
        assert not upstream.requests("/x")[0].is_finished
        upstream.release()
        assert response.body == BODY
    upstream.wait_finished("/x")
    assert upstream.requests("/x")[0].sent == len(BODY)


def test_a_gate_can_hold_the_headers(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b", hold_at=BEFORE_HEADERS, gate="g"))
    with http.Connection(upstream.url) as connection:
        connection.start("/x")
        upstream.wait_held("g")
        connection.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.answer()
        connection.socket.settimeout(10)
        upstream.release("g")
        assert connection.answer().body == b"b"


async def test_waiting_in_a_thread_lets_the_test_go_on(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b", hold_at=0))
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, lambda: get(upstream, "/x"))
        await anyio.to_thread.run_sync(upstream.wait_held)
        upstream.release()
    assert upstream.requests("/x")[0].status == 200


def test_waiting_in_vain_is_an_error(upstream: FakeUpstream) -> None:
    with pytest.raises(TimeoutError, match="still waiting"):
        upstream.wait_requests("/never", timeout=0.05)


def test_a_client_that_leaves_a_hanging_answer_is_noticed(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=BODY, hang_after=10))
    with http.Connection(upstream.url) as connection:
        assert connection.request("/x").read(10) == BODY[:10]
    upstream.wait_left("/x")
    assert not upstream.requests("/x")[0].is_finished


def test_delay_and_rate_take_their_time(upstream: FakeUpstream) -> None:
    upstream.script("/late", Reply(body=b"b", delay=0.15))
    upstream.script("/slow", Reply(body=BODY, rate=len(BODY) * 5))
    for path, at_least in (("/late", 0.15), ("/slow", 0.2)):
        before = time.monotonic()
        get(upstream, path)
        assert time.monotonic() - before >= at_least


def test_redirects_may_loop(upstream: FakeUpstream) -> None:
    upstream.script("/a", redirect("/b"))
    upstream.script("/b", redirect("/a", 308))
    assert (get(upstream, "/a").status, get(upstream, "/a").header("location")) == (302, "/b")
    assert get(upstream, "/b").status == 308


def test_a_generated_body_is_the_same_whole_or_in_parts(upstream: FakeUpstream) -> None:
    body = Generated(3_000_000, seed=4)
    upstream.script("/x", Reply(body=body))
    whole = get(upstream, "/x").body
    assert whole == body.read(0, body.size)
    part = get(upstream, "/x", headers={"Range": "bytes=1048570-1048580"}).body
    assert part == whole[1048570:1048581]
    assert whole != Generated(3_000_000, seed=5).read(0, 3_000_000)


def test_down_is_refused_and_up_comes_back_on_the_same_port(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b"))
    with http.Connection(upstream.url) as connection:
        connection.request("/x").read()
        upstream.down()
        assert connection.is_closed()
    with pytest.raises(ConnectionRefusedError):
        get(upstream, "/x")
    upstream.up()
    assert get(upstream, "/x").body == b"b"


def test_a_project_is_served_with_page_files_and_metadata(upstream: FakeUpstream) -> None:
    wheel = FileSpec(
        filename="foo_bar-1.0+x-py3-none-any.whl", body=BODY, metadata=b"M", yanked="bad"
    )
    upstream.project("foo-bar", wheel)
    page = get(upstream, "/simple/foo-bar/")
    entry = page.json()["files"][0]
    assert page.header("content-type") == "application/vnd.pypi.simple.v1+json"
    assert (entry["size"], entry["yanked"], page.json()["versions"]) == (10240, "bad", ["1.0+x"])
    assert get(upstream, entry["url"]).body == BODY
    assert get(upstream, entry["url"] + ".metadata").body == b"M"


def test_html_and_json_pages_name_the_same_file(upstream: FakeUpstream) -> None:
    spec = FileSpec(filename="a-1.tar.gz", body=b"1", requires_python=">=3.8,<4", yanked=True)
    upstream.script("/simple/a/", html_reply("a", spec))
    upstream.script("/simple/b/", json_reply("a", spec))
    text = get(upstream, "/simple/a/").text
    assert 'data-requires-python="&gt;=3.8,&lt;4"' in text
    assert 'data-yanked=""' in text
    assert get(upstream, "/simple/b/").json()["files"][0]["hashes"]["sha256"] in text


def test_reset_forgets_everything(upstream: FakeUpstream) -> None:
    upstream.script("/x", Reply(body=b"b"))
    get(upstream, "/x")
    upstream.reset()
    assert upstream.count() == 0
    assert get(upstream, "/x").status == 404


def test_what_was_sent_before_a_reset_and_is_read_after_it_is_forgotten(
    upstream: FakeUpstream,
) -> None:
    os.kill(upstream.pid, signal.SIGSTOP)  # a machine that is busy with something else
    with http.Connection(upstream.url) as old, ThreadPoolExecutor(1) as pool:
        old.start("/x")
        resetting = pool.submit(upstream.reset)
        wait_until(lambda: upstream._answers and not upstream._lock.locked(), "the command")
        os.kill(upstream.pid, signal.SIGCONT)
        resetting.result()
        assert old.is_closed()
    assert (upstream.count(), upstream.connections) == (0, 0)


def test_the_process_ends_when_the_test_run_dies() -> None:
    starter = (
        "from tests.support.upstream import FakeUpstream; import time\n"
        "print(FakeUpstream().pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", starter]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not _is_alive(pid), "its end")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:  # an orphan nobody reaps is over, too
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
