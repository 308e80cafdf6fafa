"""Makes `IndexSettings` of the tables `[index.NAME]`: what they refer to, and what they may not."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxyindex.config import kinds, layers
from proxyindex.config.mistakes import Given, Mistakes, Place, nothing_called
from proxyindex.config.options import INDEX_OPTIONS, INHERITANCE_OPTIONS
from proxyindex.settings import FOLDERS, ROOT, IndexSettings, Route

_MOST = 200  # each is a tree of its own in every worker
_OPTIONS = {option.key: option for option in (*INHERITANCE_OPTIONS, *INDEX_OPTIONS)}

Values = Mapping[str, Given]


@dataclass(frozen=True, slots=True)
class Indexes:
    """The indexes in the order of the file, and where each of their values came from."""

    settings: tuple[IndexSettings, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


def build(tables: Given, upstreams: Collection[str], mistakes: Mistakes) -> Indexes:
    """Indexes of the tables; `upstreams` are the names there are. Mistakes go to `mistakes`."""
    assert isinstance(tables.value, dict)
    if len(tables.value) > _MOST:
        mistakes.say(tables.place, f"more than {_MOST} indexes")
        return Indexes()
    values: dict[str, Values] = {}
    places: dict[str, Place] = {}
    for name, table in tables.value.items():
        place = places[name] = tables.place.inside(name)
        values[name] = _values(name, table, place, mistakes)
    _check_names(values, upstreams, places, mistakes)
    _check_cycles(values, tables.place, mistakes)
    _check_folders(values, mistakes)
    for name, given in values.items():
        if not any(key in given and given[key].value for key in ("folders", "bases", "upstreams")):
            problem = "without folders, bases and upstreams there is nothing to serve"
            mistakes.say(places[name], problem)
    sources = {
        f"{name}.{key}": given.place.source
        for name, found in values.items()
        for key, given in found.items()
    }
    settings = (
        IndexSettings(name, **layers.fields((key, one.value) for key, one in found.items()))
        for name, found in values.items()
    )
    return Indexes(tuple(settings), sources)


def _values(name: str, table: object, place: Place, mistakes: Mistakes) -> Values:
    try:
        kinds.INDEX_NAME.read(name)
    except kinds.Unfit as unfit:
        mistakes.value(place, name, str(unfit))
    if not isinstance(table, dict):
        mistakes.value(place, table, f"a table [{place.name}]")
        return {}
    found = layers.table_keys(table, _OPTIONS.values(), place.file, mistakes, place)
    return layers.read_all(found, _OPTIONS, mistakes)


def check_only(
    routes: Given | None, default: Given | None, upstreams: Iterable[str], mistakes: Mistakes
) -> None:
    """What refers to something in a configuration without tables."""
    if routes:
        _check_routes(routes, upstreams, mistakes, what="upstream")
    if default and default.value != ROOT:
        mistakes.say(default.place, nothing_called(str(default.value), [ROOT], "index"))


def _check_routes(given: Given, targets: Iterable[str], mistakes: Mistakes, *, what: str) -> None:
    """Each target is one of `targets`, or `FOLDERS`."""
    known = [*targets, FOLDERS]
    for route in given.value if isinstance(given.value, tuple) else ():
        assert isinstance(route, Route)
        if route.to not in known:
            mistakes.say(given.place, nothing_called(route.to, known, what))


def _check_names(
    values: Mapping[str, Values],
    upstreams: Collection[str],
    places: Mapping[str, Place],
    mistakes: Mistakes,
) -> None:
    for name in values.keys() & set(upstreams):
        mistakes.say(places[name], "an upstream has this name, too; give one of them another")
    for found in values.values():
        bases = _words(found, "bases")
        for key, known, what in (
            ("bases", [*values, *upstreams], "index or upstream"),
            ("upstreams", [*upstreams], "upstream"),
        ):
            for word in _words(found, key):
                if word not in known:
                    mistakes.say(found[key].place, nothing_called(word, known, what))
        if "routes" in found:
            own = [base for base in bases if base in values]
            _check_routes(found["routes"], [*upstreams, *own], mistakes, what="upstream or base")


def _words(values: Values, key: str) -> tuple[str, ...]:
    value = values[key].value if key in values else ()
    return value if isinstance(value, tuple) else ()


def _check_cycles(values: Mapping[str, Values], place: Place, mistakes: Mistakes) -> None:
    """Each ring of bases is told once, by its path."""
    done: set[str] = set()
    for start in values:
        for ring in _rings(start, values, [], done):
            mistakes.say(place.inside(ring[0]), f"its bases lead back to it: {' -> '.join(ring)}")


def _rings(
    name: str, values: Mapping[str, Values], path: list[str], done: set[str]
) -> Iterator[list[str]]:
    if name in path:
        yield [*path[path.index(name) :], name]
        return
    if name in done or name not in values:
        return
    path.append(name)
    for base in _words(values[name], "bases"):
        yield from _rings(base, values, path, done)
    path.pop()
    done.add(name)


def _check_folders(values: Mapping[str, Values], mistakes: Mistakes) -> None:
    """No index gets at another's files by accident: see docs/decisions/0027."""
    owners: dict[str, str] = {}
    listed: list[tuple[str, str, Place]] = []
    for name, found in values.items():
        given = found.get("folders")
        folders = given.value if given and isinstance(given.value, tuple) else ()
        for number, folder in enumerate(folders):
            assert given
            assert isinstance(folder, Path)
            if not os.path.isdir(folder):  # `is_dir` raises where a folder above is closed
                mistakes.absent_folder(given.place, folder)
            real = os.path.realpath(folder)
            if not number and (other := owners.setdefault(real, name)) != name:
                problem = f"uploads to index {other!r} are written to {str(folder)!r}, too; "
                mistakes.say(given.place, problem + f"name {other!r} in bases instead")
            listed.append((name, real, given.place))
    for name, real, place in listed:
        for other, outer, _ in listed:
            if other != name and real.startswith(outer.rstrip(os.sep) + os.sep):
                problem = f"{real!r} lies in {outer!r}, which is a folder of index {other!r}"
                mistakes.say(place, problem + ": that would serve it, too")
