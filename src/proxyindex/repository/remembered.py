"""Pages made from other pages, held in memory by weight and not by number."""

from typing import TypeVar

from proxyindex.memo import Memo
from proxyindex.model import ProjectPage

S = TypeVar("S")

_MOST = 60_000  # of `weight`, in all remembered pages; about 1 KB each where they are not shared

# The latest page made for each project, behind the source that it was made from.
Remembered = Memo[str, tuple[S, ProjectPage]]


def remembered(limit: int = _MOST) -> Remembered[S]:
    """Bounds the weight: by number alone, pages of thousands of files would fill the memory."""
    return Memo(limit, lambda made: weight(made[1]))


def weight(page: ProjectPage) -> int:
    """What a page takes of a memory: all of it that an upstream may make long."""
    lists = (page.files, page.versions, page.withdrawn, page.denied)
    return 1 + sum(map(len, lists))
