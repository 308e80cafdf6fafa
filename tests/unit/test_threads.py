"""Calls in threads: their outcome, their limits, and what becomes of those nobody waits for."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator

import anyio
import pytest

from proxyindex import threads as threads_module
from proxyindex.store.worker import Worker
from proxyindex.threads import Threads, in_thread
from tests.support.hermetic import calls, until


@pytest.fixture
def two() -> Iterator[Threads]:
    made = Threads(2)
    yield made
    made.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


async def test_a_call_has_its_result_from_another_thread() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    assert await in_thread(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("problem", [ValueError("no"), KeyboardInterrupt(), BaseException("x")])
async def test_what_a_call_raises_is_raised(problem: BaseException) -> None:
    def fail() -> None:
        raise problem

    with pytest.raises(type(problem)) as found:
        await in_thread(fail)
    assert found.value is problem
    assert await in_thread(int) == 0


async def test_an_end_of_iteration_leaves_nobody_waiting() -> None:
    with pytest.raises(RuntimeError), anyio.fail_after(20):
        await in_thread(next, iter(()))


async def test_no_more_than_the_allowed_run_at_a_time(two: Threads, gate: threading.Event) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(20)
        with lock:
            running -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(two.run, work)
        await until(lambda: running == 2, "both threads")
        assert calls(two) == 5
        gate.set()
    assert most == 2
    await until(lambda: calls(two) == 0, "their end")


async def test_threads_are_made_when_they_are_needed(
    two: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads_module, "_PATIENCE", 60.0)  # on a busy machine one may wake late
    for _ in range(5):
        await two.run(int)
        await until(lambda: calls(two) == 0, "its end")
    assert len(two._threads) == 1


async def test_who_is_cancelled_waits_for_a_call_under_way(
    two: Threads, gate: threading.Event
) -> None:
    begun, over = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(20)
        over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.run, work)
        await until(begun.is_set, "the call")
        tasks.cancel_scope.cancel()
        threading.Timer(0.05, gate.set).start()
    assert over.is_set()


async def test_a_call_that_has_not_begun_is_taken_back(two: Threads, gate: threading.Event) -> None:
    made: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.run, gate.wait, 20)
        tasks.start_soon(two.run, gate.wait, 20)
        await until(lambda: calls(two) == 2, "both threads")
        with anyio.move_on_after(0.05) as scope:
            await two.run(made.append, 1)
        assert scope.cancelled_caught
        gate.set()
    await two.run(int)
    assert not made


async def test_what_was_given_up_does_not_stay_in_the_queue(
    two: Threads, gate: threading.Event
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.run, gate.wait, 20)
        tasks.start_soon(two.run, gate.wait, 20)
        await until(lambda: two._awake == 2, "both threads")
        for _ in range(3):
            with anyio.move_on_after(0.01):
                await two.run(int)
        assert calls(two) == 2
        gate.set()


async def test_where_no_thread_can_be_had_it_is_an_error_that_passes(
    two: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await two.run(made.append, 1)
    assert calls(two) == 0
    await two.run(made.append, 2)
    assert made == [2]


async def test_a_helper_that_cannot_be_had_is_done_without(
    two: Threads, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[object] = []

    def refuse(self: threading.Thread) -> None:
        refused.append(self)
        raise RuntimeError("can't start new thread")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.run, gate.wait, 20)
        await until(lambda: two._awake == 1, "the first thread")
        monkeypatch.setattr(threading.Thread, "start", refuse)
        tasks.start_soon(two.run, int)
        await until(lambda: refused, "the second one's refusal")
        gate.set()
    await until(lambda: calls(two) == 0, "the end of both calls")


def test_an_event_loop_that_has_ended_watches_nothing(gate: threading.Event) -> None:
    two, over = Threads(2), list[bool]()

    async def leave_a_queue() -> None:
        two.start(lambda: over.append(gate.wait(20)))
        two.start(int)
        two._keep_watch()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_a_queue())
    assert two._watcher is loop
    loop.close()
    assert anyio.run(two.run, divmod, 7, 2) == (3, 1)
    assert not over, "another thread did it"
    gate.set()
    two.close()


async def test_closed_threads_take_no_calls(two: Threads) -> None:
    two.close()
    with pytest.raises(RuntimeError, match="told to end"):
        await two.run(int)


async def test_what_fails_after_it_was_left_is_nobodys(two: Threads, gate: threading.Event) -> None:
    def work() -> None:
        gate.wait(20)
        raise ValueError

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.run, work)
        await until(lambda: calls(two) == 1, "the call")
        tasks.cancel_scope.cancel()
        gate.set()


class Body:
    """Something large."""


async def test_nothing_of_a_call_stays_in_memory(two: Threads) -> None:
    body = Body()
    gone = weakref.ref(body)

    def fail(held: Body) -> Body:
        raise ValueError("no")

    gc.disable()
    try:
        assert await two.run(lambda held: held, body) is body
        with pytest.raises(ValueError, match="no"):
            await two.run(fail, body)
        await until(lambda: calls(two) == 0, "the end of the calls")
        del body
        assert gone() is None
    finally:
        gc.enable()


async def test_closed_threads_end(two: Threads) -> None:
    def ours() -> int:
        return sum(thread.name == "closing" for thread in threading.enumerate())

    await two.run(lambda: setattr(threading.current_thread(), "name", "closing"))
    assert ours() == 1
    two.close()
    await until(lambda: ours() == 0, "the end of the thread")


async def test_a_forked_child_has_threads_of_its_own() -> None:
    assert await in_thread(int) == 0
    if (child := os.fork()) == 0:
        try:
            os._exit(anyio.run(in_thread, lambda: 7))
        finally:
            os._exit(1)
    _, status = await in_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_what_is_submitted_is_done_in_order(caplog: pytest.LogCaptureFixture) -> None:
    worker, done = Worker(), list[int]()
    for number in range(3):
        worker.submit(done.append, number)
    worker.submit(done.index, 7)
    worker.submit(done.append, 3)
    worker.close()
    assert done == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "work in the index's thread failed"
    ]
