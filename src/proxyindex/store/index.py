"""The derived index beside the stored files. With `rows`, the only modules that import diskcache.

It knows sizes and recency of stored files (for exact LRU trimming) and small derived facts
(digests of local files, remembered 404s). It may be lost at any moment: losing it costs accuracy
of the LRU and some re-computation, never an answer. So every method swallows database errors,
logs them once, and goes on without.

Fences, each learnt from the source of diskcache 5.6.3:
- values and keys are text, bytes, int or float; pickle is refused on writing *and* on reading
  (CVE-2025-69872: a planted row would otherwise run code);
- never `cache[key]`, `check()` or `retry=True`: they spin for ever on a broken database;
- a rollback journal: the shared memory of a write-ahead log stops the process that has mapped it
  when somebody cuts it off (decision 19), and nothing of an index is worth a sync;
- its own retries wait a minute for a lock, by a clock that may be set back: ours are bounded;
- `cull_limit=0`: built-in culling removes ten rows at a time, far too much for large files.
"""

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import diskcache

from proxyindex.disk import hand_over, make_folder
from proxyindex.store.rows import PlainDisk, SizedDisk

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_VALUE_SIZE = 64 * 1024
_BUSY_SECONDS = 2.0  # another process holds the write lock; longer and we go on without
_AGAIN_SECONDS = 0.02  # how long to wait for it then, until a write succeeds: all share one thread
_FAILURES = (diskcache.Timeout, sqlite3.Error, OSError, ValueError)
_BATCH = 100  # rows evicted under one write lock, or read at once
_SETTINGS = {"eviction_policy": "none", "cull_limit": 0, "size_limit": 2**62, "statistics": 0}
_JOURNAL = {
    "sqlite_journal_mode": "truncate",
    "sqlite_synchronous": 0,
    "sqlite_mmap_size": 0,
    "sqlite_cache_size": 512,  # pages, 2 MB; the default of 32 was filled by 100,000 files
}
_COUNTED = "+counted"  # the row of a table that was filled from what lies on disk


class _Database(diskcache.Cache):  # type: ignore[misc]
    """A diskcache that waits `patience` seconds for a lock, then raises `diskcache.Timeout`."""

    def __init__(self, directory: Path, disk: type[PlainDisk], patience: float) -> None:
        self._give_up_at = time.monotonic() + patience
        try:
            super().__init__(str(directory), timeout=0, disk=disk, **_SETTINGS, **_JOURNAL)
            for pragma, value in _JOURNAL.items():  # its last connection took none if it was locked
                self.reset(pragma, value, update=False)
            self.renew(patience)
        except BaseException:
            self.close()
            raise

    @property
    def _sql(self) -> Callable[..., sqlite3.Cursor]:
        execute = self._con.execute

        def bounded(statement: str, *arguments: Any) -> sqlite3.Cursor:
            try:
                return cast(sqlite3.Cursor, execute(statement, *arguments))
            except sqlite3.OperationalError as problem:
                is_busy = _root(problem)[1] == sqlite3.SQLITE_BUSY
                if is_busy and time.monotonic() >= self._give_up_at:
                    raise diskcache.Timeout from problem
                raise

        return bounded

    def renew(self, patience: float) -> None:
        """Wait so long from now on; the transaction that a refused COMMIT leaves open is undone."""
        if self._con.in_transaction:
            self._con.rollback()
        self._con.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")


class _Table:
    """One diskcache database that heals itself: a broken one is removed and begun anew.

    Whoever works on a database that another process has removed would write to a ghost; so the
    folder is held open, and left when its path names another one.
    """

    def __init__(self, directory: Path, disk: type[PlainDisk]) -> None:
        self._directory = directory
        self._disk = disk
        self._cache: _Database | None = None
        self._folder: int | None = None
        self._lock = threading.Lock()
        self._patience = _BUSY_SECONDS
        self._failing: set[bool] = set()  # whether reading (False) or writing (True) fails

    def use(self, action: Callable[[Any], T], default: T, *, writes: bool = False) -> T:
        """`action(cache)`, or `default` when the database cannot serve it now."""
        try:
            cache = self._current()
            result = action(cache)
            if writes and self._patience != _BUSY_SECONDS:
                self._patience = _BUSY_SECONDS
                cache.renew(self._patience)
        except _FAILURES as problem:
            self._fail(problem, writes=writes)
            return default
        self._failing.discard(writes)
        return result

    def close(self) -> None:
        with self._lock:
            self._close()

    def _current(self) -> Any:
        with self._lock:
            if self._cache is not None and not self._is_in_place():
                self._close()
            if self._cache is None:
                self._cache = self._open()
            return self._cache

    def _is_in_place(self) -> bool:
        if self._folder is None:
            return False
        try:
            return os.path.samestat(os.stat(self._directory), os.fstat(self._folder))
        except OSError:
            return False

    def _close(self) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def _open(self) -> _Database:
        if self._folder is None:
            make_folder(self._directory)
            self._folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            database = _Database(self._directory, self._disk, self._patience)
            for path in self._directory.iterdir():
                hand_over(path)
            return database
        except TypeError as problem:  # planted settings become arguments of the disk
            raise ValueError("the index holds settings that this program never writes") from problem

    def _fail(self, problem: BaseException, *, writes: bool) -> None:
        problem, code = _root(problem)
        if not self._failing:  # one line per spell, though reading may go on while writing fails
            log.warning("index %s failed (%s); going on without it", self._directory.name, problem)
        self._failing.add(writes)
        if code == sqlite3.SQLITE_BUSY:
            self._patience = _AGAIN_SECONDS
        with self._lock:
            if self._cache is not None and code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
                with suppress(sqlite3.Error):
                    self._cache.renew(self._patience)  # reading goes on
                    return
            # another process may have healed it already: then only the ghost is left
            if _is_broken(problem, code) and self._is_in_place():
                shutil.rmtree(self._directory, ignore_errors=True)
            self._close()


def _root(problem: BaseException) -> tuple[BaseException, int | None]:
    """What led to a failure, and SQLite's word for it: a ROLLBACK that fails, too, hides it, and
    diskcache takes all that cannot begin for a timeout."""
    vague = (sqlite3.OperationalError, diskcache.Timeout)
    while isinstance(problem, vague) and isinstance(problem.__context__, _FAILURES):
        problem = problem.__context__
    code = getattr(problem, "sqlite_errorcode", None)
    return problem, None if code is None else code & 0xFF


def _is_broken(problem: BaseException, code: int | None) -> bool:
    """Whether the database itself is unusable, not merely locked, full or read-only."""
    if isinstance(problem, sqlite3.OperationalError):
        return code in (None, sqlite3.SQLITE_ERROR)  # text that is no UTF-8, tables not ours
    return isinstance(problem, sqlite3.DatabaseError | ValueError)


class Recency:
    """Sizes of stored files in order of last use; synchronous, for the store's thread."""

    def __init__(self, directory: Path) -> None:
        self._table = _Table(directory, SizedDisk)

    def touch(self, sizes: Iterable[tuple[str, int]]) -> bool:
        """Make each key the most recently used, with this size in bytes; whether that was noted.

        Row order is the recency: a touched row is deleted and inserted again at the end, so the
        public iteration order of the table is exactly least recently used first.
        """

        def put(cache: Any) -> bool:
            with cache.transact():
                for key, size in sizes:
                    cache.delete(key)
                    cache.set(key, size)
            return True

        return self._table.use(put, default=False, writes=True)

    def forget(self, keys: Iterable[str]) -> None:
        def drop(cache: Any) -> None:
            with cache.transact():
                for key in keys:
                    cache.delete(key)

        self._table.use(drop, None, writes=True)

    def total(self) -> int | None:
        """Sum of all sizes in bytes; `None` when the table cannot be read now."""
        return self._table.use(lambda cache: int(cache.reset("size")), None)

    def shed(self, limit: int, keep: Collection[str], unlink: Callable[[str], object]) -> int:
        """Unlink and forget the least recently used keys, a batch at most, but none of `keep`,
        while all sizes sum to more than `limit`; the bytes freed.

        One transaction, so that processes that trim at the same time do not evict twice as much.
        A process killed in it leaves rows without files, which go first the next time.
        """

        def drop(cache: Any) -> int:
            freed = 0
            with cache.transact():
                excess = int(cache.reset("size")) - limit
                candidates = (key for key in _keys(cache) if key not in keep)
                for key, _ in zip(candidates, range(_BATCH)):  # noqa: B905
                    if freed >= excess:
                        break
                    freed += cache.get(key, 0)
                    unlink(key)
                    cache.delete(key)
            return freed

        return self._table.use(drop, 0, writes=True)

    def in_order(self) -> Iterator[str]:
        """Every key, in the order of their letters, read some at a time."""
        # iterkeys() has a condition that no index serves: 6.9 s for 100,000 keys instead of 0.7
        query = "SELECT key FROM Cache WHERE key > ? ORDER BY key LIMIT ?"

        def after(last: str) -> list[str]:
            def some(cache: Any) -> list[str]:
                return [cache.disk.get(key, 1) for (key,) in cache._sql(query, (last, _BATCH))]

            return self._table.use(some, [])

        keys = after("")
        while keys:
            yield from (key for key in keys if key != _COUNTED)
            keys = after(keys[-1])

    def is_new(self) -> bool:
        """Whether the table was begun anew, and nobody has filled it from the disk since."""
        return self._table.use(lambda cache: _COUNTED not in cache, default=False)

    def counted(self) -> None:
        """Note that the table has been filled; the note is lost with the table."""
        self._table.use(lambda cache: cache.set(_COUNTED, 0), None, writes=True)

    def close(self) -> None:
        self._table.close()


class Notes:
    """Small derived values by text key, some with an end of life; for the store's thread."""

    def __init__(self, directory: Path, *, limit: int = 200_000) -> None:
        self._table = _Table(directory, PlainDisk)
        self._limit = limit

    def recall(self, key: str) -> bytes | None:
        """The value; not one that would outlive its lifetime because the clock was set back."""

        def get(cache: Any) -> object:
            value, end, lifetime = cache.get(key, expire_time=True, tag=True)
            is_set = isinstance(lifetime, int | float)
            return value if end is None or (is_set and end - time.time() <= lifetime) else None

        value = self._table.use(get, None)
        return value if isinstance(value, bytes) else None

    def remember(self, key: str, value: bytes, lifetime: float | None = None) -> None:
        """Keep `value` for `lifetime` seconds; beyond the limit the oldest notes are dropped.

        A value over `MAX_VALUE_SIZE` is not a small fact, and is not kept.
        """
        if len(value) > MAX_VALUE_SIZE:
            return

        def put(cache: Any) -> None:
            cache.set(key, value, expire=lifetime, tag=lifetime)
            if len(cache) > self._limit:
                cache.expire()
                for old, _ in zip(_keys(cache), range(len(cache) - self._limit)):  # noqa: B905
                    cache.delete(old)

        self._table.use(put, None, writes=True)

    def forget(self, key: str) -> None:
        self._table.use(lambda cache: cache.delete(key), default=False, writes=True)

    def clear(self) -> None:
        """Forget everything."""
        self._table.use(lambda cache: cache.clear(), None, writes=True)

    def close(self) -> None:
        self._table.close()


def _keys(cache: Any) -> Iterator[str]:
    # insertion order; unlike iterkeys(), which sorts by key
    return (key for key in cache if key != _COUNTED)
