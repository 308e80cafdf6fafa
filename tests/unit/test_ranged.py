"""A remote file as a seekable one, against a real file as the model."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.files.ranged import TAIL, RangedFile
from proxyindex.wheel import read_metadata
from tests.support.builders import make_zip, metadata, noise

KB = 1024
ENTRY = "demo-1.0.dist-info/METADATA"


class Remote:
    """Bytes behind ranged requests that are written down."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def fetch(self, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(self.data)
        self.asked.append((start, stop))
        return self.data[start:stop]

    def open(self) -> RangedFile:
        size = len(self.data)
        return RangedFile(size, self.fetch(max(0, size - TAIL), size), self.fetch)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 70_000)),
        st.tuples(st.just("seek"), st.integers(0, 120_000)),
        st.tuples(st.just("end"), st.integers(-100_000, 0)),
    ),
    max_size=8,
)


@given(size=st.integers(1, 100_000), steps=steps)
def test_it_reads_like_a_file(size: int, steps: list[tuple[str, int]]) -> None:
    data = noise(size, seed="model")
    model, ranged = io.BytesIO(data), Remote(data).open()
    for action, number in steps:
        if action == "read":
            assert ranged.read(number) == model.read(number)
        elif action == "seek":
            assert ranged.seek(number) == model.seek(number)
        else:
            offset = max(number, -size)
            assert ranged.seek(offset, io.SEEK_END) == model.seek(offset, io.SEEK_END)
        assert ranged.tell() == model.tell()


def test_relative_seeks() -> None:
    remote = Remote(noise(1000, seed="x"))
    ranged = remote.open()
    ranged.seek(10)
    ranged.seek(5, io.SEEK_CUR)
    assert ranged.read(20) == remote.data[15:35]
    assert ranged.seek(-100) == 0


def test_the_first_read_fetches_the_tail_and_nothing_twice() -> None:
    remote = Remote(noise(200 * KB, seed="x"))
    ranged = remote.open()
    ranged.seek(-22, io.SEEK_END)
    ranged.read(22)
    ranged.seek(-30 * KB, io.SEEK_END)
    ranged.read(10 * KB)
    assert remote.asked == [(168 * KB, 200 * KB)]
    ranged.seek(0)
    ranged.read(10)
    assert remote.asked[1:] == [(0, 16 * KB)]


def test_the_metadata_of_a_large_wheel_takes_one_request() -> None:
    entries = [("demo/data", noise(500_000, seed="x")), (ENTRY, metadata("demo", "1.0"))]
    remote = Remote(make_zip(entries))  # written last, as build tools do
    source = remote.open()
    assert read_metadata(source, "demo-1.0-py3-none-any.whl") == metadata("demo", "1.0")  # type: ignore[arg-type]
    assert len(remote.asked) == 1


def test_a_reader_that_asks_too_often_is_stopped() -> None:
    remote = Remote(noise(1000 * KB, seed="x"))
    ranged = remote.open()
    with pytest.raises(OSError, match="too large"):  # noqa: PT012 - which read fails is its affair
        for position in range(960 * KB, 0, -20 * KB):
            ranged.seek(position)
            ranged.read(1)
    assert len(remote.asked) == 16


def test_a_reader_that_asks_for_too_much_is_stopped() -> None:
    asked: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    ranged = RangedFile(100 * KB * KB, bytes(TAIL), fetch)
    with pytest.raises(OSError, match="too large"):
        ranged.read()
    assert asked == []
