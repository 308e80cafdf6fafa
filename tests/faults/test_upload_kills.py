"""Killed before each step of a change in our folder: all of the change is there, or nothing.

Check 125 of docs/conformance.md. The process kills itself (SIGKILL) from an audit hook, so that no
step is missed and none is guessed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import http
from tests.support.builders import make_wheel, wheel_name
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import JSON_TYPE
from tests.support.server import ProxyIndex
from tests.support.stores import sha256
from tests.support.uploads import upload_form

HOOK = Path(__file__).parents[1] / "support" / "killing.py"
CONFIG = """
default-index = "own"
[index.own]
folders = ["{home}/own"]
overwrite = true
upload = ["*"]
delete = ["*"]
yank = ["*"]
[index.stock]
folders = ["{home}/stock"]
upload = ["*"]
yank = ["*"]
"""
PROJECT = "px-kept"
TAGS = ("py3-none-any", "py2.py3-none-any")
MOST_STEPS = 60
WITH_FRACTION = re.compile(r"\.\d*[1-9]\d*Z\Z")  # of a second: only a record has it
State = Mapping[str, tuple[str, str | bool]]  # file name → sha256 of what is served, yanked?


def upload(
    server: ProxyIndex,
    version: str = "1.0",
    *,
    tag: str = TAGS[0],
    payload: int = 0,
    target: str = "/legacy/",
) -> int:
    content = make_wheel(PROJECT, version, payload=payload, extra={"px_tag.py": tag.encode()})
    form = upload_form(wheel_name(PROJECT, version, tag), content, name=PROJECT)
    form.tail = [("gpg_signature", b"-----BEGIN PGP", form.filename + ".asc")]
    return form.post(server, target).status


def other_bytes(server: ProxyIndex) -> int:
    return upload(server, payload=500)


def release(server: ProxyIndex, **options: str) -> int:
    return max(upload(server, tag=tag, **options) for tag in TAGS)  # type: ignore[arg-type]


def delete(server: ProxyIndex) -> int:
    return server.get(f"/api/projects/{PROJECT}/1.0", method="DELETE").status


def yank(server: ProxyIndex, index: str = "") -> int:
    body = json.dumps({"reason": "broken"}).encode()
    target = f"{index}/api/projects/{PROJECT}/1.0/yank"
    return server.get(target, method="POST", body=body).status


def push(server: ProxyIndex) -> int:
    body = json.dumps({"project": PROJECT, "version": "1.0", "to": "own"}).encode()
    return server.get("/stock/api/push", method="POST", body=body).status


Act = Callable[[ProxyIndex], int]
TWO = (upload, lambda server: upload(server, "2.0"))
# what is there before, the change that is interrupted, whether it is one step (nothing to finish)
CHANGES: dict[str, tuple[tuple[Act, ...], Act, bool]] = {
    "a first file": ((), upload, True),
    "another file": ((TWO[1],), upload, True),
    "other bytes": ((upload,), other_bytes, False),
    "a deletion": ((release, TWO[1]), delete, False),
    "a yank": ((release, TWO[1]), yank, False),
    "a first push": ((), push, True),
    "a push": ((TWO[1],), push, True),
    "a push over others": ((other_bytes, TWO[1]), push, False),
}
BY_FOUR = ("another file", "a push over others")  # mended by another worker: the same code for each


class Site:
    """A server with two indexes, ours and a stock, that is killed at the steps it is told."""

    def __init__(self, home: Path, server: ServerFactory, workers: int) -> None:
        self.own, self._template = home / "own", home / "template"
        for folder in (self.own, home / "stock", self._template):
            folder.mkdir()
        config = home / "proxyindex.toml"
        config.write_text(CONFIG.format(home=home))
        self._order = home / "order"
        self.server = server("--config", config, is_started=False, workers=workers)
        self.server.hook = HOOK
        self.server.env |= {"TEST_KILL_BELOW": str(self.own), "TEST_KILL_ORDER": str(self._order)}
        self.server.start()

    def prepare(self, acts: tuple[Act, ...]) -> None:
        assert release(self.server, target="/stock/legacy/") == 200
        assert yank(self.server, "/stock") == 200
        assert all(act(self.server) == 200 for act in acts)
        if acts:
            shutil.copytree(self.own / PROJECT, self._template / PROJECT)

    def reset(self) -> None:
        """Put back what was there; the server runs on, as folders are what they are."""
        shutil.rmtree(self.own / PROJECT, ignore_errors=True)
        shutil.copytree(self._template, self.own, dirs_exist_ok=True)

    def attempt(self, act: Act, step: int) -> int | None:
        """The status of the answer, `None` if the process was killed."""
        self._order.write_text(str(step))
        try:
            with suppress(OSError, http.NoAnswerError, http.ShortBodyError):
                return act(self.server)
            wait_until(lambda: not self._order.exists(), "the kill")
            return None
        finally:
            self._order.unlink(missing_ok=True)

    def state(self) -> State:
        """What the page lists, each file fetched and found to be what the page says."""
        page = self.server.get(f"/simple/{PROJECT}/", {"Accept": JSON_TYPE})
        if page.status == 404:
            return {}
        assert page.status == 200, page.text
        found = {}
        for entry in page.json()["files"]:
            served = self.server.get(f"/simple/{PROJECT}/{entry['filename']}")
            assert served.status == 200
            assert sha256(served.body) == entry["hashes"]["sha256"]
            assert entry["size"] == len(served.body)
            assert entry["core-metadata"]
            assert WITH_FRACTION.search(entry["upload-time"]), "its record is missing"
            found[entry["filename"]] = (entry["hashes"]["sha256"], entry["yanked"])
        return found

    def signed(self) -> set[str]:
        """The files that came with a signature and have it."""
        page = self.server.get(f"/simple/{PROJECT}/", {"Accept": JSON_TYPE})
        files = page.json()["files"] if page.status == 200 else []
        return {entry["filename"] for entry in files if entry.get("gpg-sig")}

    def is_swept(self) -> bool:
        return not any(path.is_dir() for path in (self.own / ".incoming").glob("*"))


@pytest.mark.timeout(400)  # some twenty starts of a server
@pytest.mark.parametrize(
    ("change", "workers"),
    [*[(change, 1) for change in CHANGES], *[(change, 4) for change in BY_FOUR]],
)
def test_125_a_change_killed_at_any_step_is_whole_or_nothing(
    server: ServerFactory, tmp_path: Path, change: str, workers: int
) -> None:
    present, act, is_one_step = CHANGES[change]
    site = Site(tmp_path, server, workers)
    site.prepare(present)
    site.reset()
    before, step = site.state(), 0
    for step in range(1, MOST_STEPS):
        site.reset()
        status = site.attempt(act, step)
        if status is None and workers == 1:
            site.server.kill()
            site.server.start()
        elif step % workers == 0:  # who dies again and again is started ever later
            site.server.restart()
        seen = site.state()
        wait_until(site.is_swept, "the sweep")
        after = site.state()
        assert site.signed() == set(after)
        assert act(site.server) in (200, 404)
        done = site.state()
        assert after in (before, done), f"step {step}"
        assert not is_one_step or seen == after, f"step {step}: what was seen once stays"
        for name in {*seen, *before, *done}:
            assert seen.get(name) in (before.get(name), done.get(name)), f"step {step}"
        if status is not None:
            assert status == 200
            assert after == done != before
            break
    assert 5 < step < MOST_STEPS - 1
