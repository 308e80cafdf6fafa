"""Files that arrive encoded although nobody asked for it."""

import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxyindex.errors import StoreError, UpstreamInvalid
from proxyindex.files import coding as coding_module
from proxyindex.files.coding import identity, is_encoded
from proxyindex.model import File, UpstreamOrigin
from proxyindex.upstream.client import Reply
from tests.support.builders import noise
from tests.support.reply import sha256_of

PLAIN = noise(50_000, seed="plain") + bytes(2_000_000)
PACKED = gzip.compress(PLAIN)


class Body(httpx.AsyncByteStream):
    def __init__(self, data: bytes, piece: int) -> None:
        self.data = data
        self.piece = piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), self.piece):
            yield self.data[start : start + self.piece]


def reply(data: bytes, coding: str | None, piece: int = 10_000) -> Reply:
    headers = {} if coding is None else {"content-encoding": coding}
    response = httpx.Response(200, headers=headers, stream=Body(data, piece))
    return Reply("up", "http://up.example/f", response)


def file(filename: str = "f-1.zip", **facts: Any) -> File:
    return File(filename, UpstreamOrigin("up", "http://up.example/f"), **facts)


async def received(
    data: bytes,
    coding: str | None,
    spool: Path | None,
    file: File,
    limit: int = 10**8,
    piece: int = 9999,
) -> bytes:
    body = identity(reply(data, coding, piece), file, upstream="up", spool=spool, limit=limit)
    return b"".join([chunk async for chunk in body])


@pytest.mark.parametrize(
    ("coding", "expected"),
    [(None, False), ("", False), ("identity", False), (" Identity ", False), ("gzip", True)],
)
def test_identity_is_no_coding(coding: str | None, expected: bool) -> None:
    assert is_encoded(reply(b"", coding)) is expected


async def test_an_unencoded_body_is_passed_on_without_a_spool(tmp_path: Path) -> None:
    assert await received(PACKED, None, tmp_path / "none", file()) == PACKED
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "facts",
    [
        {"hashes": {"sha256": sha256_of(PACKED)}},
        {"size": len(PACKED)},
        {"hashes": {"sha512": hashlib.sha512(PACKED).hexdigest()}},
        {"hashes": {"sha384": hashlib.sha384(PACKED).hexdigest()}},
        {"hashes": {"md5": hashlib.md5(PACKED).hexdigest()}},
        {},  # decoded it would be no gzip file
    ],
)
async def test_a_mislabelled_file_is_used_as_it_is(tmp_path: Path, facts: dict[str, Any]) -> None:
    assert await received(PACKED, "gzip", tmp_path, file("f-1.tar.gz", **facts)) == PACKED


@pytest.mark.parametrize(
    "facts",
    [
        {"hashes": {"sha256": sha256_of(PLAIN)}, "size": len(PACKED)},
        {"hashes": {"md5": hashlib.md5(PLAIN).hexdigest()}, "size": len(PACKED)},
        {"size": len(PLAIN)},
    ],
)
async def test_an_encoded_file_is_decoded_once(tmp_path: Path, facts: dict[str, Any]) -> None:
    assert await received(PACKED, "GZip", tmp_path, file("f-1.tar.gz", **facts)) == PLAIN
    twice = gzip.compress(PACKED)
    for wanted in (file(hashes={"sha256": sha256_of(PACKED)}), file("f-1.tar.gz")):
        assert await received(twice, "x-gzip", tmp_path, wanted) == PACKED
    assert await received(PACKED, "gzip", tmp_path, file()) == PLAIN


async def test_deflate_is_known(tmp_path: Path) -> None:
    assert await received(zlib.compress(PLAIN), "deflate", tmp_path, file()) == PLAIN


@pytest.mark.parametrize(
    ("data", "coding"),
    [
        (PACKED, "br"),
        (PACKED, "gzip, gzip"),
        (PLAIN, "gzip"),
        (PACKED[:-1], "gzip"),
        (PACKED[:1000], "gzip"),
        (PACKED + PACKED[:-1], "gzip"),
        (PACKED + b"no member", "gzip"),
        (b"", "gzip"),
    ],
)
async def test_what_cannot_be_decoded_whole_is_invalid(
    tmp_path: Path, data: bytes, coding: str
) -> None:
    with pytest.raises(UpstreamInvalid):
        await received(data, coding, tmp_path, file())


async def test_the_limit_holds_before_and_after_decoding(tmp_path: Path) -> None:
    with pytest.raises(UpstreamInvalid, match="more than 100 bytes"):
        await received(PACKED, "gzip", tmp_path, file(), limit=100)
    with pytest.raises(UpstreamInvalid, match="more than 1000000 bytes"):
        await received(PACKED, "gzip", tmp_path, file(), limit=1_000_000)


async def test_the_spool_is_made_and_left_empty(tmp_path: Path) -> None:
    spool = tmp_path / "cache" / "partials"
    await received(PACKED, "gzip", spool, file())
    assert list(spool.iterdir()) == []


async def test_all_members_of_a_body_are_decoded(tmp_path: Path) -> None:
    halves = gzip.compress(PLAIN[:100]) + gzip.compress(b"") + gzip.compress(PLAIN[100:])
    for piece in (1, 50, 100_000):
        assert await received(halves, "gzip", tmp_path, file(), piece=piece) == PLAIN


@pytest.mark.parametrize("rest", [gzip.compress(b"") * 10_000, b"\0more"])
async def test_a_body_with_members_without_end_or_more_behind_them_is_refused(
    rest: bytes, tmp_path: Path
) -> None:
    with pytest.raises(UpstreamInvalid, match="broken coding"):
        await received(PACKED + rest, "gzip", tmp_path, file(), piece=100_000)


async def test_padding_behind_a_member_is_passed_over(tmp_path: Path) -> None:
    assert await received(PACKED + bytes(100), "gzip", tmp_path, file()) == PLAIN


async def test_without_a_folder_of_ours_the_systems_own_will_do() -> None:
    assert await received(PACKED, "gzip", None, file()) == PLAIN


async def test_a_disk_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        await received(PACKED, "gzip", tmp_path / "file", file())
    with open("/dev/full", "r+b", buffering=0) as full, pytest.raises(StoreError):
        coding_module.write(full, b"x")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 3_000_000),
    ballast=st.binary(max_size=50),
    piece=st.sampled_from([1000, 65536]),
)
async def test_every_size_survives_the_window_of_the_decoder(
    tmp_path: Path, size: int, ballast: bytes, piece: int
) -> None:
    data = bytes(size) + ballast
    assert await received(gzip.compress(data, 1), "gzip", tmp_path, file(), piece=piece) == data
