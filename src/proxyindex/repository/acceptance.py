"""What an operator accepts of an upstream's word against what is stored of a project.

Works on the cache directory, also while servers run on it: they notice by one `stat`.
"""

from dataclasses import dataclass, replace

from packaging.utils import NormalizedName

from proxyindex.errors import ProxyindexError, StoreError
from proxyindex.model import ProjectPage
from proxyindex.repository.learned import changed_files, tells_of_same
from proxyindex.store.cache import Cache
from proxyindex.store.doubts import Doubts
from proxyindex.store.facts import Fact
from proxyindex.store.holdings import holders, page_of
from proxyindex.store.upkeep import remove_unreferred

_ATTEMPTS = 3  # a server may write the page at the same time


class NothingToAccept(ProxyindexError):
    """Upstream does not contradict what is stored."""

    def __init__(self, project: str, filename: str | None) -> None:
        if filename is None:
            text = (
                f"There is nothing to accept for {project!r}: its page is not in doubt, and lists "
                "no file whose bytes changed. A file of which the page tells neither digest nor "
                "size has to be named."
            )
        else:
            text = f"There is nothing to accept: no other bytes are known of for {filename!r}."
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Accepted:
    """`pages`: how many are believed as soon as upstream is asked again. `files`: names of those
    whose first bytes were forgotten. `bytes`: freed."""

    pages: int
    files: tuple[str, ...]
    bytes: int


def accept(cache: Cache, project: NormalizedName, filename: str | None = None) -> Accepted:
    """Let in what upstream says now: a page in doubt, and files with other bytes than the first.

    With `filename` only that file; then also one of which upstream tells nothing to compare.
    Raises `NothingHeld`, `NothingToAccept`, and `StoreError` if the disk refuses.
    """
    pages, files, gone = 0, list[str](), set[str]()
    for upstream in holders(cache, project):
        facts = cache.facts.read(upstream, project)
        page = page_of(cache, upstream, project)
        changed = [file.filename for file in changed_files(page, facts)] if page else []
        if filename is not None:
            fact = facts.get(filename)
            is_other = fact and fact.sha256 and _may_differ(page, filename, fact)
            changed = [filename] if is_other else []
        for name in changed:
            gone |= facts[name].digests
        cache.facts.forget(upstream, project, changed)
        if changed:
            cache.pages.outdate(upstream, project)
        files += changed
        if filename is None and page is not None:
            pages += _end_doubt(cache, upstream, project)
    if not pages and not files:
        raise NothingToAccept(project, filename)
    return Accepted(pages, tuple(files), sum(remove_unreferred(cache, gone)))


def _may_differ(page: ProjectPage | None, filename: str, fact: Fact) -> bool:
    """Whether the page leaves open that upstream's bytes are others than those adopted."""
    if page is None:
        return True
    return any(f.filename == filename and not tells_of_same(f, fact) for f in page.files)


def _end_doubt(cache: Cache, upstream: str, project: str) -> bool:
    """Have a page in doubt asked for again, and the answer believed; whether there was a doubt."""
    doubts = Doubts(cache.doubts)
    if doubts.since(upstream, project) is None:
        return False
    if not doubts.accept(upstream, project):
        raise StoreError("note what you accept", "its index cannot be written now")
    for _ in range(_ATTEMPTS):
        seen = cache.pages.signature(upstream, project)
        stored = cache.pages.read(upstream, project)
        if stored is None:
            break
        if cache.pages.signature(upstream, project) == seen:
            # a lifetime of nothing: servers ask first, and still have it if upstream fails
            head = replace(stored.head, lifetime=0.0)
            cache.pages.write(upstream, project, head, stored.body)
            break
    return True
