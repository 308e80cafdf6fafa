"""Upstreams that answer with something that is no page, or not the page: the last good one is
served and kept; without one it is told that nobody knows; memory stays bounded."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.outages import (
    alarms,
    ask,
    assert_refused,
    assert_stale,
    configured,
    filenames,
    lines,
    page,
    peak_memory,
    stored_page,
)
from tests.support.pages import HTML_TYPE, JSON_TYPE, FileSpec, html_page, json_page, wheel_spec
from tests.support.reply import Generated, Reply, redirect
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, json_reply

MB = 1024**2
LIMIT = 8 * MB
NUMBERS = itertools.count(1)
LOGIN = b"<!DOCTYPE html><html><head><title>Wi-Fi</title></head><body><h1>Please log in</h1>\n"
LOGIN += b'<form action="/login"><input name="user"></form><a href="/terms">Terms</a></body></html>'
SPECS = [wheel_spec("demo", f"{n}.0") for n in range(1, 9)]
SEAM = html_page("demo", SPECS).index(b"\n", 1000)  # a page that ends here looks whole
GOOD, GOOD_HTML = json_page("demo", SPECS), html_page("demo", SPECS)


@dataclass(frozen=True, slots=True)
class Case:
    """What upstream answers, and what a client gets of a page of which there is no copy."""

    reply: Reply
    status: int = 502
    retry_after: str | None = None


def body(content: bytes | Generated, kind: str = JSON_TYPE, **more: object) -> Reply:
    return Reply(body=content, content_type=kind, etag=None, **more)  # type: ignore[arg-type]


def packed(content: bytes, kind: str = JSON_TYPE) -> Reply:
    return body(content, kind, headers={"Content-Encoding": "gzip"})


def error(status: int, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=LOGIN, content_type="text/html", etag=None, headers=named)


CASES = {
    "500": Case(error(500), 503),
    "502": Case(error(502), 503),
    "503": Case(error(503), 503),
    "429 with Retry-After": Case(error(429, Retry_After="9"), 503, "9"),
    "cut in the body": Case(body(GOOD, cut_after=len(GOOD) // 2), 503),
    "captive portal": Case(body(LOGIN, "text/html; charset=utf-8")),
    "captive portal of no type": Case(body(LOGIN, None)),  # type: ignore[arg-type]
    "captive portal that claims to be JSON": Case(body(LOGIN)),
    "captive portal by redirect": Case(redirect("http://login.example/"), 404),
    "truncated JSON": Case(body(GOOD[: len(GOOD) // 2])),
    "garbage": Case(body(bytes(range(256)) * 20)),
    "garbage as HTML": Case(body(bytes(range(256)) * 20, HTML_TYPE)),
    "empty": Case(body(b"")),
    "empty HTML": Case(body(b"", HTML_TYPE)),
    "JSON of something else": Case(body(b'{"message": "welcome"}')),
    "api-version 2.0": Case(body(GOOD.replace(b'"api-version": "1.4"', b'"api-version": "2.0"'))),
    "api-version 2.0 in HTML": Case(
        body(html_page("demo", [wheel_spec("demo")]).replace(b'"1.4"', b'"2.0"'), HTML_TYPE)
    ),
    "gzip bomb": Case(packed(gzip.compress(bytes(8 * LIMIT)))),
    "gzip bomb in many members": Case(packed(gzip.compress(bytes(MB)) * 300)),
    "gzip cut": Case(packed(gzip.compress(GOOD)[:-9])),
    "gzip cut in its second member": Case(
        packed(gzip.compress(GOOD_HTML[:SEAM]) + gzip.compress(GOOD_HTML[SEAM:])[:-9], HTML_TYPE)
    ),
    "gzip followed by garbage": Case(packed(gzip.compress(GOOD) + LOGIN)),
    "300 MB": Case(body(Generated(300 * MB))),
    "300 MB of unknown length": Case(body(Generated(300 * MB), chunked=True)),
    "redirect loop": Case(redirect("./")),
    "redirect to another origin": Case(redirect("http://files.example/simple/demo/"), 404),
    "redirect to a private address": Case(redirect("http://169.254.169.254/latest/"), 404),
    "redirect to a file": Case(redirect("file:///etc/passwd"), 404),
    "redirect to nowhere": Case(redirect("http://[bad")),
    "304 to no question": Case(Reply(status=304, etag=None)),
    "401": Case(error(401)),
}


@dataclass(frozen=True, slots=True)
class Place:
    server: ProxyIndex
    upstream: FakeUpstream


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One server for the whole table; every case has projects of its own."""
    folder = tmp_path_factory.mktemp("server")
    with FakeUpstream() as upstream:
        config = configured(folder, upstream.simple_url, "retries = 0")
        limits = ["--page-ttl", "0s", "--max-page-size", str(LIMIT), "--negative-ttl", "0s"]
        with ProxyIndex("--config", config, *limits, workdir=folder) as server:
            yield Place(server, upstream)


@pytest.mark.parametrize("name", CASES)
def test_an_answer_that_is_no_page_leaves_the_copy_or_an_error(place: Place, name: str) -> None:
    case, (server, upstream) = CASES[name], (place.server, place.upstream)
    known, unknown = (f"demo-{next(NUMBERS)}" for _ in range(2))
    upstream.project(known, wheel_spec(known), etag=None)
    copy = page(server, known)
    assert copy.status == 200, server.logs
    stored, counted, peak = stored_page(server, known), invalid(server), peak_memory(server)
    for project in (known, unknown):
        upstream.script(f"/simple/{project}/", case.reply)
    stale, refused = ask(server, known, unknown)
    assert_stale(stale, copy)
    assert stored_page(server, known) == stored
    if case.status == 404:  # what indexes do with projects that they do not have
        assert refused.response.status == 404
    else:
        assert_refused(refused, case.status)
        assert case.retry_after in (None, refused.response.header("retry-after"))
    if case.status != 503:
        for project in (known, unknown):
            page(server, project)
        # where there is a copy, upstream is not asked again so soon
        assert invalid(server) - counted == (1 if case.status == 404 else 3)
        assert len(lines(server, "WARNING", f"{known}: ")) == 1, server.logs
        assert len(lines(server, "WARNING", f"{unknown}: ")) == (case.status != 404), server.logs
    assert peak_memory(server) - peak < 8 * LIMIT
    for project in (known, unknown):
        upstream.project(project, wheel_spec(project), etag=None)
    assert len(filenames(page(server, unknown))) == 1, "nothing of it was kept"
    assert page(server, known).body == copy.body


def invalid(server: ProxyIndex) -> int:
    return alarms(server, "invalid-page")


# pages that lose most of their files


def versions(name: str, count: int) -> list[FileSpec]:
    return [wheel_spec(name, f"{number}.0") for number in range(1, count + 1)]


def accept(server: ProxyIndex, *names: str) -> str:
    """What `proxyindex cache accept` says on this server's cache."""
    command = [sys.executable, "-m", "proxyindex", "cache", "accept", *names]
    done = subprocess.run(
        [*command, "--cache-dir", server.cache_dir],
        env=server.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("workers", [1, 4])
def test_a_page_that_loses_most_of_its_files_is_kept_until_it_is_accepted(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    files = versions("demo", 8)
    upstream.project("demo", *files)
    running = server("--page-ttl", "1h", upstream=upstream, workers=workers)
    copy, stored = page(running, "demo"), stored_page(running, "demo")
    assert len(filenames(copy)) == 8
    upstream.script("/simple/demo/", json_reply("demo", files[0]))

    def doubted() -> bool:  # asking anew is allowed every two seconds
        answer = page(running, "demo", Cache_Control="no-cache")
        assert answer.body == copy.body
        return answer.header("x-proxyindex") == "stale"

    wait_until(doubted, "upstream is asked and not believed")
    asked = upstream.count("/simple/demo/")
    for _ in range(12):
        assert page(running, "demo").body == copy.body
    assert upstream.count("/simple/demo/") == asked, "not asked again for a page-ttl"
    assert stored_page(running, "demo") == stored
    assert running.get(f"/simple/demo/{files[7].filename}").body == files[7].body
    (line,) = lines(running, "has lost 7 of the 8 files")
    assert "WARNING" in line
    assert "`proxyindex cache accept demo`" in line
    assert alarms(running, "shrunken-page") == 1
    assert "Accepted what upstream will say of demo" in accept(running, "demo")
    for _ in range(12):
        assert filenames(page(running, "demo")) == [files[0].filename]
    assert running.get(f"/simple/demo/{files[7].filename}").body == files[7].body, "still ours"
    assert alarms(running, "shrunken-page") == 1


@pytest.mark.parametrize(
    ("behaviour", "files"),
    [
        ({"headers": {"X-PyPI-Last-Serial": "11"}}, 1),
        ({"headers": {"X-PyPI-Last-Serial": "10"}}, 8),
        ({"status": "archived"}, 1),
        ({"status": "active"}, 8),
    ],
)
def test_upstream_s_own_word_for_the_loss_is_believed(
    place: Place, behaviour: dict[str, object], files: int
) -> None:
    name = f"demo-{next(NUMBERS)}"
    offered = versions(name, 8)
    headers = {"headers": {"X-PyPI-Last-Serial": "10"}}
    place.upstream.project(name, *offered, **headers)
    assert len(filenames(page(place.server, name))) == 8
    left = json_reply(name, offered[0], **{**headers, "headers": behaviour.get("headers", {})})
    if status := behaviour.get("status"):
        left = left.with_(body=json_page(name, offered[:1], project_status={"status": status}))
    place.upstream.script(f"/simple/{name}/", left)
    assert len(filenames(page(place.server, name))) == files
    believed = lines(place.server, f"{name}: ", "by a later serial")
    assert len(believed) == (behaviour.get("headers") == {"X-PyPI-Last-Serial": "11"})


def test_without_a_copy_every_page_is_believed(place: Place) -> None:
    name = f"demo-{next(NUMBERS)}"
    place.upstream.project(name)
    assert filenames(page(place.server, name)) == []
