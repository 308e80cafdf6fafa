"""Gzip bodies in pieces: all members, and nothing beyond a limit."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxyindex.unzip import GZIP, PIECE, ZLIB, Unzip


def unzipped(packed: bytes, piece: int) -> tuple[bytes, bool]:
    unzip, out = Unzip(), b""
    for start in range(0, len(packed), piece):
        out += b"".join(unzip.add(packed[start : start + piece]))
    return out, unzip.is_whole


@pytest.mark.parametrize("piece", [1, 7, 30, 10_000])
@pytest.mark.parametrize("padding", [b"", b"\0" * 100])
def test_all_members_are_decoded(piece: int, padding: bytes) -> None:
    packed = b"".join([gzip.compress(part) + padding for part in (b"one ", b"", b"two")])
    assert unzipped(packed, piece) == (b"one two", True)


@pytest.mark.parametrize("piece", [100, 1051, 1060, 2500, 10_000])
@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 4 * PIECE])
def test_large_members_are_decoded_wherever_they_end(piece: int, size: int) -> None:
    parts = [bytes([letter]) * size for letter in b"abcde"]
    packed = b"".join(map(gzip.compress, parts))
    assert unzipped(packed, piece) == (b"".join(parts), True)


@pytest.mark.parametrize("piece", [1, 10_000])
def test_a_cut_in_a_later_member_shows(piece: int) -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"two")
    for end in range(1, len(packed)):
        whole = len(gzip.compress(b"one "))
        assert unzipped(packed[:end], piece)[1] == (end == whole)


@pytest.mark.parametrize("piece", [1, 10_000])
@pytest.mark.parametrize("rest", [b"more", b"\0\0more", b"<html>"])
def test_anything_else_after_a_member_is_refused(rest: bytes, piece: int) -> None:
    with pytest.raises(zlib.error):
        unzipped(gzip.compress(b"one") + rest + bytes(20), piece)


@pytest.mark.parametrize("window", [GZIP, ZLIB])
def test_a_bomb_comes_in_pieces(window: int) -> None:
    packer = zlib.compressobj(wbits=window)
    bomb = packer.compress(bytes(5 * PIECE + 7)) + packer.flush()
    pieces = Unzip(window).add(bomb)
    assert [len(piece) for piece in pieces] == [PIECE] * 5 + [7]


def test_empty_members_without_end_are_refused() -> None:
    with pytest.raises(zlib.error, match="too many"):
        unzipped(gzip.compress(b"") * 10_001, 65_536)
