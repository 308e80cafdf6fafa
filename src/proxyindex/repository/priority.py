"""An ordered list of repositories: the first that has the project answers alone."""

from collections.abc import Callable, Iterable, Sequence

from packaging.utils import NormalizedName

from proxyindex.errors import Denied, NotHeld, ProjectNotFound
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, ProjectList, ProjectPage
from proxyindex.names import version_key
from proxyindex.repository.base import Repository
from proxyindex.repository.remembered import Remembered
from proxyindex.simple import order_files


class Priority:
    """Falls through on `ProjectNotFound` and on nothing else.

    An earlier source that fails never promotes a later one. `merges(name)` names the projects
    whose files are joined from all sources, by explicit setting only; then an equal file name
    belongs to the earlier source.
    """

    def __init__(
        self,
        sources: Sequence[Repository],
        merges: Callable[[NormalizedName], bool] = lambda name: False,
    ) -> None:
        self._sources = sources
        self._merges = merges
        self._joins = _Joins()

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """The union of all sources' names."""
        lists = [await source.projects(inquiry) for source in self._sources]
        return ProjectList.of(name for listed in lists for name in listed.names)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The page of the first owner, or of all owners where the name is merged."""
        pages: list[ProjectPage] = []
        gone: ProjectPage | None = None
        for source in self._sources:
            page = await _page(source, name, inquiry, others=len(pages))
            if page is None:
                continue
            if page.is_gone:  # served only if nobody has the project any more
                gone = gone or page
            elif not self._merges(name):
                return page
            else:
                pages.append(page)
        if pages:
            return self._joins.page(pages)
        if gone:
            return gone
        raise ProjectNotFound(name)


async def _page(
    source: Repository, name: NormalizedName, inquiry: Inquiry, *, others: int
) -> ProjectPage | None:
    try:
        return await source.project(name, inquiry)
    except ProjectNotFound:
        return None
    except NotHeld:
        if not others:
            raise
        return None  # a joined page is made of what may be seen


class Joined:
    """Our own sources of one index and its bases: a project's files are those of all of them.

    Each source comes with its policy. A name it denies is refused only where no other of them has
    it, and only if it has it itself: what it knows nothing of is not its to judge.
    """

    def __init__(self, sources: Iterable[tuple[Repository, Repository]]) -> None:
        """Pairs of a source as it is, and as seen through policies."""
        self._sources = tuple(sources)
        self._joins = _Joins()

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """The union of all names."""
        lists = [await seen.projects(inquiry) for _, seen in self._sources]
        return ProjectList.of(name for listed in lists for name in listed.names)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The files of all; an equal file name belongs to the earlier source."""
        pages: list[ProjectPage] = []
        denial: Denied | None = None
        for source, seen in self._sources:
            try:
                page = await source.project(name, inquiry)
                pages.append(page if seen is source else await seen.project(name, inquiry))
            except ProjectNotFound:
                continue
            except Denied as problem:
                denial = denial or problem
        if pages:
            return self._joins.page(pages)
        raise denial or ProjectNotFound(name)


class _Joins:
    """Makes one page of several. Pages are immutable, so that the same ones give the same."""

    def __init__(self) -> None:
        self._memo: Remembered[Sequence[ProjectPage]] = Remembered()

    def page(self, pages: Sequence[ProjectPage]) -> ProjectPage:
        """All files of the pages, of which there is at least one."""
        if len(pages) == 1:
            return pages[0]
        known = self._memo.get(pages[0].name)
        if known is not None and list(map(id, known[0])) == list(map(id, pages)):
            return known[1]
        joined = _merge(pages)
        self._memo.put(joined.name, pages, joined)
        return joined


def _merge(pages: Sequence[ProjectPage]) -> ProjectPage:
    files: dict[str, File] = {}
    withdrawn: dict[str, File] = {}
    denied: dict[str, Denied] = {}
    for page in pages:
        for offered, known in ((page.files, files), (page.withdrawn, withdrawn)):
            for file in offered:
                # a name denied by an earlier source is that source's to refuse
                if file.filename not in denied:
                    known.setdefault(file.filename, file)
        for name, denial in page.denied.items():
            if name not in files:
                denied.setdefault(name, denial)
    versions = {version for page in pages for version in page.versions}
    first = pages[0]
    return ProjectPage(
        name=first.name,
        files=order_files(files.values()),
        versions=tuple(sorted(versions, key=version_key)),
        status=first.status,
        withdrawn=tuple(withdrawn.values()),
        denied=denied,
    )
