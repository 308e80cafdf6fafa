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
from urllib.parse import SplitResult, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from proxyindex import units
from proxyindex.names import pattern_fault
from proxyindex.policy.rules import RULE
from proxyindex.settings import Route, Secret
from proxyindex.texts import is_host, with_ascii_host
from proxyindex.upstream.default import DEFAULT_NAME, default_index_url

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


def _text(value: object, expected: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Unfit(expected)
    return value.strip()


def _number(value: object, expected: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Unfit(expected)
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


def plain(expected: str, metavar: str = "TEXT") -> Kind:
    """Any printable text."""
    return Kind(metavar, lambda value: _text(value, expected))


def choice(*words: str) -> Kind:
    """One of a few words."""
    expected = "one of " + ", ".join(words)

    def read(value: object) -> str:
        if (word := _text(value, expected).lower()) not in words:
            raise Unfit(expected)
        return word

    return Kind("|".join(words), read)


def count(least: int, most: int) -> Kind:
    """A whole number within bounds."""
    expected = f"a whole number from {least} to {most}"

    def read(value: object) -> int:
        text = str(value).strip()
        if isinstance(value, bool | float) or not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
            raise Unfit(expected)
        if not least <= int(text) <= most:
            raise Unfit(expected)
        return int(text)

    return Kind("N", read)


def _read_size(value: object) -> int:
    expected = "a size of at least 1 byte such as 50GB, 512MiB or a number of bytes"
    try:
        if size := units.parse_size(_number(value, expected)):
            return size
    except ValueError:
        pass
    raise Unfit(expected)


def duration(least: str = "0s") -> Kind:
    """A time span not shorter than `least`, in seconds."""
    floor = units.parse_duration(least)
    bound = f" of at least {least}" if floor else ""
    expected = f"a duration{bound} such as 10m, 1h30m, 7d or a number of seconds"

    def read(value: object) -> float:
        try:
            seconds = units.parse_duration(_number(value, expected))
        except ValueError:
            raise Unfit(expected) from None
        if seconds < floor:
            raise Unfit(expected)
        return seconds

    return Kind("DURATION", read, show=lambda value: units.format_duration(float(str(value))))


def _read_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().lower()) in _TRUE | _FALSE:
        return word in _TRUE
    raise Unfit("true or false")


def _read_path(value: object) -> Path:
    try:
        text = str(value) if isinstance(value, Path) else _text(value, "a path")
        return Path(text).expanduser()
    except RuntimeError:
        raise Unfit("a path whose home folder (~) exists") from None


def _read_host(value: object) -> str:
    expected = "an address or host name to listen on, such as 127.0.0.1, 0.0.0.0 or ::1"
    host = _text(value, expected).removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if is_host(host):
            return host
    raise Unfit(expected)


def _read_network(value: object) -> str:
    expected = "an IP address or network such as 10.0.0.0/8"
    try:
        network = ipaddress.ip_network(_text(value, expected))
    except ValueError:
        raise Unfit(expected) from None
    return str(network if network.num_addresses > 1 else network.network_address)


def _read_file_host(value: object) -> str:
    expected = "a host or host:port without scheme or path, such as files.example"
    try:
        text = with_ascii_host(f"//{_text(value, expected).lower()}").removeprefix("//")
        if (match := _HOST_AND_PORT.fullmatch(text)) and 0 < int(match[1] or 1) < 65536:
            return match[0]
    except ValueError:
        pass
    raise Unfit(expected)


def _read_base_path(value: object) -> str:
    expected = "a path such as /pypi (letters, digits and ._~- between slashes)"
    if not isinstance(value, str) or not _BASE_PATH.fullmatch(path := value.strip().rstrip("/")):
        raise Unfit(expected)
    if any(part in {".", ".."} for part in path.split("/")):
        raise Unfit(expected)
    return path


def split_url(value: object, expected: str) -> SplitResult:
    """An http(s) URL with an ASCII host and nothing after its path; userinfo is left to the
    caller. Raises `Unfit`."""
    try:
        text = with_ascii_host(_text(value, expected))
        parts = urlsplit(text)
        has_host = is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        raise Unfit(expected) from None
    if parts.scheme not in {"http", "https"} or not has_host or re.search(r"\s|\\", text):
        raise Unfit(expected)
    if "?" in text or "#" in text:
        raise Unfit(expected + ", without query or fragment")
    return parts


def _read_public_url(value: object) -> str:
    expected = "the http(s) address clients use, such as https://packages.example"
    parts = split_url(value, expected)
    if "@" in parts.netloc:
        raise Unfit(expected + ", without user name or password")
    return parts.geturl().rstrip("/")


def _read_upstream_url(value: object) -> str:
    expected = "pypi, or an http(s) address of an index such as https://index.example/simple"
    if _text(value, expected).lower() == DEFAULT_NAME:
        return default_index_url()
    return split_url(value, expected).geturl().rstrip("/")


def _read_proxy(value: object) -> Secret:
    return Secret(split_url(value, "an http(s) proxy such as http://proxy.example:3128").geturl())


def _read_upstream_name(value: object) -> str:
    expected = "a short name of lower-case letters and digits, joined by - . or _"
    if not _UPSTREAM_NAME.fullmatch(name := _text(value, expected)) or len(name) > 64:
        raise Unfit(expected)
    return name


def _read_name(value: object) -> str:
    expected = "the name of an index or upstream"
    name = _text(value, expected)
    if len(name) > 64 or not (_UPSTREAM_NAME.fullmatch(name) or _INDEX_NAME.fullmatch(name)):
        raise Unfit(expected)
    return name


def _read_index_name(value: object) -> str:
    expected = "a short name of lower-case letters, digits and -"
    if not _INDEX_NAME.fullmatch(name := _text(value, expected)):
        raise Unfit(expected)
    if name in _TAKEN:
        raise Unfit(f"{expected}, and none of {', '.join(sorted(_TAKEN))}")
    return name


def _read_tables(value: object) -> object:
    if not isinstance(value, dict):
        raise Unfit("tables [index.NAME]")
    return value


def _read_route(value: object) -> Route:
    expected = 'a table such as {match = "torch*", to = "pytorch"}, or \'torch*=pytorch\''
    if isinstance(value, dict):
        if value.keys() != {"match", "to"}:
            raise Unfit(expected)
        match, to = value["match"], value["to"]
    else:
        match, _, to = _text(value, expected).rpartition("=")
    try:
        route = Route(_glob(match, expected), _read_name(to))
    except Unfit:
        raise Unfit(expected) from None
    _check_glob(route.match, expected)
    return route


def _read_pattern(value: object) -> str:
    expected = "a project name or glob such as acme-* (without a version)"
    glob = _glob(value, expected)
    _check_glob(glob, expected)
    return glob


def _glob(value: object, expected: str) -> str:
    match = RULE.match(_text(value, expected))
    if not match or match[2]:
        raise Unfit(expected)
    return match[1]


def _check_glob(glob: str, expected: str) -> None:
    if fault := pattern_fault(glob):
        raise Unfit(f"{expected}; this covers no project, because {fault}")


def _read_rule(value: object) -> str:
    expected = "a project pattern with an optional version specifier, such as evil-* or torch<2.1"
    if not (match := RULE.match(_text(value, expected))):
        raise Unfit(expected)
    try:
        SpecifierSet(match[2])
    except InvalidSpecifier:
        raise Unfit(expected) from None
    _check_glob(match[1], expected)
    return f"{match[1]} {match[2]}".strip()


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
UPSTREAM_NAME = Kind("NAME", _read_upstream_name)
PROXY = Kind("URL", _read_proxy, is_secret=True)
SECRET = Kind("TEXT", lambda value: Secret(_text(value, "a text")), is_secret=True)
PATTERNS = Kind("PATTERN", _read_pattern, split=_words, items="name patterns")
RULES = Kind("RULE", _read_rule, split=_words, items="rules")
NAMES = Kind("NAME", _read_name, split=_words, items="names of indexes and upstreams")
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
