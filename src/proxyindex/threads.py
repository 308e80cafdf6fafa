"""Calls that wait for a disk or take their time, in threads beside the event loop.

A call by anyio takes 36 µs of the processor with twenty at a time, for scopes, limits and contexts;
one by these 5 (measured), and a cold file makes four, its metadata five. What has to call back into
the event loop, or may be left behind while it runs, goes by anyio.
"""

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Job = Callable[[], object]
_MOST = 40  # as many as anyio has
_PATIENCE = 0.002  # seconds: longer than a call takes that waits for nothing


class Threads:
    """At most `most` threads; most of the time one of them does it all, one call after the other.

    Others help when a call has waited for too long: where the disk is slow, or much is to be
    hashed. Threads that wait for the interpreter's lock hold each other up: a cold install of 91
    distributions takes 1.89 s on two cores, and 2.02 s with as many threads as there are calls.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a child that has none of its parent's threads."""
        self._lock = threading.Lock()
        self._jobs: OrderedDict[_Job, float] = OrderedDict()  # with the time they came
        self._wakes: SimpleQueue[bool] = SimpleQueue()  # whether to go on
        self._threads: list[threading.Thread] = []
        self._awake = 0
        self._watcher: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """What `work` returns, or raises; `RuntimeError` where no thread can be had.

        Who is cancelled waits for its end: until then it has in hand what is about to be closed. If
        it has not begun, it never will. What it returns then is lost: work that opens something
        is not for callers who are cancelled while all else goes on.
        """
        call = _Call(partial(work, *args))
        self.start(call.make)
        self._keep_watch()
        try:
            await call.future
        except asyncio.CancelledError:
            if not self._take_back(call.make):
                with anyio.CancelScope(shield=True):
                    await call.ended()
            raise
        return call.outcome()

    def start(self, job: _Job) -> None:
        """Have it done some time; nobody waits for it. It must not raise.

        Raises `RuntimeError` where no thread can be had; then it is not done.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the threads were told to end")
            self._jobs[job] = time.monotonic()
            is_asleep = not self._awake
            self._awake += is_asleep
        if is_asleep:
            try:
                self._wake()
            except RuntimeError:
                self._take_back(job)
                raise

    def _wake(self) -> None:
        """One more, which counts as awake already. Not while the lock is held: it needs it."""
        if self._awake > len(self._threads):
            # nobody has to wait at the end of the process for a disk that does not answer
            thread = threading.Thread(target=self._serve, name="proxyindex", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more
                with self._lock:
                    self._awake -= 1
                raise
            self._threads.append(thread)
        self._wakes.put(True)

    def _take_back(self, job: _Job) -> bool:
        """Whether it has not begun, and now never will."""
        with self._lock:
            return self._jobs.pop(job, None) is not None

    def _keep_watch(self) -> None:
        """Look again in a moment if calls wait and others could help."""
        is_watched = self._watcher is not None and not self._watcher.is_closed()
        if self._jobs and self._awake < self.most and not is_watched:
            self._watcher = asyncio.get_running_loop()
            self._watcher.call_later(_PATIENCE, self._hurry)

    def _hurry(self) -> None:
        """Wake one more if the first in the queue has waited for too long."""
        self._watcher = None
        with self._lock:
            since = next(iter(self._jobs.values()), None)
            helps = since is not None and time.monotonic() - since >= _PATIENCE
            helps = helps and self._awake < self.most and not self._is_closed
            self._awake += helps
        if helps:
            with suppress(RuntimeError):  # those that are awake will come to it
                self._wake()
        self._keep_watch()

    def _serve(self) -> None:
        while self._wakes.get():
            while _done(self._next()):
                pass

    def _next(self) -> _Job | None:
        with self._lock:
            if self._jobs:
                return self._jobs.popitem(last=False)[0]
            self._awake -= 1
            return None

    def close(self, *, waits: bool = False) -> None:
        """End the threads, once all that was put in before is done; `waits` until they have."""
        self._is_closed = True
        for _ in self._threads:
            self._wakes.put(False)
        if waits:
            for thread in self._threads:
                thread.join()


def _done(job: _Job | None) -> bool:
    """Do it, if it is one. Who calls this has it in no variable: it would stay in memory until the
    next one comes."""
    if job is not None:
        job()
    return job is not None


class _Call(Generic[T]):
    """One call: its future belongs to the event loop it was made in, and tells only that it is
    over."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()
        self._work = work
        self._result: list[T] = []
        self._problem: BaseException | None = None
        self._is_over = False

    def make(self) -> None:
        """In a thread."""
        try:
            self._result.append(self._work())
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

    async def ended(self) -> None:
        """Wait until it is over, for one who no longer waits for its outcome."""
        if not self._is_over:
            self.future = self._loop.create_future()
            await self.future


COMMON = Threads(_MOST)
in_thread = COMMON.run
os.register_at_fork(after_in_child=COMMON.forget)
