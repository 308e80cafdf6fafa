"""Calls that wait for a disk or take their time, in threads beside the event loop.

A call by anyio takes 36 µs of the processor with twenty at a time, for scopes, limits and contexts;
one by these 5 (measured), and a cold file makes four, its metadata five. What has to call back into
the event loop, or may be left behind while it runs, goes by anyio.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = logging.getLogger(__name__)

_Job = Callable[[], object]
_MOST = 40  # as many as anyio has


class Threads:
    """At most `most` threads, made when they are first needed; calls beyond wait for their turn."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a child that has none of its parent's threads."""
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.busy = 0  # calls that wait or run

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """What `work` returns, or raises. Who is cancelled waits for its end: until then it has in
        hand what is about to be closed. If it has not begun, it never will."""
        call = _Call(partial(work, *args))
        self._put(call.make)
        try:
            await call.future
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await call.left()
            raise
        return call.outcome()

    def start(self, work: Callable[[], object]) -> None:
        """Have `work` done some time; nobody waits for it."""
        self._put(partial(_alone, work))

    def _put(self, job: _Job) -> None:
        self._jobs.put(job)
        with self._lock:
            self.busy += 1
            if len(self._threads) < min(self.busy, self.most):
                # nobody has to wait at the end of the process for a disk that does not answer
                thread = threading.Thread(target=self._serve, name="proxyindex", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self) -> None:
        while _done(self._jobs.get()):
            with self._lock:
                self.busy -= 1

    def close(self, *, waits: bool = False) -> None:
        """End the threads, once all that was put in before is done; `waits` until they have."""
        for _ in self._threads:
            self._jobs.put(None)
        if waits:
            for thread in self._threads:
                thread.join()


def _done(job: _Job | None) -> bool:
    """Do it, if it is one. Who calls this has it in no variable: it would stay in memory until the
    next one comes."""
    if job is not None:
        job()
    return job is not None


def _alone(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        log.exception("work in a thread failed")


class _Call(Generic[T]):
    """One call: its future belongs to the event loop it was made in, and tells only that it is
    over."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()
        self._todo = [work]  # whoever takes it out makes the call, or sees to it that nobody does
        self._result: list[T] = []
        self._problem: BaseException | None = None
        self._is_over = False

    def make(self) -> None:
        """In a thread."""
        try:
            work = self._todo.pop()
        except IndexError:
            return
        try:
            self._result.append(work())
        except BaseException as problem:  # noqa: BLE001 - it is the caller's
            self._problem = problem
        with suppress(RuntimeError):  # the event loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._end)

    def outcome(self) -> T:
        """To be asked for once: an exception refers to us, and would never go if we kept it."""
        problem, self._problem = self._problem, None
        try:
            if problem is not None:
                raise problem
            return self._result[0]
        finally:
            del problem

    def _end(self) -> None:
        self._is_over = True
        if not self.future.done():
            self.future.set_result(None)

    async def left(self) -> None:
        """Nobody wants its outcome any more: wait until it is over, or take it back."""
        if not self._is_over and not self._taken_back():
            self.future = self._loop.create_future()
            await self.future

    def _taken_back(self) -> bool:
        try:
            self._todo.pop()
        except IndexError:
            return False
        return True


COMMON = Threads(_MOST)
in_thread = COMMON.run
os.register_at_fork(after_in_child=COMMON.forget)
