"""Reads the three places values are given in, each into raw values by option key.

What a value means is `kinds.py`; which one wins is `load.py`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from proxyindex.config.kinds import Unfit
from proxyindex.config.mistakes import DEFAULT, Given, Mistakes, Place, Rank
from proxyindex.config.options import ENV_PREFIX, OPTIONS, Option
from proxyindex.settings import PolicySettings

Layer = Mapping[str, Given]

_LARGEST_FILE = 1024 * 1024
CREDENTIAL = re.compile(rf"{ENV_PREFIX}UPSTREAM_([A-Z0-9_]+)_(USERNAME|PASSWORD)", re.ASCII)
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
_ALIKE = 0.7
# Python's reader takes memory that grows with the square of a key's parts: gigabytes for 60 kB
_ENDLESS_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){200}""", re.ASCII)


class Values:
    """The winning value of every option that was given."""

    def __init__(self, found: Mapping[str, Given]) -> None:
        self._found = found

    def __getitem__(self, key: str) -> Any:
        return self._found[key].value if key in self._found else None

    def given(self, key: str) -> Given | None:
        return self._found.get(key)

    def items(self) -> Iterable[tuple[str, Given]]:
        return self._found.items()

    def place(self, key: str) -> Place:
        return self._found[key].place if key in self._found else DEFAULT

    def rank(self, key: str) -> Rank:
        return self.place(key).rank


def from_flags(flags: Mapping[str, object]) -> Layer:
    """The given flags by option key; `None` and empty tuples are flags not given."""
    found = {}
    for option in filter(lambda option: option.is_text, OPTIONS):
        if (value := flags.get(option.key)) not in (None, ()):
            name = "FOLDER" if option.key == "folders" else option.flag
            found[option.key] = Given(value, Place(Rank.FLAG, name))
    return found


def from_environment(environ: Mapping[str, str], mistakes: Mistakes) -> Layer:
    """The variables of the table; one that merely looks like one of them is a mistake.

    Unlike variables pass: other programs, and Kubernetes for a service named `proxyindex`, may
    use the prefix too. An empty variable is one not set.
    """
    known = {option.variable: option for option in OPTIONS if option.is_text}
    found = {}
    for name, value in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or not value.strip() or CREDENTIAL.fullmatch(name):
            continue
        place = Place(Rank.ENVIRONMENT, name)
        if option := known.get(name):
            # Kubernetes sets PROXYINDEX_PORT=tcp://… for a service named `proxyindex`
            if not (option.key == "port" and _SERVICE_LINK.match(value)):
                found[option.key] = Given(value, place)
        elif near := _meant(name, known.values()):
            mistakes.say(place, f"unknown variable; did you mean {near!r}?")
    return found


def _meant(name: str, options: Iterable[Option]) -> str | None:
    candidates = {option.variable.removeprefix(ENV_PREFIX): option.variable for option in options}
    candidates |= {key.rpartition("POLICY_")[2]: name for key, name in candidates.items()}
    near = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), candidates, 1, _ALIKE)
    return candidates[near[0]] if near else None


def from_file(path: Path, named_by: Place, mistakes: Mistakes) -> Layer:
    """The keys of a TOML file, `-` and `_` alike. What cannot be read is a mistake."""
    try:
        with path.open("rb") as stream:
            body = stream.read(_LARGEST_FILE + 1)
    except OSError as problem:
        reason = (problem.strerror or "it cannot be read").lower()
        mistakes.value(named_by, str(path), f"a readable TOML file ({reason})")
    except ValueError:  # how Python refuses to open a path with a NUL in it
        mistakes.value(named_by, str(path), "a path without control characters")
    else:
        if len(body) > _LARGEST_FILE:
            mistakes.value(named_by, str(path), "a TOML file of at most 1 MiB")
            return {}
        options = [option for option in OPTIONS if option.in_file]
        return dict(table_keys(_table(body, path, mistakes), options, path, mistakes))
    return {}


def _table(body: bytes, path: Path, mistakes: Mistakes) -> Mapping[str, object]:
    try:
        text = body.decode()
        if _ENDLESS_KEY.search(text):
            raise tomllib.TOMLDecodeError("a key has more than 200 parts")
        table = tomllib.loads(text)
        repr(table)  # decimal digits are bounded, others are not, and values are shown in decimal
        return table
    except UnicodeDecodeError:
        mistakes.say(Place(Rank.FILE, "the file", path), "is not UTF-8 text")
    except tomllib.TOMLDecodeError as problem:
        mistakes.wrong.append(f"{path}: not valid TOML: {problem}.")
    except RecursionError:
        mistakes.wrong.append(f"{path}: not valid TOML: nested too deeply.")
    except ValueError:  # Python reads and shows no more digits than 4,300
        mistakes.wrong.append(f"{path}: not valid TOML: a number has too many digits.")
    return {}


def table_keys(
    table: Mapping[str, object],
    options: Iterable[Option],
    path: Path | None,
    mistakes: Mistakes,
    within: Place | None = None,
) -> Iterator[tuple[str, Given]]:
    """Each key of a TOML table with its value; nested tables as dotted keys.

    `within` is the place of the table itself. Unknown, doubled and misplaced keys are mistakes.
    """
    known = {option.key for option in options}
    groups = {key.partition(".")[0] for key in known if "." in key}
    seen: set[str] = set()
    for key, value, written in _flattened(table, groups):
        place = within.inside(written) if within else Place(Rank.FILE, written, path)
        if key in seen:
            mistakes.say(place, "given twice, once with '-' and once with '_'")
        elif key in groups:
            mistakes.value(place, value, f"a table [{key}]")
        elif key not in known:
            mistakes.unknown(place, written, {name.replace("_", "-") for name in known | groups})
        else:
            yield key, Given(value, place)
        seen.add(key)


def _flattened(table: Mapping[str, object], groups: set[str]) -> Iterator[tuple[str, object, str]]:
    for written, value in table.items():
        key = written.replace("-", "_")
        if key in groups and isinstance(value, dict):
            for inner, item in value.items():
                yield f"{key}.{inner.replace('-', '_')}", item, f"{written}.{inner}"
        else:
            yield key, value, written


def read(option: Option, given: Given, mistakes: Mistakes) -> Given | None:
    """The value as its kind reads it, or `None` after reporting what is wrong with it."""
    try:
        if option.kind.split is None:
            return Given(_anchored(option.kind.read(given.value), given.place), given.place)
        items = _items(option, given)
    except Unfit as unfit:
        mistakes.value(given.place, given.value, str(unfit), secret=option.kind.is_secret)
        return None
    values = []
    for item in items:
        try:
            values.append(_anchored(option.kind.read(item), given.place))
        except Unfit as unfit:
            mistakes.value(given.place, item, str(unfit), secret=option.kind.is_secret)
    return Given(tuple(values), given.place) if len(values) == len(items) else None


def read_all(
    given: Iterable[tuple[str, Given]], options: Mapping[str, Option], mistakes: Mistakes
) -> dict[str, Given]:
    """The values that could be read, by key."""
    found = ((key, read(options[key], one, mistakes)) for key, one in given)
    return {key: value for key, value in found if value}


def fields(values: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """Read values by dotted key, as fields of the settings they make; of rules in `policy`."""
    found: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    for key, value in values:
        group, _, inner = key.rpartition(".")
        (policy if group else found)[inner] = value
    return {**found, "policy": PolicySettings(**policy)}


def _items(option: Option, given: Given) -> list[object]:
    if isinstance(given.value, str) and option.kind.split:
        return [*option.kind.split(given.value)] if given.place.rank != Rank.FILE else [given.value]
    if isinstance(given.value, list | tuple):
        return [*given.value]
    raise Unfit(f"a list of {option.kind.items}")


def _anchored(value: object, place: Place) -> object:
    # a file means paths as seen from where it lies, wherever the server was started
    if isinstance(value, Path) and place.file:
        return place.file.absolute().parent / value
    return value
