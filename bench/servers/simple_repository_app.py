"""Runs in the environment of simple-repository-server: PORT UPSTREAM FOLDER."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import fastapi
import httpx
import uvicorn
from simple_repository.components.http_cached import CachedHttpRepository
from simple_repository.components.metadata_injector import MetadataInjectorRepository
from simple_repository.components.resource_cache import ResourceCacheRepository
from simple_repository_server.routers import simple


def application(upstream: str, folder: Path) -> fastapi.FastAPI:
    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            pages = CachedHttpRepository(upstream, folder / "pages", client)
            files = ResourceCacheRepository(pages, folder / "files", client)
            tree = MetadataInjectorRepository(files, client)
            app.include_router(
                simple.build_router(tree, http_client=client, stream_http_resources=True)
            )
            yield

    return fastapi.FastAPI(openapi_url=None, lifespan=lifespan)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    PORT, UPSTREAM, FOLDER = sys.argv[1:]
    uvicorn.run(application(UPSTREAM, Path(FOLDER)), host="127.0.0.1", port=int(PORT))
