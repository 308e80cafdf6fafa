"""Moving to another house: each wish is answered, and leaving one ends nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette

from proxyindex import app
from proxyindex.houses import Houses, opened
from proxyindex.settings import Settings
from proxyindex.web.express import Express
from proxyindex.web.house import House
from tests.support.hermetic import until


def opens(settings: Settings) -> AbstractAsyncContextManager[House]:
    raise OSError("no house can be opened")


async def test_a_wish_too_many_is_answered_too() -> None:
    answers: dict[int, bool] = {}
    async with anyio.create_task_group() as tasks:
        houses = Houses(opens, tasks)
        for number in range(100):
            houses.renew(Settings, partial(answers.__setitem__, number))
        assert set(answers.values()) == {False}  # those for whom there was no room
        assert 0 < len(answers) < 100
        tasks.start_soon(houses.serve_wishes)
        await until(lambda: len(answers) == 100, "all answers")
        houses.close()


class Opening:
    """Opens houses that are all that `Houses` needs of one, and breaks where it is told to."""

    def __init__(self) -> None:
        self.breaks_on_leaving = False
        self.broken = anyio.Event()  # set: a task of the house that is open now failed
        self.left = 0

    @asynccontextmanager
    async def __call__(self, settings: Settings) -> AsyncIterator[House]:
        broken = self.broken
        async with anyio.create_task_group() as tasks:

            async def breaks() -> None:
                await broken.wait()
                raise RuntimeError("a task of the house failed")

            tasks.start_soon(breaks)
            yield bare_house()
            tasks.cancel_scope.cancel()
        self.left += 1
        if self.breaks_on_leaving:
            raise OSError("connection reset by peer")


def bare_house() -> House:
    nothing: Any = SimpleNamespace(close=lambda: None)
    return House({}, "", False, "", {}, nothing, nothing, lambda: 0, anyio.lowlevel.checkpoint)


async def test_an_old_house_that_cannot_be_closed_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opening = Opening()
    async with opened(opening, Settings()) as houses:
        opening.breaks_on_leaving = True
        first = houses.current
        await houses.move(Settings())
        await until(lambda: opening.left == 1, "the end of the first")
        await anyio.wait_all_tasks_blocked()
        assert houses.current is not first
    assert opening.left == 2
    assert caplog.text.count("leaving a house failed") == 2  # the last one is told of, too


async def test_a_house_that_breaks_while_it_is_the_present_one_ends_the_server() -> None:
    opening = Opening()

    async def serve() -> None:
        async with opened(opening, Settings()):
            opening.broken.set()
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup):
        await serve()


async def test_an_old_house_that_breaks_while_it_has_guests_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opening = Opening()
    async with opened(opening, Settings()) as houses:
        of_the_first, opening.broken = opening.broken, anyio.Event()
        with houses.current.guest():
            await houses.move(Settings())
            of_the_first.set()
            await until(lambda: "a task of the house failed" in caplog.text, "the line")
            await anyio.wait_all_tasks_blocked()
        assert houses.transfers() == 0


async def test_who_asks_for_a_house_is_told_why_it_cannot_be_opened() -> None:
    async with anyio.create_task_group() as tasks:
        houses = Houses(opens, tasks)
        with pytest.raises(OSError, match="no house can be opened"):
            await houses.move(Settings())
        houses.close()


async def test_remembered_answers_that_cannot_be_swept_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(express: Express) -> None:
        raise OSError("bad file descriptor")

    monkeypatch.setattr(Express, "sweep", fails)
    monkeypatch.setattr(app, "_TRIM_SECONDS", 0.01)
    made = app.build(Settings(cache_dir=tmp_path / "cache", upstreams=()))
    assert isinstance(made, Starlette)
    async with made.router.lifespan_context(made):
        told = "keeping the cache in order failed"
        await until(lambda: caplog.text.count(told) > 1, "two rounds")
