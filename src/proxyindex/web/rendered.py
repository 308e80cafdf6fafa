"""Pages as bytes: rendered once per page, form and coding, and kept while the page is."""

import hashlib
from dataclasses import dataclass
from functools import partial
from weakref import ref

from proxyindex import simple
from proxyindex.flight import Shared
from proxyindex.memo import Memo
from proxyindex.model import ProjectList, ProjectPage
from proxyindex.simple import MediaType
from proxyindex.threads import in_thread
from proxyindex.web.gzipped import gzipped
from proxyindex.web.people import styled

Document = ProjectPage | ProjectList
# identity of the document, form, whether gzip is taken, whether it has a style
Key = tuple[int, MediaType, bool, bool]

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
        self._memo: Memo[Key, tuple[ref[Document], Rendered]] = Memo(
            _BUDGET, lambda kept: len(kept[1].body)
        )
        self._rendering: Shared[Key, Rendered] = Shared()

    async def render(
        self, document: Document, form: MediaType, *, accepts_gzip: bool, is_styled: bool = False
    ) -> Rendered:
        """The document in this form, compressed where the client takes it and it is worth it.

        `is_styled`: HTML for browsers.
        """
        key = id(document), form, accepts_gzip, is_styled
        known = self._memo.get(key)
        if known is not None and known[0]() is document:
            return known[1]
        # a herd renders once
        return await self._rendering.get(key, partial(self._rendered, document, key))

    async def _rendered(self, document: Document, key: Key) -> Rendered:
        _, form, accepts_gzip, is_styled = key
        count = len(document.files if isinstance(document, ProjectPage) else document.names)
        if count > _THREAD_FILES:
            rendered = await in_thread(_render, document, form, accepts_gzip, is_styled)
        else:
            rendered = _render(document, form, accepts_gzip, is_styled)
        self._memo.put(key, (ref(document), rendered))
        return rendered


def _render(document: Document, form: MediaType, accepts_gzip: bool, is_styled: bool) -> Rendered:
    if isinstance(document, ProjectPage):
        pieces = list(simple.page_pieces(document, form))
    else:
        pieces = [simple.render_list(document, form)]
    if is_styled:
        pieces[0] = styled(pieces[0])
    is_gzip = accepts_gzip and sum(map(len, pieces)) >= _MIN_GZIP
    body = gzipped(pieces) if is_gzip else b"".join(pieces)
    # of what is sent: a tenth of the bytes where it is compressed
    return Rendered(body, f'"{hashlib.sha256(body).hexdigest()[:40]}"', is_gzip)
