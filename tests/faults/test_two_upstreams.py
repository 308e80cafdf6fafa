"""The first of two upstreams cannot be asked: what is stored of the second goes on being served,
and an outage decides nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.outages import filenames, page
from tests.support.pages import wheel_spec
from tests.support.reply import NOT_FOUND, Reply
from tests.support.server import ProxyIndex
from tests.support.uploads import upload_form
from tests.support.upstream import FakeUpstream, json_reply

KNOWN, LATER = wheel_spec("px-known", "1.0"), wheel_spec("px-later", "1.0")
BUSY = Reply(status=503, body=b"busy")


@pytest.fixture
def running(server: ServerFactory, upstream: FakeUpstream, tmp_path: Path) -> ProxyIndex:
    """In front of `a`, which has nothing, and `b` with `px-known`, which was fetched; both were
    asked for `px-later`. No absence counts for longer than a moment."""
    tables = [f'[[upstream]]\nname = "{one}"\nurl = "{upstream.url}/{one}"\n' for one in "ab"]
    config = tmp_path / "two.toml"
    (tmp_path / "own").mkdir()
    own = 'folders = ["own"]\nupload = ["*"]\n'
    config.write_text('negative-ttl = "0s"\n' + own + "".join(tables))
    upstream.script("/b/px-known/", json_reply("px-known", KNOWN))
    for spec in (KNOWN, LATER):
        upstream.file(spec)
    made = server("--config", config, is_started=False)
    made.args.remove("--no-upstream")
    made.start()
    assert made.get(f"/simple/px-known/{KNOWN.filename}").body == KNOWN.body
    assert made.get("/simple/px-later/").status == 404
    return made


@pytest.mark.parametrize("is_offline", [False, True])
def test_what_is_stored_of_the_second_is_served(
    running: ProxyIndex, upstream: FakeUpstream, *, is_offline: bool
) -> None:
    for name in ("px-known", "px-later", "px-other"):
        upstream.script(f"/a/{name}/", BUSY)
    for name, spec in (("px-later", LATER), ("px-other", wheel_spec("px-other", "1.0"))):
        upstream.script(f"/b/{name}/", json_reply(name, spec))
    if is_offline:
        running.restart("--offline")
    asked = upstream.count("/b/px-later/")
    for _ in range(2):
        assert filenames(page(running, "px-known")) == [KNOWN.filename]
        assert running.get(f"/simple/px-known/{KNOWN.filename}").body == KNOWN.body
        assert running.get("/simple/px-later/").status == 503, "it may be at the first by now"
        assert running.get("/simple/px-other/").status == 503
    assert (upstream.count("/b/px-later/"), upstream.count("/b/px-other/")) == (asked, 0)


def test_the_second_is_asked_for_nothing_new_of_what_is_stored(
    running: ProxyIndex, upstream: FakeUpstream
) -> None:
    held, listed, newer = (wheel_spec("px-both", version) for version in ("1.0", "2.0", "3.0"))
    for spec in (held, listed, newer):
        upstream.file(spec)
    upstream.script("/b/px-both/", json_reply("px-both", held, listed))
    assert running.get(f"/simple/px-both/{held.filename}").body == held.body
    upstream.script("/a/px-both/", BUSY)
    upstream.script("/b/px-both/", json_reply("px-both", held, listed, newer))
    running.restart("--page-ttl", "0s")
    for _ in range(2):
        assert filenames(page(running, "px-both")) == [held.filename, listed.filename]
        assert running.get(f"/simple/px-both/{held.filename}").body == held.body
        assert running.get(f"/simple/px-both/{listed.filename}").status == 503
        assert running.get(f"/simple/px-both/{listed.filename}.metadata").status == 503
    assert [upstream.count(path) for path in ("/b/px-both/", listed.path)] == [1, 0]
    upstream.script("/a/px-both/", NOT_FOUND)
    assert running.get(f"/simple/px-both/{listed.filename}").body == listed.body


@pytest.mark.parametrize("is_offline", [False, True])
def test_what_is_left_of_a_removed_project_needs_no_upstream(
    running: ProxyIndex, upstream: FakeUpstream, *, is_offline: bool
) -> None:
    upstream.script("/b/px-known/", NOT_FOUND)
    anew = {"Cache-Control": "no-cache"}
    wait_until(lambda: running.get("/simple/px-known/", anew).status == 404, "it is gone")
    for one in "ab":
        upstream.script(f"/{one}/px-known/", BUSY)
    if is_offline:
        running.restart("--offline")
    assert running.get(f"/simple/px-known/{KNOWN.filename}").body == KNOWN.body
    assert running.get("/simple/px-known/").status == 503
    assert upload_form(KNOWN.filename, KNOWN.body).post(running).status == 503


def test_what_the_first_has_got_since_is_not_the_second_s(
    running: ProxyIndex, upstream: FakeUpstream
) -> None:
    own = wheel_spec("px-known", "0.1")
    upstream.script("/a/px-known/", json_reply("px-known", own))
    assert filenames(page(running, "px-known")) == [own.filename]
    (stored,) = running.cache_dir.glob("pages/a-*/px-known")
    stored.unlink()
    upstream.script("/a/px-known/", BUSY)
    assert running.get("/simple/px-known/").status == 503
