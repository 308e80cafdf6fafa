"""Pages made from other pages, held in memory by weight and not by number."""

from collections import OrderedDict
from typing import Generic, TypeVar

from proxyindex.model import ProjectPage

S = TypeVar("S")

_MOST_FILES = 60_000  # in all remembered pages, about 1 KB each where they are not shared


class Remembered(Generic[S]):
    """The latest page made for each project, with the `source` that it was made from.

    The heaviest use is bounded: a limit on the number of pages alone would let pages of
    thousands of files fill the memory.
    """

    def __init__(self, limit: int = _MOST_FILES) -> None:
        self._limit = limit
        self._pages: OrderedDict[str, tuple[S, ProjectPage]] = OrderedDict()
        self._weight = 0

    def get(self, name: str) -> tuple[S, ProjectPage] | None:
        """What was made last, and from what."""
        if name in self._pages:
            self._pages.move_to_end(name)
        return self._pages.get(name)

    def put(self, name: str, source: S, page: ProjectPage) -> None:
        """Replace what is known of the project; least recently used ones leave first."""
        self._drop(name)
        self._pages[name] = source, page
        self._weight += _weight(page)
        while self._weight > self._limit and len(self._pages) > 1:
            self._drop(next(iter(self._pages)))

    def _drop(self, name: str) -> None:
        if (old := self._pages.pop(name, None)) is not None:
            self._weight -= _weight(old[1])


def _weight(page: ProjectPage) -> int:
    return 1 + len(page.files) + len(page.withdrawn) + len(page.denied)
