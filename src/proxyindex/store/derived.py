"""Facts of local files, remembered over restarts: digests and metadata hashes by file identity."""

from proxyindex.store.index import Notes
from proxyindex.store.worker import Worker


class Derived:
    """What `Local` remembers, kept in the derived index; losing it costs computing again."""

    def __init__(self, notes: Notes, worker: Worker) -> None:
        self._notes = notes
        self._worker = worker

    async def recall(self, key: str) -> bytes | None:
        return await self._worker.run(self._notes.recall, key)

    async def remember(self, key: str, value: bytes) -> None:
        await self._worker.run(self._notes.remember, key, value)
