"""A file of an upstream that is not on disk: fetched, joined, or for a far range passed through."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import datetime
from functools import partial

import anyio

from proxyindex.errors import (
    ConnectionBroken,
    RangesIgnored,
    StoreError,
    UpstreamError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from proxyindex.files.coding import is_encoded
from proxyindex.files.content import ByteStream
from proxyindex.files.downloads import Downloads
from proxyindex.files.passing import Rescued, pass_through
from proxyindex.files.patience import in_time
from proxyindex.files.writing import content_length, content_range
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.model import File, UpstreamOrigin
from proxyindex.upstream.client import Reply
from proxyindex.upstream.index import Upstream
from proxyindex.upstream.retry import pause_before

# a range that begins further ahead than this of what has arrived is not waited for
_FAR = 2 * 1024**2
_LAST_SECONDS = 1.0  # for the end of a range of which all bytes have come


class Cold:
    """An upstream file to be fetched; nothing is asked of upstream before it must be."""

    modified: datetime | None = None

    def __init__(
        self, file: File, upstream: Upstream, downloads: Downloads, inquiry: Inquiry
    ) -> None:
        self._file = file
        self._upstream = upstream
        self._downloads = downloads
        self._inquiry = inquiry
        running = downloads.running(file)
        self.size = file.size if file.size is not None or running is None else running.size
        self.sha256 = file.sha256
        self.is_immutable = file.sha256 is not None

    async def measure(self, *, whole: bool) -> None:
        """Learn the size where the page did not tell: by starting the download if the `whole` file
        is wanted anyway, else with a ranged request for one byte."""
        if self.size is not None:
            return
        if whole:
            transfer, led = self._downloads.join(self._file, self._upstream)
            self._inquiry.outcome = Outcome.FETCHED if led else Outcome.JOINED
            with suppress(StoreError):  # then it is passed through, whatever its size
                await in_time(transfer.started, self._upstream, self._inquiry.remaining())
            self.size = transfer.size
        else:
            with self._in_time():
                self.size = await probe_size(self._file, self._upstream)

    async def stream(self, start: int = 0, stop: int | None = None) -> ByteStream:
        """The bytes as they arrive; a far range comes straight from upstream, unstored."""
        if stop is None:
            stop = self.size
        if self._is_far(start) and stop is not None and (relay := await self._relay(start, stop)):
            self._inquiry.outcome = Outcome.FETCHED
            return relay
        transfer, led = self._downloads.join(self._file, self._upstream)
        if self._inquiry.outcome is None:
            self._inquiry.outcome = Outcome.FETCHED if led else Outcome.JOINED
        shop = self._downloads.workshop
        until = None if (is_end := stop == self.size) else stop
        rest = partial(pass_through, self._file, self._upstream, shop, start, until)
        reader, name = transfer.reader(start, until), self._upstream.name
        stream = Rescued(reader, rest, start=start, stop=stop, is_end=is_end, upstream=name)
        try:
            await stream.started(transfer, self._upstream, self._inquiry.remaining())
            self._check_size(transfer.size)
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def _check_size(self, size: int | None) -> None:
        """The answer tells the size that was measured: a whole file of that size might be less."""
        if self.size is not None and size not in (None, self.size):
            problem = f"tells of {self.size} bytes, and of {size}"
            raise UpstreamInvalid(self._upstream.name, problem)

    def at_hand(self, limit: int) -> bytes | None:
        return None

    def descriptor(self) -> int | None:
        return None

    async def aclose(self) -> None:
        return None

    async def _relay(self, start: int, stop: int) -> "Relay | None":
        """The range from upstream; `None` where it does not do ranges, or too many last already."""
        relays, token = self._downloads.workshop.relays.of(self._upstream), object()
        try:
            relays.acquire_on_behalf_of_nowait(token)
        except anyio.WouldBlock:
            return None
        relay = None
        try:
            with self._in_time():
                relay = await open_range(self._file, self._upstream, start, stop, self.size)
        finally:
            if relay is None:
                relays.release_on_behalf_of(token)
        if relay is not None:
            relay.when_closed(partial(relays.release_on_behalf_of, token))
        return relay

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """An answer must begin within the client's patience."""
        try:
            with anyio.fail_after(self._inquiry.remaining()):
                yield
        except TimeoutError:
            raise UpstreamUnavailable(self._upstream.name, "did not answer in time") from None

    def _is_far(self, start: int) -> bool:
        running = self._downloads.running(self._file)
        return start > (running.readable if running else 0) + _FAR


class Relay:
    """The body of one ranged upstream answer, passed through; exactly `length` bytes."""

    def __init__(self, reply: Reply, stack: AsyncExitStack, length: int, upstream: str) -> None:
        self._chunks = reply.raw()
        self._stack = stack
        self._left = length
        self._upstream = upstream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._left <= 0:
            raise StopAsyncIteration
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise UpstreamUnavailable(self._upstream, "cut the range short") from None
        chunk = chunk[: self._left]
        self._left -= len(chunk)
        return chunk

    def when_closed(self, action: Callable[[], object]) -> None:
        """Do this as well, once."""
        self._stack.callback(action)

    async def aclose(self) -> None:
        try:
            if self._left <= 0:  # read to the end: only then is the connection kept
                with anyio.move_on_after(_LAST_SECONDS), suppress(UpstreamError):
                    async for _ in self._chunks:
                        break
        finally:
            await self._stack.aclose()


async def _part(stack: AsyncExitStack, file: File, upstream: Upstream, span: str) -> Reply:
    """The answer to a ranged request, which the stack closes."""
    assert isinstance(file.origin, UpstreamOrigin)
    url, headers = file.origin.url, {"Range": f"bytes={span}"}

    async def ask() -> Reply:
        return await stack.enter_async_context(
            upstream.download(url, filename=file.filename, headers=headers)
        )

    for attempt in range(upstream.retries):
        try:
            return await ask()
        except ConnectionBroken:  # all that were kept may have ended (RFC 9112, 9.3.1)
            continue
        except UpstreamUnavailable as problem:
            pause = pause_before(problem, attempt)
            if pause is None:
                raise
        await anyio.sleep(pause)
    return await ask()


async def open_range(
    file: File, upstream: Upstream, start: int, stop: int, size: int | None
) -> Relay | None:
    """Bytes `start` up to `stop` from upstream, or `None` where it does not do ranges.

    Asked explicitly, never as a suffix: some CDNs refuse those.
    """
    stack = AsyncExitStack()
    try:
        reply = await _part(stack, file, upstream, f"{start}-{stop - 1}")
        first, total = content_range(reply.headers.get("content-range", ""))
        fits = first == start and (size is None or total in (None, size))
        if reply.status == 206 and fits and not is_encoded(reply):
            return Relay(reply, stack, stop - start, upstream.name)
    except BaseException:
        await stack.aclose()
        raise
    await stack.aclose()
    return None


async def probe_size(file: File, upstream: Upstream) -> int | None:
    """The file's size by asking for its first byte: HEAD is refused by some object stores."""
    async with AsyncExitStack() as stack:
        reply = await _part(stack, file, upstream, "0-0")
        if reply.status == 206:
            return content_range(reply.headers.get("content-range", ""))[1]
        return content_length(reply) if reply.status == 200 else None


async def read_range(file: File, upstream: Upstream, start: int, stop: int) -> bytes:
    """Those bytes in memory. Raises `UpstreamError` (`RangesIgnored` of them) and `FileGone`."""
    relay = await open_range(file, upstream, start, stop, file.size)
    if relay is None:
        raise RangesIgnored(upstream.name)
    try:
        return b"".join([chunk async for chunk in relay])
    finally:
        await relay.aclose()
