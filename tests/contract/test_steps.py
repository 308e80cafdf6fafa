"""What a change of several names promises, whoever carries it out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from packaging.utils import NormalizedName

from proxyindex.store.locks import Locks
from proxyindex.uploads.shelf import Shelf
from proxyindex.uploads.stage import INCOMING, LOCKS
from proxyindex.uploads.steps import Step, carry_out, finish
from tests.support.hermetic import wait_until
from tests.support.stores import child, kill, line

DEMO = NormalizedName("demo")
STEPS = [Step("demo/old"), Step("demo/new", "new"), Step("demo/new.asc")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "own"
    (root / "demo").mkdir(parents=True)
    for name in ("old", "new.asc"):
        (root / "demo" / name).write_bytes(b"old")
    return root


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


@pytest.mark.parametrize("by", ["the next change", "a sweep"])
def test_what_was_decided_is_done_by_others(root: Path, by: str) -> None:
    left(root, msgspec.json.encode(STEPS))
    if by == "a sweep":
        assert Shelf(root).sweep() == 1
    else:
        finish(root, DEMO)
    assert names(root) == ["new"]
    assert not [path for path in (root / INCOMING).iterdir() if path.is_dir()]
    assert Shelf(root).sweep() == 0


def test_what_was_taken_is_not_taken_again(root: Path) -> None:
    decided = left(root, msgspec.json.encode([Step("demo/new"), Step("demo/new", "new")]))
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
        left(root, msgspec.json.encode(STEPS))
        assert shelf.sweep() == 0
    assert shelf.sweep() == 1
    assert names(root) == ["new"]


def test_where_nobody_can_lock_nothing_is_swept(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left(root, msgspec.json.encode(STEPS))
    (root / INCOMING / LOCKS).mkdir()
    assert Shelf(root).sweep() == 0
    assert names(root) == ["new.asc", "old"]
    assert "cannot be swept" in caplog.text


@pytest.mark.parametrize(
    "steps",
    [
        b"[",
        b'{"to": 1}',
        b'[{"to": "../outside"}]',
        b'[{"to": "/etc/x"}]',
        b'[{"to": "demo/x", "source": "../../../outside"}]',
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
