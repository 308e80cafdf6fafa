"""The values that flow through the house: files, where their bytes come from, pages, lists.

All are immutable. Terms are those of the Simple repository API specification. Nothing here does
I/O or knows a wire format.

What a page has one of for each of its files is a msgspec struct, made in a tenth of the time that a
frozen dataclass takes (0.12 µs against 1.3 µs; parsing 12,000 files takes half as long for it), and
never looked at by the garbage collector: no value here can be part of a cycle. See decision 0023.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from proxyindex.errors import Denied, FileNotOnPage

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

METADATA_SUFFIX = ".metadata"  # PEP 658: the sibling of a wheel
SIGNATURE_SUFFIX = ".asc"
PROVENANCE_SUFFIX = ".provenance"  # PEP 740
PROVENANCE_ORIGIN = "https://"  # how its link begins: it must be of a secure origin
RECORD_SUFFIX = ".json"  # what an upload noted of a file in our folders: `records.py`
# what lies beside a file of our own
SIDECARS = (RECORD_SUFFIX, SIGNATURE_SUFFIX, PROVENANCE_SUFFIX)


@dataclass(frozen=True, slots=True)
class LocalOrigin:
    """A file in one of our own folders.

    `is_volatile`: other bytes may replace it under its name. `state`: inode and mtime in ns it had
    when it was listed, where that is known. `shadowed` are paths of files of the same name, the
    first of which would be listed if this one were gone.
    """

    path: str
    has_provenance: bool = False
    is_volatile: bool = False
    state: tuple[int, int] | None = field(default=None, compare=False)
    shadowed: tuple[str, ...] = ()


class UpstreamOrigin(msgspec.Struct, frozen=True, gc=False):
    """A file at an upstream: the upstream's id in the stores, the file's absolute URL, and the
    project whose page listed it (there lies what we learned of the file)."""

    upstream: str
    url: str
    project: str = ""

    def sibling(self, suffix: str) -> str:
        """The URL of what lies beside the file under its name and `suffix`; a query is kept."""
        path, mark, query = self.url.partition("?")
        return f"{path}{suffix}{mark}{query}"


class ReplacedOrigin(UpstreamOrigin, frozen=True, gc=False):
    """A file of which upstream has other bytes by now: what it says of those goes for them alone,
    and only the digest proves ours."""


@dataclass(frozen=True, slots=True)
class MetadataOrigin:
    """The core metadata of a wheel: passed through, found, or extracted (PEP 658)."""

    wheel: File


@dataclass(frozen=True, slots=True)
class SignatureOrigin:
    """The detached signature beside a file."""

    signed: File


@dataclass(frozen=True, slots=True)
class ProvenanceOrigin:
    """The provenance of one of our own files, which lies beside it (PEP 740)."""

    path: str


class Sha256(msgspec.Struct, frozen=True, gc=False, eq=False, forbid_unknown_fields=True):  # noqa: PLW1641 - no mapping can be hashed
    """The mapping `{"sha256": …}`, which nearly each file has twice, in a sixth of a dict's memory.

    Equal to any mapping of the same items.
    """

    sha256: str

    def get(self, algorithm: str) -> str | None:
        return self.sha256 if algorithm == "sha256" else None

    def keys(self) -> Iterable[str]:
        return ("sha256",)

    def items(self) -> Iterable[tuple[str, str]]:
        return (("sha256", self.sha256),)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, algorithm: str) -> str:
        if algorithm != "sha256":
            raise KeyError(algorithm)
        return self.sha256

    def __contains__(self, algorithm: object) -> bool:
        return algorithm == "sha256"

    def __len__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sha256):
            return self.sha256 == other.sha256
        return {"sha256": self.sha256} == other


Hashes = Mapping[str, str] | Sha256
_BEST_HASH_FIRST = ("sha256", "sha512", "sha384", "md5")


def best_hash(hashes: Hashes) -> tuple[str, str] | None:
    """Algorithm and hex of the best of these digests; `None` if there is none."""
    return next(((name, hashes[name]) for name in _BEST_HASH_FIRST if name in hashes), None)


Origin = LocalOrigin | UpstreamOrigin | MetadataOrigin | SignatureOrigin | ProvenanceOrigin


class File(msgspec.Struct, frozen=True, gc=False):
    """One downloadable archive as the Simple API lists it, plus its origin.

    `hashes` maps lower-case algorithm names (sha256, sha384, sha512, md5) to lower-case hex.
    `size` is in bytes, `None` if nobody told. `upload_time` is aware UTC.
    `yanked` is `None` (not yanked), the reason, or `""` for "yanked, no reason given" (PEP 592).
    `core_metadata` is `None` (not offered), or the hashes of the `.metadata` sibling, which are
    empty when it is offered without a hash (PEP 714).
    `version` is the text in the file name, not parsed; `None` when the name does not tell.
    """

    filename: str
    origin: Origin
    hashes: Hashes = msgspec.field(default_factory=dict)
    version: str | None = None
    size: int | None = None
    upload_time: datetime | None = None
    requires_python: str | None = None
    yanked: str | None = None
    core_metadata: Hashes | None = None
    provenance: str | None = None
    has_signature: bool = False

    def but(self, **changes: object) -> File:
        """The same file with these fields changed."""
        return msgspec.structs.replace(self, **changes)

    @property
    def sha256(self) -> str | None:
        """The hex sha256 of the bytes, if known."""
        return self.hashes.get("sha256")

    @property
    def best_digest(self) -> str | None:
        """The best of its digests as a link's fragment has it, `sha256=<hex>`, if any is known."""
        return "=".join(best_hash(self.hashes) or ()) or None

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")

    @property
    def key(self) -> str:
        """Names the work on an upstream's file: downloads, searches, notes; safe as a file name.

        It is of the promise, and not of the digest alone: until bytes are proven, they are what
        one upstream says on one page, and must answer nobody else's (decision 36).
        """
        assert isinstance(self.origin, UpstreamOrigin)
        upstream, url, project = self.origin.upstream, self.origin.url, self.origin.project
        promise = f"{upstream} {project} {self.filename} {self.sha256 or url}"
        return hashlib.sha256(promise.encode()).hexdigest()

    def metadata(self) -> File | None:
        """The `.metadata` sibling as a file of its own, or `None` if it is not offered."""
        if self.core_metadata is None or not self.is_wheel:
            return None
        return File(
            filename=self.filename + METADATA_SUFFIX,
            origin=MetadataOrigin(self),
            hashes=self.core_metadata,
            upload_time=self.upload_time,
        )

    def signature(self) -> File:
        """The `.asc` sibling as a file of its own; whether it exists only its source knows."""
        return File(filename=self.filename + SIGNATURE_SUFFIX, origin=SignatureOrigin(self))

    def attested(self) -> File | None:
        """The `.provenance` sibling as a file of its own, if we have it."""
        if not isinstance(self.origin, LocalOrigin) or not self.origin.has_provenance:
            return None
        path = self.origin.path + PROVENANCE_SUFFIX
        return File(filename=self.filename + PROVENANCE_SUFFIX, origin=ProvenanceOrigin(path))


@dataclass(frozen=True, slots=True)
class Status:
    """Status marker of a project (PEP 792): active, archived, quarantined or deprecated."""

    status: str = "active"
    reason: str | None = None


ACTIVE = Status()


@dataclass(frozen=True)
class ProjectPage:
    """The answer to "what files has this project?" (specification: project detail).

    `versions` are texts as the source gave them; they cover every file's version and may name
    versions without files. `withdrawn` are files no longer listed whose bytes we still hold:
    never shown, but served by name, because lock files point at them. `denied` are files a rule
    took off the page, by file name. `is_gone` marks a project its source has removed; such a page
    exists only for its withdrawn files and is shown to clients as 404. `length` is that of what it
    was read from, in bytes.
    """

    name: NormalizedName
    files: tuple[File, ...]
    versions: tuple[str, ...] = ()
    status: Status = ACTIVE
    withdrawn: tuple[File, ...] = ()
    denied: Mapping[str, Denied] = field(default_factory=dict)
    is_gone: bool = False
    length: int = field(default=0, compare=False)

    @cached_property
    def _by_name(self) -> Mapping[str, File]:
        # a listed file wins over a withdrawn one of the same name
        return {file.filename: file for file in (*self.withdrawn, *self.files)}

    def file(self, filename: str) -> File:
        """The file of this name, or its `.metadata`, `.asc` or `.provenance` sibling.

        Raises `Denied` for a file (or sibling of a file) that a rule removed, else `FileNotOnPage`.
        """
        if found := self._by_name.get(filename):
            return found
        if filename in self.denied:
            raise self.denied[filename]
        for suffix in (METADATA_SUFFIX, SIGNATURE_SUFFIX, PROVENANCE_SUFFIX):
            if filename.endswith(suffix) and (sibling := self._sibling(filename, suffix)):
                return sibling
        raise FileNotOnPage(self.name, filename)

    def _sibling(self, filename: str, suffix: str) -> File | None:
        stem = filename.removesuffix(suffix)
        if stem in self.denied:
            raise self.denied[stem]
        if not (owner := self._by_name.get(stem)):
            return None
        if suffix == METADATA_SUFFIX:
            return owner.metadata()
        return owner.signature() if suffix == SIGNATURE_SUFFIX else owner.attested()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ProjectList:
    """The answer to "what projects are there?": normalized names, sorted, without doubles."""

    names: tuple[NormalizedName, ...]

    @classmethod
    def of(cls, names: Iterable[NormalizedName]) -> ProjectList:
        # lists that are sorted already are merged: a third of the time that sorting a set takes
        return cls(tuple(dict.fromkeys(sorted(names))))


NO_PROJECTS = ProjectList(())
