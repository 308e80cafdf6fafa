"""Files where the disk refuses (full, read-only, gone): from upstream straight to the client.

Nothing is shared or kept then, each client has an upstream request of its own, but the promise
stands: the end is withheld until the digest has matched.
"""

import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio

from proxyindex.errors import DigestMismatch, StoreError, UpstreamInvalid, UpstreamUnavailable
from proxyindex.files.arrival import Arrival, ArrivalStream
from proxyindex.files.fetching import Fetching
from proxyindex.files.patience import in_time
from proxyindex.files.workshop import Workshop
from proxyindex.model import File
from proxyindex.threads import in_thread
from proxyindex.upstream.index import Upstream

log = logging.getLogger(__name__)

# clients that do not read may have all places; pip gives up after 15 without a byte
_PLACE_SECONDS = 10.0


async def pass_through(
    file: File, upstream: Upstream, shop: Workshop, start: int, stop: int | None
) -> AsyncGenerator[bytes, None]:
    """The bytes from `start` up to `stop` (the end if `None`), fetched from the first one on, for
    only all of them have a digest.

    Raises what `Fetching.pieces` raises, and `DigestMismatch` instead of the last piece.
    """
    fetching = Fetching(file, upstream, shop, patience=_PLACE_SECONDS)
    fetching.check_size(file.size)
    held, position = b"", 0
    async with aclosing(fetching.pieces()) as pieces:
        async for piece in pieces:
            wanted = piece[max(0, start - position) : None if stop is None else stop - position]
            position += len(piece)
            if wanted:
                if held:
                    yield held
                held = wanted
            if stop is not None and _is_before_the_end(stop, position, fetching.writing.size):
                break  # no digest speaks of such a range alone
        else:
            _check(fetching, file, upstream, shop)
    if held:
        yield held


def _is_before_the_end(stop: int, position: int, size: int | None) -> bool:
    """Whether what has arrived up to `position` proves that the file goes on behind `stop`."""
    return position > stop or (position == stop and size is not None and stop < size)


def _check(fetching: Fetching, file: File, upstream: Upstream, shop: Workshop) -> None:
    if (mismatch := fetching.writing.mismatch()) is None:
        return
    expected, actual = mismatch
    problem = DigestMismatch(upstream.name, file.filename, expected=expected, actual=actual)
    shop.events.alarm("digest-mismatch")
    log.error("%s", problem)
    raise problem


class Rescued:
    """The stream of an arriving file that goes on from upstream when the disk fails under it.

    `rest()` gives the same bytes from upstream, from the first one on. Where `stop` is the end of
    the file both are to be open-ended, for that may be elsewhere than upstream has told.
    """

    def __init__(
        self,
        arriving: ArrivalStream,
        rest: Callable[[], AsyncGenerator[bytes, None]],
        *,
        start: int,
        stop: int | None,
        is_end: bool,
        upstream: str,
    ) -> None:
        self._stream: ArrivalStream | AsyncGenerator[bytes, None] = arriving
        self._rest = rest
        self._start = self._position = start
        self._stop = stop
        self._is_end = is_end
        self._upstream = upstream
        self._first = b""

    async def started(self, transfer: Arrival, upstream: Upstream, seconds: float) -> None:
        """Wait until bytes can flow. Raises what keeps them from it, but for a `StoreError`."""
        try:
            await in_time(transfer.started, upstream, seconds)
        except StoreError:
            assert isinstance(self._stream, ArrivalStream)
            try:
                with anyio.fail_after(seconds):
                    await self._switch(self._stream)
            except TimeoutError:
                raise UpstreamUnavailable(upstream.name, "did not answer in time") from None

    def __aiter__(self) -> "Rescued":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = self._first or await anext(self._stream)
        except StoreError:
            if not isinstance(self._stream, ArrivalStream):
                raise
            await self._switch(self._stream)
            return await anext(self)
        except StopAsyncIteration:
            if self._stop is not None and self._position < self._stop:
                raise UpstreamInvalid(self._upstream, "sent fewer bytes than it told of") from None
            raise
        self._first = b""
        self._position += len(chunk)
        if self._is_end and self._stop is not None and self._position >= self._stop:
            await self._check_end(self._position - self._stop)
        return chunk

    async def _check_end(self, excess: int) -> None:
        """Before the last bytes are given, which would make the file whole for its reader."""
        if not excess:
            try:
                await anext(self._stream)
            except StopAsyncIteration:
                return
        raise UpstreamInvalid(self._upstream, "sent more bytes than it told of")

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _switch(self, arriving: ArrivalStream) -> None:
        """Go on from upstream, if that sends what was sent so far: never two versions in one."""
        try:
            sent = await in_thread(arriving.digest, self._start, self._position)
        finally:
            await arriving.aclose()
        self._stream, again, left = self._rest(), hashlib.sha256(), self._position - self._start
        while True:
            chunk = await anext(self._stream, b"")
            again.update(chunk[:left])
            self._first, left = chunk[left:], max(0, left - len(chunk))
            if self._first or not chunk:
                break
        if again.digest() != sent:
            raise UpstreamInvalid(self._upstream, "changed the file while it was being fetched")
