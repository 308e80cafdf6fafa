"""What a cache directory holds, read from the directory itself."""

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from packaging.utils import NormalizedName

from proxyindex import disk, simple
from proxyindex.errors import NotFound, ProxyindexError
from proxyindex.model import METADATA_SUFFIX, ProjectPage
from proxyindex.store.cache import Cache
from proxyindex.store.facts import Fact


class NothingHeld(NotFound):
    """The cache has nothing of a project. `similar` are names of which it has."""

    def __init__(self, project: str, similar: list[str], *, what: str = "holds nothing of") -> None:
        hint = f"; did you mean {' or '.join(repr(name) for name in similar)}?" if similar else "."
        super().__init__(f"The cache {what} {project!r}{hint}")


@dataclass(frozen=True, slots=True)
class Holding:
    """What is held of one project of one upstream. Sizes in bytes.

    `upstream` is the id in the stores. `files` counts the archives held. `validated_at` is when
    upstream last confirmed the page (seconds since the epoch), `None` without a page.
    """

    project: str
    upstream: str
    files: int
    file_bytes: int
    page_bytes: int
    is_pinned: bool
    validated_at: float | None

    @property
    def bytes(self) -> int:
        return self.file_bytes + self.page_bytes


@dataclass(frozen=True, slots=True)
class HeldFile:
    """One file the cache knows of. `size` in bytes, `None` if it is not held (any more)."""

    filename: str
    upstream: str
    sha256: str | None
    size: int | None
    has_metadata: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes and number of files of one part of the directory, and its budget in bytes if any."""

    part: str
    bytes: int
    count: int
    limit: int | None = None


def upstreams(cache: Cache) -> list[str]:
    """Ids of all upstreams of which there is a page or a fact."""
    return sorted({*cache.pages.upstreams(), *cache.facts.upstreams()})


def projects(cache: Cache, upstream: str) -> list[str]:
    """Names of all projects of which there is a page or a fact."""
    # other documents than pages have keys that no project can have, such as +list
    pages = (key for key in cache.pages.keys(upstream) if not key.startswith("+"))
    return sorted({*pages, *cache.facts.projects(upstream)})


def holdings(cache: Cache) -> list[Holding]:
    """Everything that is held, by upstream and project."""
    sizes = {name: size for name, size, _ in cache.blobs.walk()}
    pinned = frozenset(cache.pins.names())
    return [
        _holding(cache, upstream, project, sizes, is_pinned=project in pinned)
        for upstream in upstreams(cache)
        for project in projects(cache, upstream)
    ]


def files(cache: Cache, project: str) -> list[HeldFile]:
    """The files of one project the cache knows of. Raises `NothingHeld`."""
    sizes = {name: size for name, size, _ in cache.blobs.walk()}
    return [
        HeldFile(
            filename,
            upstream,
            fact.sha256,
            sizes.get(fact.sha256 or ""),
            has_metadata=fact.metadata in sizes,
        )
        for upstream in holders(cache, project)
        for filename, fact in sorted(_known(cache, upstream, project, sizes).items())
    ]


def usage(cache: Cache, *, file_limit: int, page_limit: int) -> list[Usage]:
    """How much each part of the directory takes, counted on disk."""
    limits = {"blobs": ("files", file_limit), "pages": ("pages", page_limit)}
    parts = []
    for store in ("blobs", "pages", "facts", "partials", "index"):
        sizes = [found.st_size for _, found in disk.files(cache.root / store)]
        part, limit = limits.get(store, (store, None))
        parts.append(Usage(part, sum(sizes), len(sizes), limit))
    return parts


def holders(cache: Cache, project: str) -> list[str]:
    """Ids of the upstreams of which there is something of the project. Raises `NothingHeld`."""
    known = {upstream: projects(cache, upstream) for upstream in upstreams(cache)}
    if found := [upstream for upstream, names in known.items() if project in names]:
        return found
    names = {name for names in known.values() for name in names}
    raise NothingHeld(project, get_close_matches(project, names, n=2))


def page_of(cache: Cache, upstream: str, project: str) -> ProjectPage | None:
    """The stored page as upstream gave it, or `None` without one that can be read."""
    stored = cache.pages.read(upstream, project)
    if stored is None:
        return None
    head = stored.head
    try:
        return simple.parse_page(
            stored.body,
            head.content_type,
            project=NormalizedName(project),
            base_url=head.url,
            upstream=upstream,
            offers_metadata=False,
        )
    except ProxyindexError:  # stored by a laxer parser: servers do not use it either
        return None


def digests(cache: Cache, upstream: str, project: str) -> set[str]:
    """Digests of all files and metadata a project is known to have."""
    facts = cache.facts.read(upstream, project)
    learned = {digest for fact in facts.values() for digest in fact.digests}
    return learned | cache.pages.digests(upstream, project)


def unreferred(cache: Cache, blobs: Collection[str]) -> list[str]:
    """Those of these digests that no page names and no fact tells of, sorted."""
    left = set(blobs)
    for upstream in upstreams(cache):
        for project in projects(cache, upstream) if left else ():
            left -= digests(cache, upstream, project)
    return sorted(left)


def names_of(cache: Cache, blobs: Collection[str]) -> dict[str, str]:
    """What files of these digests are called, as `upstream/project/filename`, where that is known.

    Raises `StoreError` if it cannot be told now.
    """
    found: dict[str, str] = {}
    for upstream in upstreams(cache):
        for project in projects(cache, upstream):
            if digests(cache, upstream, project).isdisjoint(blobs):
                continue  # pages are read, if not understood, in a moment
            for filename, fact in _known(cache, upstream, project, blobs).items():
                for digest, suffix in ((fact.sha256, ""), (fact.metadata, METADATA_SUFFIX)):
                    if digest and digest in blobs:
                        found[digest] = f"{upstream}/{project}/{filename}{suffix}"
    return found


def upstream_name(upstream: str) -> str:
    """The configured name in an upstream's id."""
    return upstream.rpartition("-")[0] or upstream


def _known(cache: Cache, upstream: str, project: str, sizes: Container[str]) -> dict[str, Fact]:
    """What is known of the files held: core metadata that the page advertises is no fact."""
    known = dict(cache.facts.read(upstream, project))
    page = page_of(cache, upstream, project)
    for file in page.files if page else ():
        advertised = (file.core_metadata or {}).get("sha256")
        if advertised in sizes:
            said = Fact(sha256=file.sha256, metadata=advertised)
            known[file.filename] = known.get(file.filename, said).merged(said)
    return known


def _holding(
    cache: Cache, upstream: str, project: str, sizes: Mapping[str, int], *, is_pinned: bool
) -> Holding:
    facts = cache.facts.read(upstream, project)
    archives = {fact.sha256 for fact in facts.values() if fact.sha256 in sizes}
    held = digests(cache, upstream, project) & sizes.keys()
    head = cache.pages.read_head(upstream, project)
    page = cache.pages.signature(upstream, project)
    return Holding(
        project=project,
        upstream=upstream,
        files=len(archives),
        file_bytes=sum(sizes[digest] for digest in held),
        page_bytes=page[2] if page else 0,
        is_pinned=is_pinned,
        validated_at=head.validated_at if head else None,
    )
