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
# without what has become the password
_UPSTREAM_OPTIONS = [o for o in UPSTREAM_OPTIONS if o.key not in {"password_env", "password_file"}]


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
    if not settings.upstreams:  # else a file without upstreams would ask PyPI
        lines.append(f"no-upstream = true  # {loaded.sources['upstream']}")
    lines += _section(settings, _plain_options(settings), loaded, "")
    if settings.groups:
        lines += ["", "[groups]"]
        for name, users in settings.groups:
            value = _word(users, toml=True)
            lines.append(f"{_word(name, toml=True)} = {value}  # {loaded.sources['groups']}")
    for upstream in settings.upstreams:
        lines += ["", "[[upstream]]"]
        lines += _section(upstream, _UPSTREAM_OPTIONS, loaded, f"upstream.{upstream.name}.")
    for index in settings.index_tables:
        lines += ["", f"[index.{index.name}]"]
        lines += _section(index, _TABLE_OPTIONS, loaded, f"index.{index.name}.")
    return "\n".join(lines) + "\n"


def count_given(loaded: Loaded) -> int:
    """How many of the values that are shown are no defaults."""
    settings, sources = loaded.settings, loaded.sources
    shown = [source for key, source in sources.items() if key not in _DERIVED]
    shown += [sources["groups"]] * len(settings.groups)
    shown += [] if settings.upstreams else [sources["upstream"]]  # as `no-upstream`
    return sum(source != "default" for source in shown)


def as_json(loaded: Loaded) -> str:
    """`{"settings": {KEY: {"value", "source"}}, "upstreams": [...], "indexes": [...]}`.

    Bytes and seconds are numbers; keys are spelled with underscores. Without tables there are no
    `indexes`: the settings describe the one there is.
    """
    settings = loaded.settings
    config = [option for option in OPTIONS if option.key == "config"]
    document = {
        "settings": _table_json(settings, _plain_options(settings) + config, loaded, ""),
        "upstreams": [
            _table_json(upstream, _UPSTREAM_OPTIONS, loaded, f"upstream.{upstream.name}.")
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


def _plain_options(settings: Settings) -> list[Option]:
    """What is shown neither as a table nor in one."""
    in_tables = INDEX_OPTIONS if settings.index_tables else ()
    return [o for o in OPTIONS if o.key not in _DERIVED and o not in in_tables]


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
