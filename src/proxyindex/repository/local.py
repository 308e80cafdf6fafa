"""The repository over folders on this machine: what lies there now is what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread
from packaging.utils import NormalizedName

from proxyindex.errors import ProjectNotFound
from proxyindex.inquiry import Ground, Inquiry, Outcome, Witness
from proxyindex.model import PROVENANCE_SUFFIX, File, LocalOrigin, ProjectList, ProjectPage
from proxyindex.records import Record, record_path
from proxyindex.repository.examine import Derived, DerivedStore, Examiner, Memo, Sighting, sight
from proxyindex.repository.recorded import Records, vouched
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

    `is_volatile`: other bytes may replace a file, so clients may not keep it unasked. Nor may they
    one that no upload has put there: whoever copies files into a folder may replace them, and pip
    does not recover from other bytes in its own cache. `public_url` is that of the project list,
    as clients have it; provenance is advertised below it only, for its links must be absolute and
    of a secure origin (PEP 740).
    """

    def __init__(
        self,
        folders: Sequence[Path],
        remembered: DerivedStore,
        *,
        is_volatile: bool = False,
        public_url: str | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._is_volatile = is_volatile
        is_secure = public_url is not None and public_url.startswith("https://")
        self._public_url = public_url if is_secure else None
        self._records = Records(clock=clock)
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
        page, will_stay = await self._made(name, sightings)
        if will_stay:
            self._pages[name] = (sightings, page)
            _speak_for(found, sightings, looked_ns, inquiry.ground)
        else:
            inquiry.ground.is_fleeting()
        return page

    async def _made(
        self, name: NormalizedName, sightings: Sequence[Sighting]
    ) -> tuple[ProjectPage, bool]:
        """The page, and whether it will be the same while the files' states are."""
        is_settled = all(map(self._records.is_settled, sightings))  # asked before reading
        recorded = await anyio.to_thread.run_sync(self._records.read, sightings)
        known = {s: vouched(s, record) for s, record in zip(sightings, recorded, strict=True)}
        others = [sighting for sighting, derived in known.items() if derived is None]
        known |= zip(others, await self._examiner.examine(others), strict=True)
        files = order_files(
            self._file(name, s, derived, record)
            for (s, derived), record in zip(known.items(), recorded, strict=True)
            if derived is not None
        )
        versions = dict.fromkeys(file.version for file in files if file.version)
        will_stay = is_settled and all(map(self._examiner.knows, others))
        return ProjectPage(name, files, tuple(versions)), will_stay

    def _file(
        self, name: NormalizedName, sighting: Sighting, derived: Derived, record: Record | None
    ) -> File:
        found = sighting.found
        if record is not None and record.sha256 != derived.sha256:
            record = None  # of other bytes that lay here before
        is_volatile = self._is_volatile or record is None or record.examined is None
        provenance = None
        if found.beside.provenance and self._public_url:
            provenance = f"{self._public_url}{name}/{quote(found.filename)}{PROVENANCE_SUFFIX}"
        return File(
            filename=found.filename,
            origin=LocalOrigin(found.path, found.beside.provenance, is_volatile),
            hashes={"sha256": derived.sha256},
            version=found.version,
            size=sighting.size,
            upload_time=record.upload_time if record else _time(sighting.mtime_ns),
            requires_python=derived.requires_python,
            yanked=record.yanked if record else None,
            core_metadata={"sha256": derived.metadata_sha256} if derived.metadata_sha256 else None,
            provenance=provenance,
            has_signature=found.beside.signature,
        )

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
    """A page rests on its files and their records as they were seen: one may be overwritten in its
    place."""
    seen = [(s.found.path, s.stamp) for s in sightings]
    seen += [(str(record_path(s.found.path)), s.record) for s in sightings if s.record]
    if len(sightings) < len(found) or not all(is_settled(stamp, looked_ns) for _, stamp in seen):
        ground.is_fleeting()
    else:
        ground.rests_on(*seen)


def _time(mtime_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):  # a date before year 1 or after 9999
        return None
