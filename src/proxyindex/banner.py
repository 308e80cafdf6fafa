"""What is said at start: where the server listens, what it serves, where it caches, its use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from proxyindex.access import EVERYBODY, Grant
from proxyindex.logs import JsonFormatter
from proxyindex.settings import FOLDERS, IndexSettings, Route, Settings
from proxyindex.units import format_size
from proxyindex.version import __version__
from proxyindex.web.clients import PLACEHOLDER_HOST, ClientHints, snippets

_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised here, not bound


def client_hints(
    settings: Settings, urls: Sequence[str] = (), index: IndexSettings | None = None
) -> ClientHints:
    """What people may be told. `urls`: where the server really listens, if already bound.
    `index`: the one to be spoken of under its own address, else the default one under its.

    The address is the configured public one, else the listening one with `HOST` in place of an
    address that means "all"; never what a request's `Host` claims.
    """
    named = f"/{index.name}" if index else ""
    shown = index or settings.default
    is_open = Grant(EVERYBODY) in map(Grant.parse, (*shown.read, *shown.admin))
    return ClientHints(
        base_url=_base_url(settings, urls) + named,
        has_own_packages=any(one.folders for one in settings.lineage(shown)),
        upstreams=settings.asks(shown),
        version=__version__,
        is_offline=settings.offline,
        indexes=() if index else tuple(one.name for one in settings.index_tables),
        # names that stay inside are nothing for everybody
        routes=tuple(_told(route) for route in settings.routes_of(shown) if route.to != FOLDERS)
        if is_open
        else (),
        needs_login=not is_open,
        takes_uploads=bool(shown.folders and (shown.upload or shown.admin)),
    )


def _told(route: Route) -> str:
    return f"{route.match} from {'folders only' if route.to == FOLDERS else route.to}"


def _base_url(settings: Settings, urls: Sequence[str]) -> str:
    if settings.public_url:
        return settings.public_url.rstrip("/")
    scheme = "https" if settings.tls_cert else "http"
    if settings.unix_socket:
        return f"{scheme}://{PLACEHOLDER_HOST}{settings.base_path}"
    bound = urlsplit(next((url for url in urls if url.startswith("http")), ""))
    host, port = settings.host, bound.port or settings.port
    if host in _ANY_ADDRESS:
        host = PLACEHOLDER_HOST
    elif ":" in host:
        host = f"[{host}]"
    suffix = "" if port == {"http": 80, "https": 443}[scheme] else f":{port or 'PORT'}"
    return f"{scheme}://{host}{suffix}{settings.base_path}"


def start_lines(settings: Settings, urls: Sequence[str]) -> list[str]:
    """Lines for a person at a terminal; one JSON object where the log is JSON."""
    if settings.log_format == "json":
        return [_json_line(settings, urls)]
    return [*_facts(settings, urls), "", *_usage(client_hints(settings, urls))]


def _json_line(settings: Settings, urls: Sequence[str]) -> str:
    fields = {
        "version": __version__,
        "urls": [*urls],
        "index": client_hints(settings, urls).index_url,
        "cache": str(settings.cache_dir),
        "cache_size": settings.cache_size,
    }
    record = {"name": "proxyindex", "levelname": "INFO", "msg": "listening", "fields": fields}
    return JsonFormatter().format(logging.makeLogRecord(record))


def _facts(settings: Settings, urls: Sequence[str]) -> Iterator[str]:
    yield f"proxyindex {__version__} listens on {', '.join(urls)}"
    urls_of = {upstream.name: upstream.url for upstream in settings.upstreams}
    for index in settings.indexes:
        owners = settings.lineage(index)
        sources = [os.fspath(folder) for one in owners for folder in one.folders]
        sources += [f"{name} ({urls_of[name]})" for name in settings.asks(index)]
        where = f"/{index.name}/simple/: " if settings.index_tables else ""
        routes = "".join(f"; {_told(route)}" for route in settings.routes_of(index))
        yield f"  serves  {where}{', then '.join(sources)}{routes}"
    limit = f"at most {format_size(settings.cache_size)}"
    mode = "; offline, no upstream is asked" if settings.offline else ""
    yield f"  caches  in {settings.cache_dir}, {limit}{mode}"


def _usage(hints: ClientHints) -> Iterator[str]:
    for snippet in snippets(hints):
        yield f"{snippet.client} ({snippet.where})"
        for line in snippet.text.splitlines():
            yield f"    {line}"
        if snippet.remark:
            yield f"  {snippet.remark}"
    if PLACEHOLDER_HOST in hints.base_url:
        yield f"{PLACEHOLDER_HOST} is the name clients reach this machine by; --public-url sets it."
