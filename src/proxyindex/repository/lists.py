"""Project lists made from other lists, or from folders."""

from collections.abc import Callable
from functools import partial
from itertools import chain

from proxyindex.flight import Shared
from proxyindex.model import NO_PROJECTS, ProjectList
from proxyindex.threads import in_thread


class MadeList:
    """The latest list that `make` made of sources; the same object while these are the same ones.

    Off the loop, and once for all who come meanwhile: PyPI's list has 800,000 names, and what looks
    at each takes seconds. Sources are immutable and told apart by identity, as those of pages are.
    """

    def __init__(self, make: Callable[..., ProjectList]) -> None:
        self._make = make
        self._known: tuple[tuple[object, ...], ProjectList] | None = None
        self._making: Shared[tuple[int, ...], ProjectList] = Shared()

    async def of(self, *sources: object) -> ProjectList:
        """The list made of these."""
        known, key = self._known, tuple(map(id, sources))
        if known is not None and tuple(map(id, known[0])) == key:
            return known[1]
        return await self._making.get(key, partial(self._made, sources))

    async def _made(self, sources: tuple[object, ...]) -> ProjectList:
        made = await in_thread(self._make, *sources)
        self._known = sources, made
        return made


def union(*lists: ProjectList) -> ProjectList:
    """The names of all; of lists that are empty but for one, that one."""
    filled = [listed for listed in lists if listed.names]
    if len(filled) < 2:
        return filled[0] if filled else NO_PROJECTS
    return ProjectList.of(chain.from_iterable(listed.names for listed in filled))
