"""What a User-Agent tells of the machine that is installed for, and what its installer will choose.

pip, uv and others send name and version, a blank, and JSON, from which PyPI makes its statistics.
Source: pip's `network/session.py`, uv's `linehaul.rs`; measured with pip 23.2 to 26.3 and uv 0.13.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from operator import attrgetter, itemgetter

import msgspec
from packaging.markers import Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms, parse_tag
from packaging.version import InvalidVersion, Version

from proxyindex.model import File, UpstreamOrigin
from proxyindex.names import version_key

_MOST_FILES = 1000  # looked at
_MOST_CONDITION = 200  # characters of a specifier
_MOST_TAGS = 100  # of a wheel
_MOST_NUMBER = 60  # of a part of a version: each makes tags
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}  # 2.x for which there are wheels; of others 2.17
_LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_WINDOWS = {"AMD64": "win_amd64", "x86": "win32", "ARM64": "win_arm64"}
_CPU = re.compile(r"[A-Za-z0-9_]{1,20}\Z")
_SYSTEMS = {"Linux": ("posix", "linux"), "Darwin": ("posix", "darwin"), "Windows": ("nt", "win32")}


class _Named(msgspec.Struct):
    name: str | None = None
    version: str | None = None
    release: str | None = None


class _Library(msgspec.Struct):
    lib: str | None = None
    version: str | None = None


class _Distro(msgspec.Struct):
    version: str | None = None
    libc: _Library | None = None


class _Told(msgspec.Struct):
    python: str
    cpu: str
    implementation: _Named
    system: _Named
    distro: _Distro | None = None


@dataclass(frozen=True)
class Machine:
    """Version of the interpreter as `Requires-Python` knows it, variables of environment markers,
    and the wheel tags that fit, the best one first."""

    python: str
    environment: Mapping[str, str]
    tags: Mapping[Tag, int]

    def holds(self, marker: Marker, extras: Collection[str]) -> bool:
        """Whether the marker of a requirement is true here, with any of the extras or without."""
        for extra in ("", *extras):
            # a comparison that is none, or of a kind that packaging does not know
            with suppress(ValueError, KeyError):
                if marker.evaluate({**self.environment, "extra": extra}):
                    return True
        return False

    def runs(self, file: File) -> bool:
        """Whether its `Requires-Python` lets this interpreter in."""
        return file.requires_python is None or _contains(file.requires_python, self.python)

    def rank(self, wheel: File) -> int | None:
        """How well it fits, 0 best, `None` not at all."""
        ranks = [self.tags[tag] for tag in _tags(wheel.filename) if tag in self.tags]
        return min(ranks, default=None)


def likely_wheel(
    files: Sequence[File], machine: Machine | None, versions: SpecifierSet
) -> File | None:
    """The wheel that an installer will most likely choose: of the newest release among `versions`
    that this machine can run. `None` if its upstream has several and the machine is not known, or
    it has none. `files` are ordered by version. For a thread: strangers write all of it.
    """
    newest_first = islice(filter(_is_release, reversed(files)), _MOST_FILES)
    for version, released in groupby(newest_first, key=attrgetter("version")):
        if not _is_among(version, versions):
            continue
        if listed := [file for file in released if machine is None or machine.runs(file)]:
            wheel = _chosen([file for file in listed if file.is_wheel], machine)
            return wheel if wheel and isinstance(wheel.origin, UpstreamOrigin) else None
    return None


def _chosen(wheels: Sequence[File], machine: Machine | None) -> File | None:
    if machine is None:
        return wheels[0] if len(wheels) == 1 else None
    ranked = [(rank, wheel) for wheel in wheels if (rank := machine.rank(wheel)) is not None]
    return min(ranked, key=itemgetter(0))[1] if ranked else None


def _is_among(version: str, versions: SpecifierSet) -> bool:
    try:
        return versions.contains(version)
    except ValueError:  # packaging before 26, for `===` and what is no version
        return False


def _is_release(file: File) -> bool:
    rank, version, _ = version_key(file.version)
    return file.yanked is None and rank == 1 and not version.is_prerelease


@lru_cache(maxsize=64)
def machine_of(agent: str) -> Machine | None:
    """The machine that a User-Agent tells of; `None` if it does not, or not of CPython."""
    try:
        told = msgspec.json.decode(agent.partition(" ")[2], type=_Told)
        python = Version(told.python)
    except (msgspec.MsgspecError, InvalidVersion, UnicodeError, RecursionError):
        return None
    system = told.system.name or ""
    if told.implementation.name != "CPython" or system not in _SYSTEMS or python.major != 3:
        return None
    if python.minor > _MOST_NUMBER or not _CPU.match(told.cpu):
        return None
    os_name, sys_platform = _SYSTEMS[system]
    environment = {
        "implementation_name": "cpython",
        "implementation_version": told.python,
        "os_name": os_name,
        "platform_machine": told.cpu,
        "platform_python_implementation": "CPython",
        "platform_release": told.system.release or "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": told.python,
        "python_version": f"3.{python.minor}",
        "sys_platform": sys_platform,
    }
    return Machine(python.base_version, environment, _ranks(python.minor, list(_platforms(told))))


def _ranks(minor: int, platforms: list[str]) -> dict[Tag, int]:
    version, interpreter = (3, minor), f"cp3{minor}"
    ranks: dict[Tag, int] = {}
    if platforms:
        for tag in cpython_tags(version, [interpreter], platforms):
            ranks.setdefault(tag, len(ranks))
    for tag in compatible_tags(version, interpreter, platforms or ["any"]):
        ranks.setdefault(tag, len(ranks))
    return ranks


def _platforms(told: _Told) -> Iterator[str]:
    distro = told.distro or _Distro()
    match told.system.name:
        case "Windows" if told.cpu in _WINDOWS:
            yield _WINDOWS[told.cpu]
        case "Darwin" if version := _pair(distro.version):
            yield from mac_platforms(version, told.cpu)
        case "Linux" if distro.libc and distro.libc.lib == "glibc":
            yield f"linux_{told.cpu}"
            glibc = _pair(distro.libc.version)
            oldest = _OLDEST_GLIBC.get(told.cpu, 17)
            for minor in range(glibc[1], oldest - 1, -1) if glibc and glibc[0] == 2 else ():
                yield f"manylinux_2_{minor}_{told.cpu}"
                if minor in _LEGACY:
                    yield f"{_LEGACY[minor]}_{told.cpu}"


def _pair(version: str | None) -> tuple[int, int] | None:
    """The first two parts of a version."""
    try:
        parsed = Version(version or "")
    except InvalidVersion:
        return None
    is_usual = max(parsed.major, parsed.minor) <= _MOST_NUMBER
    return (parsed.major, parsed.minor) if is_usual else None


@lru_cache(maxsize=2000)
def _contains(specifier: str, python: str) -> bool:
    if len(specifier) > _MOST_CONDITION:
        return True  # not worth the time: this is a guess
    try:
        return SpecifierSet(specifier).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # as installers take it


def _tags(filename: str) -> Collection[Tag]:
    """The tags of a wheel's name, which has five parts, or six with a build number."""
    parts = filename.removesuffix(".whl").split("-")[-3:]
    # each of one part goes with each of the others
    count = math.prod(part.count(".") + 1 for part in parts)
    try:
        return parse_tag("-".join(parts)) if len(parts) == 3 and count <= _MOST_TAGS else ()
    except ValueError:  # since packaging 26.3, for what could never fit
        return ()
