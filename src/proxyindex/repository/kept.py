"""Documents of one upstream (project pages, the project list) kept on disk and revalidated.

Here is the table of freshness carried out: fresh, stale, expired, missing, absent; one upstream
request per document however many requests and processes want it; and what is served when the
upstream fails, is slow, or is not to be asked.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from proxyindex.errors import (
    NotHeld,
    ProjectNotFound,
    ServerOffline,
    UpstreamError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from proxyindex.flight import Flight, Flights
from proxyindex.freshness import Freshness
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.repository.asking import Asking, Terms
from proxyindex.repository.copies import Copies, Copy
from proxyindex.repository.resting import Resting
from proxyindex.repository.trust import Disbelieved

log = logging.getLogger(__name__)

T = TypeVar("T")

# seconds to wait for upstream with a copy in hand, and without; pip gives up after 15, and several
# upstreams share the 7 of one answer (`web.simple.PAGE_SECONDS`)
_PATIENCE_WITH_COPY = 2.5
_PATIENCE_WITHOUT = 6.0
_FORCE_INTERVAL = 2.0  # `Cache-Control: no-cache` must not become a way to hammer upstream


@dataclass(slots=True)
class _Landing(Generic[T]):
    """What a refresh brought: the document, or `None` for absent; by our request or another's.

    `copy` is the document as stored, which may come later than the document.
    """

    document: T | None
    was_ours: bool
    copy: Copy[T] | None = None
    waiting: list[Callable[[Copy[T]], None]] = field(default_factory=list)

    def stored(self, copy: Copy[T] | None) -> None:
        """The document has been written, as this copy of it."""
        if copy is not None and copy.document is self.document:
            self.copy = copy
            for act in self.waiting:
                act(copy)
        self.waiting.clear()

    def when_stored(self, act: Callable[[Copy[T]], None]) -> None:
        """Do this with the copy, once there is one."""
        if self.copy is None:
            self.waiting.append(act)
        else:
            act(self.copy)


async def _nothing(key: str, document: object) -> None:
    """What is believed concerns nobody else."""


class Kept(Generic[T]):
    """The documents of one upstream, by key (a normalized name, or a fixed word).

    `parse(body, content_type, url, key)` makes the document and raises `ProxyindexError` for one
    that cannot be used; `weigh` tells its share of the memory budget. `suspect` is as for `Asking`.
    `believed(key, document)` is told what stands from now on, `None` for absent, before others see
    it.
    """

    def __init__(
        self,
        terms: Terms,
        tasks: TaskGroup,
        *,
        parse: Callable[[bytes, str, str, str], T],
        weigh: Callable[[T], int],
        suspect: Callable[[T, T], str | None] | None = None,
        believed: Callable[[str, T | None], Awaitable[None]] = _nothing,
    ) -> None:
        self._upstream = terms.upstream
        self._id = terms.id
        self._stores = terms.stores
        self._flights: Flights[_Landing[T]] = Flights(tasks)
        self._breaker = terms.breaker
        self._events = terms.events
        self._is_offline = terms.is_offline
        self._clock = terms.clock
        self._copies = Copies(terms.upstream.name, terms.id, terms.stores.pages, parse, weigh)
        self._resting = Resting()
        self._asking = Asking(terms, self._copies, suspect, believed)

    async def get(self, key: str, inquiry: Inquiry, *, path: str) -> T:
        """The document; `path` is what upstream calls it.

        Raises `ProjectNotFound` when upstream says (or lately said) that there is none, and
        `UpstreamError` when it cannot tell and no copy may be served.
        """
        copy = await self._copies.get(key)
        state = self._asking.freshness(copy)
        may_ask = inquiry.may_fetch and not self._is_offline
        forced = inquiry.revalidate and may_ask and self._may_force(copy)
        if copy is not None and (not may_ask or (state is Freshness.FRESH and not forced)):
            self._speak_for(key, copy, inquiry)
            is_contradicted = inquiry.revalidate and may_ask and await self._is_doubted(key)
            outcome = Outcome.STALE if is_contradicted else Outcome.HIT
            return self._served(key, copy, inquiry, outcome)
        known = inquiry.ground.comes_to_know()
        problem = self._reason_not_to_ask(key, copy) or inquiry.unsure
        absent_since = None
        if copy is None and (forced or problem or not inquiry.may_fetch):  # else the flight looks
            absent_since = (await self._asking.noted(key)).absent_since
            if absent_since is not None and self._still_absent(absent_since, forced=forced):
                raise self._absent(key, inquiry)
        if not inquiry.may_fetch:
            raise await self._refusal(key, inquiry, NotHeld(key))
        if problem:
            return await self._fallback(key, copy, state, inquiry, problem)
        seen = copy.head.validated_at if copy else absent_since or 0.0
        flight, led = self._flights.join(
            self._flight(key, seen), partial(self._refresh, key, path, seen, inquiry.via)
        )
        self._events.flight("page", "led" if led else "joined")
        is_stale = state is Freshness.STALE
        will_do = inquiry.accepts_stale or (is_stale and not inquiry.insists)
        if copy is not None and will_do and not forced:
            return self._served(key, copy, inquiry, Outcome.STALE)
        return await self._wait(key, flight, led, copy, state, inquiry, known)

    async def _wait(
        self,
        key: str,
        flight: Flight[_Landing[T]],
        led: bool,
        copy: Copy[T] | None,
        state: Freshness,
        inquiry: Inquiry,
        known: Callable[[], None],
    ) -> T:
        patience = _PATIENCE_WITHOUT if state is Freshness.MISSING else _PATIENCE_WITH_COPY
        try:
            with anyio.fail_after(min(patience, inquiry.remaining())):
                landing = await flight.result()
        except TimeoutError:
            if inquiry.remaining() > 0:  # else other upstreams have used the time up
                self._breaker.failed(key)
            self._resting.rest(key)
            late = UpstreamUnavailable(self._upstream.name, "did not answer in time")
            return await self._fallback(key, copy, state, inquiry, late)
        except UpstreamError as problem:
            return await self._fallback(key, copy, state, inquiry, problem)
        if landing.document is None and not landing.was_ours:
            raise self._absent(key, inquiry)
        inquiry.outcome = Outcome.FETCHED if led and landing.was_ours else Outcome.JOINED
        self._events.page(self._upstream.name, inquiry.outcome.value)
        if landing.document is None:
            raise ProjectNotFound(key)

        def speak(stored: Copy[T]) -> None:
            self._speak_for(key, stored, inquiry)
            known()

        landing.when_stored(speak)
        return landing.document

    async def _is_doubted(self, key: str) -> bool:
        """Whether what upstream said a moment ago was not believed, and the copy stayed."""
        return (await self._asking.noted(key)).doubted_since is not None

    def _absent(self, key: str, inquiry: Inquiry) -> ProjectNotFound:
        """Upstream was not asked for this: it said so before."""
        inquiry.outcome = Outcome.HIT
        self._events.page(self._upstream.name, "absent")
        return ProjectNotFound(key)

    def _served(self, key: str, copy: Copy[T], inquiry: Inquiry, outcome: Outcome) -> T:
        inquiry.outcome = outcome
        inquiry.met_stale |= outcome is Outcome.STALE
        self._used(
            key,
            copy.signature and copy.signature[2],
            "fresh" if outcome is Outcome.HIT else "stale",
        )
        return copy.document

    def _speak_for(self, key: str, copy: Copy[T], inquiry: Inquiry) -> None:
        """Tell on what a fresh page rests; offline any is fresh."""
        if copy.signature is None or not inquiry.may_fetch:
            inquiry.ground.holds_once()  # not on disk, or shown by what is there just now
            return
        since, until = (0.0, math.inf) if self._is_offline else self._asking.fresh_between(copy)
        inquiry.ground.rests_on(
            (self._stores.pages.where(self._id, key), copy.signature),
            since=since,
            until=until,
        )
        size = copy.signature[2]
        inquiry.ground.uses.append(partial(self._used, key, size, "fresh"))

    def _used(self, key: str, size: int | None, decision: str) -> None:
        """An answer was made of the copy, whose file is of `size` bytes, if it has one."""
        self._events.page(self._upstream.name, decision)
        if size is not None:
            self._stores.pages.used(self._id, key, size)

    async def _fallback(
        self,
        key: str,
        copy: Copy[T] | None,
        state: Freshness,
        inquiry: Inquiry,
        problem: UpstreamError | NotHeld,
    ) -> T:
        is_too_old = state is Freshness.MISSING and not inquiry.accepts_stale
        if copy is None or is_too_old:
            self._events.page(self._upstream.name, "failed")
            raise await self._refusal(key, inquiry, problem)
        if isinstance(problem, UpstreamError) and not isinstance(problem, Disbelieved):
            # of a doubt one is told once, when it began
            log.info("serving the stored %s of %s: %s", key, self._upstream.name, problem)
        return self._served(key, copy, inquiry, Outcome.STALE)

    async def _refusal(
        self, key: str, inquiry: Inquiry, problem: UpstreamError | NotHeld
    ) -> UpstreamError | NotHeld:
        """The problem, to be raised: nobody can tell now. The inquiry is told whether upstream had
        no such document when it could."""
        inquiry.ground.holds_once()
        cannot_tell = isinstance(problem, UpstreamUnavailable | NotHeld)
        was_absent = cannot_tell and (await self._asking.noted(key)).was_absent
        inquiry.unsure = problem if was_absent else None
        return problem

    def _may_force(self, copy: Copy[T] | None) -> bool:
        return copy is None or abs(self._clock() - copy.head.validated_at) >= _FORCE_INTERVAL

    def _reason_not_to_ask(self, key: str, copy: Copy[T] | None) -> UpstreamError | None:
        name = self._upstream.name
        if self._is_offline:
            return ServerOffline(name)
        if self._breaker.is_open:
            wait = self._breaker.seconds_left()
            return UpstreamUnavailable(name, "failed repeatedly", asked_pause=min(wait, 5))
        if self._resting.is_resting(key) and self._asking.freshness(copy) is not Freshness.MISSING:
            return UpstreamUnavailable(name, "failed a moment ago")
        return None

    async def _refresh(self, key: str, path: str, seen: float, via: str) -> _Landing[T]:
        """Ask upstream once for all processes, and keep the answer.

        `seen` is when the inquiry's copy (or its 404) was validated, 0 if it had none. Whatever is
        newer is the answer: brought by another process, or by a flight that landed after the
        inquiry had looked and before it could join.
        """
        async with self._stores.locks.hold(f"page {self._id} {key}"):
            copy = await self._copies.get(key)
            noted = await self._asking.noted(key)
            learned = copy.head.validated_at if copy else noted.absent_since
            if learned is not None and learned > seen:
                return _Landing(copy.document if copy else None, was_ours=False, copy=copy)
            landing = _Landing[T](None, was_ours=True)
            try:
                land = partial(self._land, key, seen, landing)
                document = await self._asking.ask(key, path, copy, noted, via, land)
            except UpstreamError as problem:
                self._failed(key, problem)
                raise
            self._land(key, seen, landing, document)
            landing.stored(self._copies.known(key))
        return landing

    def _land(self, key: str, seen: float, landing: _Landing[T], document: T | None) -> None:
        self._breaker.succeeded()
        self._resting.wake(key)
        landing.document = document
        self._flights.land(self._flight(key, seen), landing)

    def _flight(self, key: str, seen: float) -> str:
        """Of those who know the same: who wants more than a noted 404 must not join who does not.
        The lock lets one of them ask, and the other have its answer."""
        return f"{self._id} {key} {seen}"

    def _failed(self, key: str, problem: UpstreamError) -> None:
        if isinstance(problem, Disbelieved):
            return  # told when the doubt began
        self._resting.rest(key)
        if isinstance(problem, UpstreamInvalid):
            self._events.alarm("invalid-page")
            if self._resting.is_news(key, problem.problem):
                log.warning("%s: %s", key, problem)
        elif self._breaker.failed(key):
            log.warning("%s Not asking it for %d s.", problem, self._breaker.seconds_left())
        elif self._resting.is_news(key, problem.problem):
            log.warning("%s: %s", key, problem)

    def _still_absent(self, since: float, *, forced: bool) -> bool:
        return not forced or self._clock() - since < _FORCE_INTERVAL
