"""A disk that fails under an arriving or a stored file is an error of the store, and no other."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from proxyindex.errors import StoreError
from proxyindex.files.arrival import Arrival
from proxyindex.files.content import Own, Stored
from proxyindex.store.partials import Phase, Progress


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[int]:
    """A descriptor that cannot be read from."""
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("readable", [5, 10**8])  # written just now, or long ago
async def test_an_arriving_file_that_cannot_be_read_is_a_store_error(
    unreadable: int, readable: int
) -> None:
    arrival = Arrival(10**9)
    arrival._fd = unreadable
    arrival._advance(Progress(Phase.FLOWING, readable, 10**9))
    stream = arrival.reader(0, None)
    with pytest.raises(StoreError):
        await anext(stream)
    with pytest.raises(StoreError):
        stream.digest(0, 5)
    await stream.aclose()


async def test_a_stored_file_that_cannot_be_read_is_not_at_hand(unreadable: int) -> None:
    stored = Stored(unreadable, 5, sha256=None, modified=None)
    assert stored.at_hand(100) is None
    with pytest.raises(StoreError):
        await anext(aiter(await stored.stream()))


@pytest.mark.parametrize(
    ("trouble", "own_is", "stored_is"),
    [
        (None, b"bytes", b"bytes"),
        (errno.EAGAIN, None, None),
        (errno.EOPNOTSUPP, None, b"bytes"),  # file systems that cannot tell
    ],
)
async def test_an_own_file_is_at_hand_only_if_no_disk_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: int | None,
    own_is: bytes | None,
    stored_is: bytes | None,
) -> None:
    def look(fd: int, buffers: object, offset: int, flags: int = 0) -> int:
        if trouble:
            raise OSError(trouble, os.strerror(trouble))
        return 1

    monkeypatch.setattr(os, "preadv", look)
    (tmp_path / "file").write_bytes(b"bytes")
    own = Own("mine-1.0.tar.gz", anyio.CapacityLimiter(1))
    for whose, expected in ((own, own_is), (None, stored_is)):
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        content = Stored(fd, 5, sha256=None, modified=None, own=whose)
        assert content.at_hand(5) == expected
        await content.aclose()
