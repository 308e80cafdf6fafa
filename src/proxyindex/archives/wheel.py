"""Reads what an index needs out of a wheel, from any seekable source, safely and sparingly.

Zip archives come from outside: their directory, entry count, names, methods and sizes are checked
before anything is decompressed, and nothing is ever extracted to disk. What archives of source
look like is `sdist.py`, what uploaded ones must be `strictzip.py`.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from typing import TYPE_CHECKING, BinaryIO

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName

from proxyindex.archives.zipends import END, END_SIGNATURE, ENTRY_HEAD, ENTRY_SIGNATURE
from proxyindex.errors import ProxyindexError
from proxyindex.names import InvalidName, is_same_version, normalize, parse_filename
from proxyindex.texts import one_line

if TYPE_CHECKING:
    from packaging.metadata import RawMetadata

MAX_ENTRIES = 100_000
MAX_METADATA = 10 * 1024**2
MAX_DIRECTORY = 32 * 1024**2
MAX_RATIO = 50  # PyPI's thresholds for archives that are bombs
RATIO_FLOOR = 64 * 1024**2
MAX_HEADER_VALUE = 1024
MAX_HEAD = 2 * 1024**2  # bytes of metadata before its body; descriptions were headers once
_ANY_VERSION = SpecifierSet()
_MOST_EXTRAS, _MOST_CONDITIONS = 16, 16  # of one project that is required
_MAX_REQUIREMENTS = 300  # packaging takes 20 µs and more for one
MAX_HEAD_LINES = 50_000  # the parser takes 160 bytes and 2 µs for one of three bytes

_LOCAL_SIGNATURE = b"PK\x03\x04"
LOCAL_HEADER = 30
_ENCRYPTED = 0x1
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_HEAD_END = re.compile(rb"\r?\n\r?\n")
METADATA_ENTRY = re.compile(r"(?P<stem>[^/]+)\.dist-info/METADATA\Z")
_DRIVE = re.compile(r"[A-Za-z]:")


class InvalidArchive(ProxyindexError):
    """An archive that is broken, not complete, hostile, or not what its file name says."""

    def __init__(self, filename: str, problem: str) -> None:
        super().__init__(f"The archive {filename!r} {problem}.")


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """The core metadata fields an index looks at; `None` where absent or unusable."""

    name: str | None
    version: str | None
    requires_python: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What requirements want of a project, as far as it is worth to be looked at."""

    extras: frozenset[str] = frozenset()
    versions: SpecifierSet = _ANY_VERSION

    def and_by(self, requirement: Requirement) -> Wanted:
        """What another requirement wants as well. Of what nobody wants, thousands of extras or
        conditions, nothing is added: each costs time with each marker, or each release."""
        extras = self.extras | requirement.extras
        versions = self.versions & requirement.specifier
        return Wanted(
            extras if len(extras) <= _MOST_EXTRAS else self.extras,
            versions if len(versions) <= _MOST_CONDITIONS else self.versions,
        )


ANYTHING = Wanted()


def read_metadata(source: BinaryIO, filename: str) -> bytes:
    """The exact bytes of the wheel's `*.dist-info/METADATA`, at most 10 MiB.

    `source` must be seekable; only the end record, the central directory and the one entry are
    read. Raises `InvalidArchive`; errors of the source itself (`OSError`, …) pass through.
    Binary distribution format specification; PEP 658.
    """
    with open_zip(source, filename) as archive:
        found = [e for e in archive.infolist() if METADATA_ENTRY.match(e.filename)]
        if len(found) != 1:
            raise InvalidArchive(filename, f"has {len(found)} dist-info/METADATA entries, not one")
        if not _is_of(filename, found[0].filename):
            raise InvalidArchive(filename, f"holds the metadata of another: {found[0].filename!r}")
        return read_entry(archive, found[0], filename)


def parse_headers(metadata: bytes) -> CoreMetadata:
    """What METADATA or PKG-INFO says; never fails, and says nothing where its head is out of all
    bounds.

    Undecodable bytes are replaced, and control characters, which no page may carry, are blanks.
    """
    message = _head(metadata)

    def field(name: str) -> str | None:
        value = one_line(str(message.get(name, "")))
        return value if 0 < len(value) <= MAX_HEADER_VALUE else None

    return CoreMetadata(field("Name"), field("Version"), field("Requires-Python"))


def required_projects(
    metadata: bytes, holds: Callable[[Marker], bool] = lambda marker: False
) -> dict[NormalizedName, Wanted]:
    """The projects that are required, with what is wanted of each: of the first 300 Requires-Dist
    those without an address, and with a marker only if it `holds`. Never fails."""
    found: dict[NormalizedName, Wanted] = {}
    told = _head(metadata).get_all("Requires-Dist", [])
    for text in (text for text in told[:_MAX_REQUIREMENTS] if len(text) <= MAX_HEADER_VALUE):
        with suppress(InvalidRequirement, InvalidName, RecursionError):
            requirement = Requirement(str(text))
            marker = requirement.marker
            if requirement.url is None and (marker is None or holds(marker)):
                name = normalize(requirement.name)
                found[name] = found.get(name, ANYTHING).and_by(requirement)
    return found


def whole_metadata(metadata: bytes) -> RawMetadata:
    """All that METADATA says, as it says it; nothing where its head is out of all bounds."""
    head = _bounded_head(metadata)
    if head is None:
        return {}
    from packaging.metadata import parse_email  # noqa: PLC0415 - 7 ms of a start, seldom needed

    # without the body, of which a head may say that it has several parts
    said = parse_email(head.decode("utf-8", "replace"))[0]
    body = metadata[len(head) :].decode("utf-8", "replace").strip("\r\n")
    return {**said, "description": body} if body else said


def _head(metadata: bytes) -> Message:
    """Its headers; none where they are out of all bounds."""
    head = _bounded_head(metadata)
    if head is None:
        return Message()
    return HeaderParser().parsestr(head.decode("utf-8", "replace"), headersonly=True)


def _bounded_head(metadata: bytes) -> bytes | None:
    end = _HEAD_END.search(metadata)
    head = metadata[: end.start()] if end else metadata
    if len(head) > MAX_HEAD or head.count(b"\n") + head.count(b"\r") > MAX_HEAD_LINES:
        return None
    return head


@contextmanager
def open_zip(source: BinaryIO, filename: str) -> Iterator[zipfile.ZipFile]:
    """The archive, its directory read within bounds and every entry's header found harmless.

    What zipfile raises on broken archives, in the block too, becomes `InvalidArchive`.
    """
    bounded = _Bounded(source, filename)
    try:
        with zipfile.ZipFile(bounded) as archive:
            _check_entries(archive, filename)
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,  # unknown method, version or encryption
        OverflowError,
        RuntimeError,  # encrypted
        ValueError,  # a name that does not decode, a seek to before the start
    ) as exc:
        if bounded.failure:  # zipfile takes a source that fails for a file that is no zip
            raise bounded.failure from None
        raise InvalidArchive(filename, f"is not a readable zip archive ({exc})") from exc


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, filename: str) -> bytes:
    """The whole entry, of at most `MAX_METADATA` bytes declared and read, its CRC checked."""
    if entry.file_size > MAX_METADATA:
        raise InvalidArchive(filename, f"has an oversized entry {entry.filename!r}")
    if entry.compress_type not in METHODS:
        raise InvalidArchive(filename, f"compresses {entry.filename!r} in an unusual way")
    with archive.open(entry) as stream:
        content = stream.read(MAX_METADATA + 1)
    if len(content) != entry.file_size:
        raise InvalidArchive(filename, f"lies about the size of {entry.filename!r}")
    return content


def check_zip(source: BinaryIO, filename: str) -> None:
    """Raises `InvalidArchive` unless every entry lies in the file and nothing follows the end.

    Catches archives still being copied, also by tools that write the end first.
    """
    with open_zip(source, filename) as archive:
        for entry in archive.infolist():
            source.seek(entry.header_offset)
            if source.read(len(_LOCAL_SIGNATURE)) != _LOCAL_SIGNATURE:
                raise InvalidArchive(filename, f"is not complete: {entry.filename!r} is missing")
        source.seek(-END.size - len(archive.comment), 2)
        end = source.read(END.size)
        if not end.startswith(END_SIGNATURE) or end[20:] != struct.pack("<H", len(archive.comment)):
            raise InvalidArchive(filename, "has something after its end")


class _Bounded:
    """What zipfile may read of a source: it would take any declared directory size at its word."""

    def __init__(self, source: BinaryIO, filename: str) -> None:
        self._source = source
        self._filename = filename
        self.failure: OSError | None = None

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        most = MAX_DIRECTORY + 1
        try:
            data = self._source.read(most if size < 0 else min(size, most))
        except OSError as exc:
            self.failure = exc
            raise
        if len(data) > MAX_DIRECTORY:
            raise InvalidArchive(self._filename, "has an oversized directory")
        # smaller reads cannot hold more entries than allowed
        if len(data) > MAX_ENTRIES * ENTRY_HEAD and data.count(ENTRY_SIGNATURE) > MAX_ENTRIES:
            raise InvalidArchive(self._filename, f"has more than {MAX_ENTRIES} entries")
        return data


def _check_entries(archive: zipfile.ZipFile, filename: str) -> None:
    entries = archive.infolist()
    seen: set[str] = set()
    for entry in entries:
        if problem := _problem(entry, archive.start_dir):
            raise InvalidArchive(filename, f"has an entry {entry.filename!r} {problem}")
        if entry.filename in seen:
            raise InvalidArchive(filename, f"has the entry {entry.filename!r} twice")
        seen.add(entry.filename)
    unpacked = sum(entry.file_size for entry in entries)
    # against the file, not the sum of packed sizes: entries may overlap
    if unpacked > RATIO_FLOOR and unpacked > MAX_RATIO * archive.start_dir:
        raise InvalidArchive(filename, f"unpacks to {unpacked} bytes from {archive.start_dir}")


def _problem(entry: zipfile.ZipInfo, directory_start: int) -> str | None:
    name = entry.orig_filename
    if "\0" in name or "\\" in name or name.startswith("/") or _DRIVE.match(name):
        return "with a name that is not relative and plain"
    if ".." in name.split("/"):
        return "with a name that climbs"
    if entry.flag_bits & _ENCRYPTED:
        return "that is encrypted"
    end = entry.header_offset + LOCAL_HEADER + entry.compress_size
    if entry.header_offset < 0 or end > directory_start:
        return "outside of the file"
    return None


def _is_of(filename: str, entry: str) -> bool:
    """Whether the dist-info directory is that of the wheel's file name, after normalisation."""
    named = parse_filename(filename)
    name, _, version = entry.partition(".dist-info/")[0].rpartition("-")
    try:
        same_project = normalize(name) == named.project
    except InvalidName:
        return False
    return same_project and named.version is not None and agree(version, named.version)


def agree(one: str, other: str) -> bool:
    """Whether two places of a wheel tell the same version: some build tools write "-" and "+" as
    "_" in one of them."""
    plain = (re.sub("[-_+]", "_", text.lower()) for text in (one, other))
    return len(set(plain)) == 1 or is_same_version(one, other)
