"""Upstream's bytes of one file as a stream that goes on when upstream breaks."""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import anyio.to_thread

from proxyindex.errors import (
    FileGone,
    StoreError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamUnavailable,
)
from proxyindex.files.coding import identity
from proxyindex.files.workshop import Workshop
from proxyindex.files.writing import KeptTooMuch, OtherFile, Writing
from proxyindex.model import File, UpstreamOrigin
from proxyindex.upstream.client import Reply
from proxyindex.upstream.index import Upstream
from proxyindex.upstream.retry import LONGEST_PAUSE, pause_before

log = logging.getLogger(__name__)

MAX_RESUMES = 10  # in a row, which together did not bring a megabyte
_PROGRESS = 1024**2
_LONGEST_PAUSE = 10  # seconds, once bytes have come; pip gives up after 15 without any
_MOST_CODED = 64 * 1024  # bytes by which a body that is coded unasked may be longer than the file
_HUNG_SECONDS = 1.0  # without a byte
_DENIED_PAUSES = (0.5, 1.5)  # some indexes list a file a second or two before it can be had


class Fetching:
    """One file being asked of its upstream; `writing` judges and keeps what comes.

    Whoever wants the bytes iterates `pieces()`, checks `writing.mismatch()` when it has ended, and
    lets nobody have the end before.
    """

    def __init__(
        self, file: File, upstream: Upstream, shop: Workshop, *, patience: float | None = None
    ) -> None:
        """`patience`: seconds for which a place among the downloads is waited for."""
        assert isinstance(file.origin, UpstreamOrigin)
        self.writing = Writing(file)
        self._file = file
        self._url = file.origin.url
        self._upstream = upstream
        self._shop = shop
        self._place = shop.slots.place(upstream, patience)
        self._is_told = False
        self._denials = 0
        self._failures = 0
        self._reached = 0  # bytes that there were when failures and denials began to be counted
        self._doubted = -1  # bytes that there were when an end was not believed

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The new bytes, each already with `writing`; an empty piece when a head has arrived.

        Raises `FileGone`, `UpstreamUnavailable` when resuming was in vain, `UpstreamInvalid`,
        `StoreError`. To be closed (`contextlib.aclosing`).
        """
        try:
            while not self.writing.is_complete:
                await self._place.take()
                written, since = self.writing.written, time.monotonic()
                try:
                    async with self._upstream.download(
                        self._url, filename=self._file.filename, headers=self.writing.headers()
                    ) as reply:
                        async for piece in self._body(reply):
                            yield piece
                    return
                except (FileGone, UpstreamRefused) as problem:
                    await self._bear(problem)
                except UpstreamUnavailable as problem:
                    if self.writing.written == written and time.monotonic() - since > _HUNG_SECONDS:
                        self._place.leave()  # who hangs takes his next turn behind all others
                    await self._pause(problem)
        finally:
            self._place.leave()

    async def _bear(self, problem: FileGone | UpstreamRefused) -> None:
        """Wait before upstream is asked again for what it denies, or raise the problem."""
        # some servers of a crowd lack what others have begun to send
        is_moody = isinstance(problem, FileGone) or self.writing.written > 0
        if not is_moody or self._denials == len(_DENIED_PAUSES):
            raise problem
        await anyio.sleep(_DENIED_PAUSES[self._denials])
        self._denials += 1

    async def _pause(self, problem: UpstreamUnavailable) -> None:
        """Wait before upstream is asked again, or raise the problem: enough was tried."""
        written = self.writing.written
        if written - self._reached >= _PROGRESS:
            self._failures = self._denials = 0
            self._reached = written
        self._failures += 1
        most = MAX_RESUMES if written else self._upstream.retries
        longest = _LONGEST_PAUSE if written else LONGEST_PAUSE
        pause = pause_before(problem, self._failures - 1, longest=longest)
        if self._failures > most or pause is None:
            if isinstance(problem.__cause__, OtherFile):  # no outage: page or file lies
                raise UpstreamInvalid(self._upstream.name, problem.problem) from problem
            raise problem
        log.info("%s; resuming %s at %d", problem, self._file.filename, written)
        self._shop.events.transfer(self._upstream.name, "resumed", 0)
        await anyio.sleep(pause)

    def check_size(self, size: int | None) -> None:
        """Raises `UpstreamInvalid` for more than any file may have."""
        if size is not None and size > self._shop.max_file_size:
            raise UpstreamInvalid(self._upstream.name, f"offers a file of {size} bytes: too large")

    def _accepted(self, reply: Reply) -> int | None:
        """The total size, if the answer can be joined to what we have."""
        try:
            return self.writing.accept(reply)
        except ValueError as problem:
            if isinstance(problem, OtherFile) and not self._is_told:
                self._is_told = True  # it may be asked again
                self._shop.events.alarm("digest-mismatch")
            if isinstance(problem, KeptTooMuch):
                self._check_kept()
            raise UpstreamUnavailable(self._upstream.name, str(problem)) from problem

    def _check_kept(self) -> None:
        """The file ends before what we have of it. Raises `StoreError` if that is of a dead writer:
        then it need not be upstream's fault, and would be in the way of each that follows."""
        if self.writing.took_over:
            raise StoreError("continue a file", "what was kept of it does not fit")

    async def _no_page(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body, unless it is a page for people, as portals send to have them log in: without a
        digest it would stay as the first bytes."""
        is_first = not self.writing.written  # and not the rest of what broke off
        async for chunk in body:
            if is_first and chunk.lstrip().startswith(b"<"):
                raise UpstreamInvalid(self._upstream.name, "sent a page instead of a file")
            is_first = False
            yield chunk

    async def _body(self, reply: Reply) -> AsyncIterator[bytes]:
        writing, size = self.writing, self._accepted(reply)
        self.check_size(size)
        yield b""
        most = self._shop.max_file_size if size is None else size
        body = identity(
            reply,
            self._file,
            upstream=self._upstream.name,
            # if the cache cannot store the file, spool to the system's folder for temporary files
            spool=self._shop.spool if writing.has_begun else None,
            limit=self._shop.max_file_size if size is None else size + size // 64 + _MOST_CODED,
        )
        if self._file.best_digest is None and _is_page(reply):
            body = self._no_page(body)
        async for chunk in body:
            try:
                new = await self._shop.writers.run(writing.add, chunk)
            except ValueError as problem:
                raise UpstreamInvalid(self._upstream.name, str(problem)) from problem
            if writing.written > most:
                raise UpstreamInvalid(self._upstream.name, "sent more bytes than announced")
            if new:
                yield new
        await self._check_end(reply)

    async def _check_end(self, reply: Reply) -> None:
        """Raises `UpstreamUnavailable` where the file goes on behind what came."""
        writing = self.writing
        is_cut = writing.size is not None and writing.written < writing.size
        if writing.is_behind and not is_cut:
            self._check_kept()
        if writing.is_behind or is_cut:
            raise UpstreamUnavailable(self._upstream.name, "cut the file short")
        if writing.size is None and not reply.tells_end:
            await self._doubt_end()

    async def _doubt_end(self) -> None:
        """Believe an end that nothing told where digest or format prove it, or else the second
        time: what is cut is mostly cut somewhere else then."""
        proof = await self._shop.provers.run(self.writing.proof)
        is_first = self._doubted != self.writing.written
        self._doubted = self.writing.written
        if not proof and is_first:
            raise UpstreamUnavailable(self._upstream.name, "may have cut the file short")
        if proof is False and self._file.best_digest is None:  # of digests others judge
            raise UpstreamInvalid(self._upstream.name, "sent an archive that is not whole")


def _is_page(reply: Reply) -> bool:
    """Whether it says so, as frameworks let everything say that tells nothing else."""
    return reply.headers.get("content-type", "").strip().lower().startswith("text/html")
