"""Changes of several names, done whole: written down, then carried out, if need be by others.

    .incoming/<random>/         a stage, with what is to be moved
    .incoming/=<project>/       the same once it is decided; `.steps` says what goes where

Until the rename nothing has happened. After it the change will happen: where the process is killed,
the next change of the project or the next sweep goes on, and readers see for so long what they see
while a change is carried out: some of its names changed.

All of it blocks, and `OSError` passes through.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec
from packaging.utils import NormalizedName

from proxyindex.disk import sync_folder
from proxyindex.store.locks import Locks
from proxyindex.uploads.stage import INCOMING, Stage, make_incoming, stages

log = logging.getLogger(__name__)

_DECIDED = "="  # no random name of a stage begins so, nor any project's
_STEPS = ".steps"


class Step(msgspec.Struct, frozen=True):
    """What lies at `to`, relative to the index's folder, becomes what the stage calls `source`;
    without one it goes."""

    to: str
    source: str | None = None


def carry_out(stage: Stage, root: Path, project: NormalizedName, steps: Sequence[Step]) -> None:
    """Take all steps, or none. To be called by who holds the project's lock.

    Raises `OSError`: then none was taken, or the rest will be.
    """
    stage.put(_STEPS, msgspec.json.encode(steps))
    stage.sync()
    decided = _decided(root, project)
    os.rename(stage.path, decided)
    sync_folder(decided.parent)
    _go_on(root, decided)


def finish(root: Path, project: NormalizedName) -> None:
    """Carry out what was decided and left. To be called by who holds the project's lock."""
    decided = _decided(root, project)
    if decided.exists():
        _go_on(root, decided)


def lock_of(project: str) -> str:
    """Names the lock of the project."""
    return f"project {project}"


def sweep(root: Path, locks: Locks) -> int:
    """Finish or remove what killed processes have left below `root`; the number of changes.

    `locks` are those of `root`: nobody is at work on what is not locked.
    """
    found = stages(root)
    try:
        if found:
            make_incoming(root)  # with the file of locks, without which nobody can tell
        return sum(_end(root, path, locks) for path in found)
    except OSError as problem:
        log.warning("what was left in %r cannot be swept: %s", str(root), problem)
        return 0


def _end(root: Path, path: Path, locks: Locks) -> bool:
    is_decided = path.name.startswith(_DECIDED)
    key = lock_of(path.name.removeprefix(_DECIDED)) if is_decided else path.name
    if not locks.try_acquire(key):
        return False
    try:
        if is_decided:
            if path.exists():  # who had the lock may have finished it
                _go_on(root, path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    except OSError as problem:  # who changes the project next is told
        log.warning("a change of %r cannot be finished: %s", path.name[1:], problem)
        return False
    finally:
        locks.release(key)
    return True


def _decided(root: Path, project: NormalizedName) -> Path:
    return root / INCOMING / f"{_DECIDED}{project}"


def _go_on(root: Path, decided: Path) -> None:
    """Take the steps that are left."""
    steps = _read(decided)
    for step in _left(decided, steps):
        target = root / step.to
        if step.source is None:
            target.unlink(missing_ok=True)
        else:
            os.makedirs(target.parent, exist_ok=True)
            os.replace(decided / step.source, target)
    for folder in {(root / step.to).parent for step in steps}:
        with suppress(FileNotFoundError):
            sync_folder(folder)
        if folder not in (root, root / decided.name.removeprefix(_DECIDED)):
            with suppress(OSError):  # others lie in it
                folder.rmdir()
    shutil.rmtree(decided, ignore_errors=True)


def _left(decided: Path, steps: Sequence[Step]) -> Sequence[Step]:
    """All behind the last one that was surely taken: removing may be repeated until something has
    come into that place."""
    is_taken = [
        step.source is not None and not os.path.lexists(decided / step.source) for step in steps
    ]
    return steps[len(steps) - is_taken[::-1].index(True) :] if True in is_taken else steps


def _read(decided: Path) -> list[Step]:
    try:
        steps = msgspec.json.decode((decided / _STEPS).read_bytes(), type=list[Step])
    except FileNotFoundError:  # all were taken
        return []
    except msgspec.MsgspecError as problem:
        log.error("a change of %r is lost, its steps are damaged: %s", decided.name[1:], problem)
        return []
    names = [PurePosixPath(name) for step in steps for name in (step.to, step.source or "")]
    if any(name.is_absolute() or ".." in name.parts for name in names):
        log.error("a change of %r is refused: it leads out of the folder", decided.name[1:])
        return []
    return steps
