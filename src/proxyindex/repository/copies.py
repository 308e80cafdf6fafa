"""Parsed copies of stored documents in memory, valid while their file on disk is unchanged."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from proxyindex.disk import Signature
from proxyindex.errors import ProxyindexError, UpstreamInvalid
from proxyindex.flight import Shared
from proxyindex.memo import Memo
from proxyindex.store.pages import PageHead, PageStore
from proxyindex.threads import in_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

_MEMO_WEIGHT = 60_000  # parsed files held in memory, about 900 bytes each
# smaller bodies are parsed and digested faster than a thread hop; HTML that is made to be slow
# takes 15 ms at a quarter of this
THREAD_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Copy(Generic[T]):
    """A stored document, parsed. `signature` is the file's it was read from, `None` if the disk did
    not take it: then it is in memory only."""

    signature: Signature | None
    head: PageHead
    document: T


class Copies(Generic[T]):
    """Copies of one upstream's documents by key, least recently used dropped first.

    One `stat` per look-up notices what other processes wrote or purged.
    """

    def __init__(
        self,
        upstream: str,
        upstream_id: str,
        pages: PageStore,
        parse: Callable[[bytes, str, str, str], T],
        weigh: Callable[[T], int],
    ) -> None:
        self._upstream = upstream
        self._id = upstream_id
        self._pages = pages
        self._parse = parse
        self._memo: Memo[str, Copy[T]] = Memo(_MEMO_WEIGHT, lambda copy: weigh(copy.document))
        self._loading: Shared[tuple[str, Signature], Copy[T] | None] = Shared()
        self._disowned = pages.disowned()

    async def get(self, key: str) -> Copy[T] | None:
        """The stored document, from memory while its file is unchanged."""
        signature = self._pages.signature(self._id, key)
        if signature is None:
            self._drop_disowned()
        known = self._memo.get(key)
        if known is not None and known.signature == signature:
            return known
        if signature is None:
            self.drop(key)
            return None
        # a herd reads and parses once
        return await self._loading.get((key, signature), partial(self._load, key, signature, known))

    async def _load(self, key: str, signature: Signature, known: Copy[T] | None) -> Copy[T] | None:
        if known is not None:  # renewed by another process, most likely
            head = await in_thread(self._pages.read_head, self._id, key)
            if head is not None and _same_document(head, known.head):
                return self.remember(key, Copy(signature, head, known.document))
        stored = await in_thread(self._pages.read, self._id, key)
        if stored is None:
            return None
        head = stored.head
        try:
            document = await self.parse(stored.body, head.content_type, head.url, key)
        except UpstreamInvalid as problem:  # a stricter parser than the one that stored it
            log.warning("stored page ignored: %s", problem)
            return None
        return self.remember(key, Copy(signature, head, document))

    async def parse(self, body: bytes, content_type: str, url: str, key: str) -> T:
        """The document in a body, parsed off the loop if large. Raises `UpstreamInvalid`."""
        try:
            if len(body) < (THREAD_SIZE if "json" in content_type else THREAD_SIZE // 4):
                return self._parse(body, content_type, url, key)
            return await in_thread(self._parse, body, content_type, url, key)
        except ProxyindexError as problem:
            raise UpstreamInvalid(
                self._upstream, f"sent an unusable page for {key}: {problem}"
            ) from problem

    def remember(self, key: str, copy: Copy[T]) -> Copy[T]:
        """Hold this copy in memory."""
        if copy.signature is None:
            self._drop_disowned()
        self._memo.put(key, copy)
        return copy

    def known(self, key: str) -> Copy[T] | None:
        """The copy in memory, whatever has become of its file."""
        return self._memo.get(key)

    def _drop_disowned(self) -> None:
        """Drop what is in memory only, if somebody purged since: no file of it tells."""
        if (now := self._pages.disowned()) != self._disowned:
            self._disowned = now
            for key in [key for key, copy in self._memo.items() if copy.signature is None]:
                self.drop(key)

    def drop(self, key: str) -> None:
        """Forget the copy in memory."""
        self._memo.pop(key)


def _same_document(one: PageHead, other: PageHead) -> bool:
    """Whether both heads are of equal bytes that mean the same: links depend on the URL."""
    return (one.digest, one.url, one.content_type) == (other.digest, other.url, other.content_type)
