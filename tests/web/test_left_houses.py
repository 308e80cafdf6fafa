"""Houses that were left are gone, although the collector hardly ever looks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from proxyindex import app
from proxyindex.repository.mirror import Mirror
from proxyindex.server.reload import RENEW_KEY
from proxyindex.settings import Settings, UpstreamSettings
from tests.support.hermetic import until


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def mirrors() -> list[Mirror]:
    """Those of all houses in memory: they have pages, and refer to themselves."""
    return [one for one in gc.get_objects() if isinstance(one, Mirror)]


@pytest.mark.usefixtures("no_collector")
async def test_a_house_that_was_left_is_not_kept_in_memory(tmp_path: Path) -> None:
    upstream = UpstreamSettings("up", "http://up.example/simple")
    settings = Settings(upstreams=(upstream,), cache_dir=tmp_path / "cache")
    transport = httpx.MockTransport(lambda _: httpx.Response(404))
    made = app.build(settings, transport=transport)
    assert isinstance(made, Starlette)
    gc.collect()  # those of other tests
    async with made.router.lifespan_context(made) as state:
        assert state is not None
        for _ in range(3):
            moved: list[bool] = []
            state[RENEW_KEY](lambda: settings, moved.append)
            await until(lambda done=moved: done == [True], "a move")  # type: ignore[misc]
        await until(lambda: len(mirrors()) == 1, "the end of the others")
