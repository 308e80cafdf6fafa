"""The page store: raw upstream answers on disk, one file per page.

A file is one sealed line of JSON (the head) and the raw body. What is stored is what upstream said,
not what we made of it, so that a better parser improves old entries. A file whose head is damaged,
or whose body has another length or digest, is a miss.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxyindex import disk
from proxyindex.disk import Signature
from proxyindex.errors import StoreError
from proxyindex.store.budget import Budgeted
from proxyindex.store.seal import sealed, unsealed

log = logging.getLogger(__name__)

_MAX_HEAD = 16 * 1024
_DIGEST = re.compile(rb"[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class PageHead:
    """What we know of a stored page besides its body. Times are seconds since the epoch.

    `url` is the final URL of the answer, against which its relative links resolve.
    `lifetime` is upstream's own word in seconds, `None` if it said nothing.
    """

    url: str
    content_type: str
    fetched_at: float
    validated_at: float
    lifetime: float | None = None
    etag: str | None = None
    last_modified: str | None = None
    serial: int | None = None
    digest: str = ""
    length: int = 0

    def fields(self) -> dict[str, Any]:
        # `asdict` copies deeply: a tenth of the processor's time of storing a small page
        return {name: getattr(self, name) for name in self.__slots__}

    def renewed(self, now: float, lifetime: float | None) -> "PageHead":
        """The same page, found unchanged at `now`."""
        return replace(self, validated_at=now, lifetime=lifetime)


@dataclass(frozen=True, slots=True)
class StoredPage:
    head: PageHead
    body: bytes


class PageStore(Budgeted):
    """Pages by upstream id and normalized name (or another safe key).

    A budget of their own: large files must not push out the pages that keep us alive while
    upstream is down. There their keys are `upstream/name`.
    """

    kind = "pages"

    def signature(self, upstream: str, key: str) -> Signature | None:
        """Changes whenever the stored page does; one `stat`."""
        return disk.signature(self.where(upstream, key))

    def read(self, upstream: str, key: str) -> StoredPage | None:
        """The stored page; a missing or broken one is `None`.

        Raises `StoreError` if it cannot be told now: what replaces a page is compared to it.
        """
        try:
            with open(self.where(upstream, key), "rb") as stream:
                head = _parse_head(stream.readline(_MAX_HEAD))
                body = stream.read()
        except OSError as problem:
            if disk.is_passing(problem):
                raise StoreError("read a page", problem) from problem
            return None
        except (ValueError, TypeError, RecursionError):
            return None
        if len(body) != head.length or hashlib.sha256(body).hexdigest() != head.digest:
            log.warning("stored page %s of %s is damaged: ignored", key, upstream)
            return None
        return StoredPage(head, body)

    def used(self, upstream: str, key: str, length: int) -> None:
        """Note that the page was served; cheap, written to the index by `flush`.

        `length` is that of the whole stored file, in bytes.
        """
        self.touch(f"{upstream}/{key}", length)

    def walk(self) -> Iterator[tuple[str, int, float]]:
        """Every stored page: `upstream/name`, size in bytes, time of storing."""
        for upstream in sorted(self.upstreams(), key=lambda name: f"{name}/"):
            for key in self.keys(upstream):
                if seen := self.signature(upstream, key):
                    yield f"{upstream}/{key}", seen[2], seen[1] / 1e9

    def has(self, key: str) -> bool:
        return os.path.isfile(f"{self._root}/{key}")

    def unlink(self, key: str) -> bool:
        return disk.remove(self._root / key)

    def read_head(self, upstream: str, key: str) -> PageHead | None:
        """Only the head, unverified: to see whether the body is the one already parsed."""
        try:
            with open(self.where(upstream, key), "rb") as stream:
                return _parse_head(stream.readline(_MAX_HEAD))
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def write(self, upstream: str, key: str, head: PageHead, body: bytes) -> StoredPage:
        """Store an answer; returns it as it will be read. Raises `StoreError`.

        The head's digest is believed, if it has one; only a reader would notice that it is wrong.
        """
        digest = head.digest or hashlib.sha256(body).hexdigest()
        stored = StoredPage(replace(head, digest=digest, length=len(body)), body)
        line = sealed(json.dumps(stored.head.fields()).encode()) + b"\n"
        disk.write_whole(self.path(upstream, key), line, body, what="a page")
        self.used(upstream, key, len(line) + len(body))
        return stored

    def digests(self, upstream: str, key: str) -> frozenset[str]:
        """Every sha256 that the page names: of files and of core metadata.

        Known by their shape: 0.07 s for 12,000 files, half of what parsing takes, and nothing is
        missed that a parser would find. A digest too many keeps a file, one too few loses it.
        Raises `StoreError` if it cannot be told now.
        """
        try:
            found = set(_DIGEST.findall(self.path(upstream, key).read_bytes()))
        except OSError as problem:
            if disk.is_passing(problem):
                raise StoreError("read a page", problem) from problem
            return frozenset()
        return frozenset(digest.decode().lower() for digest in found)

    def remove(self, upstream: str, key: str) -> bool:
        """Forget the page; whether there was one."""
        return self.forget(f"{upstream}/{key}")

    def outdate(self, upstream: str, key: str) -> None:
        """Have servers make anew what they serve of the page: what it is laid over has changed."""
        with suppress(OSError):
            os.utime(self.where(upstream, key))

    def disown(self) -> None:
        """Have servers drop the pages that they hold in memory only: no file of theirs can tell
        that they were purged. It works on a full disk, too."""
        with suppress(OSError):
            os.utime(self._root)

    def disowned(self) -> Signature | None:
        """Changes with `disown`, and with a new upstream; one `stat`."""
        return disk.signature(str(self._root))

    def keys(self, upstream: str) -> list[str]:
        """Every stored key of an upstream."""
        return disk.names(self._root / upstream)

    def upstreams(self) -> list[str]:
        """The ids of all upstreams with pages."""
        return disk.names(self._root)

    def where(self, upstream: str, key: str) -> str:
        """The path of the page, if it is stored. A text: to make a `Path` took 10 µs."""
        # both parts are ours: a configured id, and a normalized name or a fixed word
        return f"{self._root}/{upstream}/{key}"

    def path(self, upstream: str, key: str) -> Path:
        """The same, for those who do more with it."""
        return Path(self.where(upstream, key))


def absent_note(upstream: str, key: str) -> str:
    """The key of the note that an upstream says it has no such page."""
    return f"absent {upstream}/{key}"


def _parse_head(line: bytes) -> PageHead:
    fields: dict[str, Any] = json.loads(unsealed(line))
    head = PageHead(**fields)
    numbers = (head.fetched_at, head.validated_at, _given(head.lifetime, 0), head.length)
    texts = (
        head.url,
        head.content_type,
        head.digest,
        _given(head.etag, ""),
        _given(head.last_modified, ""),
    )
    # written so that neither NaN nor infinity passes, which JSON of Python may hold
    if not all(isinstance(number, int | float) and abs(number) < 1e15 for number in numbers):
        raise TypeError("a number is none")
    if head.serial is not None and type(head.serial) is not int:
        raise TypeError("a serial is none")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is none")
    return head


def _given(value: Any, instead: Any) -> Any:
    # not `or`: an empty list is no number, either
    return instead if value is None else value
