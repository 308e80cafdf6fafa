"""An ordered list of repositories: the first that has the project answers alone."""

import operator
from collections.abc import Callable, Iterable, Sequence

from packaging.utils import NormalizedName

from proxyindex.errors import Denied, NotHeld, ProjectNotFound, UpstreamError
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, ProjectList, ProjectPage
from proxyindex.names import version_key
from proxyindex.repository.base import Repository
from proxyindex.repository.lists import MadeList, union
from proxyindex.repository.local import Local
from proxyindex.repository.remembered import MadePages
from proxyindex.repository.scan import Catalogue
from proxyindex.simple import order_files

_MOST_LOOKS = 8  # where folders change all the time, the last one counts


class Priority:
    """Falls through on `ProjectNotFound` and on nothing else.

    An earlier source that fails never promotes a later one: if it had no such project when it could
    last tell, what is stored of a later one is still served, and nothing else (`Inquiry.unsure`).
    `merges(name)` names the projects whose files are joined from all sources, by explicit setting
    only; then an equal file name belongs to the earlier source, also once that lists it no more.
    What is left of a project that is gone is served only if nobody has it any more, and then from
    all sources.
    """

    def __init__(
        self,
        sources: Sequence[Repository],
        merges: Callable[[NormalizedName], bool] = lambda name: False,
    ) -> None:
        self._sources = sources
        self._merges = merges
        self._joins = _Joins()
        self._listed = MadeList(union)

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """The union of all sources' names."""
        return await self._listed.of(*[await one.projects(inquiry) for one in self._sources])

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The page of the first owner, or of all owners where the name is merged."""
        pages: list[ProjectPage] = []
        is_there = False
        for source in self._sources:
            try:
                page = await _page(source, name, inquiry, is_there=is_there)
            except (UpstreamError, NotHeld) as problem:
                if problem is not inquiry.unsure:
                    raise
                continue
            if page is None:
                continue
            if not page.is_gone and not self._merges(name):
                return page
            pages.append(page)
            is_there |= not page.is_gone
        if not pages:
            raise inquiry.unsure or ProjectNotFound(name)
        return await self._joins.page(pages)


async def _page(
    source: Repository, name: NormalizedName, inquiry: Inquiry, *, is_there: bool
) -> ProjectPage | None:
    try:
        return await source.project(name, inquiry)
    except ProjectNotFound:
        return None
    except NotHeld:
        if not is_there:
            raise
        return None  # a joined page is made of what may be seen


class Joined:
    """Our own sources of one index and its bases: a project's files are those of all of them.

    Each source comes with its policy. If that denies the name, the request is denied only if the
    source has the project and no other source does.
    """

    def __init__(self, sources: Iterable[tuple[Repository, Repository]]) -> None:
        """Pairs of a source as it is, and as seen through policies."""
        self._sources = tuple(sources)
        self._joins = _Joins()
        self._listed = MadeList(union)

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """The union of all names."""
        return await self._listed.of(*[await seen.projects(inquiry) for _, seen in self._sources])

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The files of all; an equal file name belongs to the earlier source.

        Folders are looked into one after the other: what is moved from a later to an earlier one
        meanwhile is in neither, and its name would be anybody's. So they are asked again if one
        has changed.
        """
        before = self._states()
        for _ in range(_MOST_LOOKS):
            try:
                return await self._look(name, inquiry)
            except ProjectNotFound:
                now = self._states()
                if all(map(operator.is_, before, now)):
                    raise
                before = now
        return await self._look(name, inquiry)

    def _states(self) -> list[Catalogue]:
        return [source.latest for source, _ in self._sources if isinstance(source, Local)]

    async def _look(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        pages: list[ProjectPage] = []
        denial: Denied | None = None
        for source, seen in self._sources:
            try:
                pages.append(await seen.project(name, inquiry))
            except ProjectNotFound:
                continue
            except Denied as problem:
                # its folders are looked into a second time for that only
                if await _page(source, name, inquiry, is_there=False) is not None:
                    denial = denial or problem
        if pages:
            return await self._joins.page(pages)
        raise denial or ProjectNotFound(name)


class _Joins:
    """Makes one page of several."""

    def __init__(self) -> None:
        self._made = MadePages(_merge)

    async def page(self, pages: Sequence[ProjectPage]) -> ProjectPage:
        """All files of the pages, of which there is at least one."""
        return pages[0] if len(pages) == 1 else await self._made.of(*pages)


def _merge(*pages: ProjectPage) -> ProjectPage:
    files: dict[str, File] = {}
    withdrawn: dict[str, File] = {}
    denied: dict[str, Denied] = {}
    for page in pages:
        for offered, known in ((page.files, files), (page.withdrawn, withdrawn)):
            for file in offered:
                filename = file.filename
                # the name is the earlier source's: to list, to serve unlisted, or to refuse
                if filename not in files and filename not in withdrawn and filename not in denied:
                    known[filename] = file
        for name, denial in page.denied.items():
            if name not in files and name not in withdrawn:
                denied.setdefault(name, denial)
    versions = {version for page in pages for version in page.versions}
    first = next((page for page in pages if not page.is_gone), pages[0])
    return ProjectPage(
        name=first.name,
        files=order_files(files.values()),
        versions=tuple(sorted(versions, key=version_key)),
        status=first.status,
        withdrawn=tuple(withdrawn.values()),
        denied=denied,
        is_gone=first.is_gone,
        length=sum(page.length for page in pages),
    )
