"""Pages made from other pages, held in memory by weight and not by number."""

from typing import TypeVar

from proxyindex.memo import Memo
from proxyindex.model import ProjectPage

S = TypeVar("S")

_MOST_FILES = 60_000  # in all remembered pages, about 1 KB each where they are not shared

# The latest page made for each project, behind the source that it was made from.
Remembered = Memo[str, tuple[S, ProjectPage]]


def remembered(limit: int = _MOST_FILES) -> Remembered[S]:
    """Bounds the files: by number alone, pages of thousands of files would fill the memory."""
    return Memo(limit, _weight)


def _weight(made: tuple[S, ProjectPage]) -> int:
    _, page = made
    return 1 + len(page.files) + len(page.withdrawn) + len(page.denied)
