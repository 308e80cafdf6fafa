"""Projects that are never evicted: an empty file per normalized name."""

from pathlib import Path

from proxyindex import disk
from proxyindex.disk import Signature
from proxyindex.errors import StoreError
from proxyindex.store.facts import Facts
from proxyindex.store.pages import PageStore


class Pins:
    """Pinned projects, and what of the stores belongs to them. Synchronous."""

    def __init__(self, root: Path, facts: Facts, pages: PageStore) -> None:
        self._root = root
        self._facts = facts
        self._pages = pages
        self._named: dict[tuple[str, str], tuple[Signature | None, frozenset[str]]] = {}

    def names(self) -> list[str]:
        return disk.names(self._root)

    def add(self, project: str) -> None:
        """Raises `StoreError`."""
        try:
            disk.make_folder(self._root)
            (self._root / project).touch()
            disk.hand_over(self._root / project)
        except OSError as problem:
            raise StoreError("pin a project", problem) from problem

    def remove(self, project: str) -> bool:
        """Whether it was pinned."""
        return disk.remove(self._root / project)

    def blobs(self) -> frozenset[str]:
        """Digests of all files and metadata of pinned projects, as their pages name them and as
        was learned."""
        digests: set[str] = set()
        named = {}
        for upstream, name in self._places():
            digests.update(*(fact.digests for fact in self._facts.read(upstream, name).values()))
            named[upstream, name] = self._named_by(upstream, name)
            digests |= named[upstream, name][1]
        self._named = named
        return frozenset(digests)

    def pages(self) -> frozenset[str]:
        """Page keys (`upstream/name`) of pinned projects."""
        return frozenset(f"{upstream}/{name}" for upstream, name in self._places())

    def _places(self) -> list[tuple[str, str]]:
        names = self.names()
        if not names:
            return []
        upstreams = {*self._pages.upstreams(), *self._facts.upstreams()}
        return [(upstream, name) for upstream in sorted(upstreams) for name in names]

    def _named_by(self, upstream: str, name: str) -> tuple[Signature | None, frozenset[str]]:
        """The digests on a page; asked at each trim, so not read again while it is the same."""
        signature = self._pages.signature(upstream, name)
        known = self._named.get((upstream, name))
        if known is not None and known[0] == signature:
            return known
        return signature, self._pages.digests(upstream, name)
