"""Changes of several names, done whole: written down, then carried out, if need be by others.

    .incoming/<random>/         a stage, with what is to be moved
    .incoming/=<project>/       the same once it is decided; `.steps` says what goes where

Until the rename nothing has happened. After it the change will happen: where the process is killed,
the next change of the project or the next sweep goes on, and readers see for so long what they see
while a change is carried out: some of its names changed.

All of it blocks, and `OSError` passes through.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import msgspec
from packaging.utils import NormalizedName

from proxyindex.disk import sync_folder
from proxyindex.uploads.stage import INCOMING, Stage, stages

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
        with _alone(decided, fcntl.LOCK_EX) as is_left:
            if is_left:
                _go_on(root, decided)


def sweep(root: Path) -> int:
    """Finish or remove what killed processes have left below `root`; the number of changes."""
    return sum(_end(root, path) for path in stages(root))


def _end(root: Path, path: Path) -> bool:
    with _alone(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as is_left:
        if not is_left:
            return False
        if path.name.startswith(_DECIDED):
            try:
                _go_on(root, path)
            except OSError as problem:  # who changes the project next is told
                log.warning("a change of %r cannot be finished: %s", path.name[1:], problem)
                return False
        else:
            shutil.rmtree(path, ignore_errors=True)
        return True


@contextmanager
def _alone(path: Path, how: int) -> Iterator[bool]:
    """Holds the lock of a stage; whether it was had, and the stage is still there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, how)
            is_left = os.path.samestat(os.stat(path), os.fstat(fd))
        except OSError:
            is_left = False
        yield is_left
    finally:
        os.close(fd)


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
