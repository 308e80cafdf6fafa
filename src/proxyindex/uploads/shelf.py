"""The folder of an index that is written to: every change of what lies in it is made here.

    <folder>/<project>/<filename>          the file
    <folder>/<project>/<filename>.json     its record (`records.py`), .asc and .provenance as well
    <folder>/<project>/+<random>/            files that came together, with theirs (push)
    <folder>/<project>/.deleted            names of files that were deleted, one a line
    <folder>/.incoming/                    stages, the file of locks, and room for a full disk

New files come in one step. Changes of several names are written down first and carried out to the
end, if not by us then by others (`steps.py`). All of it blocks, and `OSError` passes through;
whoever changes a project holds its lock.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import msgspec
from anyio import CapacityLimiter
from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.audit import Change
from proxyindex.disk import no_link, sync_folder
from proxyindex.model import (
    METADATA_SUFFIX,
    PROVENANCE_SUFFIX,
    RECORD_SUFFIX,
    SIDECARS,
    SIGNATURE_SUFFIX,
    File,
    LocalOrigin,
)
from proxyindex.records import Record, record_path
from proxyindex.store.locks import Locks
from proxyindex.uploads.rejection import on_disk
from proxyindex.uploads.stage import INCOMING, LOCKS, Stage, keep_room, with_room
from proxyindex.uploads.steps import Step, carry_out, finish, lock_of, sweep

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

DELETED = ".deleted"
_MAX_DELETED = 32 * 1024**2  # bytes
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_THREADS = 16


class Shelf:
    """One folder. There must be but one of it per process and path: its locks are the process's."""

    def __init__(self, root: Path, twin: Shelf | None = None) -> None:
        self.root = Path(os.path.abspath(root))
        # a twin is the same folder under another path
        here = self.root / INCOMING / LOCKS
        self._locks: Locks = twin._locks if twin else Locks(here, is_strict=True)
        self._threads = CapacityLimiter(_THREADS)

    def stage(self) -> Stage:
        """A new one, to be discarded in the end."""
        return Stage(self.root, self._locks)

    @contextmanager
    def staged(self) -> Iterator[Stage]:
        """A new stage, gone at the end, published or not."""
        stage = self.stage()
        try:
            yield stage
        finally:
            stage.discard()

    def sweep(self) -> int:
        """Finish or remove what killed processes have left; the number of changes."""
        return sweep(self.root, self._locks)

    async def run(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run what blocks on the folder. Raises `FolderRefused` for its `OSError`."""
        return await on_disk(call, *args, limiter=self._threads)

    @asynccontextmanager
    async def locked(self, project: NormalizedName) -> AsyncIterator[None]:
        """Alone with the project among all processes that share the folder.

        Raises `FolderRefused` if there is no folder: an empty one made in its place would give all
        its names away.
        """
        async with self._alone(lock_of(project)):
            await self.run(finish, self.root, project)  # what a killed process had begun
            yield

    def writing_pages(self) -> AbstractAsyncContextManager[None]:
        """Alone with the static pages of the folder."""
        return self._alone("pages")

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        await self.run(keep_room, self.root)
        async with self._locks.hold(key, self.run):
            yield

    def home(self, project: NormalizedName) -> Path:
        """The folder of the project; it need not exist."""
        return self.root / project

    def place(self, file: File | None) -> Path | None:
        """Where a listed file lies, if it is in this folder."""
        origin = file.origin if file else None
        if isinstance(origin, LocalOrigin) and Path(origin.path).is_relative_to(self.root):
            return Path(origin.path)
        return None

    def deleted(self, project: NormalizedName) -> frozenset[str]:
        """Names of the project's files that were deleted."""
        return deleted_in(self.root, project)

    def add(self, stage: Stage, project: NormalizedName, filename: str) -> None:
        """Publish a new file that lies in the stage with what belongs to it.

        Raises `FileExistsError` if its name is taken.
        """
        home = self.home(project)
        if not os.path.lexists(home):
            self._settle(stage, home)
            return
        if os.path.lexists(home / filename):  # before what belongs to it is replaced
            raise FileExistsError(home / filename)
        for suffix in SIDECARS:  # first: the file must not be seen without them
            self._move_sidecar(stage, filename, home / filename, suffix)
        _link(stage.path / filename, home / filename)
        sync_folder(home)

    def add_together(self, stage: Stage, project: NormalizedName) -> None:
        """Publish all new files of the stage in one step."""
        home = self.home(project)
        if os.path.lexists(home):
            # a folder of their own; no project can be called so, hence it reserves no name
            home /= f"+{secrets.token_hex(4)}"
        self._settle(stage, home)

    def replace(
        self,
        stage: Stage,
        project: NormalizedName,
        files: Mapping[str, Path],
        by: Change | None = None,
    ) -> None:
        """Put staged files in the places of others, all in one change.

        Readers of the old ones keep them. A record comes before its file and speaks of the old
        bytes as well, so that each is seen with what is noted of it and no other.
        """
        steps: list[Step] = []
        for filename, path in files.items():
            _keep_noted(stage, filename, path)
            steps += self._steps_in(stage, filename, path)
        carry_out(stage, self.root, project, steps, by=by, files=files)

    def write_records(
        self, project: NormalizedName, found: Mapping[Path, Record], by: Change | None
    ) -> None:
        """Replace what is noted of these files, all in one change."""
        with with_room(self.root), self.staged() as stage:
            steps = []
            for path, record in found.items():
                name = record_path(path).name
                stage.put(name, records.encode(record))
                steps.append(Step(self._place(record_path(path)), name))
            files = [path.name for path in found]
            carry_out(stage, self.root, project, steps, by=by, files=files)

    def remove(
        self, project: NormalizedName, paths: Sequence[Path], by: Change | None = None
    ) -> None:
        """Delete files, all in one change; their names and the project's stay taken."""
        files = list(dict.fromkeys(path.name for path in paths))
        suffixes = ("", METADATA_SUFFIX, *SIDECARS)  # the first of them for static pages
        named = (_beside(path, suffix) for path in paths for suffix in suffixes)
        gone = [path for path in named if os.path.lexists(path)]
        noted = (
            _noted(self.home(project) / DELETED) + "".join(f"\n{name}" for name in files).encode()
        )
        with with_room(self.root), self.staged() as stage:
            stage.put(DELETED, noted)
            steps = [Step(self._place(self.home(project) / DELETED), DELETED)]
            steps += [Step(self._place(path)) for path in gone]
            carry_out(stage, self.root, project, steps, by=by, files=files)

    def _steps_in(self, stage: Stage, filename: str, path: Path) -> Iterator[Step]:
        def moved(*suffixes: str) -> Iterator[Step]:
            for suffix in suffixes:
                if os.path.lexists(_beside(stage.path / filename, suffix)):
                    yield Step(self._place(_beside(path, suffix)), filename + suffix)

        others = (SIGNATURE_SUFFIX, PROVENANCE_SUFFIX)
        yield from moved(RECORD_SUFFIX)
        for suffix in others:  # never beside other bytes
            yield Step(self._place(_beside(path, suffix)))
        yield from moved("", *others)

    def _place(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _settle(self, stage: Stage, home: Path) -> None:
        """The stage becomes a folder of the index."""
        stage.content.unlink(missing_ok=True)
        stage.sync()
        # of a folder that is there by now only an empty one is replaced
        os.rename(stage.path, home)
        sync_folder(home.parent)

    def _move_sidecar(self, stage: Stage, filename: str, path: Path, suffix: str) -> None:
        """What the stage has of it comes beside `path`; what others left there goes."""
        try:
            os.replace(_beside(stage.path / filename, suffix), _beside(path, suffix))
        except FileNotFoundError:
            _beside(path, suffix).unlink(missing_ok=True)


class Shelves:
    """The shelves of this process, one for each folder, however many indexes write to it."""

    def __init__(self) -> None:
        self._shelves: dict[Path, Shelf] = {}

    def at(self, root: Path) -> Shelf:
        """The shelf of this folder. What is listed of it has the path that was configured, so each
        path has its own, but all that links make the same folder have the same locks."""
        path, real = Path(os.path.abspath(root)), os.path.realpath(root)
        twins = (one for one in self._shelves.values() if os.path.realpath(one.root) == real)
        return self._shelves.setdefault(path, Shelf(path, next(twins, None)))

    def sweep(self) -> None:
        """Finish or remove what killed processes have left in them. Blocks."""
        for shelf in list(self._shelves.values()):
            shelf.sweep()


def deleted_in(root: Path, project: NormalizedName) -> frozenset[str]:
    """Names of the project's files that were deleted from this folder. Blocks."""
    return frozenset(_noted(root / project / DELETED).decode("ascii", "replace").split("\n"))


def _noted(path: Path) -> bytes:
    """What is noted of deleted files. A link, a pipe or a folder in its place is refused, for then
    nobody knows which names are taken."""
    try:
        with open(path, "rb", opener=no_link) as source:
            is_regular = stat.S_ISREG(os.fstat(source.fileno()).st_mode)
            noted = source.read(_MAX_DELETED + 1) if is_regular else b""
    except (FileNotFoundError, NotADirectoryError):
        return b""
    if not is_regular:
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    if len(noted) > _MAX_DELETED:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return noted


def _link(source: Path, place: Path) -> None:
    """Give the file its name. Raises `FileExistsError` if that is taken."""
    try:
        os.link(source, place)
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        # no hard links here; whoever knows our locks is kept out by them
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place)) from None
        os.rename(source, place)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _keep_noted(stage: Stage, filename: str, path: Path) -> None:
    """Have the staged record of a file tell what is noted of the bytes it replaces, too."""
    staged_record = record_path(stage.path / filename)
    noted = records.read(record_path(path))
    record = records.read(staged_record) if noted else None
    if noted and record:
        staged_record.unlink()
        before = msgspec.structs.replace(noted, before=None)
        both = msgspec.structs.replace(record, before=before)
        stage.put(staged_record.name, records.encode(both))
