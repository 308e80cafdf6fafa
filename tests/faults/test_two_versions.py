"""Upstream puts other bytes under a name that we have served: the first ones stay, with an alarm,
until an operator accepts the others."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import http
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.outages import alarms, configured, filenames, lines, page
from tests.support.pages import JSON_TYPE, FileSpec, sdist_spec, wheel_spec
from tests.support.reply import Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, json_reply

JSON = {"Accept": JSON_TYPE}
OTHER = sdist_spec("demo", "1.0")
FIRST = wheel_spec("demo", "1.0", payload=30_000)
LENGTH = len(FIRST.body)
SECOND = replace(FIRST, body=FIRST.body[: LENGTH // 2] + bytes(LENGTH - LENGTH // 2))  # type: ignore[index]
LONGER = replace(FIRST, body=SECOND.body + b"more")  # type: ignore[operator]
TARGET = f"/simple/demo/{FIRST.filename}"


@dataclass(frozen=True, slots=True)
class Told:
    """What upstream tells of a file besides its name."""

    form: str = "json"
    digest: str | None = "sha256"
    has_size: bool = True

    def of(self, spec: FileSpec) -> FileSpec:
        assert spec.body
        name = self.digest
        hashes = {name: hashlib.new(name, bytes(spec.body)).hexdigest()} if name else {}
        return replace(spec, hashes=hashes, size=-1 if self.has_size else None)


KINDS = {
    "sha256": Told(),
    "sha256 in HTML": Told(form="html"),
    "md5 in HTML": Told(form="html", digest="md5"),
    "sha512": Told(digest="sha512", has_size=False),
    "size alone": Told(digest=None),
    "nothing": Told(form="html", digest=None),
}


def offer(upstream: FakeUpstream, told: Told, spec: FileSpec) -> None:
    upstream.project("demo", told.of(spec), OTHER, form=told.form)  # type: ignore[arg-type]


def forget_bytes(server: ProxyIndex, spec: FileSpec) -> None:
    """What eviction does."""
    (path,) = (server.cache_dir / "blobs").glob(f"*/{sha256_of(spec.body)}")
    path.unlink()


def shown(server: ProxyIndex) -> dict[str, Any]:
    """The wheel as its page has it."""
    (entry,) = [f for f in page(server, "demo").json()["files"] if f["url"].endswith(".whl")]
    return entry


def download(server: ProxyIndex) -> int | None:
    """The status of the file's answer, or `None` if that was broken off."""
    try:
        return server.get(TARGET).status
    except http.ShortBodyError:
        return None


def accept(server: ProxyIndex, *names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxyindex", "cache", "accept", *names]
    return subprocess.run(
        [*command, "--cache-dir", server.cache_dir],
        env=server.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("kind", "workers"), [*((kind, 1) for kind in KINDS), ("sha256", 4)])
def test_the_first_bytes_stay_until_the_others_are_accepted(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path, kind: str, workers: int
) -> None:
    told = KINDS[kind]
    offer(upstream, told, FIRST)
    config = configured(tmp_path, upstream.simple_url, "retries = 0")
    running = server("--config", config, "--page-ttl", "0s", workers=workers, is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    assert len(filenames(page(running, "demo"))) == 2
    for filename, spec in ((FIRST.filename, FIRST), (OTHER.filename, OTHER)):
        assert running.get(f"/simple/demo/{filename}").body == spec.body

    second = LONGER if kind == "size alone" else SECOND
    offer(upstream, told, second)
    shows = bool(told.digest) or (told.form == "json" and told.has_size)
    for _ in range(8):
        entry = shown(running)
        assert entry["hashes"] == {"sha256": sha256_of(FIRST.body)}
        assert entry["size"] == len(FIRST.body)
        assert running.get(TARGET).body == FIRST.body
    # counted and logged once per change, whatever the number of requests and workers
    assert alarms(running, "changed-file") == shows
    changed = lines(running, "ERROR", "changed the bytes of")
    assert len(changed) == shows
    assert all(f"`proxyindex cache accept demo {FIRST.filename}`" in line for line in changed)

    forget_bytes(running, FIRST)
    assert download(running) in (None, 502, 503), "other bytes are not taken for the first"
    assert alarms(running, "digest-mismatch") == 1

    done = accept(running, "demo", *([] if shows else [FIRST.filename]))
    assert (done.returncode, done.stderr) == (0, "")
    assert FIRST.filename in done.stdout
    other = running.cache_dir / "blobs" / sha256_of(OTHER.body)[:2] / sha256_of(OTHER.body)
    assert other.exists(), "other files stay"
    for _ in range(8):
        assert running.get(TARGET).body == second.body
    assert alarms(running, "changed-file") == shows


def test_there_is_nothing_to_accept_where_nothing_changed(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    offer(upstream, Told(), FIRST)
    running = server(upstream=upstream)
    assert running.get(TARGET).body == FIRST.body
    done = accept(running, "demo", FIRST.filename)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing to accept" in done.stderr
    assert running.get(TARGET).body == FIRST.body


def revalidate(running: ProxyIndex, upstream: FakeUpstream) -> None:
    asked = partial(page, running, "demo", Cache_Control="no-cache")
    wait_until(lambda: asked() and upstream.count("/simple/demo/") > 1, "the page is revalidated")


def test_a_page_renewed_amid_a_download_tells_what_was_stored(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    offer(upstream, Told(), FIRST)
    upstream.script(FIRST.path, Reply(body=FIRST.body, hold_at=9_000))
    running = server(upstream=upstream)
    with running.connect() as loading, running.connect() as looking:  # kept: by the express way

        def shown(**headers: str) -> str:
            told = looking.request("/simple/demo/", JSON | headers).json()["files"]
            return next(f["hashes"]["sha256"] for f in told if f["url"].endswith(".whl"))

        answer = loading.request(TARGET)
        upstream.wait_held()
        upstream.script("/simple/demo/", json_reply("demo", SECOND))
        renewed = partial(shown, **{"Cache-Control": "no-cache"})
        wait_until(lambda: renewed() == sha256_of(SECOND.body), "the page is renewed")
        assert shown() == sha256_of(SECOND.body)
        upstream.release()
        assert answer.read() == FIRST.body
        assert shown() == sha256_of(FIRST.body)


def test_offline_a_changed_file_that_is_gone_takes_no_other_from_the_page(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    offer(upstream, Told(), FIRST)
    running = server(upstream=upstream)
    for spec in (FIRST, OTHER):
        assert running.get(f"/simple/demo/{spec.filename}").body == spec.body
    offer(upstream, Told(), SECOND)
    revalidate(running, upstream)
    running.stop()
    forget_bytes(running, FIRST)
    running.restart("--offline")
    assert filenames(page(running, "demo")) == [OTHER.filename]


def test_first_bytes_that_another_upstream_brought_stay_as_well(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    config = tmp_path / "proxyindex.toml"
    mirrors = [f'[[upstream]]\nname = "{one}"\nurl = "{upstream.url}/{one}"\n' for one in "ab"]
    indexes = [f'[index.by-{one}]\nupstreams = ["{one}"]\n' for one in "ab"]
    config.write_text("".join([*mirrors, *indexes]))
    for one in "ab":
        upstream.script(f"/{one}/demo/", json_reply("demo", FIRST))
    upstream.file(FIRST)
    running = server("--config", config, "--page-ttl", "0s", is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    for one in "ab":
        assert running.get(f"/by-{one}{TARGET}").body == FIRST.body
    assert upstream.count(FIRST.path) == 1

    upstream.script("/b/demo/", json_reply("demo", SECOND))
    upstream.file(SECOND)
    asked = partial(running.get, "/by-b/simple/demo/", JSON)
    wait_until(lambda: asked() and alarms(running, "changed-file"), "the change is seen")
    assert asked().json()["files"][0]["hashes"] == {"sha256": sha256_of(FIRST.body)}
    assert running.get(f"/by-b{TARGET}").body == FIRST.body


METADATA = TARGET + ".metadata"
NEEDY = wheel_spec("demo", "1.0", requires_dist=("other",))


@pytest.mark.parametrize("promise", [True, False, {"sha256": sha256_of(NEEDY.metadata)}])
def test_metadata_of_a_wheel_that_nobody_fetched_goes_with_that_wheel(
    server: ServerFactory, upstream: FakeUpstream, promise: Any
) -> None:
    told = Told(digest="md5" if promise is False else "sha256")
    offer(upstream, told, replace(FIRST, core_metadata=False))
    running = server(upstream=upstream)
    assert running.get(METADATA).body == FIRST.metadata
    offer(upstream, told, replace(NEEDY, core_metadata=promise))
    revalidate(running, upstream)
    for _ in range(2):
        assert running.get(METADATA).body == NEEDY.metadata
        assert shown(running)["core-metadata"] in (True, {"sha256": sha256_of(NEEDY.metadata)})
    assert upstream.count(NEEDY.path + ".metadata") <= 1
    assert running.get(TARGET).body == NEEDY.body


@pytest.mark.parametrize("is_stored", [True, False])
def test_metadata_of_other_bytes_is_not_that_of_the_first(
    server: ServerFactory, upstream: FakeUpstream, *, is_stored: bool
) -> None:
    offer(upstream, Told(), FIRST)
    running = server(upstream=upstream)
    assert running.get(TARGET).body == FIRST.body
    offer(upstream, Told(), NEEDY)
    revalidate(running, upstream)
    assert shown(running)["core-metadata"] is True
    if is_stored:
        assert running.get(METADATA).body == FIRST.metadata
        assert shown(running)["core-metadata"] == {"sha256": sha256_of(FIRST.metadata)}
        assert running.get(TARGET).body == FIRST.body
    else:
        forget_bytes(running, FIRST)
        assert running.get(METADATA).status == 502


def test_first_bytes_that_are_gone_are_asked_for_where_they_came_from(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    offer(upstream, Told(), FIRST)
    running = server(upstream=upstream)
    assert running.get(TARGET).body == FIRST.body
    elsewhere = replace(NEEDY, url=f"/again/{NEEDY.filename}")
    upstream.script("/simple/demo/", json_reply("demo", elsewhere))
    revalidate(running, upstream)
    forget_bytes(running, FIRST)
    assert running.get(METADATA).body == FIRST.metadata
    assert running.get(TARGET).body == FIRST.body


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_accepted_is_on_the_page_at_once(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    """Also where the page is remembered: for installers it would be a wrong digest."""
    offer(upstream, Told(), FIRST)
    running = server(upstream=upstream, workers=workers)
    with ExitStack() as stack:
        kept = [running.connect() for _ in range(4)]
        for connection in kept:
            stack.callback(connection.close)

        def digests() -> set[str]:
            pages = [each.request("/simple/demo/", JSON).json() for each in kept for _ in range(2)]
            files = [file for each in pages for file in each["files"]]
            return {f["hashes"]["sha256"] for f in files if f["url"].endswith(".whl")}

        assert digests() == {sha256_of(FIRST.body)}
        assert running.get(TARGET).body == FIRST.body
        offer(upstream, Told(), SECOND)
        revalidate(running, upstream)
        assert digests() == {sha256_of(FIRST.body)}
        assert accept(running, "demo").returncode == 0
        assert digests() == {sha256_of(SECOND.body)}
        assert running.get(TARGET).body == SECOND.body
