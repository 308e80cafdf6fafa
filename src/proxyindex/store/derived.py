"""What was derived from local files, remembered over restarts; losing it costs computing again."""

from proxyindex.store.index import Notes
from proxyindex.store.worker import Worker


class DerivedNotes:
    """Implements `repository.examine.DerivedStore` in the index beside the cache."""

    def __init__(self, notes: Notes, worker: Worker) -> None:
        self._notes = notes
        self._worker = worker

    async def recall(self, key: str) -> bytes | None:
        return await self._worker.run(self._notes.recall, key)

    async def remember(self, key: str, value: bytes) -> None:
        await self._worker.run(self._notes.remember, key, value)
