"""Single flight: one shared piece of work per key; latecomers join it instead of starting another.

The work of a `Flight` runs in the application's task group, not in the request that started it: a
client that leaves disturbs nobody. What is `Shared` runs in the first request that wants it, and
again in the next one if that is cancelled.
"""

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from proxyindex.errors import ProxyindexError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flight(Generic[T]):
    """Work under way. Any number of tasks may await its result, each with its own patience."""

    def __init__(self) -> None:
        self._landed = anyio.Event()
        self._result: list[T] = []
        self._error: Exception | None = None

    async def result(self) -> T:
        """The work's result, or its exception. Cancelling a waiter does not cancel the work."""
        await self._landed.wait()
        if self._error is not None:
            # each waiter gets its own traceback on top of the shared one
            raise self._error.with_traceback(None)
        if not self._result:
            raise anyio.BrokenResourceError  # the work was cancelled: we are shutting down
        return self._result[0]

    def land(self, result: T) -> None:
        """Give this result to all who wait, now; what the work does from here on, it does alone."""
        if not self._landed.is_set():
            self._result.append(result)
            self._landed.set()

    async def _run(self, work: Callable[[], Awaitable[T]]) -> None:
        try:
            self.land(await work())
        except ProxyindexError as error:
            self._fail(error)
        except Exception as error:
            # raised in every waiter, but it is here that the traceback still tells the cause
            log.exception("shared work failed")
            self._fail(error)
        finally:
            self._landed.set()

    def _fail(self, error: Exception) -> None:
        """Tell it to all who wait. Its traceback refers to us: together they would stay in memory,
        with all that the work had in hand, until the collector comes, which is seldom."""
        self._error = None if self._result else error
        known: BaseException | None = error
        while known is not None and known.__traceback__ is not None:  # else it was here before
            known.__traceback__ = None
            known = known.__cause__ or known.__context__


class Flights(Generic[T]):
    """The flights of one kind, by key."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._flying: dict[str, Flight[T]] = {}

    def join(self, key: str, work: Callable[[], Awaitable[T]]) -> tuple[Flight[T], bool]:
        """The flight for `key` and whether this call started it."""
        if flight := self._flying.get(key):
            return flight, False
        flight = self._flying[key] = Flight[T]()
        self._tasks.start_soon(self._fly, key, flight, work, name=f"flight {key}")
        return flight, True

    def land(self, key: str, result: T) -> None:
        """The work of `key` has its result, but is not done: see `Flight.land`."""
        if flight := self._flying.get(key):
            flight.land(result)

    async def _fly(self, key: str, flight: Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            await flight._run(work)
        finally:
            del self._flying[key]


class _Turn(Generic[T]):
    def __init__(self) -> None:
        self.is_over = anyio.Event()
        self.result: list[T] = []  # none if the work was cancelled or has failed


class Shared(Generic[K, T]):
    """Work by key that the first who wants it does for all who come meanwhile."""

    def __init__(self) -> None:
        self._turns: dict[K, _Turn[T]] = {}

    async def get(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, ours or that of the one before us; raises what our own raises."""
        while (turn := self._turns.get(key)) is not None:
            await turn.is_over.wait()
            if turn.result:
                return turn.result[0]
        turn = self._turns[key] = _Turn()
        try:
            turn.result.append(await work())
            return turn.result[0]
        finally:
            del self._turns[key]
            turn.is_over.set()
