"""Asking an upstream about one document, and keeping what it says."""

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from proxyindex.errors import StoreError, UpstreamInvalid
from proxyindex.events import Events
from proxyindex.freshness import Freshness, FreshnessRules, allowed_lifetime, freshness
from proxyindex.repository.copies import THREAD_SIZE, Copies, Copy
from proxyindex.repository.trust import Disbelieved, Trust
from proxyindex.store.doubts import instant
from proxyindex.store.index import Notes
from proxyindex.store.locks import Locks
from proxyindex.store.pages import PageHead, PageStore, absent_note
from proxyindex.store.trouble import Trouble
from proxyindex.store.worker import Worker
from proxyindex.threads import in_thread
from proxyindex.upstream.breaker import Breaker
from proxyindex.upstream.index import Absent, Fetched, NotModified, Upstream, Validators

log = logging.getLogger(__name__)

T = TypeVar("T")

_LARGE = 1024**2  # bytes of a body that takes longer to write than clients should wait
_ANSWERING_SECONDS = 0.05  # in which those who wait get their answer; else writing competes


@dataclass(frozen=True, slots=True)
class Stores:
    """What all kept documents of a cache directory share."""

    pages: PageStore
    notes: Notes
    doubts: Notes
    worker: Worker
    locks: Locks
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose documents are kept, where, and on what terms.

    `id` names the upstream in the stores (its configured name and a digest of its URL). With
    `is_offline` the network step is left out: what is stored is served whatever its age.
    `doubts_absence`: that a stored project is no more is not believed at once.
    """

    upstream: Upstream
    id: str
    stores: Stores
    breaker: Breaker
    rules: FreshnessRules
    events: Events
    is_offline: bool = False
    doubts_absence: bool = False
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Noted:
    """What all processes know of a document: when (seconds since the epoch) upstream said that
    there is none, if that is still to be believed, and since when it contradicts the stored one.
    `was_absent`: that there was none when upstream told last, however long ago."""

    absent_since: float | None
    doubted_since: float | None
    was_absent: bool


class Asking(Generic[T]):
    """What an upstream says of its documents becomes what is stored of them, or is refused.

    One request at a time for a document: callers hold its lock. `suspect(known, sent)` tells what
    speaks against believing `sent` at once, as a phrase, or `None`; without it everything is
    believed, also that a stored document is no more. `believed(key, document)` is told what stands
    from now on, `None` for absent.
    """

    def __init__(
        self,
        terms: Terms,
        copies: Copies[T],
        suspect: Callable[[T, T], str | None] | None,
        believed: Callable[[str, T | None], Awaitable[None]],
    ) -> None:
        self._upstream = terms.upstream
        self._id = terms.id
        self._stores = terms.stores
        self._rules = terms.rules
        self._events = terms.events
        self._doubts_absence = terms.doubts_absence
        self._clock = terms.clock
        self._copies = copies
        self._suspect = suspect
        self._believed = believed
        self._redirect_is_told = False
        self._trust = Trust(
            terms.upstream.name,
            terms.id,
            terms.stores.doubts,
            terms.stores.worker,
            terms.events,
            terms.clock,
        )

    def freshness(self, copy: Copy[T] | None) -> Freshness:
        """The state of a copy now."""
        if copy is None:
            return Freshness.MISSING
        head = copy.head
        return freshness(head.validated_at, head.lifetime, self._clock(), self._rules)

    def fresh_between(self, copy: Copy[T]) -> tuple[float, float]:
        """From when until when a copy is fresh (seconds since the epoch)."""
        start = copy.head.validated_at
        return start, start + allowed_lifetime(copy.head.lifetime, self._rules)

    async def noted(self, key: str) -> Noted:
        """What is noted of the document, by one call of the index's thread: that takes 130 µs, each
        look-up 6."""
        return await self._stores.worker.run(self._recall, key)

    def _recall(self, key: str) -> Noted:
        told = instant(self._stores.notes.recall(absent_note(self._id, key)))
        is_fresh = told is not None and abs(self._clock() - told) < self._rules.negative_ttl
        return Noted(told if is_fresh else None, self._trust.since(key), told is not None)

    async def ask(
        self,
        key: str,
        path: str,
        copy: Copy[T] | None,
        noted: Noted,
        via: str,
        tell: Callable[[T], object] = lambda document: None,
    ) -> T | None:
        """What upstream says now, stored; `None` if it says that there is no such document.

        `noted` is of the time before; the stored one may have been evicted since. `tell` is called
        with a large new document before it is stored. Raises `UpstreamError`; `Disbelieved` if
        `copy` is good for another while instead.
        """
        head = copy.head if copy else None
        doubted = noted.doubted_since
        validators = Validators()
        # in doubt a 304 could speak of either page; and without a file there is no body to keep
        if copy and copy.signature and head and doubted is None:
            validators = Validators(head.etag, head.last_modified)
        answer = await self._upstream.page(path, validators, via=via)
        if isinstance(answer, NotModified) and head and _contradicts(answer.etag, head.etag):
            answer = await self._upstream.page(path, Validators(), via=via)
        if noted.was_absent and not isinstance(answer, Absent):
            # before anybody sees it: killed between, we would give its name to the next upstream
            await self._stores.worker.run(self._stores.notes.forget, absent_note(self._id, key))
        try:
            return await self._accept(key, copy, answer, doubted, tell)
        except Disbelieved:
            assert copy is not None
            await self._renew(key, copy, None)  # asked again when another page would be
            raise

    async def _accept(
        self,
        key: str,
        copy: Copy[T] | None,
        answer: Fetched | NotModified | Absent,
        doubted: float | None,
        tell: Callable[[T], object],
    ) -> T | None:
        document = None
        match answer:
            case NotModified() if copy is not None:
                lifetime = copy.head.lifetime if answer.lifetime is None else answer.lifetime
                document = await self._renew(key, copy, lifetime)
                self._events.page(self._upstream.name, "renewed")
            case Fetched():
                document = await self._keep(key, copy, answer, doubted, tell)
            case Absent():
                if self._suspect and self._is_worth_keeping(copy):
                    await self._check_absence(key, answer, doubted)
                elif answer.is_elsewhere:
                    self._tell_of_redirect(key)
                await self._forget(key)
            case _:
                name = self._upstream.name
                raise UpstreamInvalid(name, "answered 304 to an unconditional request")
        await self._believed(key, document)
        await self._trust.settle(key, doubted)
        return document

    async def _renew(self, key: str, copy: Copy[T], lifetime: float | None) -> T:
        head = copy.head.renewed(self._clock(), lifetime)
        pages, stored = self._stores.pages, None
        with suppress(StoreError):
            stored = await in_thread(pages.read, self._id, key)
            if stored is None:  # damaged, if it is there: the next answer is to be a whole page
                await self._stores.worker.run(pages.remove, self._id, key)
        if stored is not None and stored.head.digest == copy.head.digest:
            await self._write(key, head, stored.body, copy.document)
        else:  # evicted, or not taken by the disk, which may still have an older one
            is_newest = pages.signature(self._id, key) == copy.signature
            signature = copy.signature if is_newest else None
            self._copies.remember(key, Copy(signature, head, copy.document))
        return copy.document

    async def _keep(
        self,
        key: str,
        copy: Copy[T] | None,
        answer: Fetched,
        doubted: float | None,
        tell: Callable[[T], object],
    ) -> T:
        if copy is None and len(answer.body) >= _LARGE:
            return await self._keep_later(key, answer, tell)
        # with nothing to compare it to, it is made where the page is written
        digest = await self._digest(answer.body) if copy else ""
        if copy is not None and copy.head.digest == digest and copy.head.url == answer.url:
            document = copy.document  # the very same object: what was rendered from it stays good
        else:
            document = await self._copies.parse(answer.body, answer.content_type, answer.url, key)
            await self._check_news(key, copy, answer, document, doubted)
        await self._write(key, self._head(answer, digest), answer.body, document)
        return document

    async def _keep_later(self, key: str, answer: Fetched, tell: Callable[[T], object]) -> T:
        """What is new and large is told first: digesting and writing 8 MB takes 20 ms of a core."""
        document = await self._copies.parse(answer.body, answer.content_type, answer.url, key)
        head = self._head(answer, digest="")
        tell(document)
        with anyio.CancelScope(shield=True):  # what clients were told is kept, even if we stop now
            await anyio.sleep(_ANSWERING_SECONDS)
            await self._write(key, head, answer.body, document)
        return document

    def _head(self, answer: Fetched, digest: str) -> PageHead:
        now = self._clock()
        return PageHead(
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

    async def _digest(self, body: bytes) -> str:
        if len(body) < THREAD_SIZE:
            return hashlib.sha256(body).hexdigest()
        return (await in_thread(hashlib.sha256, body)).hexdigest()

    async def _check_news(
        self, key: str, copy: Copy[T] | None, answer: Fetched, document: T, doubted: float | None
    ) -> None:
        if copy is None or self._suspect is None or not self._is_worth_keeping(copy):
            return
        phrase, alarm = self._suspect(copy.document, document), "shrunken-page"
        before, now = copy.head.serial, answer.serial
        steps = 0 if before is None or now is None else now - before
        if steps < 0:  # a stale edge of upstream's CDN, or it was restored from a backup
            phrase, alarm = f"sent a page older (serial {now}) than the stored one", "invalid-page"
        if phrase is None:
            return
        if steps > 0:
            log.info("%s: upstream %r %s, by a later serial", key, self._upstream.name, phrase)
            return
        await self._trust.check(key, doubted, phrase, alarm)

    async def _check_absence(self, key: str, answer: Absent, doubted: float | None) -> None:
        if answer.is_elsewhere:
            phrase = "redirects to another server instead of answering"
            await self._trust.check(key, doubted, phrase, "invalid-page")
        elif self._doubts_absence:
            phrase = "says that there is no such project any more"
            await self._trust.check(key, doubted, phrase, "lost-project")

    def _tell_of_redirect(self, key: str) -> None:
        """Once: whoever sends unknown names on does so for each, but a log-in page does, too."""
        if not self._redirect_is_told:
            self._redirect_is_told = True
            log.warning(
                "upstream %r redirects to another server instead of answering for %s; that is "
                "taken for 'no such project', with any name that is not stored",
                self._upstream.name,
                key,
            )

    def _is_worth_keeping(self, copy: Copy[T] | None) -> bool:
        """Whether it may ever be served again: what is too old must not stop what replaces it,
        an upstream restored from a backup, say."""
        return self.freshness(copy) is not Freshness.MISSING

    async def _write(self, key: str, head: PageHead, body: bytes, document: T) -> None:
        write = self._stores.pages.write
        try:
            head = (await in_thread(write, self._id, key, head, body)).head
        except StoreError as problem:
            self._stores.trouble.refused(problem)
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
            max(self._rules.negative_ttl, self._rules.stale_if_error),
        )


def _contradicts(repeated: str | None, ours: str | None) -> bool:
    """Whether a 304 speaks of another version than ours (weak comparison)."""
    return (
        repeated is not None
        and ours is not None
        and repeated.removeprefix("W/") != ours.removeprefix("W/")
    )
