"""Pages as bytes: rendered once per page, form and coding, and kept while the page is."""

import hashlib
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from weakref import ref

import anyio

from proxyindex import simple
from proxyindex.archives.wheel import whole_metadata
from proxyindex.flight import Shared
from proxyindex.memo import Memo
from proxyindex.model import ProjectList, ProjectPage
from proxyindex.simple import MediaType, relative_href
from proxyindex.simple.described import describe
from proxyindex.threads import in_thread
from proxyindex.web.gzipped import gzipped
from proxyindex.web.people import styled

Document = ProjectPage | ProjectList

_BUDGET = 48 * 1024**2  # bytes of rendered pages in memory, per worker
_DESCRIBED_BUDGET = 16 * 1024**2  # bytes of descriptions; they leave by themselves, not for pages
_DESCRIBED_AT_ONCE = 2  # each takes up to 60 MB while it is made
_THREAD_FILES = 200  # more are rendered off the loop
_MIN_GZIP = 1024


@dataclass(frozen=True, slots=True)
class Rendered:
    """One representation: body, strong ETag, and the content coding if any."""

    body: bytes
    etag: str
    is_gzip: bool


class _Kept:
    """What was made of documents, by identity and whatever else decides: documents are immutable.

    It does not keep them alive: rendered they take a fortieth of what they take in memory, and
    resolving 360 projects made it a gigabyte.
    """

    def __init__(self, budget: int) -> None:
        self._memo: Memo[Hashable, tuple[ref[Document], Rendered]] = Memo(
            budget, lambda kept: len(kept[1].body)
        )
        self._making: Shared[Hashable, Rendered] = Shared()

    async def of(
        self, document: Document, what: Hashable, make: Callable[[], Awaitable[Rendered]]
    ) -> Rendered:
        """What `make` gave for it before, or to those who wait now: a herd has it made once."""
        key = id(document), what
        known = self._memo.get(key)
        if known is not None and known[0]() is document:
            return known[1]
        return await self._making.get(key, partial(self._made, document, key, make))

    async def _made(
        self, document: Document, key: Hashable, make: Callable[[], Awaitable[Rendered]]
    ) -> Rendered:
        rendered = await make()
        self._memo.put(key, (ref(document), rendered))
        return rendered


class Renderer:
    """Renders pages and lists, and describes projects in the form of PyPI's JSON API."""

    def __init__(self) -> None:
        self._pages, self._descriptions = _Kept(_BUDGET), _Kept(_DESCRIBED_BUDGET)
        self._describing = anyio.CapacityLimiter(_DESCRIBED_AT_ONCE)

    async def render(
        self, document: Document, form: MediaType, *, accepts_gzip: bool, is_styled: bool = False
    ) -> Rendered:
        """The document in this form, compressed where the client takes it and it is worth it.

        `is_styled`: HTML for browsers.
        """

        async def make() -> Rendered:
            render = partial(_render, document, form, accepts_gzip, is_styled)
            count = len(document.files if isinstance(document, ProjectPage) else document.names)
            return await in_thread(render) if count > _THREAD_FILES else render()

        return await self._pages.of(document, (form, accepts_gzip, is_styled), make)

    async def describe(
        self,
        page: ProjectPage,
        version: str | None,
        metadata: bytes,
        home: str,
        *,
        accepts_gzip: bool,
    ) -> Rendered:
        """The description of a release by its core metadata, and of all others of its project;
        `home` is the absolute URL of the page."""

        async def make() -> Rendered:
            describing = partial(_describe, page, version, metadata, home, accepts_gzip)
            async with self._describing:
                return await in_thread(describing)

        told = version, hashlib.sha256(metadata).digest(), home, accepts_gzip
        return await self._descriptions.of(page, told, make)


def _describe(
    page: ProjectPage, version: str | None, metadata: bytes, home: str, accepts_gzip: bool
) -> Rendered:
    known = whole_metadata(metadata) if metadata else {}
    body = describe(page, version, known, home=home, href=relative_href)
    return _whole([body], is_gzip=accepts_gzip)


def _render(document: Document, form: MediaType, accepts_gzip: bool, is_styled: bool) -> Rendered:
    if isinstance(document, ProjectPage):
        pieces = list(simple.page_pieces(document, form))
    else:
        pieces = [simple.render_list(document, form)]
    if is_styled:
        pieces[0] = styled(pieces[0])
    is_gzip = accepts_gzip and sum(map(len, pieces)) >= _MIN_GZIP
    return _whole(pieces, is_gzip=is_gzip)


def _whole(pieces: list[bytes], *, is_gzip: bool) -> Rendered:
    body = gzipped(pieces) if is_gzip else b"".join(pieces)
    # of what is sent: a tenth of the bytes where it is compressed
    return Rendered(body, f'"{hashlib.sha256(body).hexdigest()[:40]}"', is_gzip)
