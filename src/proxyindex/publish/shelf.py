"""The folder of an index that is written to: every change of what lies in it is made here.

    <folder>/<project>/<filename>          the file
    <folder>/<project>/<filename>.json     its record (`records.py`), .asc and .provenance as well
    <folder>/<project>/+<random>/            files that came together, with theirs (push)
    <folder>/<project>/.deleted            names of files that were deleted, one a line
    <folder>/.incoming/                    stages and the file of locks

Each step leaves a state that may be served: killed in between, a file is there whole or not at
all. All of it blocks, and `OSError` passes through; whoever changes a project holds its lock.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path

from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.model import PROVENANCE_SUFFIX, RECORD_SUFFIX, SIGNATURE_SUFFIX
from proxyindex.publish.rejection import on_disk
from proxyindex.publish.stage import (
    INCOMING,
    LOCKS,
    Stage,
    make_incoming,
    sweep,
    sync_folder,
)
from proxyindex.records import Record, record_path
from proxyindex.store.locks import Locks

DELETED = ".deleted"
_MAX_DELETED = 32 * 1024**2  # bytes
SIDECARS = (RECORD_SUFFIX, SIGNATURE_SUFFIX, PROVENANCE_SUFFIX)


class Shelf:
    """One folder. There must be but one of it per process and path: its locks are the process's."""

    def __init__(self, root: Path, twin: Shelf | None = None) -> None:
        self.root = Path(os.path.abspath(root))
        self._twin = twin  # the same folder under another path

    @cached_property
    def _locks(self) -> Locks:
        return self._twin._locks if self._twin else Locks(self.root / INCOMING / LOCKS)

    @asynccontextmanager
    async def locked(self, project: NormalizedName) -> AsyncIterator[None]:
        """Alone with the project among all processes that share the folder.

        Raises `FolderRefused` if there is no folder: an empty one made in its place would give all
        its names away.
        """
        await on_disk(make_incoming, self.root)
        async with self._locks.hold(f"project {project}"):
            yield

    def home(self, project: NormalizedName) -> Path:
        """The folder of the project; it need not exist."""
        return self.root / project

    def holds(self, path: str) -> bool:
        """Whether a file that is listed lies in this folder."""
        return Path(path).is_relative_to(self.root)

    def deleted(self, project: NormalizedName) -> frozenset[str]:
        """Names of the project's files that were deleted."""
        try:
            with open(self.home(project) / DELETED, "rb") as source:
                return frozenset(source.read(_MAX_DELETED).decode("ascii", "replace").split("\n"))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    def add(self, stage: Stage, project: NormalizedName, filename: str) -> None:
        """Publish a new file that lies in the stage with what belongs to it.

        Raises `FileExistsError` if its name is taken.
        """
        home = self.home(project)
        if not os.path.lexists(home):
            self._settle(stage, home)
            return
        if os.path.lexists(home / filename):  # or else its sidecars would be lost to ours
            raise FileExistsError(f"{filename} is there")
        for suffix in SIDECARS:  # first: the file must not be seen without them
            self._move_sidecar(stage, filename, home / filename, suffix)
        os.link(stage.path / filename, home / filename)
        sync_folder(home)

    def add_together(self, stage: Stage, project: NormalizedName) -> None:
        """Publish all new files of the stage in one step."""
        home = self.home(project)
        if os.path.lexists(home):
            # a folder of their own; no project can be called so, hence it reserves no name
            home /= f"+{secrets.token_hex(4)}"
        self._settle(stage, home)

    def replace(self, stage: Stage, filename: str, path: Path) -> None:
        """Put the staged file in the place of the one at `path`.

        Readers of the old one keep it. The new one may be seen without its record for a moment.
        """
        for suffix in (SIGNATURE_SUFFIX, PROVENANCE_SUFFIX):
            _beside(path, suffix).unlink(missing_ok=True)
        os.replace(stage.path / filename, path)
        for suffix in SIDECARS:
            self._move_sidecar(stage, filename, path, suffix)
        sync_folder(path.parent)

    def write_record(self, stage: Stage, path: Path, record: Record) -> None:
        """Replace what is noted of the file at `path`."""
        name = record_path(path).name
        stage.put(name, records.encode(record))
        os.replace(stage.path / name, record_path(path))
        sync_folder(path.parent)

    def remove(self, project: NormalizedName, paths: Sequence[Path]) -> None:
        """Delete files; their names and the project's stay taken."""
        self._note_deleted(project, [path.name for path in paths])
        for path in paths:
            path.unlink(missing_ok=True)
            for suffix in SIDECARS:
                _beside(path, suffix).unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            sync_folder(folder)
            if folder not in (self.home(project), self.root):
                with suppress(OSError):  # others lie in it
                    folder.rmdir()

    def _note_deleted(self, project: NormalizedName, names: Iterable[str]) -> None:
        home = self.home(project)
        if not home.is_dir():
            home.mkdir()
            sync_folder(self.root)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(home / DELETED, flags, 0o666)
        try:
            noted = "".join(f"\n{name}" for name in names).encode()
            while noted:  # a disk that is nearly full takes a part, and refuses the next
                noted = noted[os.write(fd, noted) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(home)

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
        """Remove what killed processes have left in them. Blocks."""
        for root in list(self._shelves):
            sweep(root)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
