"""What the trees of all indexes share: repositories over folders, upstreams, and their mirrors."""

import hashlib
import os
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

from anyio.abc import TaskGroup

from proxyindex.freshness import FreshnessRules
from proxyindex.metrics import Metrics
from proxyindex.repository.asking import Stores, Terms
from proxyindex.repository.base import Repository
from proxyindex.repository.local import Local
from proxyindex.repository.mirror import Mirror
from proxyindex.settings import IndexSettings, Settings, UpstreamSettings
from proxyindex.store.cache import Cache
from proxyindex.store.derived import DerivedNotes
from proxyindex.threads import in_thread
from proxyindex.upstream.breaker import Breaker
from proxyindex.upstream.connection import Connection
from proxyindex.upstream.index import Upstream
from proxyindex.upstream.tls import introduced
from proxyindex.upstream.ways import Transport


def folders(settings: Settings, cache: Cache) -> dict[str, Local]:
    """The repositories over own folders, by index."""
    notes = DerivedNotes(cache.derived, cache.worker)
    return {
        one.name: Local(
            one.folders,
            notes,
            volatile=_volatile(settings, one),
            public_url=_public_url(settings, one),
        )
        for one in settings.indexes
        if one.folders
    }


def _volatile(settings: Settings, index: IndexSettings) -> tuple[Path, ...]:
    """The folders of the index in which other bytes may replace a file: by what is uploaded to it,
    or to another one that writes to a folder of its."""
    if index.overwrite:
        return index.folders
    replacing = [one for one in settings.indexes if one.overwrite and one.folders]
    written = {os.path.realpath(one.folders[0]) for one in replacing}
    return tuple(folder for folder in index.folders if os.path.realpath(folder) in written)


def _public_url(settings: Settings, index: IndexSettings) -> str | None:
    """Of its project list, as clients have it."""
    if settings.public_url is None:
        return None
    below = "" if index.name == settings.default.name else f"/{index.name}"
    return f"{settings.public_url}{below}/simple/"


def mirrors(
    settings: Settings,
    cache: Cache,
    upstreams: dict[str, Upstream],
    tasks: TaskGroup,
    metrics: Metrics,
) -> dict[str, Repository]:
    """One mirror for each upstream, by configured name: its memory and flights are shared."""
    stores = Stores(
        cache.pages, cache.absent, cache.doubts, cache.worker, cache.locks, cache.trouble
    )
    freshness_rules = FreshnessRules(
        page_ttl=settings.page_ttl,
        stale_while_revalidate=settings.stale_while_revalidate,
        stale_if_error=settings.stale_if_error,
        negative_ttl=settings.negative_ttl,
    )
    found: dict[str, Repository] = {}
    followed = settings.followed()
    for configured in settings.upstreams:
        key = upstream_id(configured)
        terms = Terms(
            upstreams[key],
            key,
            stores,
            Breaker(),
            freshness_rules,
            metrics,
            is_offline=settings.offline,
            doubts_absence=configured.name in followed or configured.knows_us,
        )
        found[configured.name] = Mirror(
            terms,
            cache.facts,
            cache.blobs,
            tasks,
            offers_metadata=configured.metadata,
            lists_all=settings.project_list == "all",
        )
    return found


async def upstreams(
    settings: Settings, via: str, transport: Transport | None, stack: AsyncExitStack
) -> dict[str, Upstream]:
    """By their ids in the stores; closed with the stack."""
    found = {}
    for configured in settings.upstreams:
        tls = await in_thread(
            introduced, configured.ca_file, configured.client_cert, configured.client_key
        )
        made = _upstream(configured, settings, via, tls, transport)
        stack.push_async_callback(made.aclose)
        found[upstream_id(configured)] = made
    return found


def _upstream(
    configured: UpstreamSettings,
    settings: Settings,
    via: str,
    tls: ssl.SSLContext,
    transport: Transport | None,
) -> Upstream:
    """The client of one upstream, to be closed."""
    connection = Connection(
        name=configured.name,
        url=configured.url,
        via=via,
        username=configured.username,
        password=configured.password.reveal() if configured.password else None,
        tls=tls,
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
        may_know_nothing=configured.name in settings.followed(),
        transport=transport,
    )


def upstream_id(configured: UpstreamSettings) -> str:
    """Names the upstream in the stores; another URL or user is another upstream there."""
    identity = f"{configured.url} {configured.username or ''}"
    return f"{configured.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
