"""The house that is open now, and moving to another one when the configuration is read again.

The stores, the metrics and the log lines stay; everything else is opened anew beside the old house,
which is left when its last request has ended. See docs/decisions/0028.
"""

import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from proxyindex.server.reload import Load, refuse
from proxyindex.settings import Settings
from proxyindex.threads import in_thread
from proxyindex.web.house import House

log = logging.getLogger(__name__)

_MOST_WISHES = 8

Open = Callable[[Settings], AbstractAsyncContextManager[House]]
Done = Callable[[bool], None]


class Houses:
    """Implements `web.house.Houses`."""

    def __init__(self, opens: Open, tasks: TaskGroup) -> None:
        self._open = opens
        self._tasks = tasks
        self._houses: list[House] = []  # the newest last
        self._wishes, self._wished = anyio.create_memory_object_stream[tuple[Load, Done]](
            _MOST_WISHES
        )
        self._is_closing = anyio.Event()

    @property
    def current(self) -> House:
        """The one that requests enter."""
        return self._houses[-1]

    def transfers(self) -> int:
        """Downloads under way in all houses."""
        return sum(house.transfers() for house in self._houses)

    def renew(self, load: Load, done: Done) -> None:
        """Move to the configuration that `load` gives, soon, and tell `done` whether that was done.

        For the event loop; `load` is called in a thread. Where it raises, or its house cannot be
        opened, all stays as it is, and one line tells why.
        """
        try:
            self._wishes.send_nowait((load, done))
        except anyio.WouldBlock:  # those before it will read the same configuration
            log.warning("the configuration is being read again already")
            done(False)  # who waits for this one would never ask again

    async def move(self, settings: Settings) -> None:
        """Open a house and let all further requests enter it. Raises what its opening raises."""
        before = self._houses[-1:]
        await self._tasks.start(self._keep, settings)
        for house in before:
            house.retire()

    async def _keep(self, settings: Settings, *, task_status: TaskStatus[None]) -> None:
        await self._live_in(settings, task_status)
        if not self._is_closing.is_set():
            # Houses refer to themselves, and have pages and certificates in memory. The collector
            # looks so seldom (`server/run.py`) that they would stay.
            gc.collect()

    async def _live_in(self, settings: Settings, task_status: TaskStatus[None]) -> None:
        is_left = False
        try:
            async with self._open(settings) as house:
                self._houses.append(house)
                task_status.started()
                try:
                    async with anyio.create_task_group() as waiting:
                        waiting.start_soon(self._leave, waiting.cancel_scope)
                        await house.empty()
                        await house.idle()
                        waiting.cancel_scope.cancel()
                finally:
                    is_left = self._is_closing.is_set() or house is not self.current
                    if house is not self.current:
                        self._houses.remove(house)
        except Exception:
            if not is_left:  # it did not open, or is the one that has to serve and cannot
                raise
            log.exception("leaving a house failed")  # let loose, it would end the others, too

    async def _leave(self, scope: anyio.CancelScope) -> None:
        await self._is_closing.wait()
        scope.cancel()

    async def serve_wishes(self) -> None:
        """Move as `renew` was told to, one after the other, until closed."""
        with suppress(anyio.ClosedResourceError):
            async for load, done in self._wished:
                done(await self._renewed(load))

    async def _renewed(self, load: Load) -> bool:
        try:
            await self.move(await in_thread(load))
        except Exception as problem:  # noqa: BLE001 - it must not end a server that serves
            refuse(problem)
            return False
        log.info("configuration reloaded")
        return True

    def close(self) -> None:
        """Leave all houses; the task group waits for them."""
        self._wishes.close()  # which ends the task that reads them
        self._wished.close()
        self._is_closing.set()


@asynccontextmanager
async def opened(opens: Open, settings: Settings) -> AsyncIterator[Houses]:
    """The first house, open, and all that follow it."""
    async with anyio.create_task_group() as tasks:
        houses = Houses(opens, tasks)
        try:
            await houses.move(settings)
            tasks.start_soon(houses.serve_wishes)
            yield houses
        finally:
            houses.close()
