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
from proxyindex.config.options import OPTIONS
from proxyindex.settings import IndexSettings, Settings

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
    tables = indexes.read(values, [one.name for one in built.settings], mistakes)
    for index in (values, *tables.values()):
        accounts.check_groups(index, values, mistakes)
    for index in tables.values() or ([values] if is_ready else ()):
        accounts.check_folders(index, mistakes)
    for check in (_check_pairs, _check_paths, _check_socket, _check_cache):
        check(values, mistakes)
    if not values["index"] and is_ready:
        _check_purpose(values, entries, mistakes)
    mistakes.raise_if_any()
    sources = {option.key: values.place(option.key).source for option in OPTIONS}
    if entries is None:
        sources["upstream"] = values.place("no_upstream").source
    sources |= {f"upstream.{key}": source for key, source in built.sources.items()}
    for name, index in tables.items():
        sources |= {f"index.{name}.{key}": given.place.source for key, given in index.items()}
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


def _settings(values: Values, built: upstreams.Upstreams, tables: indexes.Tables) -> Settings:
    given = ((one.attribute, values[one.key]) for one in OPTIONS if one.key not in _BUILT)
    fields = layers.fields((key, value) for key, value in given if value is not None)
    fields["cache_dir"] = _cache_dir(values) or Path()
    fields["tokens"] = values["tokens"] or homes.tokens()
    index_tables = (
        IndexSettings(name, **layers.fields((key, given.value) for key, given in index.items()))
        for name, index in tables.items()
    )
    return Settings(**fields, upstreams=built.settings, index_tables=tuple(index_tables))


def _check_pairs(values: Values, mistakes: Mistakes) -> None:
    for pair in (("tls_cert", "tls_key"), ("remote_user_header", "remote_user_from")):
        for one, other in (pair, reversed(pair)):
            if values[one] and not values[other]:
                mistakes.say(values.place(one), f"needs {other.replace('_', '-')} beside it")


def _check_paths(values: Values, mistakes: Mistakes) -> None:
    for folder in values["folders"] or ():
        mistakes.need_folder(values.place("folders"), folder)
    for key in ("tls_cert", "tls_key"):
        if values[key]:
            mistakes.need_file(values.place(key), values[key])
    for path in values["htpasswd"] or ():
        remedy = f"make it with `proxyindex user add NAME --htpasswd {path}`"
        mistakes.need_file(values.place("htpasswd"), path, remedy)


def _check_socket(values: Values, mistakes: Mistakes) -> None:
    if not values["unix_socket"]:
        return
    for key in ("host", "port"):
        # an address from a lower layer, e.g. of a container image, is simply overridden
        if values.rank(key) >= values.rank("unix_socket"):
            mistakes.say(
                values.place(key), "contradicts unix-socket: listen on a socket or on an address"
            )


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
    return values["cache_dir"] or homes.cache()
