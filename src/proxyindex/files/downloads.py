"""The running downloads of this process: at most one per file, joined by all who want it."""

import logging
import time

from anyio.abc import TaskGroup

from proxyindex.errors import FileGone
from proxyindex.files.transfer import Transfer
from proxyindex.files.workshop import Workshop
from proxyindex.memo import Memo
from proxyindex.model import File
from proxyindex.upstream.index import Upstream

log = logging.getLogger(__name__)

_GONE_SECONDS = 5.0  # a listed file that upstream denies is soon asked for again
_MOST_GONE = 1000


class Downloads:
    """Starts transfers in the application's task group and lets latecomers join them."""

    def __init__(self, workshop: Workshop, tasks: TaskGroup) -> None:
        self.workshop = workshop
        self._tasks = tasks
        self._running: dict[str, Transfer] = {}
        self._gone: Memo[str, float] = Memo(_MOST_GONE)

    def running(self, file: File) -> Transfer | None:
        """The transfer of this file under way in this process, if any.

        Not one that is done: who asks for it now has not found what it stored, or found it damaged,
        and must not have it from the descriptor that is still open.
        """
        transfer = self._running.get(file.key)
        return None if transfer is None or transfer.is_done else transfer

    def join(self, file: File, upstream: Upstream) -> tuple[Transfer, bool]:
        """The transfer of this file, and whether this call started it. Raises `FileGone`."""
        if transfer := self.running(file):
            self.workshop.events.flight("file", "joined")
            return transfer, False
        if time.monotonic() < (self._gone.get(file.key) or 0.0):
            raise FileGone(file.filename)
        transfer = Transfer(file, upstream, self.workshop)
        self._running[file.key] = transfer
        self._tasks.start_soon(self._run, transfer, name=f"transfer {file.filename}")
        self.workshop.events.flight("file", "led")
        return transfer, True

    async def idle(self) -> None:
        """Wait until no transfer is running."""
        while self._running:
            transfer = next(iter(self._running.values()))
            await transfer.ended()

    def __len__(self) -> int:
        return len(self._running)

    async def _run(self, transfer: Transfer) -> None:
        key = transfer.file.key
        try:
            await transfer.run()
        except Exception:  # its readers were told; let loose, it would end every other task, too
            log.exception("the transfer of %s failed", transfer.file.filename)
        finally:
            # only now: a latecomer finds either the transfer or the stored blob, never a gap
            if self._running.get(key) is transfer:
                del self._running[key]
        if transfer.is_gone:
            self._gone.put(key, time.monotonic() + _GONE_SECONDS)
