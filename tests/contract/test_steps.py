"""What a change of several names promises, whoever carries it out."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import msgspec
import pytest
from packaging.utils import NormalizedName

from proxyindex.audit import Change
from proxyindex.store.locks import Locks
from proxyindex.uploads.shelf import Shelf
from proxyindex.uploads.stage import INCOMING, LOCKS
from proxyindex.uploads.steps import Step, carry_out, finish
from tests.support.hermetic import wait_until
from tests.support.stores import child, kill, line
from tests.support.stores import finish as done

DEMO = NormalizedName("demo")
STEPS = [Step("demo/old"), Step("demo/new", "new"), Step("demo/new.asc")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "own"
    (root / "demo").mkdir(parents=True)
    for name in ("old", "new.asc"):
        (root / "demo" / name).write_bytes(b"old")
    return root


def noted(*steps: Step, **about: object) -> bytes:
    """The steps as they are written down."""
    return msgspec.json.encode({"steps": steps or STEPS, **about})


def left(root: Path, steps: bytes) -> Path:
    """A decided change whose process was killed right behind the rename."""
    decided = root / INCOMING / "=demo"
    decided.mkdir(parents=True, exist_ok=True)
    (decided / "new").write_bytes(b"new")
    (decided / ".steps").write_bytes(steps)
    return decided


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "demo").iterdir())


def test_all_steps_are_taken_and_nothing_is_left(root: Path) -> None:
    with Shelf(root).staged() as stage:
        stage.put("new", b"new")
        carry_out(stage, root, DEMO, STEPS)
    assert names(root) == ["new"]
    assert [path.name for path in (root / INCOMING).iterdir()] == [LOCKS]


def test_paths_need_not_be_utf_8(root: Path) -> None:
    """Folders may be as old as they like; their files are served, too."""
    odd = os.fsdecode(b"demo/d\xe9")
    (root / odd).mkdir()
    (root / odd / "old").write_bytes(b"old")
    steps = [Step(f"{odd}/new", "new"), Step(f"{odd}/old")]
    with Shelf(root).staged() as stage:
        stage.put("new", b"new")
        carry_out(stage, root, DEMO, steps)
    assert [path.name for path in (root / odd).iterdir()] == ["new"]
    left(root, json.dumps({"steps": [{"to": f"{odd}/new"}]}).encode())
    finish(root, DEMO)
    assert not (root / odd).exists()


@pytest.mark.parametrize("by", ["the next change", "a sweep"])
def test_what_was_decided_is_done_by_others(root: Path, by: str) -> None:
    left(root, noted())
    if by == "a sweep":
        assert Shelf(root).sweep() == 1
    else:
        finish(root, DEMO)
    assert names(root) == ["new"]
    assert not [path for path in (root / INCOMING).iterdir() if path.is_dir()]
    assert Shelf(root).sweep() == 0


def test_what_was_taken_is_not_taken_again(root: Path) -> None:
    decided = left(root, noted(Step("demo/new"), Step("demo/new", "new")))
    (decided / "new").rename(root / "demo" / "new")
    finish(root, DEMO)
    assert (root / "demo" / "new").read_bytes() == b"new"


HOLDER = """
    import sys
    from pathlib import Path
    from proxyindex.uploads.shelf import Shelf
    stage = Shelf(Path(sys.argv[1])).stage()
    stage.put("new", b"new")
    print(stage.path.name, flush=True)
    sys.stdin.readline()
"""


def test_a_change_under_way_is_left_to_its_process(root: Path) -> None:
    shelf = Shelf(root)
    stage = shelf.stage()
    stage.put("new", b"new")
    assert shelf.sweep() == 0
    other = child(HOLDER, root)
    name = line(other)
    assert shelf.sweep() == 0
    assert (stage.path / "new").exists()
    assert (root / INCOMING / name / "new").exists()
    kill(other)
    assert wait_until(shelf.sweep, "the lock of the dead") == 1
    assert not (root / INCOMING / name).exists()
    stage.discard()


def test_a_stage_is_locked_by_a_regular_file(root: Path) -> None:
    """Linux's NFS keeps locks of such apart for all machines, and of folders for none."""
    other = child(HOLDER, root)
    name = line(other)
    assert not Locks(root / INCOMING / LOCKS, is_strict=True).try_acquire(name)
    kill(other)


async def test_a_decided_change_is_left_to_who_has_the_project(root: Path) -> None:
    shelf = Shelf(root)
    async with shelf.locked(DEMO):
        left(root, noted())
        assert shelf.sweep() == 0
    assert shelf.sweep() == 1
    assert names(root) == ["new"]


def test_where_nobody_can_lock_nothing_is_swept(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left(root, noted())
    (root / INCOMING / LOCKS).mkdir()
    assert Shelf(root).sweep() == 0
    assert names(root) == ["new.asc", "old"]
    assert "cannot be swept" in caplog.text


@pytest.mark.parametrize(
    "steps",
    [
        b"{",
        b"\xff",
        b"[" * 10**5,
        b'{"steps": [{"to": 1}]}',
        noted(Step("../outside")),
        noted(Step("/etc/x")),
        noted(Step("demo/x", "../../../outside")),
        noted(by={"action": "delete done user=root", "user": "", "client": "", "index": ""}),
    ],
)
def test_steps_that_lead_out_or_are_damaged_are_not_taken(
    root: Path, steps: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    outside = root.parent / "outside"
    outside.write_bytes(b"mine")
    left(root, steps)
    finish(root, DEMO)
    assert outside.read_bytes() == b"mine"
    assert names(root) == ["new.asc", "old"]
    assert not list((root / INCOMING).iterdir())
    assert "demo" in caplog.text


def test_what_cannot_be_done_is_not_decided(root: Path) -> None:
    (root / "demo" / "new").mkdir()
    shelf = Shelf(root)
    with shelf.staged() as stage:
        stage.put("new", b"new")
        with pytest.raises(IsADirectoryError):
            carry_out(stage, root, DEMO, STEPS)
    assert names(root) == ["new", "new.asc", "old"]
    assert [path.name for path in (root / INCOMING).iterdir()] == [LOCKS]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no other file system")
def test_nothing_is_decided_that_leads_to_another_file_system(root: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == os.stat(root).st_dev:
            pytest.skip("no other file system")
        (root / "old").symlink_to(elsewhere)
        steps = [Step("demo/old"), Step("old/new", "new")]
        with Shelf(root).staged() as stage:
            stage.put("new", b"new")
            with pytest.raises(OSError, match="cross-device"):
                carry_out(stage, root, DEMO, steps)
        assert names(root) == ["new.asc", "old"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("mode", [0o555, 0o500])
def test_nothing_is_decided_that_is_not_allowed(root: Path, mode: int) -> None:
    (root / "closed").mkdir()
    (root / "closed" / "file").touch()
    (root / "closed").chmod(mode)
    with Shelf(root).staged() as stage, pytest.raises(PermissionError):
        carry_out(stage, root, DEMO, [Step("demo/old"), Step("closed/file")])
    (root / "closed").chmod(0o700)
    assert names(root) == ["new.asc", "old"]


BEGINNINGS = [(), (Step("demo/.deleted", ".deleted"),)]


@pytest.mark.parametrize("before", BEGINNINGS, ids=["nothing", "what nobody sees"])
def test_a_change_whose_beginning_fails_is_given_up(root: Path, before: tuple[Step, ...]) -> None:
    (root / "demo" / "closed").mkdir()
    decided = left(root, noted(*before, Step("demo/closed"), Step("demo/new", "new")))
    (decided / ".deleted").touch()
    with pytest.raises(OSError, match="directory"):
        finish(root, DEMO)
    assert not list((root / INCOMING).iterdir())
    finish(root, DEMO)
    assert {"closed", "new.asc", "old"} == set(names(root)) - {".deleted"}


def test_a_change_that_was_begun_waits(root: Path) -> None:
    (root / "demo" / "closed").mkdir()
    decided = left(root, noted(Step("demo/new", "new"), Step("demo/closed"), Step("demo/old")))
    for _ in range(2):
        with pytest.raises(OSError, match="directory"):
            finish(root, DEMO)
        assert decided.exists()
    (root / "demo" / "closed").rmdir()
    finish(root, DEMO)
    assert names(root) == ["new", "new.asc"]


def test_who_began_a_change_is_in_the_line_about_its_end(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "proxyindex.audit")
    by = Change("delete", "alice", "192.0.2.9", "prod", sudo="bob")
    left(root, noted(by=by, files=["old", "new"]))
    assert Shelf(root).sweep() == 1
    who = "user=alice client=192.0.2.9"
    assert caplog.messages == [f'delete finished {who} index=prod files="old new" sudo=bob']


STRANGER = """
    import asyncio, os, sys
    from pathlib import Path
    from proxyindex.uploads.shelf import Shelf
    from proxyindex.uploads.steps import Step, carry_out
    root = Path(sys.argv[1])
    shelf = Shelf(root)
    os.setuid(54321)  # who may not read our Python any more
    with shelf.staged() as stage:
        try:
            carry_out(stage, root, "demo", [Step("demo/own"), Step("demo/old")])
        except PermissionError as problem:
            print(problem.filename, flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_nothing_is_decided_about_what_belongs_to_others() -> None:
    """In a sticky folder everybody may write, and remove what is his."""
    with tempfile.TemporaryDirectory() as folder:  # others do not come into pytest's
        root = Path(folder)
        (root / "demo").mkdir()
        for name in ("old", "own"):
            (root / "demo" / name).touch()
        os.chown(root / "demo" / "own", 54321, 54321)
        (root / "demo").chmod(0o1777)
        root.chmod(0o777)
        assert done(child(STRANGER, root)).strip() == str(root / "demo" / "old")
        assert names(root) == ["old", "own"]
