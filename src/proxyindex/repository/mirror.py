"""A repository that answers for one upstream through the cache."""

import logging
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup
from packaging.utils import NormalizedName

from proxyindex import simple
from proxyindex.errors import ProjectNotFound
from proxyindex.inquiry import Inquiry
from proxyindex.model import ProjectList, ProjectPage
from proxyindex.repository.kept import Kept, Terms
from proxyindex.repository.learned import changed_files, complete, gone
from proxyindex.repository.remembered import Remembered
from proxyindex.store.blobs import BlobStore
from proxyindex.store.disk import Signature
from proxyindex.store.facts import Facts

log = logging.getLogger(__name__)

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
        self._pages = Kept(
            terms, tasks, parse=self._parse_page, weigh=lambda page: 1 + len(page.files)
        )
        self._list = Kept(terms, tasks, parse=_parse_list, weigh=lambda listed: len(listed.names))
        # completed pages by name, with what they were made from
        self._memo: Remembered[tuple[ProjectPage, Signature | None]] = Remembered()

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """Upstream's project list if configured, else nothing: installers never ask for it."""
        if not self._lists_all:
            return ProjectList(())
        try:
            return await self._list.get(LIST_KEY, inquiry, path="")
        except ProjectNotFound:  # pages without a list of them: some wheel indexes
            return ProjectList(())

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The upstream's page, from the cache while that may be."""
        try:
            parsed = await self._pages.get(name, inquiry, path=name)
        except ProjectNotFound:
            return await self._remains(name)
        signature = self._facts.signature(self._id, name)
        known = self._memo.get(name)
        (made_from, facts_then), earlier = known or ((None, None), None)
        is_current = made_from is parsed and facts_then == signature
        if earlier is not None and is_current and not self._is_offline:
            return earlier
        page = await anyio.to_thread.run_sync(self._completed, parsed)
        if earlier is not None and is_current and earlier.files == page.files:
            return earlier  # offline, nothing evicted since: what was rendered from it stays good
        self._memo.put(name, (parsed, signature), page)
        return page

    async def _remains(self, name: NormalizedName) -> ProjectPage:
        facts = await anyio.to_thread.run_sync(self._facts.read, self._id, name)
        if not facts:
            raise ProjectNotFound(name)
        return gone(name, facts, upstream=self._id, offers_metadata=self._offers_metadata)

    def _completed(self, parsed: ProjectPage) -> ProjectPage:
        facts = self._facts.read(self._id, parsed.name)
        for filename in changed_files(parsed, facts):
            self._events.alarm("changed-file")
            log.error(
                "%s changed the bytes of %s; the first bytes stay (accept the new ones with "
                "`proxyindex cache purge %s`)",
                self._name,
                filename,
                parsed.name,
            )
        page = complete(parsed, facts, upstream=self._id, offers_metadata=self._offers_metadata)
        return self._on_disk(page) if self._is_offline else page

    def _on_disk(self, page: ProjectPage) -> ProjectPage:
        """Only what can be served without asking anybody."""
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
