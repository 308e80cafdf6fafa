"""What we learned of upstream files that their page does not say.

One file of sealed JSON lines per upstream and project, appended to: the sha256 and size of bytes we
adopted, the digest of the metadata we found or made. It is read with the page, fills the gaps
there, pins first bytes (the first sha256 of a file name stays until an operator purges it), and
remembers files that upstream no longer lists, because lock files still point at them. A mark tells
that the project is under quarantine: a page tells that, too, but may be evicted.

A second file has what a page may tell later: digests of core metadata that it offers without one.
Pages are right without them, and each would make a new page of the whole (decision 0015).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from proxyindex import disk
from proxyindex.disk import Signature
from proxyindex.errors import StoreError
from proxyindex.model import Hashes
from proxyindex.store.seal import sealed, unsealed

_MAX_FILE = 64 * 1024 * 1024

_QUARANTINED = "+quarantined"  # the mark; no file is called so
_LATER = ".later"  # ends the name of the second file; no project is called so
NO_METADATA = ""  # `Fact.metadata` of a wheel from which none can be had


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one file name of a project.

    `metadata` is the sha256 of its core metadata, `NO_METADATA` if there is none to be had, or
    `None` if nobody has looked; `of` is the digest that our page told of the wheel it was found
    for, `sha256=<hex>` for instance. `told` is that of the bytes that have the `sha256`, where the
    page told no sha256. What it tells later is compared with both.
    """

    url: str = ""
    sha256: str | None = None
    size: int | None = None
    metadata: str | None = None
    told: str | None = None
    of: str | None = None

    @property
    def digests(self) -> frozenset[str]:
        """Of the blobs it tells of: the file and its metadata."""
        return frozenset(digest for digest in (self.sha256, self.metadata) if digest)

    def metadata_for(self, hashes: Hashes) -> str | None:
        """`metadata`, unless the wheel that has these digests is another than it was found for."""
        algorithm, _, digest = (self.of or "").partition("=")
        is_other = algorithm in hashes and hashes[algorithm] != digest
        return None if is_other else self.metadata

    def merged(self, later: Fact) -> Fact:
        """Both lines together. First bytes win; a later word on metadata replaces the earlier."""
        return replace(
            self,
            url=later.url if later.url and not self.sha256 else self.url,
            sha256=self.sha256 or later.sha256,
            told=self.told if self.sha256 else later.told,
            size=self.size if self.size is not None else later.size,
            metadata=self.metadata if later.metadata is None else later.metadata,
            of=self.of if later.metadata is None else later.of,
        )


class Line(NamedTuple):
    """One line of a file of facts, and its offset in bytes."""

    path: str
    offset: int
    text: bytes


class Facts:
    """Facts by upstream id and normalized name. Synchronous. `clock` tells ns since the epoch."""

    def __init__(self, root: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._root = root
        self._clock = clock
        # whose, in which state, and the facts: each file of a large project asks for them
        self._latest: tuple[object, Mapping[str, Fact]] | None = None

    def signatures(self, upstream: str, project: str) -> tuple[Signature | None, Signature | None]:
        """Those of both files: of what the page must tell at once, and of what it may tell later.

        One changes whenever any fact is added.
        """
        later, now = map(disk.signature, self._both(upstream, project))
        return now, later

    def read(self, upstream: str, project: str) -> Mapping[str, Fact]:
        """Facts by file name; broken lines are skipped. Raises `StoreError`."""
        looked_ns = self._clock()
        state = (upstream, project, self.signatures(upstream, project))
        latest = self._latest  # threads put others there
        if latest is not None and latest[0] == state:
            return latest[1]
        facts = self._read(upstream, project)
        if all(disk.is_settled(one, looked_ns) for one in state[2] if one):
            self._latest = state, facts
        return facts

    def _read(self, upstream: str, project: str) -> Mapping[str, Fact]:
        facts: dict[str, Fact] = {}
        for _, _, line in self._lines(upstream, project):
            if (parsed := _parse(line)) and parsed[0] != _QUARANTINED:
                filename, fact = parsed
                facts[filename] = facts[filename].merged(fact) if filename in facts else fact
        return facts

    def learn(
        self, upstream: str, project: str, filename: str, fact: Fact, *, may_wait: bool = False
    ) -> None:
        """Add what is new in `fact`; `may_wait`: the page is right without it.

        Raises `StoreError`.
        """
        known = self.read(upstream, project).get(filename, Fact())
        if known.merged(fact) == known:
            return
        if fact.metadata is not None and known.metadata is not None:
            may_wait = False  # another wheel's may have the last word
        values = {
            "file": filename,
            "url": fact.url,
            "sha256": fact.sha256,
            "size": fact.size,
            "metadata": fact.metadata,
            "told": fact.told,
            "of": fact.of,
        }
        later, now = self._both(upstream, project)
        self._append(later if may_wait else now, {k: v for k, v in values.items() if v is not None})

    def is_quarantined(self, upstream: str, project: str) -> bool:
        """Whether the project is marked."""
        parsed = (_parse(line) for *_, line in self._lines(upstream, project))
        return any(one is not None and one[0] == _QUARANTINED for one in parsed)

    def mark(self, upstream: str, project: str, *, is_quarantined: bool) -> None:
        """Set the mark, or take it off. Raises `StoreError`."""
        if is_quarantined == self.is_quarantined(upstream, project):
            return
        if is_quarantined:
            self._append(self.where(upstream, project), {"file": _QUARANTINED})
        else:
            self.forget(upstream, project, [_QUARANTINED])

    def _append(self, where: str, values: Mapping[str, object]) -> None:
        """One appended line in one write: concurrent writers interleave whole lines.

        It begins with the line break, which ends what a killed writer may have left half written.
        """
        line = b"\n" + sealed(json.dumps(values).encode())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = disk.in_folder(Path(where).parent, lambda: os.open(where, flags, 0o644))
            disk.hand_over(where)
            try:
                if os.write(fd, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(fd)
        except OSError as problem:
            raise StoreError("note a fact", problem) from problem

    def broken(self, upstream: str, project: str) -> list[Line]:
        """The lines that are no facts."""
        lines = self._lines(upstream, project)
        return [line for line in lines if line.text.strip() and not _parse(line.text)]

    def blank(self, lines: Iterable[Line]) -> None:
        """Overwrite lines in place: nothing moves, so others may append meanwhile.

        Raises `StoreError`.
        """
        try:
            for path, offset, text in lines:
                with open(path, "r+b", buffering=0) as stream:
                    os.pwrite(stream.fileno(), b" " * len(text), offset)
        except OSError as problem:
            raise StoreError("mend its facts", problem) from problem

    def forget(self, upstream: str, project: str, filenames: Collection[str]) -> None:
        """Forget what is known of these files. Raises `StoreError`."""
        self.blank(
            line
            for line in self._lines(upstream, project)
            if (parsed := _parse(line.text)) and parsed[0] in filenames
        )

    def remove(self, upstream: str, project: str) -> bool:
        """Forget all facts of a project, its pins included."""
        return any([disk.remove(path) for path in self._both(upstream, project)])

    def projects(self, upstream: str) -> list[str]:
        """Every project of which something was learned."""
        return sorted({name.removesuffix(_LATER) for name in disk.names(self._root / upstream)})

    def upstreams(self) -> list[str]:
        """The ids of all upstreams of whose files something was learned."""
        return disk.names(self._root)

    def _lines(self, upstream: str, project: str) -> Iterator[Line]:
        for path in self._both(upstream, project):
            try:
                with open(path, "rb") as stream:
                    texts = stream.read(_MAX_FILE).split(b"\n")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as problem:  # not as if nothing was known: pins would be lost
                raise StoreError(f"read what it has learned of {project}", problem) from problem
            offset = 0
            for text in texts:
                yield Line(path, offset, text)
                offset += len(text) + 1

    def where(self, upstream: str, project: str) -> str:
        """The path of what the page must tell at once, if there is any."""
        return f"{self._root}/{upstream}/{project}"

    def _both(self, upstream: str, project: str) -> tuple[str, str]:
        """The paths of the two files; the second one has the last word."""
        now = self.where(upstream, project)
        return now + _LATER, now


def _parse(line: bytes) -> tuple[str, Fact] | None:
    try:
        values = json.loads(unsealed(line))
        filename = values["file"]
        fact = Fact(
            url=values.get("url", ""),
            sha256=values.get("sha256"),
            size=values.get("size"),
            metadata=values.get("metadata"),
            told=values.get("told"),
            of=values.get("of"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return (filename, fact) if isinstance(filename, str) and _is_sound(fact) else None


def _is_sound(fact: Fact) -> bool:
    """Whether the types are right; digests name files, so they must be nothing else."""
    return (
        isinstance(fact.url, str)
        and (fact.sha256 is None or disk.is_sha256(fact.sha256))
        and (fact.size is None or (type(fact.size) is int and fact.size >= 0))
        and (fact.metadata in (None, NO_METADATA) or disk.is_sha256(fact.metadata))
        and all(text is None or isinstance(text, str) for text in (fact.told, fact.of))
    )
