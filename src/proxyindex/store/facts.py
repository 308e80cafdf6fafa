"""What we learned of upstream files that their page does not say.

One file of JSON lines per upstream and project, appended to: the sha256 and size of bytes we
adopted, the digest of the metadata we found or made. It is read with the page, fills the gaps
there, pins first bytes (the first sha256 of a file name stays until an operator purges it), and
remembers files that upstream no longer lists, because lock files still point at them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from proxyindex.errors import StoreError
from proxyindex.store import disk
from proxyindex.store.disk import Signature

_MAX_FILE = 64 * 1024 * 1024

NO_METADATA = ""  # `Fact.metadata` of a wheel from which none can be had


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one file name of a project.

    `metadata` is the sha256 of its core metadata, `NO_METADATA` if there is none to be had, or
    `None` if nobody has looked.
    """

    url: str = ""
    sha256: str | None = None
    size: int | None = None
    metadata: str | None = None

    def merged(self, later: "Fact") -> "Fact":
        """Both lines together. First bytes win; a later word on metadata replaces the earlier."""
        return replace(
            self,
            url=self.url or later.url,
            sha256=self.sha256 or later.sha256,
            size=self.size if self.size is not None else later.size,
            metadata=self.metadata if later.metadata is None else later.metadata,
        )


class Facts:
    """Facts by upstream id and normalized name. Synchronous."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def signature(self, upstream: str, project: str) -> Signature | None:
        """Changes whenever a fact is added; one `stat`."""
        return disk.signature(self._path(upstream, project))

    def read(self, upstream: str, project: str) -> Mapping[str, Fact]:
        """Facts by file name; broken lines are skipped."""
        try:
            with open(self._path(upstream, project), "rb") as stream:
                lines = stream.read(_MAX_FILE).splitlines()
        except OSError:
            return {}
        facts: dict[str, Fact] = {}
        for line in lines:
            if parsed := _parse(line):
                filename, fact = parsed
                facts[filename] = facts[filename].merged(fact) if filename in facts else fact
        return facts

    def learn(self, upstream: str, project: str, filename: str, fact: Fact) -> None:
        """Add what is new in `fact`. Raises `StoreError`.

        One appended line under 4 KiB: concurrent writers interleave whole lines.
        """
        known = self.read(upstream, project).get(filename)
        if known is not None and known.merged(fact) == known:
            return
        values = {
            "file": filename,
            "url": fact.url,
            "sha256": fact.sha256,
            "size": fact.size,
            "metadata": fact.metadata,
        }
        line = json.dumps({k: v for k, v in values.items() if v is not None}).encode() + b"\n"
        path = self._path(upstream, project)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
        except OSError as problem:
            raise StoreError("note a fact", problem.strerror or str(problem)) from problem

    def remove(self, upstream: str, project: str) -> bool:
        """Forget all facts of a project, its pins included."""
        return disk.remove(self._path(upstream, project))

    def projects(self, upstream: str) -> list[str]:
        """Every project of which something was learned."""
        try:
            return sorted(p.name for p in (self._root / upstream).iterdir())
        except OSError:
            return []

    def upstreams(self) -> list[str]:
        try:
            return sorted(p.name for p in self._root.iterdir() if p.is_dir())
        except OSError:
            return []

    def _path(self, upstream: str, project: str) -> Path:
        return self._root / upstream / project


def _parse(line: bytes) -> tuple[str, Fact] | None:
    try:
        values = json.loads(line)
        return values["file"], Fact(
            url=values.get("url", ""),
            sha256=values.get("sha256"),
            size=values.get("size"),
            metadata=values.get("metadata"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
