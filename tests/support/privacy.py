"""Names that are nobody's business but the house's, and who spoke of them to an upstream.

`builders.put` and `fixtures.start_server` tell which names are private, each `FakeUpstream` tells
what it was asked; both only while somebody listens (the end-to-end tests do, see their conftest).
So a name that is private in one test must be public in no other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from tests.support.answer import Seen

_SEPARATORS = re.compile(r"[-_.]+")
_BEFORE_VERSION = re.compile(r"(.+?)-[0-9]")
_END = r"(?![a-z0-9]|[-_.]+(?!whl|zip|tar|tgz|egg|json|html|metadata|asc)[a-z])"
_RESERVED = "--policy-reserved"


class Privacy:
    """Private names, and requests that were seen by upstreams."""

    def __init__(self) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._told: dict[str, None] = {}

    @property
    def names(self) -> set[str]:
        """The names, normalized; a reserved one ends in `*`."""
        return set(self._patterns)

    def keep(self, name: str, *, is_reserved: bool = False) -> None:
        """This project is private; with `is_reserved` all that begin with its name, too."""
        words = [re.escape(word) for word in _SEPARATORS.split(name.lower()) if word]
        if words:
            # neither inside a longer name nor, unless reserved, at its beginning
            end = r"(?![a-z0-9])" if is_reserved else _END
            pattern = r"(?<![a-z0-9])(?<![a-z0-9][-_.])" + "[-_.]+".join(words) + end
            self._patterns["-".join(words) + "*" * is_reserved] = re.compile(pattern)

    def saw(self, requests: Iterable[Seen]) -> None:
        """These requests arrived at an upstream."""
        for seen in requests:
            told = [seen.method, seen.target, *(f"{name}: {value}" for name, value in seen.headers)]
            self._told[" | ".join(told)] = None

    def betrayals(self) -> list[str]:
        """The requests in which a private name occurs, encoded or not."""
        return [
            told
            for told in self._told
            if any(p.search(_decoded(told)) for p in self._patterns.values())
        ]

    def __len__(self) -> int:
        return len(self._told)


def _decoded(text: str) -> str:
    return unquote(unquote(text)).lower()


SUITE = Privacy()  # of all end-to-end tests of this run

_listening: list[Privacy] = []


def listen(privacy: Privacy) -> None:
    """From now on `privacy` learns what is private and what is asked."""
    _listening.append(privacy)


def stop_listening(privacy: Privacy) -> None:
    _listening.remove(privacy)


def file_is_private(filename: str) -> None:
    """A file was put into a folder of own packages."""
    if match := _BEFORE_VERSION.match(filename):
        for privacy in _listening:
            privacy.keep(match[1])


def arguments_reserve(args: Sequence[object]) -> None:
    """A server was given these arguments."""
    texts = [str(arg) for arg in args]
    for option, value in itertools.pairwise(texts):
        if option == _RESERVED:
            for privacy in _listening:
                privacy.keep(value.rstrip("*-"), is_reserved=True)


def upstream_saw(requests: Iterable[Seen]) -> None:
    """An upstream ends, or forgets, and these are the requests it had."""
    requests = list(requests)
    for privacy in _listening:
        privacy.saw(requests)


def is_heard() -> bool:
    """Whether anybody listens, so that it is worth asking an upstream."""
    return bool(_listening)
