"""Project names, file names and versions as text: what is valid, what is safe, what they tell.

Standard library and `packaging` only. Nothing here opens a file or knows a wire format.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, TypeVar

from packaging.utils import NormalizedName
from packaging.version import Version

MAX_NAME = 200  # characters of a project name: with version and tags a file name still fits
MAX_FILENAME = 255  # bytes; what common file systems take

SDIST_SUFFIXES = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".tbz", ".tar")
OTHER_SUFFIXES = (".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg", "-variants.json")
FILE_SUFFIXES = (".whl", *SDIST_SUFFIXES, *OTHER_SUFFIXES)

# `\Z` because `$` allows a trailing newline. A-Z is spelled out because IGNORECASE also matches
# the long s and the Kelvin sign.
_NAME = re.compile(r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])\Z")
_NORMALIZED = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_SEPARATORS = re.compile(r"[-_.]+")
_FILENAME = re.compile(r"[A-Za-z0-9_+!~@=][A-Za-z0-9._+!~@=-]*\Z")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9])\.", re.IGNORECASE)
# bdist_dumb and bdist_wininst put the platform behind the version: foo-1.0.linux-x86_64.tar.gz
_PLATFORM = re.compile(r"\.(?:cygwin|freebsd|linux|macosx|solaris|win32|win)(?:-.*)?\Z")
_NUMBERED = re.compile(r"-(?=[0-9])")
_GLOB = frozenset("*?[")
_GLOB_PART = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)  # as `fnmatch` reads it
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

T = TypeVar("T")
V = TypeVar("V", bound=str | None)
Kind = Literal["wheel", "sdist", "other"]
VersionKey = tuple[int, Version, str]

_NO_VERSION = Version("0")


class InvalidName(ValueError):
    """The text is not a valid project name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:MAX_NAME]!r} is not a valid project name")


def normalize(name: str) -> NormalizedName:
    """The normalized form of a project name: lower case, runs of `-_.` as one `-`.

    The name is validated first, because an invalid name may normalize to a valid-looking one
    (`Idna_`). Raises `InvalidName`. Source: name normalization specification (PEP 503, PEP 508).
    """
    if len(name) > MAX_NAME or not _NAME.match(name):
        raise InvalidName(name)
    if _NORMALIZED.match(name):
        return NormalizedName(name)
    return NormalizedName(_SEPARATORS.sub("-", name).lower())


@lru_cache(maxsize=4096)  # a fifteenth of the time of an entry that is judged with care
def canonical(name: str) -> NormalizedName | None:
    """As `normalize`, of a text of bounded length; `None` if it is not valid."""
    try:
        return normalize(name)
    except InvalidName:
        return None


def is_safe_filename(filename: str) -> bool:
    """Whether a (decoded) name may be listed, stored and served.

    At most 255 characters of an ASCII subset without slash, backslash, colon and percent sign, no
    leading dot or dash, no `..`, no Windows device name, and one of `FILE_SUFFIXES`.
    """
    return (
        len(filename) <= MAX_FILENAME
        and filename.endswith(FILE_SUFFIXES)
        and _FILENAME.match(filename) is not None
        and ".." not in filename
        and _DEVICE.match(filename) is None
    )


@dataclass(frozen=True, slots=True)
class FileName:
    """What a file name tells. `project` and `version` are `None` where it does not tell."""

    project: NormalizedName | None
    version: str | None
    kind: Kind

    def is_foreign_to(self, project: NormalizedName) -> bool:
        """Whether this is a wheel or sdist of another project; other kinds never are.

        Nor is a name that cannot be parsed: old projects have hundreds of them.
        """
        return self.kind != "other" and self.project not in {None, project}


def parse_filename(filename: str, project: NormalizedName | None = None) -> FileName:
    """Read project, version and kind from a file name; never raises.

    `project` is the project whose page lists the file: it settles where the name of an sdist
    (`foo-bar-1.0.tar.gz`) ends, and eggs and installers tell nothing without it. Versions are
    text as written, legacy ones included. About 1.5 µs, where `packaging.utils` takes 30.
    """
    if filename.endswith(".whl"):
        return _parse_wheel(filename.removesuffix(".whl"))
    for suffix in SDIST_SUFFIXES:
        if filename.endswith(suffix):
            return _parse_sdist(filename.removesuffix(suffix), project)
    for suffix in OTHER_SUFFIXES:
        if filename.endswith(suffix):
            return _parse_other(filename.removesuffix(suffix), project)
    return FileName(None, None, "other")


@lru_cache(maxsize=16384)  # half of the time of bringing 300 versions into order
def version_key(version: str | None) -> VersionKey:
    """A total sort key for versions of any age: none, then legacy ones by text, then PEP 440."""
    if version is None:
        return (-1, _NO_VERSION, "")
    try:
        return (1, Version(version), version)
    except ValueError:  # InvalidVersion, and int() refusing thousands of digits
        return (0, _NO_VERSION, version)


def in_order(versions: Iterable[V]) -> list[list[V]]:
    """Each version once, in the order of `version_key`: all its spellings, as they were given."""
    modern: dict[Version, list[V]] = {}
    others: list[V] = []
    for text in dict.fromkeys(versions):
        rank, version, _ = version_key(text)
        if rank == 1:
            modern.setdefault(version, []).append(text)
        else:
            others.append(text)
    others.sort(key=version_key)
    return [*([text] for text in others), *(modern[version] for version in sorted(modern))]


def is_same_version(one: str | None, other: str | None) -> bool:
    """Whether both are the same version in any spelling (`1.0`, `1.0.0`), or the same text."""
    if any(text and len(text) > MAX_FILENAME for text in (one, other)):
        return one == other  # none of a file; and keys are remembered
    (rank, parsed, text), (other_rank, other_parsed, other_text) = map(version_key, (one, other))
    return rank == other_rank and (parsed == other_parsed if rank == 1 else text == other_text)


def is_same_file(one: str, other: str, project: NormalizedName) -> bool:
    """Whether both names of a project's files are of the same one in any spelling: of a version's
    wheel with these build and compatibility tags, or its source archive of whatever format.

    Installers take either of two such files, and cannot tell that there are two.
    """
    if one == other:
        return True
    told, said = parse_filename(one, project), parse_filename(other, project)
    if told.kind != said.kind or told.version is None or said.version is None:
        return False
    if told.kind == "other" or not is_same_version(told.version, said.version):
        return False
    return told.kind == "sdist" or _tags(one) == _tags(other)


def _tags(wheel: str) -> tuple[object, ...]:
    """Build number and compatibility tags of a wheel whose name could be parsed: `py2.py3` and
    `py3.py2` are the same set, build `1` and `01` the same number."""
    *build, python, abi, platform = wheel.removesuffix(".whl").lower().split("-")[2:]
    sets = (frozenset(part.split(".")) for part in (python, abi, platform))
    return (*(text.lstrip("0") for text in build), *sets)


def matches_pattern(name: NormalizedName, pattern: str) -> bool:
    """Whether a glob (`*`, `?`, `[…]`) matches the name; the pattern is normalized like a name."""
    return fnmatchcase(name, _SEPARATORS.sub("-", pattern).lower())


def pattern_fault(pattern: str) -> str | None:
    """Why no normalized name can match a glob, as a phrase that tells what to write instead.

    `None` if one can. What protects by a pattern that nothing matches does not protect.
    """
    parts = _GLOB_PART.findall(_SEPARATORS.sub("-", pattern).lower())
    for place, part in enumerate(parts):
        is_outer = place in {0, len(parts) - 1}
        if part == "-" and is_outer:
            bare = pattern.strip("-_.")
            other = f"*-{bare}" if place == 0 else f"{bare}-*"
            remedy = f": write {bare} or {other}" if bare else ""
            return f"no name {'begins' if place == 0 else 'ends'} with a separator{remedy}"
        if part in {"[", "]"}:
            return "[ and ] go together, as in [ab]"
        if part == "!" or (len(part) > 1 and "!" in part[2:]):
            return "! stands directly behind [ only, as in [!a]"
        if len(part) > 1:
            letters = _LETTERS if is_outer else _LETTERS + "-"
            if not any(fnmatchcase(letter, part) for letter in letters):
                return f"{part} stands for no letter that a name can have there"
    return None


def first_match(name: NormalizedName, routes: Iterable[tuple[str, T]]) -> T | None:
    """What the first glob that matches the name leads to, if one does."""
    return next((to for pattern, to in routes if matches_pattern(name, pattern)), None)


def is_reserved(name: NormalizedName, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns covers the name.

    A pattern without glob characters is a namespace: `acme` covers `acme` and `acme-*` (PEP 752).
    """
    return any(_covers(pattern, name) for pattern in patterns)


def _covers(pattern: str, name: NormalizedName) -> bool:
    if not _GLOB.isdisjoint(pattern):
        return matches_pattern(name, pattern)
    namespace = _SEPARATORS.sub("-", pattern).lower()
    return name == namespace or name.startswith(namespace + "-")


@lru_cache(maxsize=1024)  # three fifths of the time that the name of an sdist takes
def _prefix(project: NormalizedName) -> re.Pattern[str]:
    """Matches every spelling of the project's name and the dash behind it."""
    parts = (re.escape(part) for part in project.split("-"))
    return re.compile("[-_.]+".join(parts) + "-", re.IGNORECASE | re.ASCII)


def _after_name(stem: str, project: NormalizedName | None) -> str:
    match = _prefix(project).match(stem) if project else None
    return stem[match.end() :] if match else ""


def _parse_wheel(stem: str) -> FileName:
    parts = stem.split("-")
    # a build tag starts with a digit; else a dash inside the name makes it ambiguous
    if len(parts) == 5 or (len(parts) == 6 and parts[2][:1].isdigit()):
        return FileName(canonical(parts[0]), parts[1], "wheel")
    return FileName(None, None, "wheel")


def _parse_sdist(stem: str, project: NormalizedName | None) -> FileName:
    bare = _PLATFORM.sub("", stem)
    version = _after_name(bare, project)
    owner = project
    if not version or not (version[0].isdigit() or "-" not in version):
        name, guessed = _guess(bare)
        # `foo-bar-1.0` is foo-bar's, even where foo is asked for; `foo-dev-r12` is foo's
        if not version or version_key(guessed)[0] == 1:
            owner, version = canonical(name), guessed
    kind: Kind = "sdist" if bare == stem else "other"
    return FileName(owner, version, kind) if owner and version else FileName(None, None, kind)


def _guess(stem: str) -> tuple[str, str]:
    """Name and version of an sdist without knowing the project."""
    name, _, version = stem.rpartition("-")
    if version_key(version)[0] == 1 or not (first := _NUMBERED.search(stem)):
        return name, version
    return stem[: first.start()], stem[first.end() :]


def _parse_other(stem: str, project: NormalizedName | None) -> FileName:
    version = _PLATFORM.sub("", _after_name(stem, project)).partition("-")[0]
    return FileName(project, version, "other") if version else FileName(None, None, "other")
