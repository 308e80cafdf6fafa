"""One piece of work per key, any number of waiters."""

import gc
import logging
import weakref

import anyio
import pytest

from proxyindex.errors import ProjectNotFound
from proxyindex.flight import Flights, Shared
from tests.support.hermetic import until


class Work:
    """Work that waits until it is let go, and counts."""

    def __init__(self, outcome: object = "done") -> None:
        self.outcome = outcome
        self.go = anyio.Event()
        self.begun = 0

    async def __call__(self) -> object:
        self.begun += 1
        await self.go.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def test_latecomers_join_the_work_under_way() -> None:
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work()
        first, led = flights.join("key", work)
        second, led_too = flights.join("key", work)
        assert (led, led_too) == (True, False)
        assert first is second
        work.go.set()
        assert await first.result() == "done"
        assert await second.result() == "done"
    assert work.begun == 1


async def test_other_keys_fly_on_their_own() -> None:
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work()
        work.go.set()
        one, _ = flights.join("one", work)
        two, _ = flights.join("two", work)
        assert one is not two
        await one.result()
        await two.result()
    assert work.begun == 2


async def test_the_next_request_after_landing_starts_anew() -> None:
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work()
        work.go.set()
        flight, _ = flights.join("key", work)
        await flight.result()
        await anyio.lowlevel.checkpoint()
        again, led = flights.join("key", work)
        assert led
        await again.result()
    assert work.begun == 2


async def test_every_waiter_gets_the_error() -> None:
    error = ProjectNotFound("demo")
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work(error)
        flight, _ = flights.join("key", work)
        work.go.set()
        for _ in range(3):
            with pytest.raises(ProjectNotFound):
                await flight.result()
        await anyio.lowlevel.checkpoint()
        _, led = flights.join("key", work)
        assert led


async def test_an_unexpected_error_reaches_the_waiters_and_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work(RuntimeError("surprise"))
        flight, _ = flights.join("key", work)
        work.go.set()
        with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="surprise"):
            await flight.result()
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_a_waiter_that_leaves_does_not_end_the_work() -> None:
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work()
        flight, _ = flights.join("key", work)
        with anyio.move_on_after(0):
            await flight.result()
        _, led = flights.join("key", work)
        assert not led
        work.go.set()
        assert await flight.result() == "done"


async def test_work_cancelled_at_shutdown_leaves_no_waiter_hanging() -> None:
    caught: list[bool] = []

    async with anyio.create_task_group() as waiters, anyio.create_task_group() as tasks:
        flights = Flights[object](tasks)
        flight, _ = flights.join("key", Work())

        async def wait() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await flight.result()
            caught.append(True)

        waiters.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert caught == [True]


async def test_work_may_tell_its_result_before_it_is_done() -> None:
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work("in the end")
        flight, _ = flights.join("key", work)
        flights.land("key", "early")
        assert await flight.result() == "early"
        late, led = flights.join("key", work)
        assert not led  # it is under way until it is done
        work.go.set()
        assert await late.result() == "early"
    assert work.begun == 1
    flights.land("key", "nobody waits for it")


@pytest.mark.parametrize("problem", [ProjectNotFound("demo"), ValueError("broken")])
async def test_what_fails_after_the_result_was_told_does_not_take_it_back(
    problem: Exception,
) -> None:
    async with anyio.create_task_group() as tasks:
        flights, work = Flights[object](tasks), Work(problem)
        flight, _ = flights.join("key", work)
        flights.land("key", "early")
        work.go.set()
        await anyio.wait_all_tasks_blocked()
        assert await flight.result() == "early"
        _, led = flights.join("key", work)
        assert led


# Shared: in the request itself


async def test_shared_work_is_done_once_for_all_who_come_meanwhile() -> None:
    shared, work, results = Shared[str, object](), Work(), []

    async def one() -> None:
        results.append(await shared.get("key", work))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(one)
        await until(lambda: work.begun, "the first to begin")
        work.go.set()
    assert (work.begun, results) == (1, ["done"] * 5)
    assert await shared.get("key", work) == "done"
    assert work.begun == 2, "nothing is remembered"


async def test_the_next_takes_over_from_one_who_is_cancelled_or_fails() -> None:
    shared, work, results = Shared[str, object](), Work(ProjectNotFound("demo")), []
    first = anyio.CancelScope()

    async def leave() -> None:
        with first:
            await shared.get("key", work)

    async def fail() -> None:
        with pytest.raises(ProjectNotFound):
            await shared.get("key", work)
        work.outcome = None

    async def one() -> None:
        results.append(await shared.get("key", work))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave)
        await until(lambda: work.begun == 1, "the first to begin")
        tasks.start_soon(fail)
        tasks.start_soon(one)
        tasks.start_soon(one)
        await anyio.lowlevel.checkpoint()
        first.cancel()
        await until(lambda: work.begun == 2, "the next to take over")
        work.go.set()
    assert (work.begun, results) == (3, [None, None])


class Body:
    """Something large."""


async def test_what_failed_work_had_in_hand_does_not_stay_in_memory() -> None:
    held: list[weakref.ref[Body]] = []

    async def work() -> object:
        body = Body()
        held.append(weakref.ref(body))
        try:
            raise ValueError
        except ValueError as problem:
            raise ProjectNotFound("demo") from problem

    gc.disable()
    try:
        async with anyio.create_task_group() as tasks:
            flight, _ = Flights[object](tasks).join("key", work)
            for _ in range(2):
                with pytest.raises(ProjectNotFound):
                    await flight.result()
            assert held[0]() is None
    finally:
        gc.enable()
