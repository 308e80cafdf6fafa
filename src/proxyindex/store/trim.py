"""Exact LRU trimming, the same for files and pages: oldest first, one at a time, until it fits."""

from collections.abc import Callable, Collection

from proxyindex.store.index import Recency

_BATCH = 500


def evict(
    recency: Recency, limit: int, pinned: Collection[str], unlink: Callable[[str], object]
) -> int:
    """Unlink least recently used keys until their sizes sum to `limit` at most; bytes freed."""
    freed, excess = 0, recency.total() - limit
    while freed < excess:
        oldest = recency.oldest(_BATCH + len(pinned))
        candidates = [(key, size) for key, size in oldest if key not in pinned]
        if not candidates:
            break
        gone = []
        for key, size in candidates:
            if freed >= excess:
                break
            unlink(key)
            gone.append(key)
            freed += size
        recency.forget(gone)
    return freed
