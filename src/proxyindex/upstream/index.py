"""An upstream index: its pages, its project list, its files, as answers without HTTP in them."""

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from proxyindex.errors import (
    FileGone,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from proxyindex.freshness import upstream_lifetime
from proxyindex.texts import whole_number
from proxyindex.upstream.client import Client, OffOrigin, Reply
from proxyindex.upstream.connection import Connection
from proxyindex.upstream.retry import pause_before
from proxyindex.upstream.ways import Transport

log = logging.getLogger(__name__)

# JSON first; decided by what is answered, never by what was asked
ACCEPT = (
    "application/vnd.pypi.simple.v1+json, "
    "application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
)
_TALKING_SECONDS = 3.0
# not now (RFC 9110, 15.5.9 and 15.6.4; RFC 8470, 5.2; RFC 6585, 4)
_BUSY = frozenset({408, 425, 429, 503})
_STRANGERS = 3  # names that it does not know, and none that it does: its address may be wrong
_FETCH_SECONDS = 60.0  # a page that takes longer is given up even in the background


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page as upstream sent it. `url` is final; `lifetime` in seconds if upstream named one."""

    url: str
    content_type: str
    body: bytes
    etag: str | None = None
    last_modified: str | None = None
    serial: int | None = None
    lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: what we have is current. `etag` is what upstream repeated, if it did."""

    etag: str | None = None
    lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """Upstream says that there is no such project (404, 410, or a redirect to another host).

    `is_elsewhere`: such a redirect. Some indexes send unknown names to PyPI that way,
    but login portals do the same.
    """

    is_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Validators:
    """What lets us ask "has it changed?"; sent back verbatim, weak tags too."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        fields = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in fields.items() if value}


class Upstream:
    """One remote index. `max_page_size` in bytes; `retries` beyond the first attempt. A page is
    given up after `page_seconds`. `may_know_nothing`: another is asked for what it lacks."""

    def __init__(
        self,
        connection: Connection,
        *,
        retries: int = 3,
        max_page_size: int = 64 * 1024**2,
        page_seconds: float = _FETCH_SECONDS,
        max_transfers: int = 32,
        forbidden_is_missing: bool = False,
        may_know_nothing: bool = False,
        transport: Transport | None = None,
    ) -> None:
        self.name = connection.name
        self._via = f"1.1 {connection.via}"
        self._url = connection.url.rstrip("/") + "/"
        self.retries = retries
        self._heard_at = -_TALKING_SECONDS
        self._max_page_size = max_page_size
        self._page_seconds = page_seconds
        self._forbidden_is_missing = forbidden_is_missing
        # None: it knew one, or it was told
        self._strangers: set[str] | None = None if may_know_nothing else set()
        self._pages = Client(connection, transport=transport)
        # of their own, so that long downloads never keep a page waiting for a connection
        self._files = Client(connection, max_connections=2 * max_transfers, transport=transport)

    async def page(
        self, project: str, validators: Validators, *, via: str = ""
    ) -> Fetched | NotModified | Absent:
        """The page of a project; `project` is a normalized name, `""` asks for the project list.

        `via`: servers that the request has come through before us (RFC 9110, 7.6.3).
        Raises `UpstreamUnavailable` after the retries, `UpstreamInvalid` for an unusable answer.
        """
        url = f"{self._url}{project}/" if project else self._url
        try:
            with anyio.fail_after(self._page_seconds):
                answer = await self._retried(url, validators, via)
        except TimeoutError as problem:
            raise UpstreamUnavailable(self.name, "did not finish its page in time") from problem
        if project:
            self._get_to_know(project, answer)
        return answer

    @asynccontextmanager
    async def download(
        self, url: str, *, filename: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Reply]:
        """The open answer (200, 206 or 416) to a request for a file's raw bytes.

        Raises `FileGone`, `UpstreamUnavailable`, `UpstreamInvalid`.
        """
        asked = {"Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
        async with self._files.get(url, asked) as reply:
            if reply.status in (404, 410):
                raise FileGone(filename)
            if reply.status not in ((200, 206, 416) if "Range" in asked else (200,)):
                raise self._refusal(reply)
            reply.when_heard = self._hear
            yield reply

    @property
    def is_talking(self) -> bool:
        """Whether bytes of any file came from it in the last seconds: who waits for it waits for
        his turn then, not for the dead."""
        return time.monotonic() - self._heard_at < _TALKING_SECONDS

    def _get_to_know(self, project: str, answer: Fetched | NotModified | Absent) -> None:
        """Tell once if it seems to know nothing: all that clients are told of a wrong address is
        404 for every name."""
        if self._strangers is None:
            return
        if not isinstance(answer, Absent) or answer.is_elsewhere:
            self._strangers = None  # who sends strangers elsewhere is an index
            return
        self._strangers.add(project)
        if len(self._strangers) >= _STRANGERS:
            self._strangers = None
            log.warning(
                "%s knows none of the %d projects it was first asked for; its address, %s, has to "
                "be what you would give to pip as --index-url",
                self.name,
                _STRANGERS,
                self._url,
            )

    def _hear(self) -> None:
        self._heard_at = time.monotonic()

    async def aclose(self) -> None:
        await self._pages.aclose()
        await self._files.aclose()

    async def _retried(
        self, url: str, validators: Validators, via: str
    ) -> Fetched | NotModified | Absent:
        for attempt in range(self.retries + 1):
            try:
                return await self._ask(url, validators, via)
            except UpstreamUnavailable as problem:
                pause = pause_before(problem, attempt)
                if attempt == self.retries or pause is None:
                    raise
                await anyio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _ask(
        self, url: str, validators: Validators, via: str
    ) -> Fetched | NotModified | Absent:
        headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip", **validators.headers()}
        if via:
            headers["Via"] = f"{via}, {self._via}"
        try:
            async with self._pages.get(url, headers, same_origin=True) as reply:
                return await self._answer(reply, validators)
        except OffOrigin:
            return Absent(is_elsewhere=True)

    async def _answer(self, reply: Reply, validators: Validators) -> Fetched | NotModified | Absent:
        if reply.status == 200:
            return Fetched(
                url=reply.url,
                content_type=reply.headers.get("content-type", ""),
                body=await reply.text(self._max_page_size),
                etag=reply.headers.get("etag"),
                last_modified=reply.headers.get("last-modified"),
                serial=whole_number(reply.headers.get("x-pypi-last-serial", "")),
                lifetime=upstream_lifetime(reply.headers),
            )
        if reply.status == 304 and validators.headers():
            return NotModified(reply.headers.get("etag"), upstream_lifetime(reply.headers))
        if reply.status in (404, 410) or (reply.status == 403 and self._forbidden_is_missing):
            return Absent()
        raise self._refusal(reply)

    def _refusal(self, reply: Reply) -> UpstreamError:
        if reply.status in (401, 403, 407):
            return UpstreamRefused(self.name, f"refused us with status {reply.status}")
        if reply.status in _BUSY or reply.status >= 500:
            kind = UpstreamBusy if reply.status in _BUSY else UpstreamUnavailable
            return kind(self.name, f"answered {reply.status}", asked_pause=reply.asked_pause())
        return UpstreamRefused(self.name, f"answered {reply.status}")
