"""Gzip bodies in pieces: all members, and nothing beyond a limit."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxyindex.upstream.unzip import Unzip

LIMIT = 1000


def unzipped(packed: bytes, piece: int, most: int = LIMIT) -> tuple[bytes, bool]:
    unzip, out = Unzip(), b""
    for start in range(0, len(packed), piece):
        out += unzip.add(packed[start : start + piece], most - len(out))
    return out, unzip.is_whole


@pytest.mark.parametrize("piece", [1, 7, 30, 10_000])
@pytest.mark.parametrize("padding", [b"", b"\0" * 100])
def test_all_members_are_decoded(piece: int, padding: bytes) -> None:
    packed = b"".join([gzip.compress(part) + padding for part in (b"one ", b"", b"two")])
    assert unzipped(packed, piece) == (b"one two", True)


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


def test_no_more_is_decoded_than_asked_for() -> None:
    unzip = Unzip()
    assert unzip.add(gzip.compress(bytes(10**6)), 10) == bytes(10)
    bombs = gzip.compress(b"x" * 10) + gzip.compress(bytes(10**6))
    assert unzipped(bombs, len(bombs), 15)[0] == b"x" * 10 + bytes(5)


def test_empty_members_without_end_are_refused() -> None:
    with pytest.raises(zlib.error, match="too many"):
        unzipped(gzip.compress(b"") * 10_001, 65_536)
