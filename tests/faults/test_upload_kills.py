"""Killed before each change it makes in our folder: the whole of an upload is there, or nothing.

Check 125 of docs/conformance.md. The process kills itself (SIGKILL) from an audit hook, so that no
step is missed and none is guessed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
from tests.support.uploads import UploadForm, upload_form

HOOK = Path(__file__).parents[1] / "support" / "killing"
OPEN = ("--upload", "*", "--delete", "*", "--yank", "*")
MOST_STEPS = 40
State = dict[str, str]  # file name → sha256 of what is served


def form(version: str = "1.0", payload: int = 0) -> UploadForm:
    content = make_wheel("px-kept", version, payload=payload)
    made = upload_form(wheel_name("px-kept", version), content, name="px-kept")
    made.tail = [("gpg_signature", b"-----BEGIN PGP", made.filename + ".asc")]
    return made


def delete(server: ProxyIndex) -> int:
    return server.get("/api/projects/px-kept", method="DELETE").status


def upload(server: ProxyIndex, version: str = "1.0", payload: int = 0) -> int:
    return form(version, payload).post(server).status


# what is there before, and the change that is interrupted
CHANGES: dict[str, tuple[list[str], Callable[[ProxyIndex], int]]] = {
    "a first file": ([], upload),
    "another file": (["2.0"], upload),
    "other bytes": (["1.0"], lambda server: upload(server, payload=500)),
    "a deletion": (["1.0"], delete),
}


def state(server: ProxyIndex) -> State:
    """What the page lists, each file fetched and found to be what the page says."""
    page = server.get("/simple/px-kept/", {"Accept": JSON_TYPE})
    if page.status == 404:
        return {}
    assert page.status == 200, page.text
    found = {}
    for entry in page.json()["files"]:
        served = server.get(f"/simple/px-kept/{entry['filename']}")
        assert served.status == 200
        assert sha256(served.body) == entry["hashes"]["sha256"]
        assert entry["size"] == len(served.body)
        assert entry["core-metadata"]
        found[entry["filename"]] = entry["hashes"]["sha256"]
    return found


@pytest.mark.timeout(400)  # some thirty starts of a server
@pytest.mark.parametrize(
    ("change", "workers"), [*[(change, 1) for change in CHANGES], ("another file", 4)]
)
def test_125_a_change_killed_at_any_step_is_whole_or_nothing(
    server: ServerFactory, tmp_path: Path, change: str, workers: int
) -> None:
    present, act = CHANGES[change]
    template = tmp_path / "before"
    template.mkdir()
    with server(template, *OPEN, is_started=False) as running:
        for version in present:
            assert upload(running, version) == 200
        before = state(running)
    steps = 0
    for steps in range(1, MOST_STEPS):
        own = tmp_path / f"own-{steps}"
        shutil.copytree(template, own)
        running = server(own, *OPEN, "--overwrite", is_started=False, workers=workers)
        running.env |= {"PYTHONPATH": str(HOOK)}
        running.env |= {"TEST_KILL_BELOW": str(own), "TEST_KILL_AT": str(steps)}
        with running:
            status = attempt(running, act)
            seen = state(running) if running.is_running and workers > 1 else None
        del running.env["TEST_KILL_AT"]
        with running:
            after = state(running)
            if seen is not None:
                assert after == seen, "what was seen once stays"
            assert act(running) in (200, 404)
            done = state(running)
            assert after in (before, done), f"step {steps}"
            wait_until(lambda own=own: not stages(own), "the sweep")
        if status == 200:
            assert after == done
            break
    assert 5 < steps < MOST_STEPS - 1


def attempt(server: ProxyIndex, act: Callable[[ProxyIndex], int]) -> int | None:
    """The status of the answer, `None` if the process was killed."""
    with suppress(OSError, http.NoAnswerError, http.ShortBodyError):
        return act(server)
    return None


def stages(own: Path) -> list[Path]:
    return [path for path in (own / ".incoming").glob("*") if path.is_dir()]
