"""Upstream's bytes of one file as a stream that goes on when upstream breaks."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import anyio.to_thread

from proxyindex.errors import FileGone, UpstreamInvalid, UpstreamUnavailable
from proxyindex.files.coding import identity
from proxyindex.files.workshop import Workshop
from proxyindex.files.writing import OtherFile, Writing
from proxyindex.model import File, UpstreamOrigin
from proxyindex.upstream.client import Reply
from proxyindex.upstream.index import Upstream
from proxyindex.upstream.retry import pause_before

log = logging.getLogger(__name__)

MAX_RESUMES = 10
_GONE_PAUSES = (0.5, 1.5)  # some indexes list a file a second or two before it can be had


class Fetching:
    """One file being asked of its upstream; `writing` judges and keeps what comes.

    Whoever wants the bytes iterates `pieces()`, checks `writing.mismatch()` when it has ended, and
    lets nobody have the end before.
    """

    def __init__(self, file: File, upstream: Upstream, shop: Workshop) -> None:
        assert isinstance(file.origin, UpstreamOrigin)
        self.writing = Writing(file)
        self._file = file
        self._url = file.origin.url
        self._upstream = upstream
        self._shop = shop
        self._is_told = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The new bytes, each already with `writing`; an empty piece when a head has arrived.

        Raises `FileGone`, `UpstreamUnavailable` when resuming was in vain, `UpstreamInvalid`,
        `StoreError`. To be closed (`contextlib.aclosing`).
        """
        failures = gone = 0
        while not self.writing.is_complete:
            try:
                async with self._upstream.download(
                    self._url, filename=self._file.filename, headers=self.writing.headers()
                ) as reply:
                    async for piece in self._body(reply):
                        yield piece
                return
            except FileGone:
                if gone == len(_GONE_PAUSES) or self.writing.written:
                    raise
                await anyio.sleep(_GONE_PAUSES[gone])
                gone += 1
            except UpstreamUnavailable as problem:
                failures += 1
                began = self.writing.written > 0
                pause = pause_before(problem, failures - 1)
                if failures > (MAX_RESUMES if began else self._upstream.retries) or pause is None:
                    if isinstance(problem.__cause__, OtherFile):  # no outage: page or file lies
                        raise UpstreamInvalid(self._upstream.name, problem.problem) from problem
                    raise
                got = self.writing.written
                log.info("%s; resuming %s at %d", problem, self._file.filename, got)
                self._shop.events.transfer(self._upstream.name, "resumed", 0)
                await anyio.sleep(pause)

    def check_size(self, size: int | None) -> None:
        """Raises `UpstreamInvalid` for more than any file may have."""
        if size is not None and size > self._shop.max_file_size:
            raise UpstreamInvalid(self._upstream.name, f"offers a file of {size} bytes: too large")

    async def _body(self, reply: Reply) -> AsyncIterator[bytes]:
        writing = self.writing
        try:
            size = writing.accept(reply)
        except ValueError as problem:  # this answer cannot be joined to what we have
            if isinstance(problem, OtherFile) and not self._is_told:
                self._is_told = True  # it may be asked again
                self._shop.events.alarm("digest-mismatch")
            raise UpstreamUnavailable(self._upstream.name, str(problem)) from problem
        self.check_size(size)
        yield b""
        most = self._shop.max_file_size if size is None else size
        body = identity(
            reply,
            self._file,
            upstream=self._upstream.name,
            # if the cache cannot store the file, spool to the system's folder for temporary files
            spool=self._shop.spool if writing.has_begun else None,
            limit=self._shop.max_file_size,
        )
        async for chunk in body:
            try:
                new = await self._shop.writers.run(writing.add, chunk)
            except ValueError as problem:
                raise UpstreamInvalid(self._upstream.name, str(problem)) from problem
            if writing.written > most:
                raise UpstreamInvalid(self._upstream.name, "sent more bytes than announced")
            if new:
                yield new
        if writing.is_behind or (size is not None and writing.written < size):
            raise UpstreamUnavailable(self._upstream.name, "cut the file short")
