"""A file that is arriving, as its readers see it: how far it is, and a stream at their own pace."""

import hashlib
import os

import anyio
import anyio.lowlevel
import anyio.to_thread

from proxyindex import disk
from proxyindex.errors import FileGone, ProxyindexError, StoreError
from proxyindex.files.content import READ_SIZE
from proxyindex.store.partials import Partial, Phase, Progress
from proxyindex.threads import in_thread

_PIECE = 128 * 1024  # upstreams are slower than disks: larger reads gain nothing, and cost memory
_RECENT = 16 * 1024**2  # bytes just written are in the page cache: a thread hop costs more


class Arrival:
    """Progress, error and open descriptor of a file under way; `Transfer` makes it progress.

    The descriptors are closed by the last user: the one who fills the file, or a reader.
    """

    def __init__(self, size: int | None) -> None:
        self._progress = Progress(size=size)
        self._error: ProxyindexError | None = None
        self._changed = anyio.Event()
        self._fd: int | None = None
        self._partial: Partial | None = None
        self._users = 1  # who fills the file

    @property
    def size(self) -> int | None:
        """Total bytes, as soon as page or upstream told."""
        return self._progress.size

    @property
    def readable(self) -> int:
        """How many bytes readers may have now."""
        return self._progress.readable

    @property
    def is_done(self) -> bool:
        """Whether every byte may be read: the file was stored, or its bytes proven."""
        return self._progress.phase is Phase.DONE

    @property
    def is_gone(self) -> bool:
        """Whether it ended because upstream has no such file."""
        return isinstance(self._error, FileGone)

    async def started(self) -> None:
        """Wait until upstream has answered. Raises the error that ended it if it already failed.

        An empty file has no end to withhold: for one the verdict itself is waited for.
        """
        while self._error is None and self._progress.phase is not Phase.DONE:
            if self._progress.phase is not Phase.ASKING and self._progress.size != 0:
                break
            await self._changed.wait()
        if self._error is not None and self._progress.readable == 0:
            raise self._error

    async def ended(self) -> None:
        """Wait until the file is stored or lost."""
        while self._progress.phase is not Phase.DONE and self._error is None:
            await self._changed.wait()
        await anyio.lowlevel.checkpoint()  # let run() come to its end

    async def finished(self) -> None:
        """Wait until the file is stored. Raises the error that ended it."""
        await self.ended()
        if self._error is not None:
            raise self._error

    async def available(self, position: int) -> int:
        """Wait for bytes beyond `position`; the number readable, `position` itself at the end.

        Raises the error that ended it.
        """
        while True:
            if self._error is not None:
                raise self._error
            if self._progress.readable > position or self._progress.phase is Phase.DONE:
                return max(self._progress.readable, position)
            await self._changed.wait()

    def reader(self, start: int, stop: int | None) -> "ArrivalStream":
        """A stream over the bytes as they arrive; close it."""
        self._users += 1
        return ArrivalStream(self, start, stop)

    @property
    def fd(self) -> int:
        """The descriptor to read from; there is one as soon as bytes are available."""
        assert self._fd is not None
        return self._fd

    def leave(self) -> None:
        """A user is done with the descriptors."""
        self._users -= 1
        if self._users == 0:
            if self._partial is not None:
                self._partial.close()
            elif self._fd is not None:
                disk.close(self._fd, self.readable)
            self._partial = self._fd = None

    def _attach(self, partial: Partial) -> None:
        self._partial, self._fd = partial, partial.fd

    def _advance(self, progress: Progress) -> None:
        self._progress = progress
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class ArrivalStream:
    """One reader of an arriving file, at its own position and pace."""

    def __init__(self, arrival: Arrival, start: int, stop: int | None) -> None:
        self._arrival: Arrival | None = arrival
        self._position = start
        self._stop = stop

    def __aiter__(self) -> "ArrivalStream":
        return self

    async def __anext__(self) -> bytes:
        arrival, position = self._arrival, self._position
        if arrival is None or (self._stop is not None and position >= self._stop):
            raise StopAsyncIteration
        available = await arrival.available(position)
        if self._stop is not None:
            available = min(available, self._stop)
        wanted = min(available - position, _PIECE)
        if wanted <= 0:
            raise StopAsyncIteration
        if arrival.readable - position <= _RECENT:
            chunk = _read(arrival.fd, wanted, position)
        else:
            chunk = await in_thread(_read, arrival.fd, wanted, position)
        if not chunk:  # it was to be there; an end would look like that of the file
            raise StoreError("read a file", "it ends early")
        self._position += len(chunk)
        return chunk

    def digest(self, start: int, stop: int) -> bytes:
        """The sha256 of bytes that were read already. Raises `StoreError`. For a thread."""
        digest = hashlib.sha256()
        while self._arrival is not None and start < stop:
            piece = _read(self._arrival.fd, min(READ_SIZE, stop - start), start)
            if not piece:
                break
            digest.update(piece)
            start += len(piece)
        return digest.digest()

    async def aclose(self) -> None:
        if self._arrival is not None:
            self._arrival.leave()
            self._arrival = None


def _read(fd: int, size: int, position: int) -> bytes:
    try:
        return os.pread(fd, size, position)
    except OSError as problem:
        raise StoreError("read a file", problem) from problem
