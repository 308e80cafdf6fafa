"""Puts the house together: stores, upstreams, repositories, files, routes. Read this first.

`build(settings)` gives the ASGI application. Everything that outlives a request is made in the
lifespan, passed in explicitly, and closed there.
"""

import hashlib
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from proxyindex import banner, errors
from proxyindex.files.downloads import Downloads
from proxyindex.files.metadata import MetadataFinder
from proxyindex.files.service import FileService
from proxyindex.files.workshop import Workshop
from proxyindex.freshness import FreshnessRules
from proxyindex.lines import AccessLines
from proxyindex.metrics import Metrics
from proxyindex.names import matches_pattern
from proxyindex.policy import rules
from proxyindex.policy.verdict import FileRule, Policy
from proxyindex.repository.base import Repository
from proxyindex.repository.filtered import Filtered
from proxyindex.repository.kept import Stores, Terms
from proxyindex.repository.local import FolderUnavailable, Local
from proxyindex.repository.mirror import Mirror
from proxyindex.repository.priority import Priority
from proxyindex.settings import PolicySettings, Settings, UpstreamSettings
from proxyindex.simple import NotAcceptable
from proxyindex.store.cache import Cache, instance_id
from proxyindex.store.derived import DerivedNotes
from proxyindex.upstream.breaker import Breaker
from proxyindex.upstream.client import Connection, Transport
from proxyindex.upstream.index import Upstream
from proxyindex.web import health, landing, simple
from proxyindex.web.access import AccessLog, exchange_of
from proxyindex.web.express import EXPRESS_KEY, Express
from proxyindex.web.paths import PathGuard
from proxyindex.web.rendered import Renderer
from proxyindex.web.responses import error_response

log = logging.getLogger(__name__)

_TRIM_SECONDS = 5.0
_SWEEP_ROUNDS = 120
_LAST_FILLS_SECONDS = 5.0
_WRITERS = 8  # threads that write arriving files
_PROVERS = 2  # threads that hash stored files: more would only share the disk and the cores

STATUSES: dict[type[errors.ProxyindexError], int] = {
    errors.NotFound: 404,
    errors.Denied: 403,
    errors.UpstreamUnavailable: 503,
    errors.UpstreamError: 502,
    errors.LoopDetected: 508,
    errors.StoreError: 503,
    errors.FileUnreadable: 503,
    FolderUnavailable: 503,
    NotAcceptable: 406,
    errors.ProxyindexError: 500,  # one that nobody expected here
}
_OUTCOMES = {403: "denied", 404: "missing"}


def build(settings: Settings, *, transport: Transport | None = None) -> ASGIApp:
    """The application. `transport` replaces the network to all upstreams in tests."""
    metrics = Metrics()
    via = f"proxyindex-{instance_id(settings.cache_dir)}"

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        async with open_house(settings, metrics, via, transport) as (index, status):
            yield {"index": index, "health": status, EXPRESS_KEY: index.express}

    return Starlette(
        routes=[landing.route(banner.client_hints(settings)), *simple.ROUTES, *health.ROUTES],
        middleware=[
            Middleware(AccessLog, metrics=metrics),
            Middleware(PathGuard, base_path=settings.base_path, via=via),
        ],
        exception_handlers={
            errors.ProxyindexError: _on_error,
            HTTPException: _on_http_error,
        },
        lifespan=lifespan,
    )


@asynccontextmanager
async def open_house(
    settings: Settings, metrics: Metrics, via: str, transport: Transport | None
) -> AsyncIterator[tuple[simple.IndexService, health.Health]]:
    """Everything behind the routes, running; closed in the reverse order."""
    cache = Cache.open(
        settings.cache_dir,
        file_limit=settings.cache_size,
        page_limit=settings.page_cache_size,
        events=metrics,
    )
    async with AsyncExitStack() as stack:
        stack.callback(cache.close)
        upstreams = {}
        for configured in settings.upstreams:
            upstream = _upstream(configured, settings, via, transport)
            stack.push_async_callback(upstream.aclose)
            upstreams[_upstream_id(configured)] = upstream
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        workshop = _workshop(cache, settings, metrics)
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
        repository = _index(settings, cache, upstreams, tasks, metrics)
        metrics.gauge(
            "cache_file_bytes", "Bytes of files in the cache", lambda: cache.blobs.last_total
        )
        metrics.gauge(
            "cache_page_bytes", "Bytes of pages in the cache", lambda: cache.pages.last_total
        )
        metrics.gauge("transfers_running", "Downloads under way", lambda: len(downloads))
        lines = AccessLines(settings.log_format)
        stack.callback(lines.flush)
        express = Express(metrics, lines)
        stack.callback(express.close)
        tasks.start_soon(_keep_house, cache, express)
        service = simple.IndexService("root", repository, files, Renderer(), express)
        yield service, health.Health(settings.cache_dir, settings.folders, metrics)


def _index(
    settings: Settings,
    cache: Cache,
    upstreams: dict[str, Upstream],
    tasks: TaskGroup,
    metrics: Metrics,
) -> Repository:
    """The tree of repositories: own folders first, then each upstream through its policy."""
    sources: list[Repository] = []
    if settings.folders:
        sources.append(Local(settings.folders, DerivedNotes(cache.derived, cache.worker)))
    stores = Stores(
        cache.pages, cache.absent, cache.doubts, cache.worker, cache.locks, cache.trouble
    )
    freshness_rules = FreshnessRules(
        page_ttl=settings.page_ttl,
        stale_while_revalidate=settings.stale_while_revalidate,
        stale_if_error=settings.stale_if_error,
        negative_ttl=settings.negative_ttl,
    )
    for configured in settings.upstreams:
        key = _upstream_id(configured)
        terms = Terms(
            upstreams[key],
            key,
            stores,
            Breaker(),
            freshness_rules,
            metrics,
            is_offline=settings.offline,
        )
        mirror = Mirror(
            terms,
            cache.facts,
            cache.blobs,
            tasks,
            offers_metadata=configured.metadata,
            lists_all=settings.project_list == "all",
        )
        reserved = (*settings.policy.reserved, *configured.policy.reserved)
        sources.append(Filtered(mirror, _policy(configured.policy, reserved)))
    merged = settings.merge
    index = Priority(sources, lambda name: any(matches_pattern(name, p) for p in merged))
    return Filtered(index, _policy(settings.policy, ()))


def _policy(settings: PolicySettings, reserved: Sequence[str]) -> Policy:
    allow = [rules.Pattern.parse(text) for text in settings.allow]
    deny = [rules.Pattern.parse(text) for text in settings.deny]
    # every file of every page is judged: rules that cannot object took a tenth of a page's time
    file_rules: list[FileRule] = [rules.quarantined]
    if deny:
        file_rules.append(rules.deny_files(deny))
    if allow:
        file_rules.append(rules.allow_files(allow))
    return Policy(
        name_rules=(rules.reserved(reserved), rules.deny_names(deny), rules.allow_names(allow)),
        file_rules=tuple(file_rules),
    )


def _upstream(
    configured: UpstreamSettings, settings: Settings, via: str, transport: Transport | None
) -> Upstream:
    connection = Connection(
        name=configured.name,
        url=configured.url,
        via=via,
        username=configured.username,
        password=configured.password.reveal() if configured.password else None,
        ca_file=configured.ca_file,
        client_cert=configured.client_cert,
        client_key=configured.client_key,
        proxy=configured.proxy.reveal() if configured.proxy else None,
        connect_timeout=configured.connect_timeout,
        read_timeout=configured.read_timeout,
        max_connections=configured.max_connections,
        file_hosts=configured.file_hosts,
    )
    return Upstream(
        connection,
        retries=configured.retries,
        max_page_size=settings.max_page_size,
        max_transfers=settings.max_transfers,
        forbidden_is_missing=configured.forbidden_is_missing,
        transport=transport,
    )


def _upstream_id(configured: UpstreamSettings) -> str:
    """Names the upstream in the stores; another URL or user is another upstream there."""
    identity = f"{configured.url} {configured.username or ''}"
    return f"{configured.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _workshop(cache: Cache, settings: Settings, metrics: Metrics) -> Workshop:
    return Workshop(
        blobs=cache.blobs,
        partials=cache.partials,
        facts=cache.facts,
        locks=cache.locks,
        worker=cache.worker,
        slots=anyio.CapacityLimiter(settings.max_transfers),
        relays=anyio.CapacityLimiter(max(1, settings.max_transfers // 2)),
        writers=anyio.CapacityLimiter(_WRITERS),
        provers=anyio.CapacityLimiter(_PROVERS),
        spool=cache.root / "partials",
        max_file_size=settings.max_file_size,
        events=metrics,
        trouble=cache.trouble,
    )


async def _keep_house(cache: Cache, express: Express[Any]) -> None:
    """Recover once, then hold the budgets and sweep leftovers from time to time."""

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
        except Exception:  # let loose, it would end every download, too
            log.exception("keeping the cache in order failed")
        express.sweep()
        await anyio.sleep(_TRIM_SECONDS)


async def _finish_fills(downloads: Downloads) -> None:
    """Give downloads that nobody waits for any more a moment to finish."""
    with anyio.move_on_after(_LAST_FILLS_SECONDS):
        await downloads.idle()


async def _on_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, errors.ProxyindexError)
    status = next(STATUSES[kind] for kind in type(problem).__mro__ if kind in STATUSES)
    if status == 500:
        log.error("no status for %s", type(problem).__name__, exc_info=problem)
    exchange = exchange_of(request.scope)
    exchange.outcome = _OUTCOMES.get(status, "failed")
    reason = str(problem) if isinstance(problem, errors.Denied) else None
    retry_after = getattr(problem, "retry_after", 2) if status == 503 else 0
    response = error_response(status, problem, reason=reason, retry_after=retry_after)
    response.headers["Vary"] = "Accept"
    return response


async def _on_http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    headers = {"Cache-Control": "no-store", **(problem.headers or {})}
    return PlainTextResponse(f"{problem.detail}\n", problem.status_code, headers)
