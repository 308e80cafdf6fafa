"""Targets for archives: wheels, sdists, and the metadata in them."""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import suppress
from typing import BinaryIO

from proxyindex.archives.sdist import check_whole, read_pkg_info
from proxyindex.archives.strictzip import strict_zip
from proxyindex.archives.wheel import (
    MAX_DIRECTORY,
    MAX_HEADER_VALUE,
    MAX_METADATA,
    InvalidArchive,
    check_zip,
    parse_headers,
    read_metadata,
)
from proxyindex.archives.zipends import with_only
from proxyindex.model import File, ProjectPage, UpstreamOrigin
from proxyindex.unzip import PIECE, Unzip
from tests.fuzz.pages import PROJECT, check_page

WHEEL = "demo_pkg-1.0-py3-none-any.whl"
_TAIL = 3 * (2**16 + 22)  # what zipfile reads to find the end record
_MOST_BODY = 2**17
_LOCAL_NAMES = 2**17  # a local header may claim a name and an extra field of 64 KiB each


class Watched(io.BytesIO):
    """A source that notes how much is read, and refuses reads beyond what a parser may ask for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)
        self.total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= MAX_DIRECTORY + 1, size
        data = super().read(size)
        self.total += len(data)
        return data


def wheel(data: bytes) -> None:
    """A wheel: its metadata whole, or the reason why not; read about once."""
    source = Watched(data)
    if (metadata := _metadata(source)) is not None:
        assert len(metadata) <= MAX_METADATA
        core_metadata(metadata)
    assert source.total <= 2 * source.size + _TAIL + _LOCAL_NAMES
    _whole(data, WHEEL)
    # with the directory of its tail rid of other entries it must not tell anything else
    told = _metadata(io.BytesIO(with_only(b".dist-info/METADATA", data, len(data))))
    assert told in (None, metadata) or metadata is None


def _metadata(source: BinaryIO) -> bytes | None:
    try:
        return read_metadata(source, WHEEL)
    except InvalidArchive:
        return None


def zip_sdist(data: bytes) -> None:
    """A `.zip` of source."""
    _sdist(data, "demo_pkg-1.0.zip")
    _whole(data, "demo_pkg-1.0.zip")


def gzip_sdist(data: bytes) -> None:
    """A `.tar.gz` of source: a gzip stream, perhaps."""
    _sdist(data, "demo_pkg-1.0.tar.gz")


def tar_sdist(data: bytes) -> None:
    """A `.tar.gz` of source whose gzip stream is sound and whose tar archive may not be."""
    _sdist(gzip.compress(data, 1, mtime=0), "demo_pkg-1.0.tar.gz")


def gzip_body(data: bytes) -> None:
    """A page that arrives compressed: decoded the same in whatever pieces it comes, and bounded."""
    outcomes = [_unzipped(data, size) for size in (1, 7, 2**16)]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    if outcomes[0] is not None:
        assert outcomes[0] == gzip.decompress(data)


def core_metadata(data: bytes) -> None:
    """METADATA or PKG-INFO: fields fit for a page, whatever the file says."""
    found = parse_headers(data)
    for text in (found.name, found.version, found.requires_python):
        if text is not None:
            assert 0 < len(text) <= MAX_HEADER_VALUE
            assert text == " ".join(text.split())
    origin = UpstreamOrigin("pypi", f"https://index.example/{WHEEL}")
    file = File(WHEEL, origin, version="1.0", requires_python=found.requires_python)
    check_page(ProjectPage(PROJECT, (file,), ("1.0",)))


def _unzipped(data: bytes, size: int) -> bytes | None:
    """What the body decodes to; `None` if it is broken or longer than the limit."""
    unzip, body = Unzip(), bytearray()
    try:
        for start in range(0, len(data), size):
            for piece in unzip.add(data[start : start + size]):
                assert len(piece) <= PIECE
                body += piece
                if len(body) > _MOST_BODY:
                    return None
    except zlib.error:
        return None
    return bytes(body) if unzip.is_whole else None


def _whole(data: bytes, filename: str) -> None:
    source = Watched(data)
    try:
        check_zip(source, filename)
    except InvalidArchive:
        return
    # every entry's start is looked at
    assert source.total <= 2 * source.size + _TAIL
    assert data.rfind(b"PK\x05\x06") >= 0
    assert check_whole(io.BytesIO(data), filename) is True
    with suppress(InvalidArchive), strict_zip(io.BytesIO(data), filename) as archive:
        assert archive.infolist() or data.startswith(b"PK\x05\x06")


def _sdist(data: bytes, filename: str) -> None:
    source = Watched(data)
    try:
        pkg_info = read_pkg_info(source, filename)
    except InvalidArchive:
        return
    if filename.endswith(".tar.gz"):
        _read_to_the_end(data)
    assert pkg_info is None or len(pkg_info) <= MAX_METADATA
    core_metadata(pkg_info or b"")


def _read_to_the_end(data: bytes) -> None:
    """Raises what `gzip` does unless the stream and its checksum are whole."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while stream.read(2**16):
            pass
