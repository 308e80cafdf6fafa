"""Reads the tables `[index.NAME]`: what they refer to, and what they may not."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping

from proxyindex.config import kinds, layers
from proxyindex.config.layers import Values
from proxyindex.config.mistakes import Mistakes, Place, nothing_called
from proxyindex.config.options import INDEX_OPTIONS, INHERITANCE_OPTIONS
from proxyindex.settings import FOLDERS, ROOT

_MOST = 200  # each is a tree of its own in every worker
_OPTIONS = {option.key: option for option in (*INHERITANCE_OPTIONS, *INDEX_OPTIONS)}

Tables = Mapping[str, Values]


def read(values: Values, upstreams: Collection[str], mistakes: Mistakes) -> Tables:
    """The values of each table in the order of the file; `upstreams` are the names there are.

    Without tables, all `values` are those of the one index, and its routes are checked.
    """
    tables = _tables(values, mistakes) if values["index"] else {}
    if values["index"]:
        _check(tables, values, upstreams, mistakes)
    else:
        _check_routes(values, upstreams, mistakes, what="upstream")
    known = [*tables] if values["index"] else [ROOT]
    if (default := values["default_index"]) and default not in known:
        problem = f"there is no index {default!r}; there are {', '.join(known)}"
        mistakes.say(values.place("default_index"), problem)
    return tables


def _tables(values: Values, mistakes: Mistakes) -> Tables:
    place = values.place("index")
    if len(values["index"]) > _MOST:
        mistakes.say(place, f"more than {_MOST} indexes")
        return {}
    return {
        name: _table(name, table, place.inside(name), mistakes)
        for name, table in values["index"].items()
    }


def _table(name: str, table: object, place: Place, mistakes: Mistakes) -> Values:
    try:
        kinds.INDEX_NAME.read(name)
    except kinds.Unfit as unfit:
        mistakes.value(place, name, str(unfit))
    if not isinstance(table, dict):
        mistakes.value(place, table, f"a table [{place.name}]")
        return Values({})
    found = layers.table_keys(table, _OPTIONS.values(), place.file, mistakes, place)
    return Values(layers.read_all(found, _OPTIONS, mistakes))


def _check(tables: Tables, values: Values, upstreams: Collection[str], mistakes: Mistakes) -> None:
    place = values.place("index")
    _check_names(tables, upstreams, place, mistakes)
    _check_cycles(tables, place, mistakes)
    _check_folders(tables, mistakes)
    for name, found in tables.items():
        if not any(found[key] for key in ("folders", "bases", "upstreams")):
            problem = "without folders, bases and upstreams there is nothing to serve"
            mistakes.say(place.inside(name), problem)
    for option in INDEX_OPTIONS:
        if values.given(option.key):
            problem = "belongs into a table [index.NAME], since there are some"
            mistakes.say(values.place(option.key), problem)
    # what a front has stripped of the base path would read like it
    if (first := (values["base_path"] or "").strip("/").partition("/")[0]) in tables:
        mistakes.say(values.place("base_path"), f"begins with {first!r}, which is an index")


def _check_routes(values: Values, targets: Iterable[str], mistakes: Mistakes, *, what: str) -> None:
    """Each target is one of `targets`, or `FOLDERS`."""
    known = [*targets, FOLDERS]
    for route in values["routes"] or ():
        if route.to not in known:
            mistakes.say(values.place("routes"), nothing_called(route.to, known, what))


def _check_names(
    tables: Tables, upstreams: Collection[str], place: Place, mistakes: Mistakes
) -> None:
    for name in tables.keys() & set(upstreams):
        problem = "an upstream has this name, too; give one of them another"
        mistakes.say(place.inside(name), problem)
    for found in tables.values():
        for key, known, what in (
            ("bases", [*tables, *upstreams], "index or upstream"),
            ("upstreams", [*upstreams], "upstream"),
        ):
            for word in found[key] or ():
                if word not in known:
                    mistakes.say(found.place(key), nothing_called(word, known, what))
        own = [base for base in found["bases"] or () if base in tables]
        _check_routes(found, [*upstreams, *own], mistakes, what="upstream or base")


def _check_cycles(tables: Tables, place: Place, mistakes: Mistakes) -> None:
    """Each ring of bases is told once, by its path."""
    done: set[str] = set()
    for start in tables:
        for ring in _rings(start, tables, [], done):
            mistakes.say(place.inside(ring[0]), f"its bases lead back to it: {' -> '.join(ring)}")


def _rings(name: str, tables: Tables, path: list[str], done: set[str]) -> Iterator[list[str]]:
    if name in path:
        yield [*path[path.index(name) :], name]
        return
    if name in done or name not in tables:
        return
    path.append(name)
    for base in tables[name]["bases"] or ():
        yield from _rings(base, tables, path, done)
    path.pop()
    done.add(name)


def _check_folders(tables: Tables, mistakes: Mistakes) -> None:
    """No index gets at another's files by accident: see docs/decisions/0027."""
    owners: dict[str, str] = {}
    listed: list[tuple[str, str, Place]] = []
    for name, found in tables.items():
        place = found.place("folders")
        for number, folder in enumerate(found["folders"] or ()):
            mistakes.need_folder(place, folder)
            real = os.path.realpath(folder)
            if not number and (other := owners.setdefault(real, name)) != name:
                problem = f"uploads to index {other!r} are written to {str(folder)!r}, too; "
                mistakes.say(place, problem + f"name {other!r} in bases instead")
            listed.append((name, real, place))
    for name, real, place in listed:
        for other, outer, _ in listed:
            if other != name and real.startswith(outer.rstrip(os.sep) + os.sep):
                problem = f"{real!r} lies in {outer!r}, which is a folder of index {other!r}"
                mistakes.say(place, problem + ": that would serve it, too")
