"""The kinds of value an option may have: how each is read, split, and shown again.

Readers take what TOML or a text source gives and raise `Unfit` naming what was expected.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from packaging.specifiers import SpecifierSet

from proxyindex import units
from proxyindex.names import pattern_fault
from proxyindex.policy.rules import RULE
from proxyindex.settings import Route, Secret
from proxyindex.texts import is_host, with_ascii_host
from proxyindex.upstream.default import DEFAULT_NAME, default_index_url

T = TypeVar("T")

# A comma or blank separates, unless it stands inside a version specifier (`torch >= 2, <3`).
_SEPARATOR = re.compile(r"(?<![<>=!~,;\s])[\s,;]+(?![<>=!~\s,;])")
_URL = r"https?://"
_BEFORE_URL = re.compile(
    rf"[\s,;]+(?={_URL}|{DEFAULT_NAME}(?:\Z|[\s,;]+(?:{_URL}|{DEFAULT_NAME}\b)))", re.IGNORECASE
)
_HOST_AND_PORT = re.compile(
    r"(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?", re.ASCII
)
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)
_UPSTREAM_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", re.ASCII)
_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
# first parts of addresses that mean something else, and `folders` as the target of a route
_TAKEN = frozenset(
    {"simple", "legacy", "api", "pypi", "health", "ready", "metrics", "at", "folders"}
)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Unfit(ValueError):
    """A value cannot be read; `str()` is what was expected instead."""


def expecting(
    expected: str,
) -> Callable[[Callable[[object], T | None]], Callable[[object], T]]:
    """Makes a reader of a function that gives `None` or raises `ValueError` for what is not
    expected. An `Unfit` that it raises itself says what is to be said besides."""

    def reader(read: Callable[[object], T | None]) -> Callable[[object], T]:
        def checked(value: object) -> T:
            more = ""
            try:
                if (found := read(value)) is not None:
                    return found
            except Unfit as unfit:
                more = str(unfit)
            except ValueError:
                pass
            raise Unfit(expected + more)

        return checked

    return reader


def _same(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True, slots=True)
class Kind:
    """How one value is read. With `split`, the option is a list of such values, called `items`."""

    metavar: str
    read: Callable[[object], object]
    split: Callable[[str], list[str]] | None = None
    items: str = ""
    show: Callable[[object], object] = _same
    is_secret: bool = False


def text_of(value: object) -> str:
    """A printable text, without blanks around it. Raises `ValueError` for anything else."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    return value.strip()


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return f"{value:f}" if isinstance(value, float) else str(value)


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATOR.split(text.strip(" \t\r\n,;")) if word]


def _urls(text: str) -> list[str]:
    """Split in front of a URL, or the name of PyPI.

    Elsewhere a piece of a password would be shown as a value of its own.
    """
    return [url for url in _BEFORE_URL.split(text.strip(" \t\r\n,;")) if url]


def _paths(text: str) -> list[str]:
    return [part.strip() for part in re.split(f"[,{os.pathsep}]", text) if part.strip()]


def plain(expected: str) -> Kind:
    """Any printable text."""
    return Kind("TEXT", expecting(expected)(text_of))


def choice(*words: str) -> Kind:
    """One of a few words."""

    @expecting("one of " + ", ".join(words))
    def read(value: object) -> str | None:
        return word if (word := text_of(value).lower()) in words else None

    return Kind("|".join(words), read)


def count(least: int, most: int) -> Kind:
    """A whole number within bounds."""

    @expecting(f"a whole number from {least} to {most}")
    def read(value: object) -> int | None:
        text = _number(value).strip()
        is_whole = re.fullmatch(r"[0-9]{1,9}", text, re.ASCII)
        return int(text) if is_whole and least <= int(text) <= most else None

    return Kind("N", read)


@expecting("a size of at least 1 byte such as 50GB, 512MiB or a number of bytes")
def _read_size(value: object) -> int | None:
    return units.parse_size(_number(value)) or None


def duration(least: str = "0s") -> Kind:
    """A time span not shorter than `least`, in seconds."""
    floor = units.parse_duration(least)
    bound = f" of at least {least}" if floor else ""

    @expecting(f"a duration{bound} such as 10m, 1h30m, 7d or a number of seconds")
    def read(value: object) -> float | None:
        seconds = units.parse_duration(_number(value))
        return seconds if seconds >= floor else None

    return Kind("DURATION", read, show=lambda value: units.format_duration(float(str(value))))


@expecting("true or false")
def _read_switch(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    return word in _TRUE if word in _TRUE | _FALSE else None


@expecting("a path")
def _read_path(value: object) -> Path:
    path = value if isinstance(value, Path) else Path(text_of(value))
    try:
        return path.expanduser()
    except RuntimeError:
        raise Unfit(" whose home folder (~) exists") from None


@expecting("an address or host name to listen on, such as 127.0.0.1, 0.0.0.0 or ::1")
def _read_host(value: object) -> str | None:
    host = text_of(value).removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host if is_host(host) else None


@expecting("an IP address or network such as 10.0.0.0/8")
def _read_network(value: object) -> str:
    network = ipaddress.ip_network(text_of(value))
    return str(network if network.num_addresses > 1 else network.network_address)


@expecting("a host or host:port without scheme or path, such as files.example")
def _read_file_host(value: object) -> str | None:
    host = with_ascii_host(f"//{text_of(value).lower()}").removeprefix("//")
    match = _HOST_AND_PORT.fullmatch(host)
    return host if match and 0 < int(match[1] or 1) < 65536 else None


@expecting("a path such as /pypi (letters, digits and ._~- between slashes)")
def _read_base_path(value: object) -> str | None:
    path = value.strip().rstrip("/") if isinstance(value, str) else "?"
    is_plain = _BASE_PATH.fullmatch(path) and {".", ".."}.isdisjoint(path.split("/"))
    return path if is_plain else None


def _url(value: object) -> SplitResult:
    """An http(s) URL with an ASCII host and nothing after its path; userinfo is left to the
    caller. Raises `ValueError`."""
    url = with_ascii_host(text_of(value))
    parts = urlsplit(url)
    has_host = is_host(parts.hostname or "") and parts.port != 0
    if parts.scheme not in {"http", "https"} or not has_host or re.search(r"\s|\\", url):
        raise ValueError
    if "?" in url or "#" in url:
        raise Unfit(", without query or fragment")
    return parts


@expecting("the http(s) address clients use, such as https://packages.example")
def _read_public_url(value: object) -> str:
    parts = _url(value)
    if "@" in parts.netloc:
        raise Unfit(", without user name or password")
    return parts.geturl().rstrip("/")


@expecting("pypi, or an http(s) address of an index such as https://index.example/simple")
def _read_upstream_url(value: object) -> str:
    if text_of(value).lower() == DEFAULT_NAME:
        return default_index_url()
    return _url(value).geturl().rstrip("/")


@expecting("an http(s) proxy such as http://proxy.example:3128")
def _read_proxy(value: object) -> Secret:
    return Secret(_url(value).geturl())


def _upstream_name(value: object) -> str | None:
    name = text_of(value)
    return name if _UPSTREAM_NAME.fullmatch(name) and len(name) <= 64 else None


def _any_name(value: object) -> str | None:
    name = text_of(value)
    return name if _INDEX_NAME.fullmatch(name) else _upstream_name(name)


@expecting("a short name of lower-case letters, digits and -")
def _read_index_name(value: object) -> str | None:
    if (name := text_of(value)) in _TAKEN:
        raise Unfit(f", and none of {', '.join(sorted(_TAKEN))}")
    return name if _INDEX_NAME.fullmatch(name) else None


@expecting("tables [index.NAME]")
def _read_tables(value: object) -> object:
    return value if isinstance(value, dict) else None


@expecting('a table such as {match = "torch*", to = "pytorch"}, or \'torch*=pytorch\'')
def _read_route(value: object) -> Route | None:
    if isinstance(value, dict) and value.keys() == {"match", "to"}:
        match, to = value["match"], value["to"]
    else:
        match, _, to = text_of(value).rpartition("=")
    name, pattern = _any_name(to), _pattern(match)
    return Route(pattern, name) if pattern and name else None


def _pattern(value: object) -> str | None:
    match = RULE.match(text_of(value))
    return _covering(match[1]) if match and not match[2] else None


def _covering(glob: str) -> str:
    if fault := pattern_fault(glob):
        raise Unfit(f"; this covers no project, because {fault}")
    return glob


@expecting("a project pattern with an optional version specifier, such as evil-* or torch<2.1")
def _read_rule(value: object) -> str | None:
    if not (match := RULE.match(text_of(value))):
        return None
    SpecifierSet(match[2])  # raises a `ValueError`
    return f"{_covering(match[1])} {match[2]}".strip()


SIZE = Kind("SIZE", _read_size, show=lambda value: units.format_size(int(str(value))))
DURATION = duration()
SWITCH = Kind("", _read_switch)
PATH = Kind("PATH", _read_path)
FOLDERS = Kind("FOLDER", _read_path, split=_paths, items="folders")
HOST = Kind("ADDRESS", _read_host)
NETWORKS = Kind("NETWORK", _read_network, split=_words, items="addresses or networks")
FILE_HOSTS = Kind("HOST", _read_file_host, split=_words, items="hosts")
BASE_PATH = Kind("PATH", _read_base_path)
PUBLIC_URL = Kind("URL", _read_public_url)
UPSTREAM_URL = Kind("URL", _read_upstream_url)
# not read here: an entry may be a URL or a table (upstreams.py)
UPSTREAMS = Kind("URL", lambda value: value, split=_urls, items="URLs or [[upstream]] tables")
UPSTREAM_NAME = Kind(
    "NAME",
    expecting("a short name of lower-case letters and digits, joined by - . or _")(_upstream_name),
)
PROXY = Kind("URL", _read_proxy, is_secret=True)
SECRET = Kind("TEXT", expecting("a text")(lambda value: Secret(text_of(value))), is_secret=True)
PATTERNS = Kind(
    "PATTERN",
    expecting("a project name or glob such as acme-* (without a version)")(_pattern),
    split=_words,
    items="name patterns",
)
RULES = Kind("RULE", _read_rule, split=_words, items="rules")
NAMES = Kind(
    "NAME",
    expecting("the name of an index or upstream")(_any_name),
    split=_words,
    items="names of indexes and upstreams",
)
INDEX_NAME = Kind("NAME", _read_index_name)
# not read here: each table is read by the table of its own options (indexes.py)
INDEXES = Kind("TABLE", _read_tables)
ROUTES = Kind(
    "PATTERN=NAME",
    _read_route,
    split=_words,
    items="routes",
    show=lambda value: f"{value.match}={value.to}" if isinstance(value, Route) else value,
)
