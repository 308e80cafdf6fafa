"""Pages and their freshness: docs/conformance.md, checks 93 to 98 and 100 to 102."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import http
from tests.support.clock import WallClock
from tests.support.crowd import together
from tests.support.fixtures import Index, ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import JSON_TYPE, FileSpec, sdist_spec, wheel_spec
from tests.support.reply import BEFORE_HEADERS, NOT_FOUND, Reply
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, json_reply

JSON = {"Accept": JSON_TYPE}
NO_VALIDATORS: dict[str, Any] = {"etag": None, "last_modified": None, "conditional": False}


def page(running: ProxyIndex | Index, name: str, **headers: str) -> http.Response:
    extra = {key.replace("_", "-"): value for key, value in headers.items()}
    return running.get(f"/simple/{name}/", JSON | extra)


def filenames(response: http.Response) -> list[str]:
    assert response.status == 200
    return [entry["filename"] for entry in response.json()["files"]]


@pytest.mark.parametrize("name", ["foo-bar", "local-lib"])
@pytest.mark.parametrize("accept", [JSON_TYPE, "text/html", "application/vnd.pypi.simple.v1+html"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_093_pages_are_revalidated_by_a_strong_etag(
    index: Index, name: str, accept: str, coding: str
) -> None:
    asked = {"Accept": accept, "Accept-Encoding": coding}
    first = index.get(f"/simple/{name}/", asked)
    etag = first.header("etag") or ""
    assert first.header("cache-control") == "max-age=0, must-revalidate"
    assert etag.startswith('"')
    assert first.header("last-modified") is None
    for condition in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = index.get(f"/simple/{name}/", {**asked, "If-None-Match": condition})
        assert (again.status, again.body) == (304, b"")
        assert again.header("etag") == etag
        assert again.header("cache-control") == first.header("cache-control")
        assert "Accept" in (again.header("vary") or "")
    assert index.get(f"/simple/{name}/", {**asked, "If-None-Match": '"x"'}).status == 200


def test_093_each_representation_has_an_etag_of_its_own(index: Index) -> None:
    seen: dict[str, bytes] = {}
    for accept in (JSON_TYPE, "text/html"):
        for coding in ("identity", "gzip"):
            headers = {"Accept": accept, "Accept-Encoding": coding}
            answer = index.get("/simple/foo-bar/", headers)
            assert seen.setdefault(answer.header("etag") or "", answer.body) == answer.body
    assert len(seen) >= 2
    assert len(set(seen.values())) == len(seen)


def test_093_all_workers_agree_on_the_etag(crowded: Index) -> None:
    answers = together(16, lambda: crowded.get("/simple/foo-bar/", JSON))
    assert len({(answer.header("etag"), answer.body) for answer in answers}) == 1


def test_094_a_page_is_asked_for_again_only_when_it_is_stale(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path, workers: int
) -> None:
    clock, lifetime = WallClock(tmp_path), {"Cache-Control": "max-age=60"}
    upstream.project("timed", wheel_spec("timed"), headers=lifetime)
    options = ["--stale-while-revalidate", "0s"]
    running = server(*options, upstream=upstream, workers=workers, env=clock.env)
    path = "/simple/timed/"
    first = page(running, "timed")
    together(8, lambda: page(running, "timed"))
    assert upstream.count(path) == 1
    clock.set_by(61.0)
    answer = page(running, "timed")
    assert (answer.status, answer.body) == (200, first.body)
    renewal = upstream.requests(path)[1]
    assert renewal.header("if-none-match")
    assert renewal.status == 304
    together(8, lambda: page(running, "timed"))
    assert upstream.count(path) == 2, "the 304 gave it another minute"


def test_094_a_page_just_gone_stale_is_served_at_once_and_renewed_behind(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    old, new = wheel_spec("swr", "1.0"), wheel_spec("swr", "2.0")
    lifetime = {"Cache-Control": "max-age=1"}
    upstream.project("swr", old, headers=lifetime)
    running = server(upstream=upstream, workers=workers)
    page(running, "swr")
    upstream.script(
        "/simple/swr/", json_reply("swr", old, new, headers=lifetime, hold_at=BEFORE_HEADERS)
    )
    wait_until(
        lambda: page(running, "swr").header("x-proxyindex") == "stale", "a stale page is served"
    )
    upstream.wait_held()
    assert filenames(page(running, "swr")) == [old.filename]
    upstream.release()
    wait_until(lambda: new.filename in filenames(page(running, "swr")), "the page is renewed")


def test_094_upstream_s_word_on_freshness_is_bounded_by_ours(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("long", wheel_spec("long"), headers={"Cache-Control": "max-age=999999"})
    running = server("--page-ttl", "0s", upstream=upstream)
    for _ in range(3):
        assert page(running, "long").status == 200
    assert upstream.count("/simple/long/") == 3


@pytest.mark.parametrize("word", ["no-cache", "max-age=0", "max-age=0, no-cache", "No-Cache"])
def test_095_a_client_can_have_a_page_revalidated_but_not_hammer(index: Index, word: str) -> None:
    name = index.project(wheel_spec("any"), name=index.new_name())
    path = f"/simple/{name}/"
    page(index, name)
    wait_until(
        lambda: page(index, name, Cache_Control=word) and index.upstream.count(path) > 1,
        "the page is revalidated",
    )
    assert index.upstream.requests(path)[-1].header("if-none-match")
    together(10, lambda: page(index, name, Cache_Control=word))
    assert index.upstream.count(path) == 2
    for other in ("max-age=60", "no-transform", "max-age=00", ""):
        page(index, name, Cache_Control=other)
    assert index.upstream.count(path) == 2


@pytest.mark.parametrize(
    ("agent", "is_wish"),
    [
        ('pip/23.2.1 {"cpu":"x86_64"}', False),
        ('pip/26.2 {"cpu":"x86_64"}', True),
    ],
)
def test_095_what_a_pip_says_with_every_page_is_no_wish(
    index: Index, agent: str, is_wish: bool
) -> None:
    name = index.project(wheel_spec("any"), name=index.new_name())
    path = f"/simple/{name}/"

    def asked(word: str) -> int:
        page(index, name, Cache_Control=word, User_Agent=agent)
        return index.upstream.count(path)

    page(index, name)
    wait_until(lambda: asked("no-cache") == 2, "that it may be asked again")
    if is_wish:
        wait_until(lambda: asked("max-age=0") == 3, "that it is asked")
    else:
        # by then the two seconds of the last time are over
        wait_until(lambda: (asked("max-age=0"), asked("no-cache"))[1] == 3, "that it may be")
        assert [asked("max-age=0") for _ in range(5)] == [3] * 5


def test_095_a_forced_page_shows_what_is_new_at_once(index: Index) -> None:
    name = index.new_name()
    old, new = wheel_spec(name, "1.0"), wheel_spec(name, "2.0")
    index.project(old, name=name)
    assert filenames(page(index, name)) == [old.filename]
    index.project(old, new, name=name)
    assert filenames(page(index, name)) == [old.filename]
    wait_until(
        lambda: new.filename in filenames(page(index, name, Cache_Control="no-cache")),
        "the new file is listed",
    )
    assert filenames(page(index, name)) == [old.filename, new.filename]


def go_down(upstream: FakeUpstream) -> None:
    upstream.down()


def answer_with(reply: Reply) -> Callable[[FakeUpstream], None]:
    def act(upstream: FakeUpstream) -> None:
        for name in ("known", "unknown"):
            upstream.script(f"/simple/{name}/", reply)

    return act


FAILURES = {
    "down": (go_down, 503),
    "500": (answer_with(Reply(status=500, etag=None)), 503),
    "503": (answer_with(Reply(status=503, etag=None)), 503),
    "504": (answer_with(Reply(status=504, etag=None)), 503),
    "429": (answer_with(Reply(status=429, etag=None, headers={"Retry-After": "7"})), 503),
    "401": (answer_with(Reply(status=401, etag=None)), 502),
    "403": (answer_with(Reply(status=403, etag=None)), 502),
    "reset": (answer_with(json_reply("x", hold_at=None, cut_after=20, reset=True)), 503),
    "rubbish": (answer_with(Reply(body=b"\x00\x01", content_type=JSON_TYPE)), 502),
    "wrong-type": (answer_with(Reply(body=b"PK", content_type="application/zip")), 502),
    "no-http": (answer_with(Reply(raw=b"220 ready\r\n")), 503),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_096_a_failing_upstream_gives_the_stale_page_or_503(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path, failure: str
) -> None:
    fail, status = FAILURES[failure]
    spec = wheel_spec("known")
    upstream.project("known", spec)
    config = tmp_path / "proxyindex.toml"  # retries only cost time here
    config.write_text(f'[[upstream]]\nurl = "{upstream.simple_url}"\nretries = 0\n')
    running = server("--config", config, "--page-ttl", "0s", is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    fresh = page(running, "known")
    fail(upstream)
    stale = page(running, "known")
    assert (stale.status, stale.body) == (200, fresh.body)
    assert stale.header("x-proxyindex") == "stale"
    assert stale.header("etag") == fresh.header("etag")
    assert stale.header("cache-control") == "max-age=0, must-revalidate"
    lost = page(running, "unknown")
    assert lost.status == status
    assert lost.header("cache-control") == "no-store"
    assert (lost.header("content-type") or "").startswith("text/plain")
    if status == 503:
        assert 1 <= int(lost.header("retry-after") or 0) <= 30
    # nothing of the failure is remembered as "there is no such project"
    assert page(running, "unknown").status != 404


def test_096_what_is_stored_survives_a_restart_without_upstream(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("kept", payload=5_000)
    upstream.project("kept", spec)
    running = server("--page-ttl", "0s", upstream=upstream)
    target = f"/simple/kept/{spec.filename}"
    before = page(running, "kept"), running.get(target)
    upstream.down()
    running.restart()
    after = page(running, "kept"), running.get(target)
    assert [(one.status, one.body) for one in after] == [(200, one.body) for one in before]


def test_096_an_upstream_that_is_back_is_asked_again(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    old, new = wheel_spec("back", "1.0"), wheel_spec("back", "2.0")
    upstream.project("back", old)
    running = server("--page-ttl", "0s", upstream=upstream)
    page(running, "back")
    upstream.down()
    assert filenames(page(running, "back")) == [old.filename]
    upstream.up()
    upstream.project("back", old, new)
    wait_until(lambda: new.filename in filenames(page(running, "back")), "upstream is asked")


def test_097_a_hanging_upstream_is_not_waited_for(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    spec = wheel_spec("known")
    upstream.project("known", spec)
    running = server("--page-ttl", "0s", upstream=upstream, workers=workers)
    assert page(running, "known").status == 200
    for name in ("known", "silent"):
        upstream.script(f"/simple/{name}/", json_reply(name, spec, hold_at=BEFORE_HEADERS))
    upstream.script("/simple/stuck/", json_reply("stuck", spec, hang_after=10))
    names = ["known", "silent", "stuck"] * 4
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda name: page(running, name), names))
    for name, answer in zip(names, answers, strict=True):
        asked = upstream.requests(f"/simple/{name}/")[-1]
        assert (asked.is_finished, asked.is_left) == (False, False), "it is still being asked"
        if name == "known":
            assert filenames(answer) == [spec.filename]
        else:
            assert answer.status == 503
            assert answer.header("retry-after")
            assert answer.header("cache-control") == "no-store"


def test_098_upstream_s_retry_after_is_passed_on_within_bounds(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream)
    for told, passed in (("17", "17"), ("3600", "30")):
        name = f"slow-down-{told}"
        reply = Reply(status=429, etag=None, headers={"Retry-After": told})
        upstream.script(f"/simple/{name}/", reply)
        answer = page(running, name)
        assert (answer.status, answer.header("retry-after")) == (503, passed)
        assert upstream.count(f"/simple/{name}/") == 1, "who asks for a pause gets it"


def test_098_too_many_requests_leave_the_stale_page(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("busy")
    limited = Reply(status=429, etag=None, headers={"Retry-After": "9"})
    upstream.script("/simple/busy/", json_reply("busy", spec), limited)
    running = server("--page-ttl", "0s", upstream=upstream)
    for _ in range(3):
        assert filenames(page(running, "busy")) == [spec.filename]
    assert upstream.count("/simple/busy/") == 2


def test_100_without_validators_the_body_tells_a_change(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    old, new = wheel_spec("bare", "1.0"), sdist_spec("bare", "2.0")
    upstream.project("bare", old, **NO_VALIDATORS)
    running = server("--page-ttl", "0s", upstream=upstream)
    first, second = page(running, "bare"), page(running, "bare")
    assert upstream.count("/simple/bare/") == 2
    assert [seen.header("if-none-match") for seen in upstream.requests()] == [None, None]
    assert second.header("etag") == first.header("etag")
    upstream.project("bare", old, new, **NO_VALIDATORS)
    changed = page(running, "bare", If_None_Match=first.header("etag") or "")
    assert filenames(changed) == [old.filename, new.filename]
    assert changed.header("etag") != first.header("etag")


def test_101_a_304_without_etag_is_good(server: ServerFactory, upstream: FakeUpstream) -> None:
    spec = wheel_spec("terse")
    bare = Reply(status=304, etag=None, content_type=None)
    upstream.script("/simple/terse/", json_reply("terse", spec), bare)
    running = server("--page-ttl", "0s", upstream=upstream)
    answers = [page(running, "terse") for _ in range(3)]
    assert [filenames(answer) for answer in answers] == [[spec.filename]] * 3
    assert upstream.count("/simple/terse/") == 3
    assert all(seen.header("if-none-match") for seen in upstream.requests("/simple/terse/")[1:])


def test_101_a_304_for_another_version_is_fetched_whole(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    old, new = wheel_spec("mixed", "1.0"), wheel_spec("mixed", "2.0")
    upstream.script(
        "/simple/mixed/",
        json_reply("mixed", old, etag='"one"'),
        Reply(status=304, etag='"two"', content_type=None),
        json_reply("mixed", old, new, etag='"two"', conditional=False),
    )
    running = server("--page-ttl", "0s", upstream=upstream)
    assert filenames(page(running, "mixed")) == [old.filename]
    assert filenames(page(running, "mixed")) == [old.filename, new.filename]
    asked = [seen.header("if-none-match") for seen in upstream.requests("/simple/mixed/")]
    assert asked == [None, '"one"', None]


def test_101_weak_validators_are_sent_back_as_they_came(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("weak")
    modified = "Wed, 17 Jan 2024 16:53:12 GMT"
    upstream.project("weak", spec, etag='W/"abc"', last_modified=modified)
    running = server("--page-ttl", "0s", upstream=upstream)
    assert page(running, "weak").body == page(running, "weak").body
    second = upstream.requests("/simple/weak/")[1]
    assert second.header("if-none-match") == 'W/"abc"'
    assert second.header("if-modified-since") == modified
    assert second.status == 304


def test_101_a_304_to_an_unconditional_request_is_a_failure(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.script("/simple/odd/", Reply(status=304, etag=None, content_type=None))
    assert page(server(upstream=upstream), "odd").status in (502, 503)


@pytest.mark.parametrize("round_", range(3))
def test_102_fifty_concurrent_misses_are_one_upstream_request(crowded: Index, round_: int) -> None:
    name = crowded.new_name()
    spec: FileSpec = wheel_spec(name)
    crowded.project(spec, name=name)
    answers = together(50, lambda: page(crowded, name))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert filenames(answers[0]) == [spec.filename]
    assert crowded.upstream.count(f"/simple/{name}/") == 1


def test_102_fifty_concurrent_requests_for_nothing_are_one_upstream_request(
    crowded: Index,
) -> None:
    name = crowded.new_name()
    crowded.upstream.script(f"/simple/{name}/", NOT_FOUND)
    answers = together(50, lambda: page(crowded, name))
    assert {answer.status for answer in answers} == {404}
    assert crowded.upstream.count(f"/simple/{name}/") == 1
