"""Repositories chosen by the name that is asked for: routes, and where clients are sent away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packaging.utils import NormalizedName

from proxyindex.errors import ProjectNotFound, ServedElsewhere
from proxyindex.inquiry import Inquiry
from proxyindex.memo import Memo
from proxyindex.model import NO_PROJECTS, ProjectList, ProjectPage
from proxyindex.policy.verdict import ALLOW, Policy
from proxyindex.repository.base import Repository
from proxyindex.repository.filtered import Filtered
from proxyindex.repository.lists import MadeList, union
from proxyindex.repository.priority import Priority

_MOST_SOURCES = 64  # there are as many as ways through the routes, which are few as a rule


@dataclass(frozen=True, slots=True)
class Leaf:
    """An upstream and the policies on the way to it, the farthest last."""

    upstream: Repository
    policies: tuple[Policy, ...] = ()

    def lists(self, name: NormalizedName) -> bool:
        """Whether no policy hides or denies the name."""
        return all(policy.judge_name(name) == ALLOW for policy in self.policies)

    def seen(self) -> Repository:
        """The upstream as the policies show it."""
        repository = self.upstream
        for policy in reversed(self.policies):
            repository = Filtered(repository, policy)
        return repository


class Routed:
    """For each name the leaves that `choose` tells, the first that has it; no other is asked.

    `upstreams` are those of all leaves, `merges` is as for `Priority`.
    """

    def __init__(
        self,
        choose: Callable[[NormalizedName], Sequence[Leaf]],
        upstreams: Sequence[Repository],
        merges: Callable[[NormalizedName], bool],
    ) -> None:
        self._choose = choose
        self._upstreams = upstreams
        self._merges = merges
        self._listed = MadeList(self._list)
        # kept, since they remember what they made: of new ones each page would be a new one, too
        self._sources: Memo[tuple[Leaf, ...], Priority] = Memo(_MOST_SOURCES)

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """From each upstream the names it is asked for."""
        return await self._listed.of(*[await one.projects(inquiry) for one in self._upstreams])

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The page as the first that has it shows it."""
        return await self._source(tuple(self._choose(name))).project(name, inquiry)

    def _list(self, *told: ProjectList) -> ProjectList:
        lists = {one: set(listed.names) for one, listed in zip(self._upstreams, told, strict=True)}

        def is_listed(name: NormalizedName) -> bool:
            leaves = self._choose(name)
            return any(name in lists[leaf.upstream] and leaf.lists(name) for leaf in leaves)

        return ProjectList(tuple(filter(is_listed, union(*told).names)))

    def _source(self, leaves: tuple[Leaf, ...]) -> Priority:
        if (known := self._sources.get(leaves)) is None:
            known = Priority([leaf.seen() for leaf in leaves], self._merges)
            self._sources.put(leaves, known)
        return known


class Signpost:
    """Stands where an upstream would be asked, and tells the address of its page instead."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        return NO_PROJECTS

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
