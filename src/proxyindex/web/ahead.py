"""What a client will most likely ask for next, asked of upstream while it still reads.

pip asks for one thing at a time: a page, then the metadata of its newest wheel, then the pages of
what that requires, and in the end for the wheels. With an upstream 50 ms away most of a cold
install is waiting; here the next answers are on their way meanwhile. Clients that ask for many
things at once, as uv does, are left alone: what they need they have asked for. See decision 37.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from packaging.utils import NormalizedName

from proxyindex.archives.wheel import ANYTHING, MAX_METADATA, Wanted, required_projects
from proxyindex.errors import ProxyindexError
from proxyindex.events import Events
from proxyindex.files.service import FileService
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.memo import Memo
from proxyindex.model import File, ProjectPage, UpstreamOrigin
from proxyindex.repository.base import Repository
from proxyindex.threads import in_thread
from proxyindex.web.machine import Machine, likely_wheel, machine_of

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 8  # requests to upstreams for all clients together
_MOST_LOOKS = 32  # of clients, for each of which something is looked ahead
_MOST_REQUIRED = 32  # projects for one metadata
_MOST_KNOWN = 1000  # pages and metadata that were brought and not asked for yet
_MOST_CLIENTS, _MOST_WANTED = 100, 1000  # wheels of which each has the metadata, and no bytes yet
_LARGEST_WHEEL = 8 * 1024**2  # bytes
_WANTED_SECONDS = 300.0  # pip may take that long to find versions that fit together
_SECONDS = 10.0  # for all that one answer leads to
# in which a client that is quicker than pip, which reads for 20 ms, has asked by itself: what it
# asks for goes first (measured: 1.3 ms to the first byte of a file)
_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Reader:
    """For whose sake: which projects may be fetched for it, whether nobody else is asking for
    anything now, the servers it came through (`Inquiry.via`), its address and User-Agent, and what
    the latter tells of its machine, which is found out when it is needed."""

    may_fetch: Callable[[NormalizedName], bool]
    is_alone: Callable[[], bool]
    via: str
    who: tuple[str, str]
    machine: Machine | None = None

    def required(self, metadata: bytes, extras: Collection[str]) -> dict[NormalizedName, Wanted]:
        """What is required on its machine. For a thread."""
        if (machine := self.machine) is None:
            return required_projects(metadata)
        return required_projects(metadata, lambda marker: machine.holds(marker, extras))


class LookAhead:
    """Of one index, by its own rules. Nothing that it meets is anybody's answer."""

    def __init__(
        self, repository: Repository, files: FileService, tasks: TaskGroup, events: Events
    ) -> None:
        self._repository = repository
        self._files = files
        self._tasks = tasks
        self._events = events
        self._looks = 0
        self._places = anyio.CapacityLimiter(_MOST_AT_ONCE)
        # by project, or by name of the wheel: what was wanted of it
        self._brought: Memo[str, Wanted] = Memo(_MOST_KNOWN)
        # by client and name of the wheel: the wheel, and when its metadata was answered
        self._wanted: Memo[tuple[str, str], dict[str, tuple[File, float]]] = Memo(_MOST_CLIENTS)

    def after_page(self, page: ProjectPage, outcome: Outcome | None, reader: Reader) -> None:
        """A page was answered. If it was fetched for that, or brought by us, its metadata comes
        next, then the pages of what that requires, and their metadata."""
        if wanted := self._new(page.name, outcome):
            self._start(page.name, partial(self._from_page, page, wanted), reader)

    def after_metadata(
        self, wheel: File, data: bytes, outcome: Outcome | None, reader: Reader
    ) -> None:
        """Metadata was answered. If it was fetched for that, or brought by us, what it requires
        comes next; the wheel only if this client installs something in the end."""
        wanted = self._new(wheel.filename, outcome)
        if wanted and isinstance(wheel.origin, UpstreamOrigin):
            self._want(wheel, reader)
            project = NormalizedName(wheel.origin.project)
            self._start(project, partial(self._from_metadata, data, wanted), reader)

    def after_file(self, file: File, reader: Reader) -> None:
        """A file was answered. If it is a wheel whose metadata the same client had, it installs,
        and the others come next."""
        wanted = self._wanted.get(reader.who)
        if wanted and wanted.pop(file.filename, None) and isinstance(file.origin, UpstreamOrigin):
            project = NormalizedName(file.origin.project)
            self._start(project, self._from_wheel, reader)

    def _want(self, wheel: File, reader: Reader) -> None:
        """If it is small: a large one takes long enough, and from what is wanted now."""
        if wheel.size is not None and wheel.size <= _LARGEST_WHEEL:
            wanted = self._wanted.get(reader.who)
            if wanted is None or len(wanted) >= _MOST_WANTED:
                self._wanted.put(reader.who, wanted := {})
            wanted[wheel.filename] = wheel, time.monotonic()

    def _new(self, key: str, outcome: Outcome | None) -> Wanted | None:
        """What is wanted of what was fetched for that, or brought by us; else `None`."""
        wanted = self._brought.get(key)
        self._brought.pop(key)
        if wanted is None and outcome in (Outcome.FETCHED, Outcome.JOINED):
            return ANYTHING
        return wanted

    def _start(
        self, project: NormalizedName, look: Callable[[Reader], Awaitable[None]], reader: Reader
    ) -> None:
        if self._looks < _MOST_LOOKS and reader.is_alone() and reader.may_fetch(project):
            self._looks += 1
            self._events.flight("ahead", "led")
            self._tasks.start_soon(self._look, look, reader)

    async def _look(self, look: Callable[[Reader], Awaitable[None]], reader: Reader) -> None:
        try:
            with anyio.move_on_after(_SECONDS):
                await anyio.sleep(_PAUSE)
                machine = await in_thread(machine_of, reader.who[1])
                await look(replace(reader, machine=machine))
        except Exception:  # let loose, it would end every download, too
            log.exception("looking ahead failed")
        finally:
            self._looks -= 1

    async def _from_page(self, page: ProjectPage, wanted: Wanted, reader: Reader) -> None:
        async with self._places:
            data = await self._metadata(page, wanted, reader)
        if data is not None:
            await self._from_metadata(data, wanted, reader)

    async def _from_metadata(self, data: bytes, wanted: Wanted, reader: Reader) -> None:
        required = await in_thread(reader.required, data, wanted.extras)
        async with anyio.create_task_group() as tasks:
            for name, its in islice(required.items(), _MOST_REQUIRED):
                tasks.start_soon(self._required, name, its, reader)

    async def _required(
        self, name: NormalizedName, wanted: Wanted, reader: Reader, *, is_last: bool = False
    ) -> None:
        """Page and metadata of a project that is required. What is held already leads nowhere, but
        for extras: a client that had its metadata before does not ask for it again."""
        async with self._places:
            page, is_new = await self._page(name, reader)
            if page is None or not (is_new or wanted.extras):
                return
            if is_new:
                self._brought.put(name, wanted)
            data = await self._metadata(page, wanted, reader)
        if data is not None and not is_new and not is_last:
            required = await in_thread(reader.required, data, wanted.extras)
            for further, its in islice(required.items(), _MOST_REQUIRED):
                await self._required(further, its, reader, is_last=True)

    async def _page(self, name: NormalizedName, reader: Reader) -> tuple[ProjectPage | None, bool]:
        """The page, and whether it was fetched for this."""
        if not reader.is_alone() or not reader.may_fetch(name):
            return None, False
        inquiry = _inquiry(reader)
        try:
            page = await self._repository.project(name, inquiry)
        except ProxyindexError as problem:
            log.debug("looking ahead for %s: %s", name, problem)
            return None, False
        if inquiry.unsure:  # what is stored is all that its client may have of it
            return None, False
        return page, inquiry.outcome is Outcome.FETCHED

    async def _metadata(self, page: ProjectPage, wanted: Wanted, reader: Reader) -> bytes | None:
        """That of the wheel that the client will most likely choose, if it can be told."""
        wheel = await in_thread(likely_wheel, page.files, reader.machine, wanted.versions)
        sibling = wheel.metadata() if wheel else None
        if wheel is None or sibling is None or not reader.is_alone():
            return None
        if wheel.size is None and not wheel.core_metadata:
            return None  # it takes more than one request
        inquiry = _inquiry(reader)
        try:
            content = await self._files.open(sibling, inquiry, whole=True)
        except ProxyindexError as problem:
            log.debug("looking ahead for %s: %s", sibling.filename, problem)
            return None
        if inquiry.outcome is not Outcome.HIT:
            self._brought.put(wheel.filename, wanted)
        try:
            return content.at_hand(MAX_METADATA)
        finally:
            await content.aclose()

    async def _from_wheel(self, reader: Reader) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(_MOST_AT_ONCE):
                tasks.start_soon(self._wheels, reader)

    async def _wheels(self, reader: Reader) -> None:
        """One wheel after the other that this client will want."""
        while reader.is_alone() and (wheel := self._next_wanted(reader)):
            async with self._places:
                await self._wheel(wheel, reader)

    def _next_wanted(self, reader: Reader) -> File | None:
        wanted = self._wanted.get(reader.who) or {}
        while wanted:
            wheel, seen = wanted.pop(next(iter(wanted)))
            if time.monotonic() - seen < _WANTED_SECONDS:
                return wheel
        return None

    async def _wheel(self, wheel: File, reader: Reader) -> None:
        """Have it fetched; the download goes on by itself."""
        assert isinstance(wheel.origin, UpstreamOrigin)
        if not reader.may_fetch(NormalizedName(wheel.origin.project)):
            return  # whoever had the metadata was somebody else at the same address
        inquiry = _inquiry(reader)
        try:
            content = await self._files.open(wheel, inquiry, whole=True)
            try:
                if inquiry.outcome is not Outcome.HIT:
                    await (await content.stream()).aclose()
            finally:
                await content.aclose()
        except ProxyindexError as problem:
            log.debug("looking ahead for %s: %s", wheel.filename, problem)


def _inquiry(reader: Reader) -> Inquiry:
    """A page of any age will do: it is renewed meanwhile."""
    return Inquiry(accepts_stale=True, deadline=time.monotonic() + _SECONDS, via=reader.via)
