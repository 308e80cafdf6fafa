"""The repository over folders on this machine: what lies there now is what it answers."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import anyio
from packaging.utils import NormalizedName

from proxyindex.disk import is_settled, time_of
from proxyindex.errors import ProjectNotFound
from proxyindex.inquiry import Ground, Inquiry, Outcome, Witness
from proxyindex.model import (
    PROVENANCE_ORIGIN,
    PROVENANCE_SUFFIX,
    File,
    LocalOrigin,
    ProjectList,
    ProjectPage,
)
from proxyindex.records import Record, record_path
from proxyindex.repository.examine import Derived, DerivedStore, Examiner, Sighting, sight
from proxyindex.repository.lists import MadeList
from proxyindex.repository.looking import PATIENCE_SECONDS, Looker
from proxyindex.repository.recorded import Records, vouched
from proxyindex.repository.remembered import Remembered, remembered
from proxyindex.repository.scan import Catalogue, FolderUnavailable, Found, Scanner
from proxyindex.simple import order_files

_MOST_LOOKS = 8  # at a project whose files are being replaced


class Local:
    """Pages from folders; files added, replaced or removed show at the very next request.

    A project exists if a file name says so, even if that file cannot be listed (yet), or if an
    empty directory bears its name. Every method raises `FolderUnavailable` while any folder cannot
    be read: its private names are unknown then, and must not be asked for elsewhere.

    `volatile` are those of the folders in which other bytes may replace a file, so that clients may
    not keep it unasked. Nor may they one that no upload has put there: whoever copies files into a
    folder may replace them, and pip does not recover from other bytes in its own cache.
    `public_url` is that of the project list, as clients have it; provenance is advertised below it
    only, for its links must be absolute and of a secure origin (PEP 740). Folders that do not
    answer for `patience` seconds are unavailable, and so they are until they do.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        derived: DerivedStore,
        *,
        volatile: Sequence[Path] = (),
        public_url: str | None = None,
        clock: Callable[[], int] = time.time_ns,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._volatile = tuple(os.path.join(os.path.abspath(one), "") for one in volatile)
        is_secure = public_url is not None and public_url.startswith(PROVENANCE_ORIGIN)
        self._public_url = public_url if is_secure else None
        self._records = Records(clock=clock)
        self._scanner = Scanner(folders, clock=clock)
        self._scanning = threading.Lock()  # a look whose request is gone may still be under way
        self._looker = Looker(", ".join(map(str, folders)), patience)
        self._examiner = Examiner(derived, clock=clock)
        self._clock = clock
        self._pages: Remembered[tuple[Sighting, ...]] = remembered()
        self._listed = MadeList(_list)
        self._turn = anyio.Lock()
        self._begun = 0
        self._ended = 0
        self._whole_at = -math.inf  # when the latest scan began, if it could read all
        self._latest: tuple[Catalogue, list[Witness] | None] = (Catalogue({}), None)

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """All names in the folders."""
        catalogue, _ = await self._catalogue()
        inquiry.outcome = Outcome.LOCAL
        return await self._listed.of(catalogue)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The page of one project. Raises `ProjectNotFound` or `FolderUnavailable`."""
        for _ in range(_MOST_LOOKS):
            catalogue, witnesses = await self._catalogue()
            if name not in catalogue.projects:
                _rest_on(witnesses, inquiry.ground)
                raise ProjectNotFound(name)
            found = catalogue.projects[name]
            looked_ns = self._clock()
            sightings = await self._looker.run(sight, found)
            known = self._pages.get(name)
            if known is not None and known[0] == sightings:
                page, will_stay = known[1], True
                break
            page, will_stay = await self._made(name, sightings)
            if not await self._was_replaced(name, found, sightings):
                break
        inquiry.outcome = Outcome.LOCAL
        _rest_on(witnesses, inquiry.ground)
        if will_stay:
            self._pages.put(name, (sightings, page))
            _speak_for(found, sightings, looked_ns, inquiry.ground)
        else:
            inquiry.ground.holds_once()
        return page

    @property
    def latest(self) -> Catalogue:
        """What the latest scan found; the same object until something changes."""
        return self._latest[0]

    async def look_through(self, seconds: float) -> None:
        """Raises `FolderUnavailable` if a folder, or one in them, cannot be read. That all could be
        is believed for so many seconds, whoever the scan was made for: it looks at each of them."""
        if anyio.current_time() - self._whole_at >= seconds:
            await self._catalogue()

    async def _was_replaced(
        self, name: NormalizedName, found: Sequence[Found], sightings: Sequence[Sighting]
    ) -> bool:
        """Whether files or records were put in the places of others since they were looked at: a
        page made meanwhile may join what never was together, or lack a file."""
        catalogue, _ = await self._catalogue()
        if catalogue.projects.get(name) != found:
            return True
        again = await self._looker.run(sight, found)
        return [(s.inode, s.record) for s in again] != [(s.inode, s.record) for s in sightings]

    async def _made(
        self, name: NormalizedName, sightings: Sequence[Sighting]
    ) -> tuple[ProjectPage, bool]:
        """The page, and whether it will be the same while the files' states are."""
        is_settled = all(map(self._records.is_settled, sightings))  # asked before reading
        recorded = await self._looker.run(self._records.read, sightings)
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
        record = record.about(derived.sha256) if record is not None else None
        is_volatile = (
            record is None or record.examined is None or found.path.startswith(self._volatile)
        )
        provenance = None
        if found.beside.provenance and self._public_url:
            provenance = f"{self._public_url}{name}/{quote(found.filename)}{PROVENANCE_SUFFIX}"
        return File(
            filename=found.filename,
            origin=LocalOrigin(
                found.path,
                found.beside.provenance,
                is_volatile,
                (sighting.inode, sighting.mtime_ns),
                found.shadowed,
            ),
            hashes={"sha256": derived.sha256},
            version=found.version,
            size=sighting.size,
            upload_time=record.upload_time if record else time_of(sighting.mtime_ns),
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
                begun, begun_at = self._begun, anyio.current_time()
                try:
                    self._latest = await self._looker.run(self._look)
                except FolderUnavailable:
                    self._whole_at = -math.inf
                    raise
                self._ended, self._whole_at = begun, begun_at
            return self._latest

    def _look(self) -> tuple[Catalogue, list[Witness] | None]:
        """Both of the same scan: the next one may run in another thread at any time."""
        with self._scanning:
            return self._scanner.scan(), self._scanner.witnesses()


def _list(catalogue: Catalogue) -> ProjectList:
    return ProjectList.of(catalogue.projects)


def _rest_on(witnesses: Sequence[Witness] | None, ground: Ground) -> None:
    if witnesses is None:
        ground.holds_once()
    else:
        ground.rests_on(*witnesses)


def _speak_for(
    found: Sequence[Found], sightings: Sequence[Sighting], looked_ns: int, ground: Ground
) -> None:
    """A page rests on its files and their records as they were seen: one may be overwritten in its
    place."""
    seen = [(s.found.path, s.stamp) for s in sightings]
    seen += [(str(record_path(s.found.path)), s.record) for s in sightings if s.record]
    if len(sightings) < len(found) or not all(is_settled(stamp, looked_ns) for _, stamp in seen):
        ground.holds_once()
    else:
        ground.rests_on(*seen)
