"""Reads PKG-INFO out of source archives and tells whole archives from half-copied ones.

Tar archives are walked header by header: the standard library's `tarfile` would hold a long name
of any declared size in memory.
"""

from __future__ import annotations

import re
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from proxyindex.archives.strictzip import strict_zip
from proxyindex.archives.wheel import (
    MAX_ENTRIES,
    MAX_METADATA,
    MAX_RATIO,
    RATIO_FLOOR,
    InvalidArchive,
    check_zip,
    open_zip,
    read_entry,
)
from proxyindex.unzip import PIECE, unzipped

MAX_SECONDS = 120.0
MAX_EXTENSION = 1024**2  # a long name or a pax header
MAX_EXTENSIONS = 32 * 1024**2  # all of an archive
_MOST_RECORDS = 4 * MAX_ENTRIES  # of pax, in an archive: members have times, and often names

_TAR_GZ = (".tar.gz", ".tgz")
_ZIPS = (".whl", ".zip", ".egg")
_BLOCK = 512
_RECORD = re.compile(rb"([0-9]{1,7}) ")  # how a pax record begins: with its length
_SHORTEST_RECORD = len(b"5 a=\n")
_PAX = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
_EXTENSIONS = _PAX | {tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_MOST_TOPS = 100
_WITHOUT_DATA = frozenset(
    {
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
    }
)


def read_pkg_info(source: BinaryIO, filename: str) -> bytes | None:
    """The bytes of `<top>/PKG-INFO` of a whole `.tar.gz`, `.tgz` or `.zip`; `None` if it has none.

    `source` must be seekable and is read to its end, so that a half-copied archive is found out.
    Raises `InvalidArchive` if the archive is not whole or exceeds the bounds on size, ratio
    or time; `OSError` of the source passes through. Source distribution format specification.
    """
    if filename.lower().endswith(_TAR_GZ):
        return _tar_pkg_info(_Unzipped(source, filename))
    check_zip(source, filename)
    with open_zip(source, filename) as archive:
        for entry in archive.infolist():
            if _is_pkg_info(entry.filename):
                return read_entry(archive, entry, filename)
    return None


def check_whole(source: BinaryIO, filename: str) -> bool:
    """Whether the format could prove the archive complete; `False`: it has no such proof.

    Zips: the directory fits the file. Gzipped tars: the stream decodes to its end. Others
    (`.tar.bz2`, `.exe`, …) are only found not empty. Raises `InvalidArchive` if broken.
    """
    name = filename.lower()
    if name.endswith(_TAR_GZ):
        read_pkg_info(source, filename)
        return True
    if name.endswith(_ZIPS):
        check_zip(source, filename)
        return True
    if source.seek(0, 2) == 0:
        raise InvalidArchive(filename, "is empty")
    return False


def check_sdist(source: BinaryIO, filename: str) -> bytes:
    """PKG-INFO of a whole `.tar.gz` or `.zip` with one top folder, in which it lies.

    Reads all of it. Raises `InvalidArchive`. Source distribution format specification; of tars
    also what PyPI refuses: sparse members, and an archive that is a zip as well.
    """
    tops = _Tops(filename)
    if filename.endswith(_TAR_GZ):
        if zipfile.is_zipfile(source):
            raise InvalidArchive(filename, "is a zip archive as well")
        found = _tar_pkg_info(_Unzipped(source, filename), tops.add_member)
    else:
        with strict_zip(source, filename) as archive:
            for entry in archive.infolist():
                tops.add(entry.filename)
        found = read_pkg_info(source, filename)
    if len(tops.names) != 1:
        raise InvalidArchive(filename, f"has {len(tops.names)} top folders, not one")
    if found is None:
        raise InvalidArchive(filename, "has no PKG-INFO in its top folder")
    return found


class _Tops:
    """What lies at the top of an archive, its names found harmless."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self.names: set[str] = set()

    def add(self, name: str) -> None:
        parts = name.removeprefix("./").rstrip("/").split("/")
        if parts[0] in ("", ".") and len(parts) == 1:
            return
        if ".." in parts or "" in parts or "\0" in name or "\\" in name:
            raise InvalidArchive(self._filename, f"has a member {name[:200]!r} that climbs")
        if len(self.names) < _MOST_TOPS:
            self.names.add(parts[0])

    def add_member(self, name: str, member: tarfile.TarInfo) -> None:
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise InvalidArchive(self._filename, f"has a sparse member {name[:200]!r}")
        self.add(name)


class _Unzipped:
    """The decompressed bytes of a gzip stream, counted against the bounds."""

    def __init__(self, source: BinaryIO, filename: str) -> None:
        self.filename = filename
        self._limit = max(RATIO_FLOOR, MAX_RATIO * source.seek(0, 2))
        source.seek(0)
        # zlib reads the heads of members: Python's gzip does it byte by byte, and they may be long
        self._pieces = self._checked(unzipped(iter(lambda: source.read(PIECE), b"")))
        self._piece, self._at = b"", 0

    def some(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, where the stream's CRC has been checked."""
        if self._at == len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
        data = self._piece[self._at : self._at + size]
        self._at += len(data)
        return data

    def _checked(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        total, deadline = 0, time.monotonic() + MAX_SECONDS
        try:
            for piece in pieces:
                total += len(piece)
                if total > self._limit:
                    raise InvalidArchive(self.filename, f"unpacks to more than {self._limit} bytes")
                if time.monotonic() > deadline:
                    problem = f"takes more than {MAX_SECONDS:.0f} s to unpack"
                    raise InvalidArchive(self.filename, problem)
                yield piece
        except (EOFError, zlib.error) as exc:
            raise InvalidArchive(self.filename, f"is not a whole gzip stream ({exc})") from exc

    def exactly(self, size: int, *, limit: int) -> bytes:
        if size > limit:
            raise InvalidArchive(self.filename, f"has a member of {size} bytes, limit {limit}")
        parts = bytearray()
        while len(parts) < size:
            if not (data := self.some(size - len(parts))):
                raise InvalidArchive(self.filename, "ends in the middle of its tar archive")
            parts += data
        return bytes(parts)

    def skip(self, size: int) -> None:
        while size > 0:
            if not (data := self.some(size)):
                raise InvalidArchive(self.filename, "ends in the middle of its tar archive")
            size -= len(data)

    def finish(self) -> None:
        for _ in self._pieces:
            pass


def _tar_pkg_info(
    stream: _Unzipped, each: Callable[[str, tarfile.TarInfo], None] | None = None
) -> bytes | None:
    found: bytes | None = None
    told = _Told(stream.filename, is_strict=each is not None)
    for _ in range(MAX_ENTRIES):
        if (member := _header(stream)) is None:
            stream.finish()
            return found
        size = 0 if member.type in _WITHOUT_DATA else member.size
        if member.type in _EXTENSIONS:
            told.read(member.type, stream.exactly(size, limit=MAX_EXTENSION))
        else:
            name = told.name_of(member)
            if each:
                each(name, member)
            if member.isreg() and found is None and _is_pkg_info(name):
                found = stream.exactly(size, limit=MAX_METADATA)
            else:
                stream.skip(size)
        stream.skip(-size % _BLOCK)
    raise InvalidArchive(stream.filename, f"has more than {MAX_ENTRIES} members")


def _header(stream: _Unzipped) -> tarfile.TarInfo | None:
    """The next member, or `None` at the mark that ends the archive."""
    block = stream.exactly(_BLOCK, limit=_BLOCK)
    if not any(block):
        return None
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as exc:
        raise InvalidArchive(stream.filename, f"is not a tar archive ({exc})") from exc
    if member.size < 0:  # base-256 numbers can be negative
        raise InvalidArchive(stream.filename, "has a member of negative size")
    return member


class _Told:
    """What extensions tell of the member behind them: its name, as `tarfile` understands it.

    Other readers differ in what they make of records that are broken or repeated. `is_strict`
    refuses what would give a member another name or other bytes to some of them.
    """

    def __init__(self, filename: str, *, is_strict: bool) -> None:
        self._filename = filename
        self._is_strict = is_strict
        self._name: str | None = None
        self._size = self._records = 0

    def read(self, kind: bytes, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_EXTENSIONS:
            problem = f"has more than {MAX_EXTENSIONS} bytes of tar extensions"
            raise InvalidArchive(self._filename, problem)
        if kind == tarfile.GNUTYPE_LONGNAME:
            self._tell(data.partition(b"\0")[0])
        elif kind != tarfile.GNUTYPE_LONGLINK:
            records = dict(self._pairs(data))  # of equal keys the last counts
            for key in records:
                # such hide members from some readers; members of more than 8 GiB need a size
                if key == b"size" or key.startswith(b"GNU.sparse."):
                    self._object(f"has a pax record {_text(key)[:40]!r}")
            if kind != tarfile.XGLTYPE and b"path" in records:
                self._tell(records[b"path"])
            elif b"path" in records:
                self._object("has one path for all of its members")

    def name_of(self, member: tarfile.TarInfo) -> str:
        """The member's name. What was told is told of one member only."""
        name, self._name = self._name, None
        return name or member.name

    def _tell(self, name: bytes) -> None:
        if self._name is None:
            self._name = _text(name)
        else:  # the outer one counts
            self._object("names a member twice")

    def _object(self, problem: str) -> None:
        if self._is_strict:
            raise InvalidArchive(self._filename, problem)

    def _pairs(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records of a pax header up to its end or a broken one. Source: POSIX, `pax`."""
        start = 0
        while start < len(data) and data[start]:
            self._records += 1
            if self._records > _MOST_RECORDS:
                raise InvalidArchive(self._filename, f"has more than {_MOST_RECORDS} pax records")
            length = _RECORD.match(data, start)
            end = start + int(length[1]) if length else 0
            if not length or not start + _SHORTEST_RECORD <= end <= len(data):
                return self._object("has a broken pax record")
            key, equals, value = data[length.end() : end].partition(b"=")
            if not key or not equals or not value.endswith(b"\n"):
                return self._object("has a broken pax record")
            yield key, value[:-1]
            start = end
        return None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _is_pkg_info(name: str) -> bool:
    parts = name.removeprefix("./").split("/")
    return len(parts) == 2 and parts[1] == "PKG-INFO"
