"""Documents of one upstream (project pages, the project list) kept on disk and revalidated.

Here is the table of freshness carried out: fresh, stale, expired, missing, absent; one upstream
request per document however many requests and processes want it; and what is served when the
upstream fails, is slow, or is not to be asked.
"""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from proxyindex.errors import (
    ProjectNotFound,
    StoreError,
    UpstreamError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from proxyindex.events import Events
from proxyindex.flight import Flight, Flights
from proxyindex.freshness import Freshness, FreshnessRules, freshness
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.repository.copies import Copies, Copy
from proxyindex.store.index import Notes
from proxyindex.store.locks import Locks
from proxyindex.store.pages import PageHead, PageStore, absent_note
from proxyindex.store.worker import Worker
from proxyindex.upstream.breaker import Breaker
from proxyindex.upstream.index import Absent, Fetched, NotModified, Upstream, Validators

log = logging.getLogger(__name__)

T = TypeVar("T")

# seconds to wait for upstream with a copy in hand, and without; pip gives up after 15, and several
# upstreams share one answer's budget of 8
_PATIENCE_WITH_COPY = 2.5
_PATIENCE_WITHOUT = 6.0
_FORCE_INTERVAL = 2.0  # `Cache-Control: no-cache` must not become a way to hammer upstream
_REST = 5.0  # after a failure a document with a copy is not asked for again at once


@dataclass(frozen=True, slots=True)
class Stores:
    """What all kept documents of a cache directory share."""

    pages: PageStore
    notes: Notes
    worker: Worker
    locks: Locks


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose documents are kept, where, and on what terms.

    `id` names the upstream in the stores (its configured name and a digest of its URL). With
    `is_offline` the network step is left out: what is stored is served whatever its age.
    """

    upstream: Upstream
    id: str
    stores: Stores
    breaker: Breaker
    rules: FreshnessRules
    events: Events
    is_offline: bool = False
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class _Landing(Generic[T]):
    """What a refresh brought: the document, or `None` for absent; by our request or another's."""

    document: T | None
    was_ours: bool


class Kept(Generic[T]):
    """The documents of one upstream, by key (a normalized name, or a fixed word).

    `parse(body, content_type, url, key)` makes the document and raises `ProxyindexError` for one
    that cannot be used; `weigh` tells its share of the memory budget.
    """

    def __init__(
        self,
        terms: Terms,
        tasks: TaskGroup,
        *,
        parse: Callable[[bytes, str, str, str], T],
        weigh: Callable[[T], int],
    ) -> None:
        self._upstream = terms.upstream
        self._id = terms.id
        self._stores = terms.stores
        self._flights: Flights[_Landing[T]] = Flights(tasks)
        self._breaker = terms.breaker
        self._rules = terms.rules
        self._events = terms.events
        self._is_offline = terms.is_offline
        self._clock = terms.clock
        self._copies = Copies(terms.upstream.name, terms.id, terms.stores.pages, parse, weigh)
        self._resting: OrderedDict[str, float] = OrderedDict()

    async def get(self, key: str, inquiry: Inquiry, *, path: str) -> T:
        """The document; `path` is what upstream calls it.

        Raises `ProjectNotFound` when upstream says (or lately said) that there is none, and
        `UpstreamError` when it cannot tell and no copy may be served.
        """
        copy = await self._copies.get(key)
        state = self._freshness(copy)
        forced = inquiry.revalidate and not self._is_offline and self._may_force(copy)
        if copy is not None and (self._is_offline or (state is Freshness.FRESH and not forced)):
            return self._served(key, copy, inquiry, Outcome.HIT)
        absent_since = None if copy else await self._absent_since(key)
        if absent_since is not None and self._still_absent(absent_since, forced=forced):
            inquiry.outcome = Outcome.HIT
            self._events.page(self._upstream.name, "absent")
            raise ProjectNotFound(key)
        if problem := self._reason_not_to_ask(key, copy):
            return self._fallback(key, copy, state, inquiry, problem)
        seen = copy.head.validated_at if copy else absent_since or 0.0
        flight, led = self._flights.join(
            f"{self._id} {key}", partial(self._refresh, key, path, seen, inquiry.via)
        )
        self._events.flight("page", "led" if led else "joined")
        will_do = state is Freshness.STALE or inquiry.accepts_stale
        if copy is not None and will_do and not forced:
            return self._served(key, copy, inquiry, Outcome.STALE)
        return await self._wait(key, flight, led, copy, state, inquiry)

    async def _wait(
        self,
        key: str,
        flight: Flight[_Landing[T]],
        led: bool,
        copy: Copy[T] | None,
        state: Freshness,
        inquiry: Inquiry,
    ) -> T:
        patience = _PATIENCE_WITHOUT if state is Freshness.MISSING else _PATIENCE_WITH_COPY
        try:
            with anyio.fail_after(min(patience, inquiry.remaining())):
                landing = await flight.result()
        except TimeoutError:
            # one failure per flight, however many wait for it, and none if other upstreams have
            # used the time up
            if led and inquiry.remaining() > 0:
                self._breaker.failed()
            self._rest(key)
            late = UpstreamUnavailable(self._upstream.name, "did not answer in time")
            return self._fallback(key, copy, state, inquiry, late)
        except UpstreamError as problem:
            return self._fallback(key, copy, state, inquiry, problem)
        inquiry.outcome = Outcome.FETCHED if led and landing.was_ours else Outcome.JOINED
        self._events.page(self._upstream.name, inquiry.outcome.value)
        if landing.document is None:
            raise ProjectNotFound(key)
        return landing.document

    def _served(self, key: str, copy: Copy[T], inquiry: Inquiry, outcome: Outcome) -> T:
        inquiry.outcome = outcome
        self._events.page(self._upstream.name, "fresh" if outcome is Outcome.HIT else "stale")
        if copy.signature is not None:
            self._stores.pages.used(self._id, key, copy.signature[2])
        return copy.document

    def _fallback(
        self,
        key: str,
        copy: Copy[T] | None,
        state: Freshness,
        inquiry: Inquiry,
        problem: UpstreamError,
    ) -> T:
        is_too_old = state is Freshness.MISSING and not inquiry.accepts_stale
        if copy is None or is_too_old:
            self._events.page(self._upstream.name, "failed")
            raise problem
        log.info("serving the stored %s of %s: %s", key, self._upstream.name, problem.problem)
        return self._served(key, copy, inquiry, Outcome.STALE)

    def _freshness(self, copy: Copy[T] | None) -> Freshness:
        if copy is None:
            return Freshness.MISSING
        head = copy.head
        return freshness(head.validated_at, head.lifetime, self._clock(), self._rules)

    def _may_force(self, copy: Copy[T] | None) -> bool:
        return copy is None or abs(self._clock() - copy.head.validated_at) >= _FORCE_INTERVAL

    def _reason_not_to_ask(self, key: str, copy: Copy[T] | None) -> UpstreamError | None:
        name = self._upstream.name
        if self._is_offline:
            return UpstreamUnavailable(name, "is not asked, because this server is offline")
        if self._breaker.is_open:
            wait = self._breaker.seconds_left()
            return UpstreamUnavailable(name, "failed repeatedly", asked_pause=min(wait, 5))
        rests = time.monotonic() < self._resting.get(key, 0.0)
        if rests and self._freshness(copy) is not Freshness.MISSING:
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
            learned = copy.head.validated_at if copy else await self._absent_since(key)
            if learned is not None and learned > seen:
                return _Landing(copy.document if copy else None, was_ours=False)
            try:
                document = await self._ask(key, path, copy, via)
            except UpstreamError as problem:
                self._failed(key, problem)
                raise
        self._breaker.succeeded()
        self._resting.pop(key, None)
        return _Landing(document, was_ours=True)

    async def _ask(self, key: str, path: str, copy: Copy[T] | None, via: str) -> T | None:
        head = copy.head if copy else None
        validators = Validators(head.etag, head.last_modified) if head else Validators()
        answer = await self._upstream.page(path, validators, via=via)
        if isinstance(answer, NotModified) and head and _contradicts(answer.etag, head.etag):
            answer = await self._upstream.page(path, Validators(), via=via)
        match answer:
            case NotModified() if copy is not None:
                return await self._renew(key, copy, answer)
            case Fetched():
                return await self._keep(key, copy, answer)
            case Absent():
                await self._forget(key)
                return None
        raise UpstreamInvalid(self._upstream.name, "answered 304 to an unconditional request")

    async def _renew(self, key: str, copy: Copy[T], answer: NotModified) -> T:
        lifetime = copy.head.lifetime if answer.lifetime is None else answer.lifetime
        head = copy.head.renewed(self._clock(), lifetime)
        stored = await anyio.to_thread.run_sync(self._stores.pages.read, self._id, key)
        if stored is not None:
            await self._write(key, head, stored.body, copy.document)
        else:  # evicted or damaged meanwhile: good for now, asked for again next time
            self._copies.remember(key, Copy(None, head, copy.document))
        self._events.page(self._upstream.name, "renewed")
        return copy.document

    async def _keep(self, key: str, copy: Copy[T] | None, answer: Fetched) -> T:
        self._check_serial(copy, answer)
        digest = hashlib.sha256(answer.body).hexdigest()
        if copy is not None and copy.head.digest == digest and copy.head.url == answer.url:
            document = copy.document  # the very same object: what was rendered from it stays good
        else:
            document = await self._copies.parse(answer.body, answer.content_type, answer.url, key)
        now = self._clock()
        head = PageHead(
            url=answer.url,
            content_type=answer.content_type,
            fetched_at=now,
            validated_at=now,
            lifetime=answer.lifetime,
            etag=answer.etag,
            last_modified=answer.last_modified,
            serial=answer.serial,
            digest=digest,
            length=len(answer.body),
        )
        await self._write(key, head, answer.body, document)
        return document

    def _check_serial(self, copy: Copy[T] | None, answer: Fetched) -> None:
        if self._freshness(copy) is Freshness.MISSING:
            return  # never served again: an upstream that was restored from a backup must get by
        known = copy.head.serial if copy else None
        if known is not None and answer.serial is not None and answer.serial < known:
            # a stale edge of upstream's CDN; ours is newer
            raise UpstreamInvalid(self._upstream.name, "sent a page older than the one we have")

    async def _write(self, key: str, head: PageHead, body: bytes, document: T) -> None:
        try:
            await anyio.to_thread.run_sync(self._stores.pages.write, self._id, key, head, body)
        except StoreError as problem:
            log.warning("%s", problem)
            self._events.alarm("store-failed")
        self._copies.remember(
            key, Copy(self._stores.pages.signature(self._id, key), head, document)
        )

    async def _forget(self, key: str) -> None:
        self._copies.drop(key)
        await self._stores.worker.run(self._stores.pages.remove, self._id, key)
        await self._stores.worker.run(
            self._stores.notes.remember,
            absent_note(self._id, key),
            str(self._clock()).encode(),
            self._rules.negative_ttl,
        )

    def _failed(self, key: str, problem: UpstreamError) -> None:
        self._rest(key)
        if isinstance(problem, UpstreamInvalid):
            self._events.alarm("invalid-page")
            log.warning("%s: %s", key, problem)
        elif self._breaker.failed():
            log.warning("%s Not asking it for %d s.", problem, self._breaker.seconds_left())

    def _rest(self, key: str) -> None:
        self._resting[key] = time.monotonic() + _REST
        self._resting.move_to_end(key)
        while len(self._resting) > 1000:
            self._resting.popitem(last=False)

    def _still_absent(self, since: float, *, forced: bool) -> bool:
        return not forced or self._clock() - since < _FORCE_INTERVAL

    async def _absent_since(self, key: str) -> float | None:
        note = absent_note(self._id, key)
        noted = await self._stores.worker.run(self._stores.notes.recall, note)
        return None if noted is None else float(noted)


def _contradicts(repeated: str | None, ours: str | None) -> bool:
    """Whether a 304 speaks of another version than ours (weak comparison)."""
    return (
        repeated is not None
        and ours is not None
        and repeated.removeprefix("W/") != ours.removeprefix("W/")
    )
