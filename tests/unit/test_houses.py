"""Moving to another house: each wish is answered."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio

from proxyindex.houses import Houses
from proxyindex.settings import Settings
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
