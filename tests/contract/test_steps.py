"""What a change of several names promises, whoever carries it out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from packaging.utils import NormalizedName

from proxyindex.uploads.stage import INCOMING, LOCKS, Stage, staged
from proxyindex.uploads.steps import Step, carry_out, finish, sweep

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
    decided.mkdir(parents=True)
    (decided / "new").write_bytes(b"new")
    (decided / ".steps").write_bytes(steps)
    return decided


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "demo").iterdir())


def test_all_steps_are_taken_and_nothing_is_left(root: Path) -> None:
    with staged(root) as stage:
        stage.put("new", b"new")
        carry_out(stage, root, DEMO, STEPS)
    assert names(root) == ["new"]
    assert [path.name for path in (root / INCOMING).iterdir()] == [LOCKS]


@pytest.mark.parametrize("by", ["the next change", "a sweep"])
def test_what_was_decided_is_done_by_others(root: Path, by: str) -> None:
    left(root, msgspec.json.encode(STEPS))
    if by == "a sweep":
        assert sweep(root) == 1
    else:
        finish(root, DEMO)
    assert names(root) == ["new"]
    assert not list((root / INCOMING).iterdir())
    assert sweep(root) == 0


def test_what_was_taken_is_not_taken_again(root: Path) -> None:
    decided = left(root, msgspec.json.encode([Step("demo/new"), Step("demo/new", "new")]))
    (decided / "new").rename(root / "demo" / "new")
    finish(root, DEMO)
    assert (root / "demo" / "new").read_bytes() == b"new"


def test_a_change_under_way_is_left_to_its_process(root: Path) -> None:
    stage = Stage(root)
    stage.put("new", b"new")
    assert sweep(root) == 0
    assert (stage.path / "new").exists()
    stage.discard()


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
