"""Shows the effective configuration, secrets masked: as a TOML file again, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from proxyindex.config.load import Loaded
from proxyindex.config.options import (
    INDEX_OPTIONS,
    INHERITANCE_OPTIONS,
    OPTIONS,
    UPSTREAM_OPTIONS,
    Option,
)
from proxyindex.settings import IndexSettings, Route, Secret, Settings, UpstreamSettings

_DERIVED = frozenset({"upstream", "no_upstream", "config", "index", "groups"})
_UNNAMED = UpstreamSettings(name="", url="")
_TABLE_OPTIONS = (*INHERITANCE_OPTIONS, *INDEX_OPTIONS)


def shown_default(option: Option) -> str:
    """The default of an option as help texts and documentation print it; empty if there is none."""
    if option.shown_default or option.key in {"no_upstream", "index", "groups"}:
        return option.shown_default
    owner: object = Settings() if option in OPTIONS else _UNNAMED
    if option in INHERITANCE_OPTIONS:
        owner = IndexSettings("")
    if option in UPSTREAM_OPTIONS and option.attribute in {"url", "password_env", "password_file"}:
        return ""
    value = _value(owner, option)
    if value in (None, (), ""):
        return ""
    return " ".join(shown) if isinstance(shown := _shown(option, value), list) else _word(shown)


def as_toml(loaded: Loaded) -> str:
    """A TOML file of every value, each with its source as comment."""
    settings = loaded.settings
    lines = [f"# configuration file: {settings.config_file or 'none'}"]
    plain = [option for option in OPTIONS if option.key not in _derived(settings)]
    if not settings.upstreams:  # else a file without upstreams would ask PyPI
        lines.append(f"no-upstream = true  # {loaded.sources['upstream']}")
    lines += _section(settings, plain, loaded, "")
    if settings.groups:
        lines += ["", "[groups]"]
        lines += _group_lines(settings, loaded.sources["groups"])
    for upstream in settings.upstreams:
        lines += ["", "[[upstream]]"]
        lines += _section(upstream, _upstream_options(), loaded, f"upstream.{upstream.name}.")
    for index in settings.index_tables:
        lines += ["", f"[index.{index.name}]"]
        lines += _section(index, _TABLE_OPTIONS, loaded, f"index.{index.name}.")
    return "\n".join(lines) + "\n"


def count_given(loaded: Loaded) -> int:
    """How many of the values that are shown are no defaults."""
    settings, sources = loaded.settings, loaded.sources
    keys = [option.key for option in OPTIONS if option.key not in _derived(settings)]
    keys += ["groups"] * len(settings.groups)
    keys += [] if settings.upstreams else ["upstream"]  # shown as `no-upstream`
    for upstream in settings.upstreams:
        keys += [f"upstream.{upstream.name}.{option.key}" for option in _upstream_options()]
    for index in settings.index_tables:
        keys += [f"index.{index.name}.{option.key}" for option in _TABLE_OPTIONS]
    return sum(sources.get(key, "default") != "default" for key in keys)


def _group_lines(settings: Settings, source: str) -> Iterator[str]:
    for name, users in settings.groups:
        yield f"{_word(name, toml=True)} = {_word(users, toml=True)}  # {source}"


def as_json(loaded: Loaded) -> str:
    """`{"settings": {KEY: {"value", "source"}}, "upstreams": [...], "indexes": [...]}`.

    Bytes and seconds are numbers; keys are spelled with underscores. Without tables there are no
    `indexes`: the settings describe the one there is.
    """
    settings = loaded.settings
    document = {
        "settings": {
            option.key: {
                "value": _plain(_value(settings, option)),
                "source": loaded.sources[option.key],
            }
            for option in OPTIONS
            if option.key == "config" or option.key not in _derived(settings)
        },
        "upstreams": [
            _table_json(upstream, _upstream_options(), loaded, f"upstream.{upstream.name}.")
            for upstream in settings.upstreams
        ],
        "indexes": [
            {"name": index.name}
            | _table_json(index, _TABLE_OPTIONS, loaded, f"index.{index.name}.")
            for index in settings.index_tables
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _table_json(
    owner: object, options: Sequence[Option], loaded: Loaded, prefix: str
) -> dict[str, object]:
    return {
        option.key: {
            "value": _plain(_value(owner, option)),
            "source": loaded.sources.get(prefix + option.key, "default"),
        }
        for option in options
    }


def _derived(settings: Settings) -> frozenset[str]:
    """Keys that are shown as tables, or not at all."""
    in_tables = (option.key for option in INDEX_OPTIONS if settings.index_tables)
    return _DERIVED.union(in_tables)


def _upstream_options() -> list[Option]:
    # these two have become the password
    return [o for o in UPSTREAM_OPTIONS if o.key not in {"password_env", "password_file"}]


def _section(
    owner: object, options: Sequence[Option], loaded: Loaded, prefix: str
) -> Iterator[str]:
    tables = "policy." if not prefix else ""
    # in TOML a table ends the keys above it, so the [policy] of the file itself comes last
    for option in sorted(options, key=lambda option: bool(tables and tables in option.key)):
        key = option.toml
        if tables and option.key.startswith(tables):
            if option.key == "policy.reserved":
                yield from ("", "[policy]")
            key = option.toml.removeprefix(tables)
        value = _value(owner, option)
        source = loaded.sources.get(prefix + option.key, "default")
        if value is None:
            yield f"# {key} is not set"
        else:
            yield f"{key} = {_word(_shown(option, value), toml=True)}  # {source}"


def _value(owner: object, option: Option) -> object:
    value = owner
    for name in option.attribute.split("."):
        value = getattr(value, name)
    return value


def _shown(option: Option, value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(option.kind.show(item)) for item in value]
    return _plain(option.kind.show(value))


def _plain(value: object) -> object:
    match value:
        case tuple():
            return [_plain(item) for item in value]
        case Path() | Secret():
            return str(value)
        case Route():
            return {"match": value.match, "to": value.to}
        case _:
            return value


def _word(value: object, *, toml: bool = False) -> str:
    # JSON's strings, numbers, booleans and lists are TOML's too
    return json.dumps(value, ensure_ascii=False) if toml or value in (True, False) else str(value)
