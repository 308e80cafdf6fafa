"""A remote archive as a seekable file: just enough for a zip reader to find one entry."""

import io
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import BinaryIO, TypeVar, cast

import anyio

from proxyindex.archives.zipends import with_only
from proxyindex.threads import in_thread

T = TypeVar("T")

Fetch = Callable[[int, int], Awaitable[bytes]]  # the bytes from start up to stop
Piece = tuple[int, bytes]  # where in the file it begins
_TAIL = 32 * 1024  # holds directory and METADATA of most wheels: they are written last
_MIN_READ = 16 * 1024
_MAX_REQUESTS = 16
_MAX_BYTES = 32 * 1024**2


async def read_remote(
    size: int,
    suffix: bytes,
    fetch: Fetch,
    read: Callable[[BinaryIO], T],
    *,
    large: anyio.CapacityLimiter,
) -> T:
    """What `read` makes of a zip archive of `size` bytes, which for it has no other entries than
    those whose names end in `suffix`, or all of them where it is an unusual one.

    It is called in a thread and must not wait there: again from its beginning each time that it
    has met bytes that were not fetched yet. At most so many as `large` lets in have more than the
    tail in memory. Raises what `read` and `fetch` raise, and `OSError` when more than a few are
    wanted.
    """
    bounded = _Bounded(fetch)
    start = max(0, size - _TAIL)
    tail = with_only(suffix, await bounded.fetch(start, size), size)
    pieces = [(start, tail)]
    async with AsyncExitStack() as stack:
        while True:
            size = start + len(tail)
            try:
                return await in_thread(read, cast(BinaryIO, _Remote(size, pieces)))
            except _Missing as missing:
                gap = missing
            if bounded.requests == 1:
                await stack.enter_async_context(large)
            stop = min(max(gap.stop, gap.start + _MIN_READ), start)
            data = await bounded.fetch(gap.start, stop)
            if gap.stop <= start:
                pieces.append((gap.start, data))
                continue
            # all from there on, hence the directory, which did not fit the tail
            start, tail = gap.start, await in_thread(_joined, suffix, data, tail, size)
            pieces[0] = start, tail


def _joined(suffix: bytes, head: bytes, tail: bytes, size: int) -> bytes:
    return with_only(suffix, head + tail, size)


class _Bounded:
    """Raises `OSError` when a reader wants more than a look at a directory may cost."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self.requests = self._bytes = 0

    async def fetch(self, start: int, stop: int) -> bytes:
        self.requests += 1
        self._bytes += stop - start
        if self.requests > _MAX_REQUESTS or self._bytes > _MAX_BYTES:
            raise OSError("the archive's directory is too large to be read remotely")
        return await self._fetch(start, stop)


class _Missing(Exception):
    """Bytes that have to be fetched before a read can go on."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop


class _Remote:
    """Reads from the pieces that are there. Raises `_Missing`."""

    def __init__(self, size: int, pieces: Sequence[Piece]) -> None:
        self._size = size
        self._pieces = pieces
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from the current position; all that remain if negative."""
        start = self._position
        stop = self._size if size < 0 else min(start + size, self._size)
        if start >= stop:
            return b""
        for first, piece in self._pieces:
            if first <= start and stop <= first + len(piece):
                self._position = stop
                return piece[start - first : stop - first]
        raise _Missing(start, stop)
