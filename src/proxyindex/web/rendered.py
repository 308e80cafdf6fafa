"""Pages as bytes: rendered once per page, form and coding, and kept while the page is."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from weakref import ref

import anyio
import anyio.to_thread

from proxyindex import simple
from proxyindex.model import ProjectList, ProjectPage
from proxyindex.simple import MediaType
from proxyindex.web.gzipped import gzipped

Document = ProjectPage | ProjectList

_BUDGET = 48 * 1024**2  # bytes of rendered pages in memory, per worker
_THREAD_FILES = 200  # more are rendered off the loop
_MIN_GZIP = 1024


@dataclass(frozen=True, slots=True)
class Rendered:
    """One representation: body, strong ETag, and the content coding if any."""

    body: bytes
    etag: str
    is_gzip: bool


class Renderer:
    """Renders pages and lists. Documents are immutable, so identity is what a memo needs.

    The memo does not keep them alive: rendered they take a fortieth of what they take in memory,
    and resolving 360 projects made it a gigabyte.
    """

    def __init__(self) -> None:
        self._memo: OrderedDict[tuple[int, MediaType, bool], tuple[ref[Document], Rendered]] = (
            OrderedDict()
        )
        self._rendering: dict[tuple[int, MediaType, bool], anyio.Event] = {}
        self._size = 0

    async def render(self, document: Document, form: MediaType, *, accepts_gzip: bool) -> Rendered:
        """The document in this form, compressed where the client takes it and it is worth it."""
        key = id(document), form, accepts_gzip
        while True:
            known = self._memo.get(key)
            if known is not None and known[0]() is document:
                self._memo.move_to_end(key)
                return known[1]
            if (rendering := self._rendering.get(key)) is None:
                break
            await rendering.wait()  # a herd renders once
        done = self._rendering[key] = anyio.Event()
        try:
            rendered = await self._rendered(document, form, accepts_gzip=accepts_gzip)
            self._keep(key, document, rendered)
        finally:
            del self._rendering[key]
            done.set()
        return rendered

    async def _rendered(
        self, document: Document, form: MediaType, *, accepts_gzip: bool
    ) -> Rendered:
        count = len(document.files if isinstance(document, ProjectPage) else document.names)
        if count > _THREAD_FILES:
            return await anyio.to_thread.run_sync(_render, document, form, accepts_gzip)
        return _render(document, form, accepts_gzip)

    def _keep(
        self, key: tuple[int, MediaType, bool], document: Document, rendered: Rendered
    ) -> None:
        if (old := self._memo.pop(key, None)) is not None:
            self._size -= len(old[1].body)
        self._memo[key] = ref(document), rendered
        self._size += len(rendered.body)
        while self._size > _BUDGET and len(self._memo) > 1:
            _, (_, oldest) = self._memo.popitem(last=False)
            self._size -= len(oldest.body)


def _render(document: Document, form: MediaType, accepts_gzip: bool) -> Rendered:
    if isinstance(document, ProjectPage):
        body = simple.render_page(document, form)
    else:
        body = simple.render_list(document, form)
    digest = hashlib.sha256(body).hexdigest()[:40]
    if not accepts_gzip or len(body) < _MIN_GZIP:
        return Rendered(body, f'"{digest}"', is_gzip=False)
    return Rendered(gzipped(body), f'"{digest}-gzip"', is_gzip=True)
