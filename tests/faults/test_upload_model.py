"""Random changes of two indexes, restarts and kills leave exactly what a plain model says.

Kills strike a change at a chosen step; it is there as a whole then, or not at all.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support import http
from tests.support.builders import make_sdist, make_wheel, sdist_name, wheel_name
from tests.support.fixtures import start_server
from tests.support.hermetic import wait_until
from tests.support.pages import JSON_TYPE
from tests.support.stores import sha256
from tests.support.uploads import two_indexes, upload_form

INDEXES, VOLATILE = ("dev", "prod"), "dev"
PROJECT = "px-model"
VERSIONS = ("1.0", "2.0")
# a wheel per version, each in two forms of its bytes, and one sdist
FILES: dict[tuple[str, str, int], tuple[str, bytes]] = {
    **{
        (version, "wheel", kind): (
            wheel_name(PROJECT, version),
            make_wheel(PROJECT, version, payload=1000 * (kind + 1)),
        )
        for version in VERSIONS
        for kind in range(2)
    },
    ("1.0", "sdist", 0): (sdist_name(PROJECT), make_sdist(PROJECT)),
}
NAMES = {filename for filename, _ in FILES.values()}
HOOK = Path(__file__).parents[1] / "support" / "killing.py"
INDEX = strategies.sampled_from(INDEXES)
KEY = strategies.sampled_from(list(FILES))
VERSION = strategies.sampled_from(VERSIONS)
REASON = strategies.sampled_from(["broken", "", None])
State = dict[str, tuple[str, str | None]]  # file name → sha256, reason of a yank


class Model:
    """One index as it should be."""

    def __init__(self, *, is_volatile: bool) -> None:
        self.is_volatile = is_volatile
        self.files: State = {}
        self.deleted: set[str] = set()

    def put(self, filename: str, digest: str, yanked: str | None = None) -> int:
        """The status of an upload or push."""
        if (status := self.verdict(filename, digest)) == 200 and not self.has(filename, digest):
            self.files[filename] = (digest, yanked)
            self.deleted.discard(filename)
        return status

    def has(self, filename: str, digest: str) -> bool:
        return filename in self.files and self.files[filename][0] == digest

    def verdict(self, filename: str, digest: str) -> int:
        if self.has(filename, digest) or self.is_volatile:
            return 200
        if filename in self.files:
            return 409
        return 400 if filename in self.deleted else 200

    def drop(self, version: str) -> int:
        gone = [name for name in self.files if f"-{version}" in name]
        for name in gone:
            del self.files[name]
        self.deleted.update(gone)
        return 200 if gone else 404


def expected(models: dict[str, Model]) -> dict[str, State]:
    """What the pages of all indexes say."""
    prod = models["prod"].files
    return {"prod": prod, "dev": {**prod, **models["dev"].files}}


class Unanswered(Exception):
    """The process was killed amid a change."""


class Indexes(RuleBasedStateMachine):
    """`dev` may be overwritten and inherits from `prod`, which may not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        home = Path(self.folder.name, "home")
        self.order = Path(self.folder.name, "order")
        self.shelves = [home / name for name in INDEXES]
        self.server = start_server(home / "server", "--config", two_indexes(home), workers=2)
        self.server.hook = HOOK
        self.server.env |= {"TEST_KILL_BELOW": f"{home}/", "TEST_KILL_ORDER": str(self.order)}
        self.server.start()
        self.models = {name: Model(is_volatile=name == VOLATILE) for name in INDEXES}

    def teardown(self) -> None:
        self.server.kill()
        self.folder.cleanup()

    @rule(index=INDEX, key=KEY)
    def upload(self, index: str, key: tuple[str, str, int]) -> None:
        filename, content = FILES[key]
        form = upload_form(filename, content, name=PROJECT)
        expected = self.models[index].put(filename, sha256(content))
        assert self.status(lambda: form.post(self.server, f"/{index}/legacy/")) == expected

    @rule(index=INDEX, version=VERSION)
    def delete(self, index: str, version: str) -> None:
        expected = self.models[index].drop(version)
        target = f"/{index}/api/projects/{PROJECT}/{version}"
        assert self.status(lambda: self.server.get(target, method="DELETE")) == expected

    @rule(index=INDEX, key=KEY)
    def bring_back(self, index: str, key: tuple[str, str, int]) -> None:
        """Chance alone would rarely do this."""
        self.upload(index, key)
        self.delete(index, key[0])
        self.upload(index, key)

    @rule(index=INDEX, version=VERSION, reason=REASON)
    def yank(self, index: str, version: str, reason: str | None) -> None:
        files = self.models[index].files
        meant = [name for name in files if f"-{version}" in name]
        for name in meant:
            files[name] = (files[name][0], reason)
        target = f"/{index}/api/projects/{PROJECT}/{version}/yank"
        body = b"" if reason is None else json.dumps({"reason": reason}).encode()
        method = "DELETE" if reason is None else "POST"
        status = self.status(lambda: self.server.get(target, method=method, body=body))
        assert status == (200 if meant else 404)

    @rule(version=VERSION, is_up=strategies.booleans())
    def push(self, version: str, is_up: bool) -> None:
        source, target = INDEXES if is_up else INDEXES[::-1]
        meant = {n: one for n, one in self.models[source].files.items() if f"-{version}" in n}
        model = self.models[target]
        verdicts = {model.verdict(name, digest) for name, (digest, _) in meant.items()}
        if verdicts == {200}:
            for name, (digest, yanked) in meant.items():
                model.put(name, digest, yanked)
        body = json.dumps({"project": PROJECT, "version": version, "to": target}).encode()
        path = f"/{source}/api/push"
        status = self.status(lambda: self.server.get(path, method="POST", body=body))
        if not meant:
            assert status == 404
        else:
            assert status in (verdicts - {200} or {200})

    def status(self, send: Callable[[], http.Response]) -> int:
        """Of the answer. Raises `Unanswered`."""
        with suppress(OSError, http.NoAnswerError, http.ShortBodyError):
            return send().status
        raise Unanswered

    @rule()
    def restart(self) -> None:
        self.server.restart()

    @rule(
        change=strategies.sampled_from(["upload", "delete", "yank", "push"]),
        step=strategies.integers(1, 25),
        **{"index": INDEX, "key": KEY, "reason": REASON, "is_all": strategies.booleans()},
    )
    def kill_amid_a_change(
        self,
        change: str,
        step: int,
        index: str,
        key: tuple[str, str, int],
        reason: str | None,
        is_all: bool,
    ) -> None:
        acts: dict[str, Callable[[], None]] = {
            "upload": lambda: self.upload(index, key),
            "delete": lambda: self.delete(index, key[0]),
            "yank": lambda: self.yank(index, key[0], reason),
            "push": lambda: self.push(key[0], index == "dev"),
        }
        before = copy.deepcopy(self.models)
        self.order.write_text(str(step))
        try:
            acts[change]()
        except Unanswered:
            self.recover(before, acts[change], is_all=is_all)
        finally:
            self.order.unlink(missing_ok=True)

    def recover(self, before: dict[str, Model], again: Callable[[], None], *, is_all: bool) -> None:
        """Either of two states is right, and the one that is stays."""
        if is_all:
            self.server.kill()
            self.server.start()
        wait_until(self.is_swept, "the sweep")
        after, pages = self.models, {name: self.seen(name) for name in INDEXES}
        assert pages in (expected(before), expected(after))
        if pages == expected(before):
            self.models = before
        if expected(before) == expected(after):  # the pages do not tell
            self.models = before if self.is_on_shelves(before) else after
            again()

    def is_on_shelves(self, models: dict[str, Model]) -> bool:
        """Whether each folder has the files that it should have."""
        return all(
            {path.name for path in own.glob(f"{PROJECT}/**/*") if path.name in NAMES}
            == set(models[name].files)
            for name, own in zip(INDEXES, self.shelves, strict=True)
        )

    def is_swept(self) -> bool:
        return not any(path.is_dir() for own in self.shelves for path in own.glob(".incoming/*"))

    @invariant()
    def the_pages_say_what_the_model_says(self) -> None:
        assert {name: self.seen(name) for name in INDEXES} == expected(self.models)

    def seen(self, index: str) -> State:
        page = self.server.get(f"/{index}/simple/{PROJECT}/", {"Accept": JSON_TYPE})
        if page.status == 404:
            return {}
        assert page.status == 200, page.text
        found: State = {}
        for entry in page.json()["files"]:
            served = self.server.get(f"/{index}/simple/{PROJECT}/{entry['filename']}")
            assert sha256(served.body) == entry["hashes"]["sha256"]
            reason = {True: "", False: None}.get(entry["yanked"], entry["yanked"])
            found[entry["filename"]] = (entry["hashes"]["sha256"], reason)
        return found


@pytest.mark.timeout(400)
def test_random_changes_restarts_and_kills_leave_what_a_plain_model_says() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Indexes,
        settings=settings(
            max_examples=4,
            stateful_step_count=25,
            phases=[Phase.generate],  # shrinking would take very long
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
