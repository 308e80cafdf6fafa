"""The repository over folders on this machine: what lies there now is what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
from packaging.utils import NormalizedName

from proxyindex.errors import ProjectNotFound
from proxyindex.inquiry import Ground, Inquiry, Outcome, Witness
from proxyindex.model import File, LocalOrigin, ProjectList, ProjectPage
from proxyindex.repository.examine import Derived, DerivedStore, Examiner, Memo, Sighting, sight
from proxyindex.repository.scan import Catalogue, FolderUnavailable, Found, Scanner
from proxyindex.simple import order_files
from proxyindex.store.disk import is_settled

__all__ = ["DerivedStore", "FolderUnavailable", "Local"]

_PAGES = 256


class Local:
    """Pages from folders; files added, replaced or removed show at the very next request.

    A project exists if a file name says so, even if that file cannot be listed (yet), or if an
    empty directory bears its name. Every method raises `FolderUnavailable` while any folder cannot
    be read: its private names are unknown then, and must not be asked for elsewhere.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        remembered: DerivedStore,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._scanner = Scanner(folders, clock=clock)
        self._examiner = Examiner(remembered, clock=clock)
        self._clock = clock
        self._pages: Memo[tuple[tuple[Sighting, ...], ProjectPage]] = Memo(_PAGES)
        self._turn = anyio.Lock()
        self._begun = 0
        self._ended = 0
        self._latest: tuple[Catalogue, list[Witness] | None] = (Catalogue({}), None)

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """All names in the folders."""
        catalogue, _ = await self._catalogue()
        inquiry.outcome = Outcome.LOCAL
        return ProjectList.of(catalogue.projects)

    async def has(self, name: NormalizedName) -> bool:
        """Whether the name is taken here."""
        catalogue, _ = await self._catalogue()
        return name in catalogue.projects

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The page of one project. Raises `ProjectNotFound` or `FolderUnavailable`."""
        catalogue, witnesses = await self._catalogue()
        found = catalogue.projects.get(name)
        if witnesses is None:
            inquiry.ground.is_fleeting()
        else:
            inquiry.ground.rests_on(*witnesses)
        if found is None:
            raise ProjectNotFound(name)
        inquiry.outcome = Outcome.LOCAL
        looked_ns = self._clock()
        sightings = await anyio.to_thread.run_sync(sight, found)
        if name in self._pages:
            known, page = self._pages[name]
            if known == sightings:
                _speak_for(found, sightings, looked_ns, inquiry.ground)
                return page
        page = _page(name, sightings, await self._examiner.examine(sightings))
        if all(map(self._examiner.knows, sightings)):
            self._pages[name] = (sightings, page)
            _speak_for(found, sightings, looked_ns, inquiry.ground)
        else:
            inquiry.ground.is_fleeting()
        return page

    async def _catalogue(self) -> tuple[Catalogue, list[Witness] | None]:
        """The result of a scan begun after this call; calls that wait share the next one."""
        wanted = self._begun + 1
        async with self._turn:
            if self._ended < wanted:
                self._begun += 1
                begun = self._begun
                self._latest = await anyio.to_thread.run_sync(self._look)
                self._ended = begun
            return self._latest

    def _look(self) -> tuple[Catalogue, list[Witness] | None]:
        """Both of the same scan: the next one may run in another thread at any time."""
        return self._scanner.scan(), self._scanner.witnesses()


def _speak_for(
    found: Sequence[Found], sightings: Sequence[Sighting], looked_ns: int, ground: Ground
) -> None:
    """A page rests on its files as they were seen: one may be overwritten in its place."""
    stamps = [sighting.stamp for sighting in sightings]
    if len(stamps) < len(found) or not all(is_settled(stamp, looked_ns) for stamp in stamps):
        ground.is_fleeting()
    else:
        ground.rests_on(*((s.found.path, s.stamp) for s in sightings))


def _page(
    name: NormalizedName, sightings: Sequence[Sighting], derived: Sequence[Derived | None]
) -> ProjectPage:
    files = order_files(
        _file(s, known) for s, known in zip(sightings, derived, strict=True) if known
    )
    versions = dict.fromkeys(file.version for file in files if file.version)
    return ProjectPage(name, files, tuple(versions))


def _file(sighting: Sighting, derived: Derived) -> File:
    found = sighting.found
    sidecar = {"sha256": derived.metadata_sha256} if derived.metadata_sha256 else None
    return File(
        filename=found.filename,
        origin=LocalOrigin(found.path),
        hashes={"sha256": derived.sha256},
        version=found.version,
        size=sighting.size,
        upload_time=_time(sighting.mtime_ns),
        requires_python=derived.requires_python,
        core_metadata=sidecar,
        has_signature=found.has_signature,
    )


def _time(mtime_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):  # a date before year 1 or after 9999
        return None
