"""What the file service hands to the web layer: a file's facts and a way to read any part of it."""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import anyio
import anyio.to_thread

from proxyindex import disk
from proxyindex.errors import FileUnreadable, ProxyindexError, StoreError

# A client that stalls holds one read: 1 MiB / 512 KiB / 256 KiB cost 1.3 / 0.7 / 0.4 MiB each.
# Measured for a stored file: 2,700 / 2,000 / 2,000 MB/s.
READ_SIZE = 512 * 1024


class ByteStream(Protocol):
    """Chunks of bytes; must be closed, iterated or not."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Content(Protocol):
    """An open file. `size` in bytes, `None` if only the end will tell; `sha256` in hex if known.

    `is_immutable`: the bytes of this name can never change, so clients may keep them for ever.
    """

    size: int | None
    sha256: str | None
    modified: datetime | None
    is_immutable: bool

    async def stream(self, start: int = 0, stop: int | None = None) -> ByteStream:
        """The bytes from `start` up to `stop`; awaits until they can flow.

        Raises the file's errors (`FileGone`, `UpstreamError`, `StoreError`) before the first byte.
        """
        ...

    def at_hand(self, limit: int) -> bytes | None:
        """All bytes, if they can be had without waiting and are at most `limit`."""
        ...

    def descriptor(self) -> int | None:
        """A descriptor of the whole file, to be closed by the caller; `None` if there is none."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Own:
    """What tells one of our own files from a stored one: its name, and whose threads read it."""

    filename: str
    readers: anyio.CapacityLimiter


class Stored:
    """A file on disk, read from its open descriptor, so that eviction does not disturb it."""

    def __init__(
        self,
        fd: int,
        size: int,
        *,
        sha256: str | None,
        modified: datetime | None,
        is_immutable: bool = True,
        own: Own | None = None,
    ) -> None:
        self._fd: int | None = fd
        self._own = own
        self.size: int | None = size
        self.sha256 = sha256
        self.modified = modified
        self.is_immutable = is_immutable

    async def stream(self, start: int = 0, stop: int | None = None) -> ByteStream:
        """The bytes, in reads of `READ_SIZE`."""
        end = self.size or 0
        stop = end if stop is None else min(stop, end)
        return DescriptorStream(self._fd, start, stop, self._own)

    def at_hand(self, limit: int) -> bytes | None:
        """From the page cache. Own files may not be there, and may lie on a slow disk, on which
        nobody waits: it must be known that they are."""
        if self._fd is None or self.size is None or self.size > limit:
            return None
        are_cached = disk.are_cached(self._fd, 0, self.size)
        if are_cached is False or (are_cached is None and self._own):
            return None
        try:
            data = os.pread(self._fd, self.size, 0)
        except OSError:  # the stream will tell
            return None
        return data if len(data) == self.size else None

    def descriptor(self) -> int | None:
        try:
            return None if self._fd is None else os.dup(self._fd)
        except OSError:  # too many are open
            return None

    async def aclose(self) -> None:
        if self._fd is not None:
            disk.close(self._fd, self.size or 0)
            self._fd = None


class DescriptorStream:
    """Part of an open descriptor that somebody else closes."""

    def __init__(self, fd: int | None, start: int, stop: int, own: Own | None) -> None:
        self._fd = fd
        self._own = own
        self._position = start
        self._stop = stop

    def __aiter__(self) -> "DescriptorStream":
        return self

    async def __anext__(self) -> bytes:
        wanted = min(READ_SIZE, self._stop - self._position)
        if self._fd is None or wanted <= 0:
            raise StopAsyncIteration
        threads = self._own.readers if self._own else None
        try:
            chunk = await anyio.to_thread.run_sync(
                os.pread, self._fd, wanted, self._position, limiter=threads
            )
        except OSError as problem:
            raise self._unread(problem.strerror or str(problem)) from problem
        if not chunk:  # the client sees a short body and refuses it
            raise self._unread("it was cut short while it was being sent")
        self._position += len(chunk)
        return chunk

    def _unread(self, problem: str) -> ProxyindexError:
        if self._own is None:
            return StoreError("read a file", problem)
        return FileUnreadable(self._own.filename, f"cannot be read: {problem}")

    async def aclose(self) -> None:
        return None


class InMemory:
    """Small bytes that are already here: core metadata, signatures."""

    modified: datetime | None = None

    def __init__(self, data: bytes, *, is_immutable: bool = True) -> None:
        self._data = data
        self.size: int | None = len(data)
        self.sha256: str | None = hashlib.sha256(data).hexdigest()
        self.is_immutable = is_immutable

    async def stream(self, start: int = 0, stop: int | None = None) -> ByteStream:
        return _Once(self._data[start:stop])

    def at_hand(self, limit: int) -> bytes | None:
        return self._data if len(self._data) <= limit else None

    def descriptor(self) -> int | None:
        return None

    async def aclose(self) -> None:
        return None


class _Once:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._data:
            yield self._data

    async def aclose(self) -> None:
        return None
