"""The records beside our own files, read again only when they changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from proxyindex import records
from proxyindex.disk import is_settled
from proxyindex.memo import Memo
from proxyindex.records import Record, record_path
from proxyindex.repository.examine import MEMO_SIZE, Derived, Sighting
from proxyindex.repository.scan import FolderUnavailable


class Records:
    """Sightings → `Record`, or `None` where there is none. `clock` tells ns since the epoch.

    A record changed less than two seconds ago is read again each time, like everything else in
    our folders: its next state might bear the same stamp.
    """

    def __init__(self, *, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._memo: Memo[str, Record | None] = Memo(MEMO_SIZE)
        self._guard = threading.Lock()

    def read(self, sightings: Sequence[Sighting]) -> list[Record | None]:
        """The record of each. Blocks. Raises `FolderUnavailable`."""
        return [self._record(s) if s.record else None for s in sightings]

    def is_settled(self, sighting: Sighting) -> bool:
        """Whether a later state of its record must have another stamp."""
        if sighting.record is None:
            return True
        return is_settled(sighting.record, self._clock())

    def _record(self, sighting: Sighting) -> Record | None:
        key = f"{sighting.found.path} {sighting.record}"
        with self._guard:
            if key in self._memo:
                return self._memo.get(key)
        is_settled = self.is_settled(sighting)  # asked before reading
        path = record_path(sighting.found.path)
        try:
            record = records.read(path)
        except OSError as problem:
            raise FolderUnavailable(str(path), problem.strerror or str(problem)) from problem
        if is_settled:
            with self._guard:
                self._memo.put(key, record)
        return record


def vouched(sighting: Sighting, record: Record | None) -> Derived | None:
    """What the record says of the content, if it was written for this very state of the file.

    Without that the 2 GB that were just uploaded, and hashed on the way, would be read again by
    each worker, at each request of the first two seconds.
    """
    for one in (record, record.before) if record is not None else ():
        if one is not None and one.vouches_for(
            size=sighting.size, mtime_ns=sighting.mtime_ns, inode=sighting.inode
        ):
            return Derived(one.sha256, one.requires_python, one.core_metadata)
    return None
