"""What an operator does with a cache directory: clean, empty, verify, purge, unpin.

Everything works on the directory itself, also while servers run on it: they notice removed pages
and facts by one `stat`, and a file that is being sent is read to its end.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from proxyindex import disk
from proxyindex.errors import StoreError
from proxyindex.events import SILENT
from proxyindex.store.cache import LEFTOVER_SECONDS, TAG, Cache
from proxyindex.store.doubts import Doubts
from proxyindex.store.holdings import NothingHeld, digests, holders, names_of, unreferred, upstreams
from proxyindex.store.pages import absent_note

Advance = Callable[[int], None]  # told how many bytes more have been looked at


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What `clean` removed: bytes evicted to hold the budgets, orphans, leftovers (numbers).

    `excess` is by how many bytes the budgets are exceeded all the same.
    """

    file_bytes: int
    page_bytes: int
    orphans: int
    orphan_bytes: int
    leftovers: int
    excess: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Something broken: which kind (`file`, `page`, `facts`), its name, what is wrong; and of a
    file, which is named by its digest, what it is called, if that is known."""

    kind: str
    name: str
    problem: str
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Purged:
    """What `purge` removed."""

    pages: int
    files: int
    bytes: int


@contextmanager
def opened(
    root: Path, *, file_limit: int, page_limit: int, to_change: bool = False
) -> Iterator[Cache]:
    """The existing cache at `root`, used in this thread.

    Raises `StoreError` if there is none, or if it cannot be written and is `to_change`.
    """
    try:
        tag = (root / "CACHEDIR.TAG").read_bytes()
    except PermissionError as refusal:
        what = f"{root} is another user's; run it as the one whose server uses it"
        raise StoreError("be opened", what) from refusal
    except OSError:
        tag = b""
    if tag != TAG:
        problem = "this folder is no cache of proxyindex" if root.is_dir() else "there is no folder"
        raise StoreError("be opened", f"{problem} ({root})")
    if to_change and not os.access(root, os.W_OK | os.X_OK):
        raise StoreError("be changed", f"{root} is another user's, or on a read-only disk")
    cache = Cache.open(root, file_limit=file_limit, page_limit=page_limit, events=SILENT)
    try:
        yield cache
    finally:
        cache.release()


def clean(cache: Cache, *, grace: float = LEFTOVER_SECONDS) -> Cleaned:
    """Hold the budgets, and remove what nobody refers to or will resume.

    Files younger than `grace` seconds stay: a server adopts a file first and notes it then.
    """
    cache.pages.recount()
    cache.blobs.recount()
    orphans = _remove_orphans(cache, time.time() - grace)
    return Cleaned(
        file_bytes=cache.blobs.trim(),
        page_bytes=cache.pages.trim(),
        orphans=len(orphans),
        orphan_bytes=sum(orphans),
        leftovers=cache.tidy() + cache.sweep(),
        excess=cache.blobs.excess() + cache.pages.excess(),
    )


def empty(cache: Cache) -> int:
    """Remove all pages, files and facts, running downloads excepted; the bytes freed.

    Which projects are pinned stays known. The locks stay, for servers may hold some.
    """
    freed = 0
    cache.pages.disown()
    for store in ("pages", "facts", "blobs"):
        for path, found in disk.files(cache.root / store):
            freed += found.st_size if disk.remove(path) else 0
    before = cache.partials.total()
    cache.sweep_before(float("inf"))
    for notes in (cache.absent, cache.doubts, cache.derived):
        notes.clear()
    cache.pages.recount()
    cache.blobs.recount()
    return freed + before - cache.partials.total()


def verify_bytes(cache: Cache) -> int:
    """How many bytes `verify` will look at."""
    return disk.total(cache.root / "blobs") + disk.total(cache.root / "pages")


def verify(cache: Cache, advance: Advance, *, repair: bool) -> Iterator[Damage]:
    """Check every file against its name, every page against its head, every fact.

    With `repair` what is damaged is removed; it will be fetched again when it is asked for.
    """
    damaged = list(_verify_blobs(cache, advance, repair=repair))
    called = _names(cache, {one.name for one in damaged})  # while the pages are there that tell it
    yield from (replace(one, file=called.get(one.name)) for one in damaged)
    for upstream in upstreams(cache):
        yield from _verify_pages(cache, upstream, advance, repair=repair)
        yield from _verify_facts(cache, upstream, repair=repair)
    if repair:
        cache.pages.recount()
        cache.blobs.recount()


def purge(cache: Cache, project: str) -> Purged:
    """Forget a project: its pages, what was learned of its files, and the files that no other
    project has. Raises `NothingHeld`.
    """
    cache.pages.disown()  # also where the disk took nothing of it
    doubts = Doubts(cache.doubts)
    for upstream in upstreams(cache):  # also where nothing else is known of it
        cache.absent.forget(absent_note(upstream, project))
        doubts.end(upstream, project)
    where = holders(cache, project)
    own = set[str]()
    for upstream in where:
        with suppress(StoreError):  # then they are for `clean` to find
            own |= digests(cache, upstream, project)
    # facts first: a server that looks now must not promise the bytes that go next
    for upstream in where:
        cache.facts.remove(upstream, project)
    pages = sum(cache.pages.remove(upstream, project) for upstream in where)
    sizes = remove_unreferred(cache, own)
    return Purged(pages, len(sizes), sum(sizes))


def unpin(cache: Cache, project: str) -> None:
    """Let a project be evicted again. Raises `NothingHeld` if it was not pinned."""
    if not cache.pins.remove(project):
        similar = get_close_matches(project, cache.pins.names(), n=2)
        raise NothingHeld(project, similar, what="has no pin of")


def remove_unreferred(cache: Cache, sha256s: Collection[str]) -> list[int]:
    """Remove those of these files that no page names and no fact tells of; their sizes in bytes."""
    names = unreferred(cache, sha256s)
    seen = ((name, disk.signature(cache.blobs.where(name))) for name in names)
    return [found[2] for name, found in seen if found and cache.blobs.forget(name)]


def _remove_orphans(cache: Cache, instant: float) -> list[int]:
    # the files are listed before pages and facts are read: what is noted meanwhile is no orphan
    old = [name for name, _, adopted_at in cache.blobs.walk() if adopted_at < instant]
    return remove_unreferred(cache, old)


def _verify_blobs(cache: Cache, advance: Advance, *, repair: bool) -> Iterator[Damage]:
    # by their real paths: what lies where it should not is not found by its name
    for path, found in disk.files(cache.root / "blobs"):
        if path.name.startswith("."):  # not whole yet
            continue
        if problem := _blob_problem(path, cache.blobs.path(path.name)):
            if repair:
                disk.remove(path)
            yield Damage("file", path.name, problem)
        advance(found.st_size)


def _names(cache: Cache, blobs: Collection[str]) -> Mapping[str, str]:
    try:
        return names_of(cache, blobs) if blobs else {}
    except StoreError:  # what cannot be read is told by itself
        return {}


def _blob_problem(path: Path, place: Path) -> str | None:
    name = path.name
    if not disk.is_sha256(name):
        return "the name is no sha256"
    if path != place:
        return f"it lies in {path.parent.name}, not where its name says"
    found = disk.open_regular(path)
    if found is None:  # evicted meanwhile, or something that is never served
        return "it is no readable file" if path.is_symlink() or path.exists() else None
    try:
        with open(found[0], "rb") as stream:
            actual = disk.sha256_of(stream)
    except OSError as problem:
        return f"it cannot be read: {problem.strerror}"
    return None if actual == name else f"its bytes have the sha256 {actual}"


def _verify_pages(
    cache: Cache, upstream: str, advance: Advance, *, repair: bool
) -> Iterator[Damage]:
    for key in cache.pages.keys(upstream):
        seen = cache.pages.signature(upstream, key)
        is_damaged = (
            seen is not None
            and cache.pages.read(upstream, key) is None
            # evicted or purged meanwhile is gone, not damaged
            and cache.pages.signature(upstream, key) == seen
        )
        if is_damaged and repair:
            cache.pages.remove(upstream, key)
        if is_damaged:
            yield Damage("page", f"{upstream}/{key}", "it is not what its head says")
        advance(seen[2] if seen else 0)


def _verify_facts(cache: Cache, upstream: str, *, repair: bool) -> Iterator[Damage]:
    for project in cache.facts.projects(upstream):
        if lines := cache.facts.broken(upstream, project):
            if repair:
                cache.facts.blank(lines)
            yield Damage("facts", f"{upstream}/{project}", f"{len(lines)} unreadable")
