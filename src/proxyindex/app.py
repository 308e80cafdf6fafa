"""Puts the house together: stores, upstreams, repositories, files, routes. Read this first.

`build(settings)` gives the ASGI application. Everything that outlives a request is made in the
lifespan, passed in explicitly, and closed there.
"""

import itertools
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from proxyindex import accounts, banner, errors, houses, publishers, sources
from proxyindex.files.downloads import Downloads
from proxyindex.files.metadata import MetadataFinder
from proxyindex.files.service import FileService
from proxyindex.files.workshop import PerUpstream, Workshop
from proxyindex.houses import Houses
from proxyindex.inquiry import OUTCOME_HEADER
from proxyindex.lines import AccessLines
from proxyindex.metrics import Metrics
from proxyindex.repository.local import Local
from proxyindex.repository.looking import Looker
from proxyindex.repository.scan import FolderUnavailable
from proxyindex.server.reload import RENEW_KEY
from proxyindex.settings import Settings
from proxyindex.simple import NotAcceptable
from proxyindex.store.cache import Cache, instance_id
from proxyindex.threads import Threads
from proxyindex.trees import Trees
from proxyindex.uploads.rejection import FolderRefused, UploadRejected
from proxyindex.uploads.shelf import Shelves
from proxyindex.upstream.ways import Transport
from proxyindex.web import changes, described, health, landing, manage, simple, upload
from proxyindex.web.accesslog import HOUSES_KEY, REFUSALS_KEY, AccessLog, exchange_of, note_refusal
from proxyindex.web.admission import Admission
from proxyindex.web.ahead import LookAhead
from proxyindex.web.express import Express
from proxyindex.web.house import House, Reception
from proxyindex.web.identity import CHALLENGE
from proxyindex.web.index import IndexService
from proxyindex.web.paths import PathGuard
from proxyindex.web.rendered import Renderer
from proxyindex.web.responses import NOTHING_HERE, error_response

log = logging.getLogger(__name__)

_TRIM_SECONDS = 5.0
_SWEEP_ROUNDS = 120
_LAST_FILLS_SECONDS = 5.0
_WRITERS = 8  # threads that write arriving files
_PROVERS = 2  # threads that hash stored files: more would only share the disk and the cores
_READERS = 40  # threads that read own files

STATUSES: dict[type[errors.ProxyindexError], int] = {
    errors.ServedElsewhere: 302,
    errors.NotFound: 404,
    errors.Denied: 403,
    errors.LoginRequired: 401,
    errors.Forbidden: 403,
    errors.TooManyAttempts: 429,
    UploadRejected: 400,  # or what it says itself
    errors.UpstreamUnavailable: 503,
    errors.UpstreamError: 502,
    errors.LoopDetected: 508,
    errors.StoreError: 503,
    errors.FileUnreadable: 503,
    FolderUnavailable: 503,
    FolderRefused: 503,
    NotAcceptable: 406,
    errors.ProxyindexError: 500,  # one that nobody expected here
}
# twine shows nothing but the reason phrase, and so do installers for a file
_TOLD = (errors.Denied, errors.NotAdmitted, errors.FileNotCached, UploadRejected, FolderRefused)
_OUTCOMES = {302: "redirected", 401: "denied", 403: "denied", 404: "missing", 429: "denied"}


def build(settings: Settings, *, transport: Transport | None = None) -> ASGIApp:
    """The application. `transport` replaces the network to all upstreams in tests."""
    metrics = Metrics()
    via = f"proxyindex-{instance_id(settings.cache_dir)}"

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        async with _site(settings, metrics) as site:
            opens = partial(open_house, site=site, via=via, transport=transport)
            async with houses.opened(opens, settings) as open_now:
                metrics.gauge("transfers_running", "Downloads under way", open_now.transfers)
                site.tasks.start_soon(_keep_house, site, open_now)
                site.tasks.start_soon(_keep_shelves, site)
                yield {
                    HOUSES_KEY: open_now,
                    RENEW_KEY: open_now.renew,
                    REFUSALS_KEY: partial(note_refusal, metrics),
                }

    made = Starlette(
        routes=[
            *upload.also_upload(*landing.ROUTES, *simple.LIST_ROUTES),
            *simple.ROUTES,
            *upload.ROUTES,
            *manage.ROUTES,
            *health.ROUTES,
            *described.ROUTES,
        ],
        middleware=[
            Middleware(AccessLog, metrics=metrics),
            Middleware(PathGuard, base_path=settings.base_path, via=via),
            Middleware(Reception),
        ],
        exception_handlers={
            errors.ProxyindexError: _on_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_disconnect,
        },
        lifespan=lifespan,
    )
    # it would answer before anybody's rights are looked at, with a place made of the client's Host
    made.router.redirect_slashes = False
    return made


@dataclass(frozen=True, slots=True)
class Site:
    """What every house stands on, and outlives it."""

    cache: Cache
    metrics: Metrics
    lines: AccessLines
    tasks: TaskGroup
    shelves: Shelves


@asynccontextmanager
async def _site(settings: Settings, metrics: Metrics) -> AsyncIterator[Site]:
    cache = Cache.open(
        settings.cache_dir,
        file_limit=settings.cache_size,
        page_limit=settings.page_cache_size,
        events=metrics,
    )
    blobs, pages = cache.blobs, cache.pages
    metrics.gauge("cache_file_bytes", "Bytes of files in the cache", lambda: blobs.last_total)
    metrics.gauge("cache_page_bytes", "Bytes of pages in the cache", lambda: pages.last_total)
    async with AsyncExitStack() as stack:
        stack.callback(cache.close)
        lines = AccessLines(settings.log_format)
        stack.callback(lines.flush)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        yield Site(cache, metrics, lines, tasks, Shelves())


@asynccontextmanager
async def alone(settings: Settings) -> AsyncIterator[House]:
    """A house for one command: everything but the server, on the same cache and folders."""
    via = f"proxyindex-{instance_id(settings.cache_dir)}"
    metrics = Metrics()
    async with (
        _site(settings, metrics) as site,
        open_house(settings, site=site, via=via, transport=None) as house,
    ):
        yield house


@asynccontextmanager
async def open_house(
    settings: Settings, *, site: Site, via: str, transport: Transport | None
) -> AsyncIterator[House]:
    """Everything behind the routes, running; closed in the reverse order."""
    cache, metrics = site.cache, site.metrics
    async with AsyncExitStack() as stack:
        upstreams = await sources.upstreams(settings, via, transport, stack)
        workshop = _workshop(cache, settings, metrics, stack)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        downloads = Downloads(workshop, tasks)
        stack.push_async_callback(_finish_fills, downloads)
        files = FileService(
            workshop,
            downloads,
            MetadataFinder(workshop, downloads, tasks),
            upstreams,
            cache.absent,
            tasks,
            is_offline=settings.offline,
        )
        identities = accounts.identities(settings)
        express = Express(metrics, site.lines, identities, by_user=settings.select_by_user)
        stack.callback(express.close)
        own = sources.folders(settings, cache)
        trees = Trees(settings, own, sources.mirrors(settings, cache, upstreams, tasks, metrics))
        renderer = Renderer()
        indexes = {}
        for index in settings.indexes:
            tree, admission = trees.tree(index), Admission(identities, accounts.rights(index))
            indexes[index.name] = IndexService(
                *(index.name, tree.whole, files, renderer, express, admission),
                publishers.publisher(settings, index, own.get(index.name), tree, site.shelves),
                LookAhead(tree.whole, files, tasks, metrics) if settings.look_ahead else None,
            )
        yield House(
            indexes=indexes,
            default=settings.default.name,
            select_by_user=settings.select_by_user,
            public_url=settings.public_url or "",
            landing=_landing_pages(settings),
            health=_health(settings, metrics, own.values()),
            express=express,
            transfers=downloads.__len__,
            idle=downloads.idle,
        )


def _landing_pages(settings: Settings) -> dict[str, bytes]:
    pages = {"": landing.render(banner.client_hints(settings))}
    for index in settings.indexes:
        pages[index.name] = landing.render(banner.client_hints(settings, index=index))
    return pages


def _workshop(
    cache: Cache, settings: Settings, metrics: Metrics, stack: AsyncExitStack
) -> Workshop:
    writers, provers = Threads(_WRITERS), Threads(_PROVERS)
    stack.callback(writers.close)
    stack.callback(provers.close)
    return Workshop(
        blobs=cache.blobs,
        partials=cache.partials,
        pages=cache.pages,
        facts=cache.facts,
        locks=cache.locks,
        worker=cache.worker,
        slots=PerUpstream(settings.max_transfers),
        relays=PerUpstream(max(1, settings.max_transfers // 2)),
        writers=writers,
        provers=provers,
        readers=anyio.CapacityLimiter(_READERS),
        spool=cache.root / "partials",
        max_file_size=settings.max_file_size,
        events=metrics,
        trouble=cache.trouble,
    )


def _health(settings: Settings, metrics: Metrics, own: Collection[Local]) -> health.Health:
    return health.Health(
        settings.cache_dir,
        settings.every_folder,
        settings.changed_folders,
        metrics,
        Looker("all folders"),
        own,
    )


async def _keep_house(site: Site, open_now: Houses) -> None:
    """Recover once, then hold the budgets and sweep leftovers from time to time."""
    cache = site.cache

    async def recover() -> None:
        pieces = cache.recovering()
        while not await cache.worker.run(next, pieces, True):  # requests come in between
            pass

    async def trim() -> None:
        await cache.worker.run(cache.trim)

    async def sweep() -> None:
        await cache.worker.run(cache.sweep)

    chores = itertools.chain([recover], itertools.cycle([*[trim] * _SWEEP_ROUNDS, sweep]))
    for chore in chores:
        try:
            await chore()
            open_now.current.express.sweep()
        except Exception:  # let loose, it would end every download, too
            log.exception("keeping the cache in order failed")
        await anyio.sleep(_TRIM_SECONDS)


async def _keep_shelves(site: Site) -> None:
    """Finish or remove what killed processes left in our folders, which may not answer."""
    while True:
        try:
            await anyio.to_thread.run_sync(
                site.shelves.sweep, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
        except Exception:  # let loose, it would end every download, too
            log.exception("sweeping package folders failed")
        await anyio.sleep(_TRIM_SECONDS * _SWEEP_ROUNDS)


async def _finish_fills(downloads: Downloads) -> None:
    """Give downloads that nobody waits for any more a moment to finish."""
    with anyio.move_on_after(_LAST_FILLS_SECONDS):
        await downloads.idle()


async def _on_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, errors.ProxyindexError)
    status = next(STATUSES[kind] for kind in type(problem).__mro__ if kind in STATUSES)
    if isinstance(problem, UploadRejected):
        status = problem.status
    if status == 500:
        log.error("no status for %s", type(problem).__name__, exc_info=problem)
    if isinstance(problem, FolderRefused):
        changes.tell_refused(request, problem)
    exchange = exchange_of(request.scope)
    exchange.outcome = _OUTCOMES.get(status, "failed" if status >= 500 else "refused")
    reason = str(problem) if isinstance(problem, _TOLD) else None
    retry_after = getattr(problem, "retry_after", 2) if status in (429, 503) else 0
    response = error_response(status, problem, reason=reason, retry_after=retry_after)
    response.headers["Vary"] = "Accept"
    response.headers[OUTCOME_HEADER] = exchange.outcome
    if status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(problem, errors.ServedElsewhere):
        response.headers["Location"] = problem.url
    return response


async def _on_http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    headers = {"Cache-Control": "no-store", **(problem.headers or {})}
    said = NOTHING_HERE if problem.status_code == 404 else problem.detail
    return PlainTextResponse(f"{said}\n", problem.status_code, headers)


async def _on_disconnect(request: Request, problem: Exception) -> Response:
    """In the middle of a body that was being read."""
    return Response(status_code=400)  # nobody is there to read it
