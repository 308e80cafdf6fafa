"""Where distributions can be put, as whoever puts them there sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from packaging.utils import NormalizedName

from proxyindex.errors import ProxyindexError
from proxyindex.publishing.distribution import Distribution
from proxyindex.uploads.rejection import UploadRejected

Advance = Callable[[int], object]  # bytes that have left; negative when they have to leave again


class PublishError(ProxyindexError):
    """Something was not published; the sentence says what, where and why."""


class NothingPublished(PublishError):
    """What keeps all back: none was sent, for these reasons, a line each."""

    def __init__(self, reasons: Iterable[str]) -> None:
        super().__init__("\n".join([*reasons, "Nothing was published."]))


class Outcome(StrEnum):
    """What became of one distribution."""

    PUBLISHED = "published"
    REPLACED = "replaced"
    THERE = "already there"


class Target(Protocol):
    """A place that distributions are put to. A context manager: it may hold a lock."""

    def held(self, wanted: Sequence[Distribution]) -> Mapping[str, str]:
        """The sha256 of what the place has under these file names, as far as it can tell."""
        ...

    def send(
        self, wanted: Sequence[Distribution], *, overwrite: bool, advance: Advance
    ) -> Iterator[tuple[Distribution, Outcome]]:
        """Put them there, each whole or not at all; tells each one as soon as it is there.

        Raises `PublishError`. Other bytes are replaced only with `overwrite`.
        """
        ...

    def finish(self, projects: Sequence[NormalizedName]) -> Sequence[str]:
        """Bring up to date what is made of the files of these projects; the names written."""
        ...

    def __enter__(self) -> Target: ...

    def __exit__(self, *exc: object) -> None: ...


def refusal(where: object, each: Distribution, problem: UploadRejected) -> str:
    """The sentence for what a folder does not take, in the words of an index."""
    return f"{where} refused {each.filename}: {problem}"


def foreign(page: object) -> str:
    """The sentence for a home page that a web site has where the list of projects would go."""
    return f"{page} is no page of ours and would be overwritten."


def conflict(each: Distribution, there: str, where: str) -> str:
    """The sentence for other bytes under the same name."""
    return (
        f"{each.filename} is at {where} already with other bytes: sha256 {there} there, "
        f"{each.sha256} here. A file keeps its bytes; publish a new version, or say --overwrite."
    )
