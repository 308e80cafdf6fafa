"""One running download: a single writer to disk among all processes, any number of readers.

The disk is the buffer. The writer tells how many bytes may be read and always withholds the end
until the digest has matched, so a wrong file is never delivered whole; readers go at their own
pace from a descriptor of their own. The process that holds the key's lock writes; the others
follow the growing file, and take over when the writer dies.
"""

import logging
import os
from contextlib import aclosing

import anyio
import anyio.to_thread

from proxyindex.errors import (
    DigestMismatch,
    FileGone,
    ProxyindexError,
    StoreError,
    UpstreamError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from proxyindex.files.arrival import Arrival
from proxyindex.files.fetching import Fetching
from proxyindex.files.workshop import Workshop
from proxyindex.model import File
from proxyindex.store.facts import Fact
from proxyindex.store.partials import Partial, Phase, Progress
from proxyindex.threads import in_thread
from proxyindex.upstream.index import Upstream

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.01


class _Lost(StoreError):
    """A file that was followed will not come to its end; the disk is not to blame."""


class Transfer(Arrival):
    """The arrival of one upstream file. `run()` it in the application's task group, once."""

    def __init__(self, file: File, upstream: Upstream, workshop: Workshop) -> None:
        super().__init__(file.size)
        self.file = file
        self._upstream = upstream
        self._shop = workshop
        self._listed = workshop.page_state(file)
        self._fetching = Fetching(file, upstream, workshop)
        self._writing = self._fetching.writing

    async def run(self) -> None:
        """Write, or follow another process that writes, until the file is stored or lost."""
        name = f"file {self.file.key}"
        try:
            while self._progress.phase is not Phase.DONE:
                if not self._shop.locks.try_acquire(name):
                    await self._follow(name)
                    continue
                # until the lock is released: others must not take up what goes away here
                try:
                    await self._lead()
                except ProxyindexError as problem:
                    self._fail(problem)
                    return
                except BaseException:
                    self._stop()
                    raise
                finally:
                    self._shop.locks.release(name)
        except ProxyindexError as problem:
            self._fail(problem)
        except BaseException:
            self._stop()
            raise
        finally:
            self.leave()

    async def _follow(self, lock: str) -> None:
        """Apply what the writing process publishes, until it is over or the writer is gone."""
        if self._partial is None:
            partial = await in_thread(self._shop.partials.follow, self.file.key)
            if partial is None:  # not begun, or adopted this moment
                if not await self._use_stored():
                    await anyio.sleep(_POLL_SECONDS)
                return
            self._attach(partial)
        assert self._partial is not None
        while True:
            self._apply(self._partial.progress())
            if self._progress.phase is Phase.DONE:
                return
            if self._shop.locks.try_acquire(lock):
                self._shop.locks.release(lock)
                return
            await anyio.sleep(_POLL_SECONDS)

    def _apply(self, progress: Progress | None) -> None:
        if progress is None or progress == self._progress:
            return
        if progress.phase is Phase.ABSENT:
            raise FileGone(self.file.filename)
        if progress.phase is Phase.FAILED:
            raise UpstreamUnavailable(self._upstream.name, "broke the file off")
        if progress.phase is Phase.INVALID:
            raise UpstreamInvalid(self._upstream.name, "sent what is not the file")
        if progress.phase is Phase.REFUSED:
            raise StoreError("keep a file", "the process that fetched it was refused")
        self._advance(progress)

    async def _lead(self) -> None:
        if self._partial is not None:  # we followed a writer that is gone
            self._apply(self._partial.progress())
        elif self.file.sha256 is None:  # at once: nobody may take what is left for our beginning
            await in_thread(self._shop.partials.remove, self.file.key)
        if self._progress.phase is Phase.DONE or await self._use_stored():
            return
        if self._partial is None:
            # before room is made for what upstream only claims
            self._fetching.check_size(self.file.size)
            await self._make_room(self.file.size or 0)
            self._attach(await in_thread(self._begun))
        elif not self._may_continue():
            raise _Lost("continue a file", "the process that fetched it is gone")
        await self._fetch()

    def _begun(self) -> Partial:
        partial = self._shop.partials.create(self.file.key)
        try:
            self._writing.begin(partial)
        except BaseException:
            partial.discard()  # what cannot be read is of no use to the next one, either
            partial.close()
            raise
        return partial

    def _may_continue(self) -> bool:
        """Whether a dead writer's bytes can be proven by the digest in the end."""
        assert self._partial is not None
        return self.file.sha256 is not None and self._partial.is_in_place()

    async def _use_stored(self) -> bool:
        """Whether another process has stored the file meanwhile; then readers get that."""
        blob = await self._shop.provers.run(self._shop.stored, self.file)
        if blob is None:
            return False
        if self._fd is None:
            self._fd = blob.fd
        else:
            is_same = os.path.samestat(os.fstat(self._fd), os.fstat(blob.fd))
            blob.close()  # readers go on with what they have open
            if not is_same:
                raise _Lost("follow a file", "another one was stored")
        self._advance(Progress(Phase.DONE, blob.size, blob.size))
        return True

    async def _fetch(self) -> None:
        partial = self._partial
        assert partial is not None
        if not self._writing.has_begun:  # a dead writer's, which we followed
            await in_thread(self._writing.begin, partial)
        async with aclosing(self._fetching.pieces()) as pieces:
            async for piece in pieces:
                if not piece and self.file.size is None and self._writing.size:
                    # only now do we know how much it will be
                    await self._make_room(self._writing.size)
                self._publish(partial, len(piece))
        await self._settle(partial)

    async def _make_room(self, size: int) -> None:
        if not self._shop.blobs.has_room(size):
            await self._shop.worker.run(self._shop.blobs.make_room, size)

    def _publish(self, partial: Partial, newest: int) -> None:
        """Let readers have what may be read: never the end before the digest has matched."""
        size, written = self._writing.size, self._writing.written
        # of unknown size the newest bytes may be the end, and a new head tells nothing of the old
        readable = min(written, size - 1) if size else written - (newest or written)
        progress = Progress(Phase.FLOWING, max(readable, self._progress.readable, 0), size)
        partial.publish(progress)
        self._advance(progress)

    async def _settle(self, partial: Partial) -> None:
        """Verify, adopt, tell everybody."""
        sha256, size = self._writing.sha256(), self._writing.written
        if (mismatch := self._writing.mismatch()) is not None:
            if self._writing.took_over:  # it need not be upstream's fault
                raise StoreError("continue a file", "what was kept of it does not fit")
            expected, actual = mismatch
            raise DigestMismatch(
                self._upstream.name, self.file.filename, expected=expected, actual=actual
            )
        try:
            await in_thread(self._adopt, partial, sha256, size)
        except StoreError as problem:  # the bytes are right all the same, for those who have them
            self._shop.trouble.refused(problem)
            partial.discard()
        else:
            self._shop.events.transfer(self._upstream.name, "adopted", size)
            self._shop.worker.submit(self._shop.blobs.trim)
        done = Progress(Phase.DONE, size, size)
        partial.publish(done)
        partial.forget_state()
        self._advance(done)

    def _adopt(self, partial: Partial, sha256: str, size: int) -> None:
        self._shop.blobs.adopt(partial, sha256)
        # a page that has the digest is right as it is, and stays remembered for those who come next
        is_told = self.file.sha256 == sha256
        told = None if self.file.sha256 else self.file.best_digest
        fact = Fact(sha256=sha256, size=size, told=told)
        self._shop.learn(self.file, fact, may_wait=is_told)
        # renewed since, it may tell another by now, and would be remembered as it is
        if is_told and self._shop.page_state(self.file) != self._listed:
            self._shop.outdate_page(self.file)

    def _stop(self) -> None:
        """Leave what the digest can prove to those who follow: they take over, as after a kill."""
        problem = UpstreamUnavailable(self._upstream.name, "was not waited for: stopping")
        if self.file.sha256 is None:
            self._fail(problem)
        else:
            self._error = problem
            self._advance(self._progress)

    def _fail(self, problem: ProxyindexError) -> None:
        self._error = problem
        if self._partial is not None and self._writing.has_begun:
            self._partial.publish(Progress(_last_phase(problem)))
            # what the digest can prove later is kept for the next request to resume
            if isinstance(problem, UpstreamUnavailable) and self.file.sha256:
                self._partial.forget_state()
            else:
                self._partial.discard()
        if isinstance(problem, DigestMismatch):
            self._shop.events.alarm("digest-mismatch")
            log.error("%s", problem)
        elif isinstance(problem, StoreError) and not isinstance(problem, _Lost):
            self._shop.trouble.refused(problem)
        elif isinstance(problem, UpstreamError | _Lost):
            log.warning("%s: %s", self.file.filename, problem)
        self._shop.events.transfer(
            self._upstream.name,
            "mismatch" if isinstance(problem, DigestMismatch) else "failed",
            self._writing.written,
        )
        self._advance(self._progress)


def _last_phase(problem: ProxyindexError) -> Phase:
    """What following processes are told."""
    match problem:
        case FileGone():
            return Phase.ABSENT
        case StoreError():
            return Phase.REFUSED
        case UpstreamInvalid() | DigestMismatch():
            return Phase.INVALID
        case _:
            return Phase.FAILED
