"""Changes of several names, done whole: written down, then carried out, if need be by others.

    .incoming/<random>/         a stage, with what is to be moved
    .incoming/=<project>/       the same once it is decided; `.steps` says what goes where

Until the rename nothing has happened. After it the change will happen: where the process is killed,
the next change of the project or the next sweep goes on, and readers see for so long what they see
while a change is carried out: some of its names changed. So what cannot be done is not decided, and
given up again if its very beginning fails: a project waits for a change that was begun.

All of it blocks, and `OSError` passes through.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec
from packaging.utils import NormalizedName

from proxyindex.audit import Change
from proxyindex.disk import add_folder, sync_folder
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


class _Change(msgspec.Struct, frozen=True):
    """What `.steps` holds; `by` is who makes the change, for files of these names."""

    steps: tuple[Step, ...] = ()
    by: Change | None = None
    files: tuple[str, ...] = ()


def carry_out(
    stage: Stage,
    root: Path,
    project: NormalizedName,
    steps: Sequence[Step],
    *,
    by: Change | None = None,
    files: Iterable[str] = (),
) -> None:
    """Take all steps, or none. To be called by who holds the project's lock, and notes it in the
    audit log; others do, by what is said here, if they finish it.

    Raises `OSError`: then none was taken, or the rest will be.
    """
    _check(root, stage, steps)
    stage.put(_STEPS, _encoded(_Change(tuple(steps), by, tuple(files))))
    stage.sync()
    decided = _decided(root, project)
    os.rename(stage.path, decided)
    sync_folder(decided.parent)
    _take(root, decided, steps)
    shutil.rmtree(decided, ignore_errors=True)


def finish(root: Path, project: NormalizedName) -> None:
    """Carry out what was decided and left. To be called by who holds the project's lock."""
    decided = _decided(root, project)
    if decided.exists():
        change = _read(decided)
        _take(root, decided, change.steps)
        if change.by is not None:
            change.by.note(change.files, "finished")
        shutil.rmtree(decided, ignore_errors=True)


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
    project = NormalizedName(path.name.removeprefix(_DECIDED))
    key = lock_of(project) if is_decided else path.name
    if not locks.try_acquire(key):
        return False
    try:
        if is_decided:
            finish(root, project)
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


def _check(root: Path, stage: Stage, steps: Sequence[Step]) -> None:
    """Raises `OSError` for a step that could not be taken, as far as can be told beforehand."""
    for step in steps:
        target = root / step.to
        folder = target.parent
        if step.source is not None:
            add_folder(folder)
        there = _lstat(target)
        if there is None and step.source is None:
            continue
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise _refused(errno.EISDIR, target)
        found = os.stat(folder)
        if step.source is not None and found.st_dev != os.stat(stage.path).st_dev:
            raise _refused(errno.EXDEV, folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _refused(errno.EACCES, folder)
        owners = {0, found.st_uid, there.st_uid if there else os.geteuid()}
        if found.st_mode & stat.S_ISVTX and os.geteuid() not in owners:
            raise _refused(errno.EPERM, target)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _refused(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def _take(root: Path, decided: Path, steps: Sequence[Step]) -> None:
    """Take the steps that are left."""
    for number in range(_taken(decided, steps), len(steps)):
        try:
            _take_one(root, decided, steps[number])
        except OSError:
            if not any(map(_is_seen, steps[:number])):
                _give_up(decided)
            raise
    for folder in {(root / step.to).parent for step in steps}:
        with suppress(FileNotFoundError):
            sync_folder(folder)
        if folder not in (root, root / decided.name.removeprefix(_DECIDED)):
            with suppress(OSError):  # others lie in it
                folder.rmdir()


def _take_one(root: Path, decided: Path, step: Step) -> None:
    target = root / step.to
    if step.source is None:
        with suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
    else:
        add_folder(target.parent)
        os.replace(decided / step.source, target)


def _is_seen(step: Step) -> bool:
    """Whether readers see what it does: hidden files are no part of any page."""
    return not PurePosixPath(step.to).name.startswith(".")


def _give_up(decided: Path) -> None:
    """Make it a change that was never decided, and leave nothing of it."""
    undecided = decided.with_name(secrets.token_hex(8))
    os.rename(decided, undecided)
    sync_folder(decided.parent)
    shutil.rmtree(undecided, ignore_errors=True)


def _taken(decided: Path, steps: Sequence[Step]) -> int:
    """How many were surely taken: removing may be repeated until something has come into that
    place."""
    is_taken = [
        step.source is not None and not os.path.lexists(decided / step.source) for step in steps
    ]
    return len(steps) - is_taken[::-1].index(True) if True in is_taken else 0


def _encoded(change: _Change) -> bytes:
    """JSON in ASCII, in which there are names that are not UTF-8, too; msgspec refuses those."""
    return json.dumps(msgspec.to_builtins(change)).encode()


def _read(decided: Path) -> _Change:
    try:
        change = msgspec.convert(json.loads((decided / _STEPS).read_bytes()), _Change)
    except FileNotFoundError:  # all were taken
        return _Change()
    except (ValueError, RecursionError, msgspec.MsgspecError) as problem:
        log.error("a change of %r is lost, its steps are damaged: %s", decided.name[1:], problem)
        return _Change()
    names = [PurePosixPath(name) for one in change.steps for name in (one.to, one.source or "")]
    if any(name.is_absolute() or ".." in name.parts for name in names):
        log.error("a change of %r is refused: it leads out of the folder", decided.name[1:])
        return _Change()
    return change
