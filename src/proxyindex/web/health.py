"""Whether the process lives, whether it may serve, and what it counted."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from proxyindex import disk
from proxyindex.repository.local import Local
from proxyindex.repository.looking import Looker
from proxyindex.repository.scan import FolderSilent, FolderUnavailable
from proxyindex.threads import in_thread
from proxyindex.uploads.stage import is_changeable
from proxyindex.web.accesslog import exchange_of

# of 20,000 directories each scan takes 0.1 s, on a slow disk more, and anybody may ask at any time
_BELIEVED_SECONDS = 60.0
_NO_STORE = {"Cache-Control": "no-store"}


class Exposition(Protocol):
    """What `/metrics` shows (`metrics.Metrics`)."""

    def exposition(self) -> tuple[bytes, str]: ...


@dataclass(frozen=True, slots=True)
class Health:
    """What readiness depends on: folders that can be read. Without a cache or folders that can be
    written installers are served all the same, so that is told, but not held against it.

    `changed`: those of the folders that uploads and other changes go to. `own`: what shows them.
    """

    cache: Path
    folders: Sequence[Path]
    changed: Sequence[Path]
    metrics: Exposition
    looker: Looker
    own: Collection[Local]

    def of_folders(self) -> tuple[list[str], list[str]]:
        """What keeps this server from serving, and what makes it serve worse than it could; no
        paths, for anybody may ask. For a thread that may hang."""
        numbered = list(enumerate(self.folders, start=1))
        problems = [
            f"Package folder {number} cannot be read."
            for number, folder in numbered
            if not os.access(folder, os.R_OK | os.X_OK)
        ]
        complaints = [
            f"Package folder {number} cannot be written, so uploads to it are refused."
            for number, folder in numbered
            if folder in self.changed and not is_changeable(folder)
        ]
        return problems, complaints

    async def look_through(self) -> None:
        """Raises `FolderUnavailable`: with one folder in them unread, no name is known to be
        public."""
        for own in self.own:
            await own.look_through(_BELIEVED_SECONDS)

    def of_cache(self) -> list[str]:
        """What makes it serve worse than it could."""
        try:
            disk.try_writing(self.cache)
        except OSError as problem:
            return [f"The cache cannot be written: {problem.strerror}."]
        return []


async def health(request: Request) -> Response:
    """`GET /health`: the process answers."""
    exchange_of(request.scope).kind = "health"
    return PlainTextResponse("alive\n", headers=_NO_STORE)


async def ready(request: Request) -> Response:
    """`GET /ready`: 200 if requests can be served, else 503 and why."""
    exchange_of(request.scope).kind = "health"
    state = request.state.house.health
    problems: list[str] = []
    complaints: list[str] = []
    try:
        problems, complaints = await state.looker.run(state.of_folders)
        if not problems:
            await state.look_through()
    except FolderSilent:
        problems = ["A package folder does not answer."]
    except FolderUnavailable:
        problems = ["A folder in a package folder cannot be read; the log tells which."]
    complaints += await in_thread(state.of_cache)
    text = "\n".join([*([] if problems else ["ready"]), *problems, *complaints])
    return PlainTextResponse(text + "\n", 503 if problems else 200, _NO_STORE)


async def metrics(request: Request) -> Response:
    """`GET /metrics`: Prometheus text exposition."""
    exchange_of(request.scope).kind = "health"
    body, content_type = await in_thread(request.state.house.health.metrics.exposition)
    return Response(body, headers={**_NO_STORE, "Content-Type": content_type})


ROUTES = (Route("/health", health), Route("/ready", ready), Route("/metrics", metrics))
