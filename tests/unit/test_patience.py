"""Who waits for a dead upstream is sent away in time; who waits for his turn is not."""

from __future__ import annotations

from typing import cast

import anyio
import pytest

from proxyindex.errors import UpstreamUnavailable
from proxyindex.files import patience
from proxyindex.files.patience import in_time
from proxyindex.upstream.index import Upstream


class Talker:
    """Stands for an upstream that sends to others for so many looks."""

    name = "up"

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def is_talking(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


def talking(looks: int) -> Upstream:
    return cast(Upstream, Talker(looks))


async def never() -> None:
    await anyio.sleep_forever()


async def test_what_comes_in_time_is_given() -> None:
    async def answer() -> int:
        return 7

    assert await in_time(answer, talking(0), 10.0) == 7


async def test_silence_is_unavailable() -> None:
    with anyio.fail_after(5), pytest.raises(UpstreamUnavailable, match="did not answer in time"):
        await in_time(never, talking(0), 0.01)


async def test_a_turn_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_SLICE", 0.01)
    came, calls = anyio.Event(), []

    async def turn() -> str:
        calls.append(len(calls))
        if len(calls) == 4:
            came.set()
        await came.wait()
        return "mine"

    assert await in_time(turn, talking(100), 0.01) == "mine"
    assert len(calls) == 4


async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_SLICE", 0.01)
    monkeypatch.setattr(patience, "_LONGEST", 0.05)
    with anyio.fail_after(5), pytest.raises(UpstreamUnavailable):
        await in_time(never, talking(10**9), 0.01)
