"""Where a value came from, and the list of everything that is wrong with the values."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from proxyindex.errors import ConfigError

_LONGEST_VALUE = 100
_NEARNESS = 0.7  # below, a guess is more often wrong than right ("serve": "merge")
_QUERY = re.compile(r"(://[^\s'?]*\?)[^\s']*")


class NotReady(ConfigError):
    """The configuration is sound, but something it names is not there, or cannot be used."""


class Rank(IntEnum):
    """Layers of values; a higher one wins."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    FLAG = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was given. `name` is the flag, variable or key as its user writes it."""

    rank: Rank
    name: str
    file: Path | None = None

    def __str__(self) -> str:
        match self.rank:
            case Rank.FLAG:
                return f"command line: {self.name}"
            case Rank.ENVIRONMENT:
                return f"environment: {self.name}"
            case _:
                return f"{self.file}: {self.name}" if self.file else self.name

    @property
    def source(self) -> str:
        """The short form `config show` prints: `flag --port`, `env NAME`, `FILE:KEY`."""
        match self.rank:
            case Rank.FLAG:
                return f"flag {self.name}"
            case Rank.ENVIRONMENT:
                return f"env {self.name}"
            case Rank.FILE:
                return f"{self.file}:{self.name}"
            case Rank.DEFAULT:
                return "default"

    def inside(self, key: str) -> Place:
        """The place of a key of this table."""
        return Place(self.rank, f"{self.name}.{key}", self.file)


DEFAULT = Place(Rank.DEFAULT, "default")


@dataclass(frozen=True, slots=True)
class Given:
    """A value, raw or read, with its place."""

    value: object
    place: Place


@dataclass(slots=True)
class Mistakes:
    """Collects what is wrong (the configuration) and what is missing (on this machine).

    Not `is_ready`: the environment is not that of a server.
    """

    is_ready: bool = True
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def value(self, place: Place, value: object, expected: str, *, secret: bool = False) -> None:
        """A value is not what was expected."""
        self.wrong.append(f"{place} = {_shown(value, secret=secret)}: expected {expected}.")

    def unset(self, place: Place, value: object, expected: str) -> None:
        """As `value`, of what the environment of a server has to have."""
        if self.is_ready:
            self.value(place, value, expected)

    def unknown(self, place: Place, key: str, known: Collection[str]) -> None:
        """A key nobody reads, with the likeliest known one."""
        near = difflib.get_close_matches(key, known, 1, _NEARNESS)
        remedy = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(sorted(known))
        self.say(place, f"unknown key; {remedy}")

    def say(self, place: Place, problem: str) -> None:
        """Anything else about a place; `problem` is the rest of the sentence."""
        self.wrong.append(
            f"{place}: {problem}" if problem.endswith("?") else f"{place}: {problem}."
        )

    def absent(self, place: Place, path: Path, what: str, remedy: str = "") -> None:
        """A path the configuration names is not there, or not `what` (`a folder`, `a file`).

        `remedy`: what to do where there is nothing at all.
        """
        problem = f"is not {what}"
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            problem = f"does not exist; {remedy}" if remedy else "does not exist"
        except OSError as refusal:  # a folder above it may not be entered, or the name is too long
            problem = f"cannot be reached ({(refusal.strerror or 'refused').lower()})"
        self.missing.append(f"{place} = {_shown(str(path), secret=False)}: this path {problem}.")

    def need_file(self, place: Place, path: Path, remedy: str = "") -> None:
        """A file the configuration names has to be there."""
        if not os.path.isfile(path):  # `is_file` raises where a folder above is closed
            self.absent(place, path, "a file", remedy)

    def need_folder(self, place: Place, folder: Path) -> None:
        """The same of a folder of own packages."""
        if not os.path.isdir(folder):
            self.absent(place, folder, "a folder", f"make it first: mkdir {folder}")

    def raise_if_any(self) -> None:
        """Raises `ConfigError`, or `NotReady` when only paths are missing, if they are needed."""
        if self.wrong:
            raise ConfigError(self.wrong + self.missing)
        if self.missing and self.is_ready:
            raise NotReady(self.missing)


def nothing_called(word: str, known: Collection[str], what: str) -> str:
    """That there is no such group, index or upstream, and which ones there are."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"there is no {what} {word!r}; did you mean {near[0]!r}?"
    return f"there is no {what} {word!r}; there are {', '.join(sorted(known)) or 'none'}"


def _shown(value: object, *, secret: bool) -> str:
    if secret:
        return "'****'"
    # tables and lists may hold a password somewhere
    text = "{…}" if isinstance(value, dict) else "[…]" if isinstance(value, list) else repr(value)
    text = _without_userinfo(text)  # before the cut, which might take the @ that tells
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + "…"
    return _QUERY.sub(r"\1****", text)


def _without_userinfo(text: str) -> str:
    # everything up to the last @, whatever is in it: passwords have blanks and quotes, too
    before, at, after = text.rpartition("@")
    scheme, colon, _ = before.partition("://")
    kept = scheme + colon if colon else before[:1]  # the quotation mark
    return f"{kept}****@{after}" if at else text
