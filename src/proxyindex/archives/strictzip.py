"""Zip archives that all programs read alike, as those that are uploaded must be.

A zip says what it holds twice: before each entry, and in the directory at its end. Most installers
go by the directory; others unpack what they meet while they download (uv). Where the two differ,
people who look at an archive and machines that install it see different contents. PyPI looks at
the same things, and refuses even what comes behind entries of unknown size.
"""

from __future__ import annotations

import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import BinaryIO

from proxyindex.archives.wheel import (
    METADATA_ENTRY,
    METHODS,
    InvalidArchive,
    check_zip,
    open_zip,
    read_metadata,
)
from proxyindex.archives.zipends import END, LOCATOR, LOCATOR_SIGNATURE
from proxyindex.unzip import PIECE

_MAX_SECONDS = 300.0  # an honest archive of 5 GB takes 80
_TAR_BLOCK = 512
_HEADER = struct.Struct("<4s5H3L2H")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_SIGNATURE = b"PK\x06\x06"
_DESCRIPTOR = b"PK\x07\x08"  # how one begins, or with what is behind this
_LONGEST_DESCRIPTOR = 24
_COMES_LATER, _UTF8, _LEVEL = 0x8, 0x800, 0x6  # flags
_ZIP64, _UNICODE_NAME = 0x0001, 0x7075  # extra fields
_SIZES_64 = struct.Struct("<2Q")
_FIELD = struct.Struct("<2H")
_MOST_FIELDS = 100  # of an entry; honest ones have three
_IN_ZIP64 = 0xFFFFFFFF  # in place of a number that does not fit, or might not
_ALL_IN_ZIP64 = (0xFFFF,) * 4 + (_IN_ZIP64,) * 2


def check_wheel(source: BinaryIO, filename: str) -> bytes:
    """The METADATA of a wheel that is whole, plainly packed, and has what a wheel must have.

    Reads all of it. Raises `InvalidArchive`. Binary distribution format specification.
    """
    metadata = read_metadata(source, filename)
    with strict_zip(source, filename) as archive:
        names = {entry.filename for entry in archive.infolist()}
        home = next(name for name in names if METADATA_ENTRY.match(name)).partition("/")[0]
        for needed in ("WHEEL", "RECORD"):
            if f"{home}/{needed}" not in names:
                raise InvalidArchive(filename, f"has no {home}/{needed}")
    return metadata


@contextmanager
def strict_zip(source: BinaryIO, filename: str) -> Iterator[zipfile.ZipFile]:
    """As `open_zip`, of an archive that all programs must read alike.

    Raises `InvalidArchive` unless it is nothing but a zip, its entries stored or deflated, one
    directly behind the other, and what is said of them is the same everywhere and true. For that
    all of it is unpacked, which takes 5 s for 1 GB of content.
    """
    check_zip(source, filename)
    source.seek(0)
    if _is_tar(source.read(_TAR_BLOCK)):
        raise InvalidArchive(filename, "is a tar archive as well")
    with open_zip(source, filename) as archive:
        _check_end(source, archive, filename)
        entries = sorted(archive.infolist(), key=lambda one: one.header_offset)
        starts = [*(entry.header_offset for entry in entries), archive.start_dir]
        if starts[0] != 0:
            raise InvalidArchive(filename, "does not begin with its first entry")
        deadline = time.monotonic() + _MAX_SECONDS
        for entry, (_, end) in zip(entries, pairwise(starts), strict=True):
            if entry.compress_type not in METHODS:
                raise InvalidArchive(filename, f"compresses {entry.filename!r} in an unusual way")
            _check_header(source, entry, filename)
            _check_content(source, entry, filename, deadline)
            _check_gap(source, entry, filename, end)
        yield archive


def _check_end(source: BinaryIO, archive: zipfile.ZipFile, filename: str) -> None:
    """Where the directory is, and how long, is told once, or by zip64's end and no other way."""
    last = source.seek(0, 2) - END.size - len(archive.comment)
    end = max(0, last - LOCATOR.size - _END_64.size)
    source.seek(end)
    before, plain = source.read(last - end), END.unpack(source.read(END.size))
    is_64 = before[-LOCATOR.size :].startswith(LOCATOR_SIGNATURE)
    count, start = len(archive.infolist()), archive.start_dir
    told = (0, 0, count, count, (end if is_64 else last) - start, start)
    if is_64:
        large, locator = _END_64.unpack_from(before), LOCATOR.unpack(before[_END_64.size :])
        is_right = large[:2] == (_END_64_SIGNATURE, _END_64.size - 12) and large[4:] == told
        if not is_right or locator[1:] != (0, end, 1):
            raise InvalidArchive(filename, "has an unusual end of zip64")
    for said, value, unknown in zip(plain[1:7], told, _ALL_IN_ZIP64, strict=True):
        if said != value and not (is_64 and said == unknown):
            raise InvalidArchive(filename, "has an end that does not fit its directory")


def _check_header(source: BinaryIO, entry: zipfile.ZipInfo, filename: str) -> None:
    """What stands before the entry is what the directory says of it, or that it comes later."""
    source.seek(entry.header_offset)
    _, _, flags, method, _, _, crc, packed, size, *lengths = _HEADER.unpack(
        source.read(_HEADER.size)
    )
    name, extra = (source.read(length) for length in lengths)
    large = _extra_fields(extra, entry, filename).get(_ZIP64)
    _extra_fields(entry.extra, entry, filename)
    sizes, packed_sizes = {size}, {packed}
    if large is not None:
        for values, value in zip((sizes, packed_sizes), _SIZES_64.unpack_from(large), strict=True):
            values.discard(_IN_ZIP64)
            values.add(value)
    later = {0} if flags & _COMES_LATER else set()
    if later and method == zipfile.ZIP_STORED and entry.file_size:  # nobody could tell its end
        raise InvalidArchive(filename, f"tells too late how long {entry.filename!r} is")
    coding = "utf-8" if entry.flag_bits & _UTF8 else "cp437"
    said: tuple[tuple[str, set[object], object], ...] = (
        ("name", {name.decode(coding)}, entry.orig_filename),
        ("method", {method}, entry.compress_type),
        ("set of flags", {flags & ~_LEVEL}, entry.flag_bits & ~_LEVEL),
        ("checksum", {crc} - later, entry.CRC),
        ("size", sizes - later, entry.file_size),
        ("packed size", packed_sizes - later, entry.compress_size),
    )
    for what, told, real in said:
        if not told <= {real}:
            problem = f"has another {what} of the entry {entry.filename!r} in its directory"
            raise InvalidArchive(filename, problem)


def _extra_fields(extra: bytes, entry: zipfile.ZipInfo, filename: str) -> dict[int, bytes]:
    """By number. Those that could tell another size or name tell it once, the name no other."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _FIELD.size <= len(extra):
        number, length = _FIELD.unpack_from(extra, at)
        at += _FIELD.size + length
        is_again = number in found and number in (_ZIP64, _UNICODE_NAME)
        if is_again or at > len(extra) or len(found) >= _MOST_FIELDS:
            raise InvalidArchive(filename, f"has broken extra fields at {entry.filename!r}")
        found[number] = extra[at - length : at]
    unicode_name = found.get(_UNICODE_NAME)  # behind a version and a checksum
    if unicode_name is not None and unicode_name[5:] != entry.orig_filename.encode():
        raise InvalidArchive(filename, f"calls the entry {entry.filename!r} by two names")
    return found


def _check_content(
    source: BinaryIO, entry: zipfile.ZipInfo, filename: str, deadline: float
) -> None:
    size = crc = 0
    for piece in _unpacked(source, entry, filename):
        if time.monotonic() > deadline:
            raise InvalidArchive(filename, f"takes more than {_MAX_SECONDS:.0f} s to unpack")
        size, crc = size + len(piece), zlib.crc32(piece, crc)
        if size > entry.file_size:
            break
    if (size, crc) != (entry.file_size, entry.CRC):
        raise InvalidArchive(filename, f"lies about the content of {entry.filename!r}")


def _unpacked(source: BinaryIO, entry: zipfile.ZipInfo, filename: str) -> Iterator[bytes]:
    """The content, in pieces, of which one is empty. What is deflated ends where its packed size
    says, too; some programs say that of an empty one it has none."""
    yield b""
    left = entry.compress_size
    is_stored = entry.compress_type == zipfile.ZIP_STORED
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    while left and not stream.eof:
        piece = source.read(min(PIECE, left))
        if not piece:
            raise EOFError
        left -= len(piece)
        if is_stored:
            yield piece
            continue
        # it may hold output back although it has consumed all input
        while decoded := stream.decompress(piece, PIECE):
            yield decoded
            piece = stream.unconsumed_tail
    if is_stored or entry.compress_size == 0:
        return
    if left or stream.unused_data or not stream.eof:
        raise InvalidArchive(filename, f"has {entry.filename!r} end where it should not")


def _check_gap(source: BinaryIO, entry: zipfile.ZipInfo, filename: str, end: int) -> None:
    """Nothing comes between the entry, of which all was read, and what follows at `end`; or what
    was to come later."""
    length = end - source.tell()
    if length == 0:
        return
    behind = source.read(length) if 0 < length <= _LONGEST_DESCRIPTOR else b""
    told = struct.pack("<L", entry.CRC)
    sizes = [_SIZES_64.pack(entry.compress_size, entry.file_size)]
    if max(entry.compress_size, entry.file_size) < _IN_ZIP64:
        sizes.append(struct.pack("<2L", entry.compress_size, entry.file_size))
    descriptors = [told + one for one in sizes]
    if not entry.flag_bits & _COMES_LATER or behind.removeprefix(_DESCRIPTOR) not in descriptors:
        raise InvalidArchive(filename, f"has something it does not list behind {entry.filename!r}")


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
