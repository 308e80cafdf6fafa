"""Finds the effective configuration: flag over environment over file over default.

All mistakes are reported together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from proxyindex.config import accounts, homes, indexes, layers, upstreams
from proxyindex.config.layers import Layer, Values
from proxyindex.config.mistakes import Given, Mistakes
from proxyindex.config.options import INDEX_OPTIONS, OPTIONS
from proxyindex.settings import Settings

# not settings, but settings are made of them
_BUILT = frozenset({"upstream", "no_upstream", "index"})
_OPTIONS = {option.key: option for option in OPTIONS}
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings and where each value came from.

    `sources` maps an option's key (`page_ttl`, `policy.deny`) or a key of an upstream
    (`upstream.NAME.password`) or index (`index.NAME.bases`) to `flag --page-ttl`, `env NAME`,
    `FILE:KEY` or `default`.
    """

    settings: Settings
    sources: Mapping[str, str]


def load(
    flags: Mapping[str, object] = _NOTHING,
    environ: Mapping[str, str] = _NOTHING,
    *,
    is_ready: bool = True,
) -> Loaded:
    """The effective configuration.

    `flags`: values by option key, texts as typed; `None` and `()` mean not given. `environ`:
    usually `os.environ`. Raises `ConfigError` with every mistake, or its subclass `NotReady` when
    the only ones are folders or files that are not there. Without `is_ready`, what only a server
    needs (folders, files, variables, something to serve) need not be there.
    """
    mistakes = Mistakes(is_ready=is_ready)
    given = [layers.from_flags(flags), layers.from_environment(environ, mistakes)]
    if named := given[0].get("config") or given[1].get("config"):
        path = Path(os.path.expanduser(str(named.value)))
        given.append(layers.from_file(path, named.place, mistakes))
    values = Values(_winners(given, mistakes))
    entries = _upstream_entries(values, mistakes)
    built = upstreams.build(entries, environ, mistakes) if entries else upstreams.Upstreams()
    names = [upstream.name for upstream in built.settings]
    tables = indexes.Indexes()
    if values["index"]:
        tables = _index_tables(values, names, mistakes)
    else:
        indexes.check_only(values.given("routes"), values.given("default_index"), names, mistakes)
    accounts.check_indexes(tables.settings, values, mistakes)
    for check in (_check_tls, _check_socket, _check_folders, _check_cache, accounts.check):
        check(values, mistakes)
    if not values["index"] and is_ready:
        _check_purpose(values, entries, mistakes)
    mistakes.raise_if_any()
    sources = {option.key: values.place(option.key).source for option in OPTIONS}
    if entries is None:
        sources["upstream"] = values.place("no_upstream").source
    sources |= {f"upstream.{key}": source for key, source in built.sources.items()}
    sources |= {f"index.{key}": source for key, source in tables.sources.items()}
    settings = _settings(values, built, tables)
    _check_apart(settings, values, mistakes)
    return Loaded(settings, sources)


def _winners(given: list[Layer], mistakes: Mistakes) -> Mapping[str, Given]:
    winners: dict[str, Given] = {}
    for layer in reversed(given):
        told = ((key, layer[key]) for key in _OPTIONS if key in layer)
        winners |= layers.read_all(told, _OPTIONS, mistakes)
    return winners


def _upstream_entries(values: Values, mistakes: Mistakes) -> Given | None:
    asked, refused = values["upstream"], values["no_upstream"]
    if refused and asked and values.rank("upstream") == values.rank("no_upstream"):
        mistakes.say(values.place("no_upstream"), "contradicts the upstreams given beside it")
    elif refused and values.rank("upstream") <= values.rank("no_upstream"):
        return None
    return upstreams.default() if asked is None else Given(asked, values.place("upstream"))


def _index_tables(values: Values, names: list[str], mistakes: Mistakes) -> indexes.Indexes:
    given = values.given("index")
    assert given is not None
    built = indexes.build(given, names, mistakes)
    for option in INDEX_OPTIONS:
        if values.given(option.key):
            problem = "belongs into a table [index.NAME], since there are some"
            mistakes.say(values.place(option.key), problem)
    known = [one.name for one in built.settings]
    if (default := values["default_index"]) and default not in known:
        problem = f"there is no index {default!r}; there are {', '.join(known)}"
        mistakes.say(values.place("default_index"), problem)
    # what a front has stripped of the base path would read like it
    if (first := (values["base_path"] or "").strip("/").partition("/")[0]) in known:
        mistakes.say(values.place("base_path"), f"begins with {first!r}, which is an index")
    return built


def _settings(values: Values, built: upstreams.Upstreams, tables: indexes.Indexes) -> Settings:
    given = ((one.attribute, values[one.key]) for one in OPTIONS if one.key not in _BUILT)
    fields = layers.fields((key, value) for key, value in given if value is not None)
    fields["cache_dir"] = _cache_dir(values) or Path()
    fields["tokens"] = values["tokens"] or homes.tokens()
    return Settings(**fields, upstreams=built.settings, index_tables=tables.settings)


def _check_tls(values: Values, mistakes: Mistakes) -> None:
    cert, key = values["tls_cert"], values["tls_key"]
    if cert and not key:
        mistakes.say(values.place("tls_cert"), "needs tls-key beside it")
    if key and not cert:
        mistakes.say(values.place("tls_key"), "needs tls-cert beside it")
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        if path and not os.path.isfile(path):
            mistakes.absent(values.place(name), path, "a file")


def _check_socket(values: Values, mistakes: Mistakes) -> None:
    if not values["unix_socket"]:
        return
    for key in ("host", "port"):
        # an address from a lower layer, e.g. of a container image, is simply overridden
        if values.rank(key) >= values.rank("unix_socket"):
            mistakes.say(
                values.place(key), "contradicts unix-socket: listen on a socket or on an address"
            )


def _check_folders(values: Values, mistakes: Mistakes) -> None:
    for folder in values["folders"] or ():
        if not os.path.isdir(folder):  # `is_dir` raises where a folder above is closed
            mistakes.absent_folder(values.place("folders"), folder)


def _check_apart(settings: Settings, values: Values, mistakes: Mistakes) -> None:
    """Parts of a cache in a package folder would be taken for projects, unless they are hidden."""
    if (given := _cache_dir(values)) is None:
        return
    cache = os.path.realpath(given)
    for folder in settings.every_folder:
        below = os.path.relpath(cache, os.path.realpath(folder))
        parts = below.split(os.sep) if below != os.curdir else []
        if not any(part.startswith(".") for part in parts):
            where = f"{given} lies in the package folder {folder}"
            problem = f"{where}, where its parts would be taken for projects"
            mistakes.say(values.place("cache_dir"), problem)
    mistakes.raise_if_any()


def _check_purpose(values: Values, entries: Given | None, mistakes: Mistakes) -> None:
    if values["folders"]:
        return
    if entries is None or not entries.value:
        place = values.place("no_upstream" if entries is None else "upstream")
        mistakes.say(place, "without folders and upstreams there is nothing to serve")
    elif values["offline"] and (cache := _cache_dir(values)) and not os.path.isdir(cache):
        problem = f"no folders are given and there is no cache at {cache}"
        mistakes.say(values.place("offline"), f"{problem}, so there is nothing to serve")


def _check_cache(values: Values, mistakes: Mistakes) -> None:
    if _cache_dir(values) is None:
        mistakes.missing.append(
            "cache-dir: this user has no home to keep a cache in; "
            "say where, with --cache-dir or PROXYINDEX_CACHE_DIR."
        )


def _cache_dir(values: Values) -> Path | None:
    given = values["cache_dir"]
    return given if isinstance(given, Path) else homes.cache()
