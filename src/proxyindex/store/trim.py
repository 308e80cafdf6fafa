"""Exact LRU trimming, the same for files and pages: oldest first, one at a time, until it fits."""

from collections.abc import Callable, Collection

from proxyindex.store.index import Recency


def evict(
    recency: Recency, limit: int, pinned: Collection[str], unlink: Callable[[str], object]
) -> int:
    """Unlink least recently used keys until their sizes sum to `limit` at most; bytes freed."""
    freed = 0
    while batch := recency.shed(limit, pinned, unlink):
        freed += batch
    return freed
