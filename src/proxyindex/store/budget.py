"""Keeping stored files within a number of bytes: exact LRU, the same for files and pages."""

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from proxyindex.events import Events
from proxyindex.store.index import Recency

log = logging.getLogger(__name__)

_PIECE = 500  # files: some milliseconds


class Budgeted(ABC):
    """A store of files below `root` by key, at most `limit` bytes. Synchronous and thread-safe.

    Uses are noted in memory and written to the index in batches. `pinned` names the keys that are
    never evicted; it is asked at each trim. `kind` is what the store is called in metrics.
    """

    kind: str

    def __init__(
        self,
        root: Path,
        recency: Recency,
        *,
        limit: int,
        pinned: Callable[[], Collection[str]] = tuple,
        events: Events,
    ) -> None:
        self._root = root
        self._recency = recency
        self._limit = limit
        self._pinned = pinned
        self._events = events
        self.last_total = 0  # bytes at the last trim: for other threads than the store's
        self._touched: dict[str, int] = {}
        self._touched_lock = threading.Lock()

    @abstractmethod
    def walk(self) -> Iterator[tuple[str, int, float]]:
        """Every stored file, in the order of the keys: key, size in bytes, time of storing."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether the file is there."""

    @abstractmethod
    def unlink(self, key: str) -> bool:
        """Remove the file from the disk only; whether there was one."""

    def touch(self, key: str, size: int) -> None:
        """Note that a file of `size` bytes was stored or used."""
        with self._touched_lock:
            self._touched[key] = size

    def flush(self) -> None:
        """Write what was noted to the index."""
        with self._touched_lock:
            noted, self._touched = self._touched, {}
        # another process may have evicted or purged it since; nobody would remove such a row
        touched = {key: size for key, size in noted.items() if self.has(key)}
        if touched and not self._recency.touch(touched.items()):
            with self._touched_lock:  # the index is busy: a file it never hears of is never evicted
                self._touched = touched | self._touched

    def trim(self) -> int:
        """Evict least recently used files until the limit holds; bytes freed."""
        self.flush()
        if self._recency.is_new():
            self.recount()
        return self._evict(self._limit)

    def recount(self) -> None:
        """Fill a lost or incomplete index from what lies on the disk, oldest first."""
        for _ in self.recounting():
            pass

    def recounting(self, piece: int = _PIECE) -> Iterator[None]:
        """As `recount`, so many files at a time: nobody should wait long for the index's thread.

        Both sides are read side by side, for 100,000 keys at once took 15 MB.
        """
        known, lost, new = self._recency.in_order(), list[str](), list[tuple[float, str, int]]()
        row = next(known, None)
        for number, (key, size, mtime) in enumerate(self.walk(), 1):
            while row is not None and row < key:
                lost.append(row)
                row = next(known, None)
            if row == key:
                row = next(known, None)
            else:
                new.append((mtime, key, size))
            if number % piece == 0:
                yield
        lost += [row, *known] if row is not None else []
        new.sort()
        for start in range(0, len(new), piece):
            self._recency.touch([(key, size) for _, key, size in new[start : start + piece]])
            yield
        # but not what was stored meanwhile
        self._recency.forget([key for key in lost if not self.has(key)])
        self._recency.counted()

    def total(self) -> int:
        """Bytes stored, by the index if it can be read."""
        known = self._recency.total()
        return sum(size for _, size, _ in self.walk()) if known is None else known

    def excess(self) -> int:
        """How many bytes more lie on the disk than the limit allows."""
        return max(0, sum(size for _, size, _ in self.walk()) - self._limit)

    def forget(self, key: str) -> bool:
        """Remove a file and its place in the index; whether there was one."""
        self._recency.forget([key])
        return self.unlink(key)

    def _evict(self, limit: int) -> int:
        freed, total = 0, self._recency.total()
        if total is None or self._recency.is_new():
            freed, total = self._evict_oldest(limit)
        elif total > limit:
            pinned = self._pinned()
            while batch := self._recency.shed(limit, pinned, self.unlink):
                freed += batch
        self.last_total = max(0, total - freed)
        if freed:
            self._events.trim(self.kind, freed)
            log.info("evicted %d bytes of %s", freed, self.kind)
        return freed

    def _evict_oldest(self, limit: int) -> tuple[int, int]:
        """As `_evict`, without the index: on a full disk no database can be opened or filled, and
        only evicting makes room for one. The bytes freed, and those that were there.
        """
        if not os.access(self._root, os.W_OK):  # nothing can be removed either
            return 0, 0
        files = sorted((mtime, key, size) for key, size, mtime in self.walk())
        total = excess = sum(size for _, _, size in files)
        excess -= limit
        pinned = self._pinned() if excess > 0 else ()
        gone, freed = list[str](), 0
        for _, key, size in files:
            if freed >= excess:
                break
            # one that another process has just removed counts all the same
            if key not in pinned and (self.unlink(key) or not self.has(key)):
                gone.append(key)
                freed += size
        self._recency.forget(gone)
        return freed, total
