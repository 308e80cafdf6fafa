"""Repositories chosen by the name that is asked for: routes, and where clients are sent away."""

from collections.abc import Callable, Sequence

from packaging.utils import NormalizedName

from proxyindex.errors import ProjectNotFound, ServedElsewhere
from proxyindex.inquiry import Inquiry
from proxyindex.model import ProjectList, ProjectPage
from proxyindex.names import first_match
from proxyindex.repository.base import Repository


class Routed:
    """Asks the repository of the first glob that matches the name, else `otherwise`; no other."""

    def __init__(self, routes: Sequence[tuple[str, Repository]], otherwise: Repository) -> None:
        self._routes = routes
        self._otherwise = otherwise

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """From each repository the names it is asked for."""
        names: list[NormalizedName] = []
        repositories = [repository for _, repository in self._routes]
        for repository in dict.fromkeys([*repositories, self._otherwise]):
            listed = await repository.projects(inquiry)
            names += [name for name in listed.names if self._of(name) is repository]
        return ProjectList.of(names)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The page as the repository of this name has it."""
        return await self._of(name).project(name, inquiry)

    def _of(self, name: NormalizedName) -> Repository:
        return first_match(name, self._routes) or self._otherwise


class Signpost:
    """Stands where an upstream would be asked, and tells the address of its page instead."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        return ProjectList(())

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """Raises `ServedElsewhere`."""
        raise ServedElsewhere(name, f"{self._url}/{name}/")


class Redirected:
    """Own projects are served, for all others clients are sent away by `signposts`.

    Own projects that `merges` names come from `joined`, which asks upstreams for their files.
    """

    def __init__(
        self,
        own: Repository,
        joined: Repository,
        signposts: Repository,
        merges: Callable[[NormalizedName], bool],
    ) -> None:
        self._own = own
        self._joined = joined
        self._signposts = signposts
        self._merges = merges

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """All names, wherever they are served."""
        return await self._joined.projects(inquiry)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The own page. Raises `ServedElsewhere` where there is none."""
        try:
            page = await self._own.project(name, inquiry)
        except ProjectNotFound:
            return await self._signposts.project(name, inquiry)
        return await self._joined.project(name, inquiry) if self._merges(name) else page
