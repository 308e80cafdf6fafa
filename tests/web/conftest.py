"""The application in this process: real stores and routes, respx in place of the network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from proxyindex import app
from proxyindex.settings import Settings, UpstreamSettings
from proxyindex.web.accesslog import HOUSES_KEY, PEER_KEY
from proxyindex.web.express import Express
from tests.support.mirrors import answer
from tests.support.pages import JSON_TYPE, FileSpec, json_page

UPSTREAM = "http://up.example"


class House:
    """Starts applications on one cache directory; `router` is their upstream."""

    def __init__(self, root: Path, stack: AsyncExitStack) -> None:
        self.root = root
        self.folder = root / "packages"
        self.folder.mkdir()
        self.router = respx.Router(assert_all_called=False)
        self._stack = stack
        self.peer: str | None = None  # where connections come from, if not from the client
        self.express: Express  # of the newest application

    async def client(self, **settings: Any) -> httpx.AsyncClient:
        """A client of a new application with these settings."""
        upstream: dict[str, Any] = settings.pop("upstream", {})
        usual: dict[str, Any] = {
            "folders": (self.folder,),
            "upstreams": (UpstreamSettings("up", UPSTREAM + "/simple", retries=0, **upstream),),
            "cache_dir": self.root / "cache",
            "look_ahead": False,  # tests count what upstream is asked
        }
        made = app.build(
            Settings(**{**usual, **settings}),
            transport=httpx.MockTransport(self.router.async_handler),
        )
        assert isinstance(made, Starlette)
        state = await self._stack.enter_async_context(made.router.lifespan_context(made))
        assert isinstance(state, Mapping)
        self.express = state[HOUSES_KEY].current.express

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            peer = {PEER_KEY: self.peer} if self.peer else {}
            await made({**scope, **peer, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://index.example")
        return await self._stack.enter_async_context(client)

    def serves(
        self, path: str, body: bytes = b"", status: int = 200, **headers: str
    ) -> respx.Route:
        """What upstream answers; `_` in a header's name stands for `-`."""
        route = self.router.get(UPSTREAM + path)
        route.mock(side_effect=lambda request: answer(status, body, **headers))
        return route

    def project(self, name: str, *specs: FileSpec, **extra: Any) -> respx.Route:
        """A project with its files and their metadata; the route of its page."""
        for spec in specs:
            assert isinstance(spec.body, bytes)
            self.serves(spec.path, spec.body)
            if spec.metadata is not None:
                self.serves(spec.path + ".metadata", spec.metadata)
        return self.serves(
            f"/simple/{name}/", json_page(name, specs, **extra), content_type=JSON_TYPE
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        yield House(tmp_path, stack)
