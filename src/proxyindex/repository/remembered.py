"""Pages made from other pages, held in memory by weight and not by number."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from proxyindex.flight import Shared
from proxyindex.memo import Memo
from proxyindex.model import ProjectPage
from proxyindex.threads import in_thread

S = TypeVar("S")

_MOST = 60_000  # of `weight`, in all remembered pages; about 1 KB each where they are not shared
_LARGE = 1_000  # of `weight`: what is made of more would hold up all else for milliseconds

# The latest page made for each project, behind the source that it was made from.
Remembered = Memo[str, tuple[S, ProjectPage]]


def remembered(limit: int = _MOST) -> Remembered[S]:
    """Bounds the weight: by number alone, pages of thousands of files would fill the memory."""
    return Memo(limit, lambda made: weight(made[1]))


class MadePages:
    """The latest page that `make` made of others, by project; the same object while these are.

    Large ones off the loop, and once for all who come meanwhile: a hostile page of 190,000 versions
    takes seconds to judge. Pages are immutable and told apart by identity.
    """

    def __init__(self, make: Callable[..., ProjectPage]) -> None:
        self._make = make
        self._memo: Remembered[tuple[ProjectPage, ...]] = remembered()
        self._making: Shared[tuple[int, ...], ProjectPage] = Shared()

    async def of(self, *sources: ProjectPage) -> ProjectPage:
        """The page made of these, of which there is at least one."""
        name, key = sources[0].name, tuple(map(id, sources))
        known = self._memo.get(name)
        if known is not None and tuple(map(id, known[0])) == key:
            return known[1]
        if sum(map(weight, sources)) < _LARGE:
            made = self._make(*sources)
        else:
            made = await self._making.get(key, partial(in_thread, self._make, *sources))
        self._memo.put(name, (sources, made))
        return made


def weight(page: ProjectPage) -> int:
    """What a page takes of a memory: all of it that an upstream may make long, texts included."""
    lists = (page.files, page.versions, page.withdrawn, page.denied)
    return 1 + max(sum(map(len, lists)), page.length // 1024)
