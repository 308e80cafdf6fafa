"""What all transfers of a cache directory share."""

from dataclasses import dataclass
from pathlib import Path

import anyio

from proxyindex.events import Events
from proxyindex.store.blobs import BlobStore
from proxyindex.store.facts import Facts
from proxyindex.store.locks import Locks
from proxyindex.store.partials import Partials
from proxyindex.store.trouble import Trouble
from proxyindex.store.worker import Worker
from proxyindex.upstream.index import Upstream


class PerUpstream:
    """A limit for each upstream: one that is slow, or means harm, holds up none of the others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limiters: dict[str, anyio.CapacityLimiter] = {}

    def of(self, upstream: Upstream) -> anyio.CapacityLimiter:
        """At most so many at a time."""
        if upstream.name not in self._limiters:
            self._limiters[upstream.name] = anyio.CapacityLimiter(self._most)
        return self._limiters[upstream.name]


@dataclass(frozen=True, slots=True)
class Workshop:
    """The stores and limits that transfers work with. `max_file_size` in bytes.

    `slots` for downloads; `relays` for ranges passed through, which last as long as their client
    reads; `writers` and `provers` for threads that write arriving files, which a busy disk holds
    up, and that hash stored ones: in the common ones they would keep everything else waiting.
    """

    blobs: BlobStore
    partials: Partials
    facts: Facts
    locks: Locks
    worker: Worker
    slots: PerUpstream
    relays: PerUpstream
    writers: anyio.CapacityLimiter
    provers: anyio.CapacityLimiter
    spool: Path
    max_file_size: int
    events: Events
    trouble: Trouble
