"""A whole cache directory: its layout, opened and closed as one."""

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxyindex import disk
from proxyindex.errors import StoreError
from proxyindex.events import Events
from proxyindex.store.blobs import BlobStore
from proxyindex.store.facts import Facts
from proxyindex.store.index import Notes, Recency
from proxyindex.store.locks import Locks
from proxyindex.store.pages import PageStore
from proxyindex.store.partials import Partials
from proxyindex.store.pins import Pins
from proxyindex.store.trouble import Trouble
from proxyindex.store.worker import Worker

log = logging.getLogger(__name__)

_ABSENT_LIMIT = 20_000  # remembered 404s: random names must not fill the disk
LEFTOVER_SECONDS = 3600.0  # how long a dead writer's partial may wait to be resumed
# https://bford.info/cachedir/ : backup tools skip a folder with this file
TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# A cache of proxyindex; may be deleted.\n"


@dataclass(frozen=True, slots=True)
class Cache:
    """The stores below one directory. All synchronous but for `worker`, which runs them."""

    root: Path
    pages: PageStore
    blobs: BlobStore
    partials: Partials
    facts: Facts
    pins: Pins
    locks: Locks
    worker: Worker
    absent: Notes
    doubts: Notes
    derived: Notes
    trouble: Trouble
    recencies: tuple[Recency, Recency]

    @classmethod
    def open(cls, root: Path, *, file_limit: int, page_limit: int, events: Events) -> "Cache":
        """The cache at `root`, made if need be; a directory that cannot be written still reads."""
        index = root / "index"
        recencies = Recency(index / "pages"), Recency(index / "blobs")
        facts = Facts(root / "facts")
        pages = PageStore(
            root / "pages",
            recencies[0],
            limit=page_limit,
            pinned=lambda: pins.pages(),  # noqa: PLW0108 - they know each other
            events=events,
        )
        pins = Pins(root / "pinned", facts, pages)
        _mark(root)
        return cls(
            root=root,
            pages=pages,
            blobs=BlobStore(
                root / "blobs", recencies[1], limit=file_limit, pinned=pins.blobs, events=events
            ),
            partials=Partials(root / "partials"),
            facts=facts,
            pins=pins,
            locks=Locks(root / "locks"),
            worker=Worker(),
            absent=Notes(index / "absent", limit=_ABSENT_LIMIT),
            # apart from those, which anybody can make by asking for names
            doubts=Notes(index / "doubts"),
            derived=Notes(index / "derived"),
            trouble=Trouble(events),
            recencies=recencies,
        )

    def recovering(self) -> Iterator[None]:
        """Set right what a crash or a lost index left behind, piece by piece: first answers wait
        for the same thread.

        Files are counted again at each start, for a killed process notes nothing; one process
        does it for all that start together.
        """
        with self._claim("recount") as is_ours:
            if is_ours:
                yield from self.pages.recounting()
                yield from self.blobs.recounting()
                self.tidy()
        self.sweep()

    def tidy(self) -> int:
        """Remove what writers that were killed left unfinished in the stores; the number."""
        instant = time.time() - LEFTOVER_SECONDS
        return sum(disk.sweep(self.root / store, instant) for store in ("pages", "blobs"))

    def sweep(self) -> int:
        """Remove partial files that nobody writes or will resume; the number removed."""
        return self.sweep_before(time.time() - LEFTOVER_SECONDS)

    def sweep_before(self, instant: float) -> int:
        """Remove partial files that nobody writes, nor has since `instant`; the number."""
        return self.partials.sweep(instant, lambda key: self._claim(f"file {key}"))

    def trim(self) -> None:
        """Write down accesses and hold both budgets. For the worker thread.

        A cache that was removed under a running server gets its tag again.
        """
        _mark(self.root, logging.DEBUG)  # it was told at the start, or a refused file tells it
        self.blobs.trim()
        self.pages.trim()

    def close(self) -> None:
        """Write down accesses and close the databases. Not for the worker thread."""
        self.worker.submit(self._close_tables)
        self.worker.close()
        self.locks.close()

    def release(self) -> None:
        """As `close`, for a program that used the stores in its own thread."""
        self._close_tables()
        self.worker.close()
        self.locks.close()

    def _close_tables(self) -> None:
        self.blobs.flush()
        self.pages.flush()
        for table in (*self.recencies, self.absent, self.doubts, self.derived):
            table.close()

    @contextmanager
    def _claim(self, name: str) -> Iterator[bool]:
        is_ours = self.locks.try_acquire(name)
        try:
            yield is_ours
        finally:
            if is_ours:
                self.locks.release(name)


def instance_id(root: Path) -> str:
    """Names this server in `Via`, so that it knows its own requests; drawn once per directory.

    All workers must have the same, so what the first of them wrote decides.
    """
    path = root / "instance"
    try:
        return _instance(path) or _drawn(path)
    except OSError:
        return secrets.token_hex(8)


def _drawn(path: Path) -> str:
    drawn = secrets.token_hex(8)
    disk.make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(drawn)
        disk.hand_over(Path(temporary))
        try:
            os.link(temporary, path)  # whole, and never over that of another
        except OSError:
            if not _instance(path):  # left by one who was killed, or there are no links here
                os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return _instance(path) or drawn


def _instance(path: Path) -> str:
    """What was drawn; nothing if there is no file, or it cannot have been written by us."""
    try:
        text = path.read_text(errors="replace").strip()[:16]
    except FileNotFoundError:
        return ""
    return text if text.isascii() and text.isalnum() else ""


def _mark(root: Path, level: int = logging.WARNING) -> None:
    try:
        if not (root / "CACHEDIR.TAG").exists():
            disk.write_whole(root / "CACHEDIR.TAG", TAG, what="its tag")
    except (OSError, StoreError) as problem:
        log.log(level, "the cache at %s cannot be written: %s", root, problem)
