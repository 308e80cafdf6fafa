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
    slots: anyio.CapacityLimiter
    relays: anyio.CapacityLimiter
    writers: anyio.CapacityLimiter
    provers: anyio.CapacityLimiter
    spool: Path
    max_file_size: int
    events: Events
    trouble: Trouble
