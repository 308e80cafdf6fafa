"""A remote file as a seekable one, against a real file as the model."""

import io
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, TypeVar

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.archives.wheel import read_metadata
from proxyindex.files.ranged import read_remote
from tests.support.builders import make_zip, metadata, noise

T = TypeVar("T")

KB = 1024
ENTRY = "demo-1.0.dist-info/METADATA"


class Remote:
    """Bytes behind ranged requests that are written down."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    async def fetch(self, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(self.data)
        self.asked.append((start, stop))
        return self.data[start:stop]

    async def read(self, read: Callable[[BinaryIO], T]) -> T:
        size, suffix = len(self.data), b".dist-info/METADATA"
        return await read_remote(size, suffix, self.fetch, read, large=anyio.CapacityLimiter(1))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 70_000)),
        st.tuples(st.just("seek"), st.integers(0, 120_000)),
        st.tuples(st.just("end"), st.integers(-100_000, 0)),
    ),
    max_size=8,
)


@given(size=st.integers(1, 100_000), steps=steps)
async def test_it_reads_like_a_file(size: int, steps: list[tuple[str, int]]) -> None:
    data = noise(size, seed="model")

    def compare(remote: BinaryIO) -> None:
        model = io.BytesIO(data)
        for action, number in steps:
            if action == "read":
                assert remote.read(number) == model.read(number)
            elif action == "seek":
                assert remote.seek(number) == model.seek(number)
            else:
                offset = max(number, -size)
                assert remote.seek(offset, io.SEEK_END) == model.seek(offset, io.SEEK_END)
            assert remote.tell() == model.tell()

    await Remote(data).read(compare)


async def test_relative_seeks() -> None:
    data = noise(1000, seed="x")

    def read(source: BinaryIO) -> bytes:
        source.seek(10)
        source.seek(5, io.SEEK_CUR)
        found = source.read(20)
        assert source.seek(-100) == 0
        return found

    assert await Remote(data).read(read) == data[15:35]


async def test_the_tail_is_fetched_and_then_what_lacks_and_nothing_twice() -> None:
    remote = Remote(noise(200 * KB, seed="x"))

    def read(source: BinaryIO) -> None:
        source.seek(-22, io.SEEK_END)
        source.read(22)
        source.seek(-30 * KB, io.SEEK_END)
        source.read(10 * KB)
        source.seek(0)
        source.read(10)
        source.seek(100)
        source.read(15 * KB)

    await remote.read(read)
    assert remote.asked == [(168 * KB, 200 * KB), (0, 16 * KB)]


async def test_the_metadata_of_a_large_wheel_takes_one_request() -> None:
    entries = [("demo/data", noise(500_000, seed="x")), (ENTRY, metadata("demo", "1.0"))]
    remote = Remote(make_zip(entries))  # written last, as build tools do
    read = partial(read_metadata, filename="demo-1.0-py3-none-any.whl")
    assert await remote.read(read) == metadata("demo", "1.0")
    assert len(remote.asked) == 1


async def test_a_directory_that_does_not_fit_the_tail_takes_another_request() -> None:
    entries = [(f"demo/a-module-with-a-long-name-{number}.py", b"") for number in range(1000)]
    remote = Remote(make_zip([*entries, (ENTRY, metadata("demo", "1.0"))]))
    read = partial(read_metadata, filename="demo-1.0-py3-none-any.whl")
    assert await remote.read(read) == metadata("demo", "1.0")
    [tail, directory, entry] = remote.asked
    assert directory[1] == tail[0]  # nothing is fetched twice
    assert entry[1] == directory[0]


async def test_only_so_many_at_a_time_have_more_than_the_tail() -> None:
    remote = Remote(make_zip([(ENTRY, metadata("demo", "1.0")), ("x", noise(500_000, seed="x"))]))
    read = partial(read_metadata, filename="demo-1.0-py3-none-any.whl")
    held, let_on, most = 0, anyio.Event(), 0

    async def fetch(start: int, stop: int) -> bytes:
        nonlocal held, most
        if stop < len(remote.data):
            held, most = held + 1, max(most, held + 1)
            await let_on.wait()
            held -= 1
        return await remote.fetch(start, stop)

    large = anyio.CapacityLimiter(2)
    size, suffix = len(remote.data), b".dist-info/METADATA"
    found = []

    async def look() -> None:
        found.append(await read_remote(size, suffix, fetch, read, large=large))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(look)
        with anyio.fail_after(20):
            while large.statistics().tasks_waiting < 3:
                await anyio.lowlevel.checkpoint()
        let_on.set()
    assert found == [metadata("demo", "1.0")] * 5
    assert most == 2


async def test_metadata_written_first_takes_another_request() -> None:
    entries = [(ENTRY, metadata("demo", "1.0")), ("demo/data", noise(500_000, seed="x"))]
    remote = Remote(make_zip(entries))
    read = partial(read_metadata, filename="demo-1.0-py3-none-any.whl")
    assert await remote.read(read) == metadata("demo", "1.0")
    assert remote.asked[1:] == [(0, 16 * KB)]


async def test_a_reader_that_asks_too_often_is_stopped() -> None:
    remote = Remote(noise(1000 * KB, seed="x"))

    def read(source: BinaryIO) -> None:
        for position in range(960 * KB, 0, -20 * KB):
            source.seek(position)
            source.read(1)

    with pytest.raises(OSError, match="too large"):
        await remote.read(read)
    assert len(remote.asked) == 16


async def test_a_reader_that_asks_for_too_much_is_stopped() -> None:
    asked: list[tuple[int, int]] = []

    async def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    size, large = 100 * KB * KB, anyio.CapacityLimiter(1)
    with pytest.raises(OSError, match="too large"):
        await read_remote(size, b"", fetch, lambda source: source.read(), large=large)
    assert asked == [(size - 32 * KB, size)]
