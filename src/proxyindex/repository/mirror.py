"""A repository that answers for one upstream through the cache."""

import logging
import time
from dataclasses import replace
from functools import partial

from anyio.abc import TaskGroup
from packaging.utils import NormalizedName

from proxyindex import disk, simple
from proxyindex.disk import Signature
from proxyindex.errors import NotHeld, ProjectNotFound, StoreError, UpstreamError
from proxyindex.flight import Flights
from proxyindex.inquiry import Ground, Inquiry
from proxyindex.memo import Memo
from proxyindex.model import NO_PROJECTS, File, ProjectList, ProjectPage, best_hash
from proxyindex.repository.asking import Terms
from proxyindex.repository.kept import Kept
from proxyindex.repository.learned import changed_files, complete, gone
from proxyindex.repository.remembered import Remembered, remembered, weight
from proxyindex.repository.trust import shrinkage
from proxyindex.store.blobs import BlobStore
from proxyindex.store.facts import Facts
from proxyindex.threads import in_thread

log = logging.getLogger(__name__)

Signatures = tuple[Signature | None, Signature | None]  # of both files of facts

_REPORTED_SECONDS = 30 * 86_400.0
_MOST_REPORTED = 1000
LIST_KEY = "+list"  # no normalized name starts with a plus


class Mirror:
    """Pages of one upstream: kept, parsed, completed by what we learned of their files.

    `offers_metadata` advertises core metadata for every wheel; `lists_all` includes upstream's own
    project list. Offline, only files that are on disk are shown.
    """

    def __init__(
        self,
        terms: Terms,
        facts: Facts,
        blobs: BlobStore,
        tasks: TaskGroup,
        *,
        offers_metadata: bool = True,
        lists_all: bool = False,
    ) -> None:
        self._name = terms.upstream.name
        self._id = terms.id
        self._facts = facts
        self._blobs = blobs
        self._offers_metadata = offers_metadata
        self._lists_all = lists_all
        self._is_offline = terms.is_offline
        self._events = terms.events
        self._stores = terms.stores
        self._reported: Memo[str, None] = Memo(_MOST_REPORTED)
        self._pages = Kept(
            terms,
            tasks,
            parse=self._parse_page,
            weigh=weight,
            suspect=shrinkage,
            believed=self._believed,
        )
        # nothing to suspect: it has no name for `cache accept`, and none that another could take
        self._list = Kept(terms, tasks, parse=_parse_list, weigh=lambda listed: len(listed.names))
        self._completing: Flights[ProjectPage] = Flights(tasks)
        # completed pages by name, with what they were made from
        self._memo: Remembered[tuple[ProjectPage, Signatures]] = remembered()
        self._held_memo: Remembered[ProjectPage] = remembered()

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """Upstream's project list if configured, else nothing: installers never ask for it."""
        if not self._lists_all:
            return NO_PROJECTS
        try:
            return await self._list.get(LIST_KEY, inquiry, path="")
        except (ProjectNotFound, NotHeld):  # pages without a list of them: some wheel indexes
            return NO_PROJECTS

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The upstream's page, from the cache while that may be; for those who may not cause
        fetches with the files that are on disk."""
        page = await self._whole(name, inquiry)
        return (
            page
            if inquiry.may_fetch or self._is_offline
            else await self._held(page, inquiry.ground)
        )

    async def _whole(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        try:
            parsed = await self._pages.get(name, inquiry, path=name)
        except ProjectNotFound:
            inquiry.ground.holds_once()
            if (left := await self._remains(name)) is None:
                raise
            return left
        except (UpstreamError, NotHeld) as problem:
            # it was gone when that could be told; what we hold of it needs nobody
            left = await self._remains(name) if problem is inquiry.unsure else None
            if left is None:
                raise
            return left
        signatures = self._facts.signatures(self._id, name)
        # what the page may tell later is no reason to take back what it says
        inquiry.ground.rests_on((self._facts.where(self._id, name), signatures[0]))
        if signatures == (None, None) and not self._is_offline:
            return parsed  # nothing is known beyond what upstream says
        known = self._memo.get(name)
        (made_from, facts_then), earlier = known or ((None, None), None)
        is_current = made_from is parsed and facts_then == signatures
        if earlier is not None and is_current and not self._is_offline:
            return earlier
        complete = partial(self._complete, name, parsed, signatures, inquiry.ground)
        if self._is_offline:
            return await complete()
        # a herd completes a page once: of two equal ones each would be filtered and rendered
        flight, _ = self._completing.join(f"{name} {id(parsed)} {signatures}", complete)
        return await flight.result()

    async def _complete(
        self,
        name: NormalizedName,
        parsed: ProjectPage,
        signatures: Signatures,
        ground: Ground,
    ) -> ProjectPage:
        """The page as we serve it. Offline the `ground` is told what it rests on."""
        page, changed = await in_thread(self._completed, parsed, ground)
        for file, kept in changed:
            await self._report(name, file, kept)
        (made_from, facts_then), earlier = self._memo.get(name) or ((None, None), None)
        is_current = made_from is parsed and facts_then == signatures
        if earlier is not None and is_current and earlier.files == page.files:
            return earlier  # offline, nothing evicted since: what was rendered from it stays good
        self._memo.put(name, ((parsed, signatures), page))
        return page

    async def _held(self, page: ProjectPage, ground: Ground) -> ProjectPage:
        """What can be had of the page without asking; the same object while that is the same."""
        held = await in_thread(self._on_disk, page, ground)
        known = self._held_memo.get(page.name)
        if known is not None and known[0] is page and known[1].files == held.files:
            return known[1]
        self._held_memo.put(page.name, (page, held))
        return held

    async def _believed(self, key: str, page: ProjectPage | None) -> None:
        """What is removed after a quarantine, as malware is, leaves no files to be served."""
        is_bad = page is not None and page.status.status == "quarantined"
        if is_bad or self._facts.signatures(self._id, key) != (None, None):
            await in_thread(self._mark, key, page is None, is_bad)

    def _mark(self, key: str, is_absent: bool, is_bad: bool) -> None:
        try:
            if not is_absent:
                self._facts.mark(self._id, key, is_quarantined=is_bad)
            elif self._facts.is_quarantined(self._id, key):
                self._facts.remove(self._id, key)
                # for what a download under way learns yet
                self._facts.mark(self._id, key, is_quarantined=True)
        except StoreError as problem:
            self._stores.trouble.refused(problem)

    async def _remains(self, name: NormalizedName) -> ProjectPage | None:
        facts = await in_thread(self._facts.read, self._id, name)
        if not facts or await in_thread(self._facts.is_quarantined, self._id, name):
            return None
        return gone(name, facts, upstream=self._id, offers_metadata=self._offers_metadata)

    def _completed(
        self, parsed: ProjectPage, ground: Ground
    ) -> tuple[ProjectPage, list[tuple[File, str | None]]]:
        """The page as we serve it, and the files whose bytes upstream has changed, each with the
        sha256 of the bytes that stay."""
        facts = self._facts.read(self._id, parsed.name)
        page = complete(parsed, facts, upstream=self._id, offers_metadata=self._offers_metadata)
        if self._is_offline:
            page = self._on_disk(page, ground)
        changed = changed_files(parsed, facts)
        return page, [(file, facts[file.filename].sha256) for file in changed]

    async def _report(self, name: NormalizedName, file: File, kept: str | None) -> None:
        """Raise the alarm for changed bytes: once for each change, whichever worker sees it."""
        (*_, told) = best_hash(file.hashes) or (file.size,)
        note = f"changed {self._id}/{name}/{file.filename} {kept} {told}"
        if note in self._reported:
            return
        self._reported.put(note, None)
        notes, worker = self._stores.doubts, self._stores.worker
        if await worker.run(notes.recall, note) is not None:
            return
        await worker.run(notes.remember, note, b"", _REPORTED_SECONDS)
        self._events.alarm("changed-file")
        log.error(
            "%s changed the bytes of %s; the first bytes stay (accept the new ones with "
            "`proxyindex cache accept %s %s`)",
            self._name,
            file.filename,
            name,
            file.filename,
        )

    def _on_disk(self, page: ProjectPage, ground: Ground) -> ProjectPage:
        """Only what can be served without asking anybody; their folders tell of a change."""
        looked_ns = time.time_ns()
        for shelf in self._blobs.shelves(f.sha256 for f in page.files if f.sha256):
            stamp = disk.signature(shelf)
            ground.rests_on((shelf, stamp))
            if stamp and not disk.is_settled(stamp, looked_ns):
                ground.holds_once()
        files = tuple(f for f in page.files if f.sha256 and self._blobs.has(f.sha256))
        return replace(page, files=files)

    def _parse_page(self, body: bytes, content_type: str, url: str, key: str) -> ProjectPage:
        return simple.parse_page(
            body,
            content_type,
            project=NormalizedName(key),
            base_url=url,
            upstream=self._id,
            offers_metadata=self._offers_metadata,
        )


def _parse_list(body: bytes, content_type: str, url: str, key: str) -> ProjectList:
    return simple.parse_list(body, content_type)
