"""Which distribution files lie in our folders: names only, never their content.

All of it blocks on the disk, so it runs in a worker thread. A directory is read again only when
it changed; see docs/decisions/0012.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, cast

from packaging.utils import NormalizedName

from proxyindex import disk
from proxyindex.disk import Signature, signature_of
from proxyindex.errors import ProxyindexError
from proxyindex.inquiry import MOST_WITNESSES, Witness
from proxyindex.model import METADATA_SUFFIX, SIDECARS
from proxyindex.names import Kind, canonical, is_safe_filename, parse_filename
from proxyindex.store.mounts import remote_devices

logger = logging.getLogger(__name__)

MAX_DEPTH = 8
_MOST_SWEEPS = 8  # of one scan; where files come and go at each of them, the last one counts
_IGNORED_ENDS = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".swp", "~")
_SIDECAR_ENDS = (METADATA_SUFFIX, *SIDECARS)
_SHOWN = 3
# `lost+found` belongs to the file system and is closed to all but root; the others are pages, where
# a folder is an index without a server as well
_PASSED_OVER = frozenset({"lost+found", "index.html", "index.v1_json"})


class FolderUnavailable(ProxyindexError):
    """A configured folder cannot be read, so nobody knows which names are private: 503.

    `folder` and `problem` are for the log; clients are not told paths.
    """

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__("A package folder of this index cannot be read at the moment.")
        self.folder = folder
        self.problem = problem


class FolderSilent(FolderUnavailable):
    """It does not answer, or one in it, and nobody knows whether it ever will."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, "does not answer")


class Beside(NamedTuple):
    """Which of the `SIDECARS`, in their order, lie beside a distribution file."""

    record: bool
    signature: bool
    provenance: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A distribution file as its name tells it. Whether it can be served is another question.

    `shadowed` are the paths of files of the same name, in order, once all folders are read.
    """

    filename: str
    path: str
    project: NormalizedName
    version: str | None
    kind: Kind
    beside: Beside
    shadowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Listing:
    """What one directory held when it bore this stamp; `name` is the project it may be of.

    `is_remote`: another machine may have to be asked for it.
    """

    name: NormalizedName | None
    files: tuple[Found, ...]
    folders: tuple[str, ...]
    ignored: frozenset[str]
    stamp: tuple[int, ...] = field(compare=False)
    is_settled: bool = field(compare=False)
    is_remote: bool = field(compare=False)

    @property
    def signature(self) -> Signature:
        return cast(Signature, self.stamp[1:])


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every project of our folders; one without files is a name that is taken all the same."""

    projects: Mapping[NormalizedName, tuple[Found, ...]]


class Scanner:
    """Folders → `Catalogue`, reading only directories that changed since the last time.

    Files may lie flat, in a directory per project, or deeper, up to `MAX_DEPTH`. The file's name
    says which project it belongs to. For equal file names the first folder wins, then the first
    path in order. Not for use by two threads at once. `clock` tells nanoseconds since the epoch,
    `remote` the devices that may not answer (`store.mounts`).
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        clock: Callable[[], int] = time.time_ns,
        remote: Callable[[], Container[int]] = remote_devices,
    ) -> None:
        self._folders = tuple(os.path.abspath(folder) for folder in folders)
        self._clock = clock
        self._tell_remote = remote
        self._remote: Container[int] | None = None  # as of this scan, once it is needed
        self._listings: dict[str, _Listing] = {}
        self._empty: frozenset[NormalizedName] = frozenset()
        self._catalogue = Catalogue({})
        self._lost: set[str] = set()
        self._deep: set[str] = set()

    def scan(self) -> Catalogue:
        """The state of the folders now; the same object as before if nothing changed.

        Directories are looked at one by one: what is moved from a later to an earlier one meanwhile
        is seen in neither, and upstreams would be asked for its name. So only two sweeps that agree
        are a state. Raises `FolderUnavailable` if any folder, or a directory in it, cannot be read.
        """
        for _ in range(_MOST_SWEEPS):
            if self._sweep():
                break
        return self._catalogue

    def _sweep(self) -> bool:
        """Look at all directories; whether they are what they were the last time."""
        sweep = _Sweep(self._list, self._too_deep)
        self._remote = None
        try:
            for folder in self._folders:
                sweep.walk(folder, depth=0)
        except FolderUnavailable as exc:
            if exc.folder not in self._lost:  # one line when it goes, not one per request
                logger.error("package folder %r is unavailable: %s", exc.folder, exc.problem)
                self._lost.add(exc.folder)
            raise
        self._lost.clear()
        before, empty = self._listings, frozenset(sweep.empty)
        is_same = sweep.listings == before and empty == self._empty
        if not is_same:
            self._catalogue = _catalogue(sweep.listings.values(), empty)
        self._listings, self._empty = sweep.listings, empty
        return is_same and all(
            listed.stamp == before[path].stamp for path, listed in sweep.listings.items()
        )

    def witnesses(self) -> list[Witness] | None:
        """Directories with their stamps: while these stay, so does the latest `scan`.

        All of them: a file of any project may turn up in any. `None` if they are too many to be
        looked at each time, one of them may yet change under its stamp, or may not answer: the
        event loop must not wait for it.
        """
        listings = self._listings
        if len(listings) > MOST_WITNESSES or not all(
            listed.is_settled and not listed.is_remote for listed in listings.values()
        ):
            return None
        return [(path, listing.signature) for path, listing in listings.items()]

    def _too_deep(self, path: str) -> None:
        if path not in self._deep:
            logger.warning("ignoring %r: more than %d levels deep", path, MAX_DEPTH)
            self._deep.add(path)

    def _list(self, path: str, stamp: tuple[int, ...], depth: int) -> _Listing:
        known = self._listings.get(path)
        if known and known.is_settled and known.stamp == stamp:
            return known
        is_settled = disk.is_settled(cast(Signature, stamp[1:]), self._clock())
        project = project_of(path, depth)
        files, folders, ignored = _read(path, project, known)
        if self._remote is None:
            self._remote = self._tell_remote()
        is_remote = stamp[0] in self._remote
        return _Listing(project, files, folders, ignored, stamp, is_settled, is_remote)


class _Sweep:
    """One walk over all folders."""

    def __init__(
        self,
        listing: Callable[[str, tuple[int, ...], int], _Listing],
        too_deep: Callable[[str], None],
    ) -> None:
        self.listings: dict[str, _Listing] = {}
        self.empty: set[NormalizedName] = set()
        self._listing = listing
        self._too_deep = too_deep
        # whether distribution files are there; of one that is being walked there may be
        self._seen: dict[tuple[int, int], bool] = {}

    def walk(self, path: str, *, depth: int) -> bool:
        """Takes in the directory and those below; whether any distribution file was there."""
        try:
            stat = os.stat(path)
            seen = stat.st_dev, stat.st_ino
            if seen in self._seen:  # a loop of links, several to one, or overlapping folders
                return self._seen[seen] or self._takes_name(project_of(path, depth))
            self._seen[seen] = True
            # ctime as well: rsync and tar set a directory's mtime back after writing into it
            stamp = (stat.st_dev, *signature_of(stat))
            listing = self._listing(path, stamp, depth)
        except OSError as exc:
            if depth and _is_gone(path, exc):
                return False
            raise FolderUnavailable(path, exc.strerror or str(exc)) from exc
        self.listings[path] = listing
        below = [self._below(folder, depth + 1) for folder in listing.folders]
        has_files = bool(listing.files) or any(below)
        self._seen[seen] = has_files
        return has_files or self._takes_name(listing.name)

    def _takes_name(self, name: NormalizedName | None) -> bool:
        """Of an empty directory, each that it has; there are no files for that."""
        if name:
            self.empty.add(name)
        return False

    def _below(self, path: str, depth: int) -> bool:
        if depth <= MAX_DEPTH:
            return self.walk(path, depth=depth)
        self._too_deep(path)
        return True  # nobody knows


def is_passed_over(name: str) -> bool:
    """Whether a directory, or a file, of this name is none of ours whatever it holds."""
    return name.startswith((".", "-")) or name in _PASSED_OVER


def project_of(path: str, depth: int) -> NormalizedName | None:
    """The project that the files in a directory may be of, by its name or, where they came together
    (`uploads/shelf.py`), by that of the one above. A configured folder may be called anything."""
    if os.path.basename(path).startswith("+"):
        path, depth = os.path.dirname(path), depth - 1
    return canonical(os.path.basename(path)) if depth > 0 else None


def _is_gone(path: str, exc: OSError) -> bool:
    """Whether a listed directory was removed; a link to a vanished mount is not that."""
    if exc.errno == errno.ELOOP:
        return True
    return exc.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.islink(path)


def _read(
    path: str, hint: NormalizedName | None, known: _Listing | None
) -> tuple[tuple[Found, ...], tuple[str, ...], frozenset[str]]:
    """The directory's files, directories and other names."""
    names, folders = _names(path)
    before = {found.filename: found for found in known.files} if known else {}
    files: list[Found] = []
    ignored: set[str] = set()
    for name in sorted(names):
        beside = Beside(*(name + suffix in names for suffix in SIDECARS))
        old = before.get(name)
        if old and old.beside == beside:  # parsing is the dear part
            files.append(old)
        elif found := _found(path, name, hint, beside):
            files.append(found)
        elif not name.endswith(_SIDECAR_ENDS):
            ignored.add(name)
    _report(path, sorted(ignored - known.ignored if known else ignored))
    return tuple(files), tuple(sorted(folders)), frozenset(ignored)


def _names(path: str) -> tuple[set[str], list[str]]:
    """Names of what may be files, paths of directories, hidden and temporary ones left out."""
    names: set[str] = set()
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if is_passed_over(name):
                continue
            if _leads_on(entry):
                folders.append(entry.path)
            elif not name.lower().endswith(_IGNORED_ENDS):
                names.add(name)
    return names, folders


def _leads_on(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory, or a link that may have been one before its target vanished."""
    try:
        if entry.is_dir():
            return True
        if not entry.is_symlink() or entry.is_file():
            return False
        return not is_safe_filename(entry.name) and not os.path.exists(entry.path)
    except OSError:
        return not is_safe_filename(entry.name)


def _found(folder: str, name: str, hint: NormalizedName | None, beside: Beside) -> Found | None:
    if not is_safe_filename(name):
        return None
    named = parse_filename(name, hint)
    if named.project is None:
        return None
    path = os.path.join(folder, name)
    return Found(name, path, named.project, named.version, named.kind, beside)


def _report(path: str, ignored: Sequence[str]) -> None:
    if ignored:
        logger.info(
            "ignoring %d names in %r that are no distribution files: %s%s",
            len(ignored),
            path,
            ", ".join(map(repr, ignored[:_SHOWN])),
            ", …" if len(ignored) > _SHOWN else "",
        )


def _catalogue(listings: Iterable[_Listing], empty: frozenset[NormalizedName]) -> Catalogue:
    projects: dict[NormalizedName, dict[str, Found]] = {name: {} for name in empty}
    for listing in listings:
        for found in listing.files:
            files = projects.setdefault(found.project, {})
            first = files.setdefault(found.filename, found)
            if first is not found:
                shadowed = (*first.shadowed, found.path)
                files[found.filename] = replace(first, shadowed=shadowed)
    return Catalogue({name: tuple(files.values()) for name, files in projects.items()})
