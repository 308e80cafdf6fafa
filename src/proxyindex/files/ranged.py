"""A remote file as a seekable one: just enough for a zip reader to find one entry at its tail."""

import io
from collections.abc import Callable

TAIL = 32 * 1024  # holds directory and METADATA of most wheels: they are written last
_MIN_READ = 16 * 1024
_MAX_REQUESTS = 16
_MAX_BYTES = 32 * 1024**2


class RangedFile:
    """Reads `size` bytes of a file, of which the `tail` is there already, through
    `fetch(start, stop)`; keeps what it has read.

    Raises `OSError` when a reader wants more than a tail look-up may cost.
    """

    def __init__(self, size: int, tail: bytes, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._position = 0
        self._pieces = [(size - len(tail), tail)]
        self._fetched = len(tail)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from the current position; all that remain if negative."""
        stop = self._size if size < 0 else min(self._position + size, self._size)
        start = self._position
        if start >= stop:
            return b""
        data = self._held(start, stop)
        if data is None:
            self._fill(start, stop)
            data = self._held(start, stop) or b""
        self._position += len(data)
        return data

    def _held(self, start: int, stop: int) -> bytes | None:
        for first, piece in self._pieces:
            if first <= start and stop <= first + len(piece):
                return piece[start - first : stop - first]
        return None

    def _fill(self, start: int, stop: int) -> None:
        stop = min(max(stop, start + _MIN_READ), self._size)
        self._fetched += stop - start
        if len(self._pieces) >= _MAX_REQUESTS or self._fetched > _MAX_BYTES:
            raise OSError("the archive's directory is too large to be read remotely")
        self._pieces.append((start, self._fetch(start, stop)))
