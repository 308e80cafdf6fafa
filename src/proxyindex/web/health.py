"""Whether the process lives, whether it may serve, and what it counted."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from proxyindex.web.access import exchange_of

_NO_STORE = {"Cache-Control": "no-store"}


class Exposition(Protocol):
    """What `/metrics` shows (`metrics.Metrics`)."""

    def exposition(self) -> tuple[bytes, str]: ...


@dataclass(frozen=True, slots=True)
class Health:
    """What readiness depends on: a cache that can be written, folders that can be read."""

    cache: Path
    folders: Sequence[Path]
    metrics: Exposition

    def problems(self) -> list[str]:
        """What keeps this server from serving; no paths, for anybody may ask."""
        found = []
        try:
            with tempfile.TemporaryFile(dir=self.cache):
                pass
        except OSError as problem:
            found.append(f"The cache cannot be written: {problem.strerror}.")
        for number, folder in enumerate(self.folders, start=1):
            if not os.access(folder, os.R_OK | os.X_OK):
                found.append(f"Package folder {number} cannot be read.")
        return found


async def health(request: Request) -> Response:
    """`GET /health`: the process answers."""
    exchange_of(request.scope).kind = "health"
    return PlainTextResponse("alive\n", headers=_NO_STORE)


async def ready(request: Request) -> Response:
    """`GET /ready`: 200 if requests can be served, else 503 and why."""
    exchange_of(request.scope).kind = "health"
    problems = await anyio.to_thread.run_sync(request.state.health.problems)
    text = "\n".join(problems) or "ready"
    return PlainTextResponse(text + "\n", 503 if problems else 200, _NO_STORE)


async def metrics(request: Request) -> Response:
    """`GET /metrics`: Prometheus text exposition."""
    exchange_of(request.scope).kind = "health"
    body, content_type = await anyio.to_thread.run_sync(request.state.health.metrics.exposition)
    return Response(body, headers={**_NO_STORE, "Content-Type": content_type})


ROUTES = (Route("/health", health), Route("/ready", ready), Route("/metrics", metrics))
