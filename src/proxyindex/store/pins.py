"""Projects that are never evicted: an empty file per normalized name."""

from pathlib import Path

from proxyindex import disk
from proxyindex.errors import StoreError
from proxyindex.store.facts import Facts


class Pins:
    """Pinned projects, and what of the stores belongs to them. Synchronous."""

    def __init__(self, root: Path, facts: Facts) -> None:
        self._root = root
        self._facts = facts

    def names(self) -> list[str]:
        return disk.names(self._root)

    def add(self, project: str) -> None:
        """Raises `StoreError`."""
        try:
            disk.make_folder(self._root)
            (self._root / project).touch()
            disk.hand_over(self._root / project)
        except OSError as problem:
            raise StoreError("pin a project", problem.strerror or str(problem)) from problem

    def remove(self, project: str) -> bool:
        """Whether it was pinned."""
        return disk.remove(self._root / project)

    def blobs(self) -> frozenset[str]:
        """Digests of all files and metadata of pinned projects."""
        digests: set[str] = set()
        names = self.names()
        for upstream in self._facts.upstreams() if names else ():
            for name in names:
                for fact in self._facts.read(upstream, name).values():
                    digests |= fact.digests
        return frozenset(digests)

    def pages(self) -> frozenset[str]:
        """Page keys (`upstream/name`) of pinned projects."""
        names = self.names()
        upstreams = self._facts.upstreams() if names else ()
        return frozenset(f"{upstream}/{name}" for upstream in upstreams for name in names)
