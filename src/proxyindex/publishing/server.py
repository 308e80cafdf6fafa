"""The target that is an index with an upload API: PyPI's legacy one, which all indexes have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

from packaging.utils import NormalizedName

from proxyindex import inquiry
from proxyindex.model import ProjectPage
from proxyindex.publishing.client import MAX_PAGE, Answer, Client, Unreachable
from proxyindex.publishing.credentials import Credentials, login_hint
from proxyindex.publishing.distribution import Distribution
from proxyindex.publishing.form import make_form
from proxyindex.publishing.target import Advance, Outcome, PublishError, conflict
from proxyindex.simple import InvalidPage, MediaType, parse_page
from proxyindex.texts import is_host, whole_number

_PAUSES = (1.0, 3.0, 9.0)  # seconds before another attempt
_LONGEST_PAUSE = 120.0  # of those a server may ask for
_ACCEPT = f"{MediaType.JSON}, {MediaType.V1_HTML};q=0.2, {MediaType.HTML};q=0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to upload, and the project pages to compare with, if any are known.

    `is_checked`: somebody named the pages, so they must answer, and show what was uploaded. Pages
    found by convention are only asked to save uploads.
    """

    upload: str
    pages: str | None
    is_checked: bool = False


def address(url: str, check: str | None) -> Address:
    """What a URL given by a person means. Raises `PublishError` for one that cannot be used.

    `…/simple/` means the index that has its pages there: it takes uploads at `…/legacy/`. Anything
    else is taken for the upload URL itself, and pages are looked for at `simple/` beside it.
    """
    parts = _checked(url)
    path = parts.path or "/"
    base = base_of(path)
    if path.rstrip("/").endswith("/simple"):
        path = f"{base}legacy/"
    upload = urlunsplit(parts._replace(path=path, fragment=""))
    if check is not None:
        given = _checked(check)
        pages = urlunsplit(given._replace(path=given.path.rstrip("/") + "/", fragment="", query=""))
        return Address(upload, pages, is_checked=True)
    if base is None:
        return Address(upload, None)
    return Address(upload, urlunsplit(parts._replace(path=f"{base}simple/", query="", fragment="")))


def base_of(path: str) -> str | None:
    """The folder in which an index has `simple/` and `legacy/`, as far as the path tells."""
    folder = path.rstrip("/")
    for last in ("simple", "legacy"):
        if folder.endswith("/" + last):
            return folder.removesuffix(last)
    return path if path.endswith("/") else None


class Server:
    """Uploads one file after the other; what the index says is what is told."""

    def __init__(
        self,
        where: Address,
        client: Client,
        credentials: Credentials | None,
        *,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._where = where
        self._client = client
        self._credentials = credentials
        self._pause = pause
        self._host = urlsplit(where.upload).netloc

    def held(self, wanted: Sequence[Distribution]) -> Mapping[str, str]:
        """What the project pages list, where there are any.

        What the index has from its upstream may become its own. Not so other bytes under that
        name: installers that have the upstream's take no others.
        """
        pages = {name: self._page(name) for name in {each.project for each in wanted}}
        found: dict[str, str] = {}
        for each in wanted:
            page, is_own = pages[each.project]
            digest = _digest(page, each.filename)
            if digest and (is_own or digest != each.sha256):
                found[each.filename] = digest
        return found

    def send(
        self, wanted: Sequence[Distribution], *, overwrite: bool, advance: Advance
    ) -> Iterator[tuple[Distribution, Outcome]]:
        """Whether other bytes are replaced is for the index to decide."""
        for each in wanted:
            answer = self._upload(each, advance)
            if answer.status < 300:
                self._confirm(each)
                yield each, _outcome(answer, overwrite=overwrite)
            elif self._is_there_by_now(each, answer):
                yield each, Outcome.THERE
            else:
                raise PublishError(self._refusal(each, answer, overwrite=overwrite))

    def finish(self, projects: Sequence[NormalizedName]) -> Sequence[str]:
        """Nothing: an index makes its own pages."""
        return ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def _upload(self, each: Distribution, advance: Advance) -> Answer:
        """The last answer; sent again where there was none, and where a 503 asks for it.

        That is safe: the same bytes under the same name are the same file, however often they come.
        """
        for pause in _PAUSES:
            try:
                answer = self._attempt(each, advance)
                if (asked := _asked_pause(answer)) is None:
                    return answer
            except Unreachable:
                asked = pause
            self._pause(asked)
        try:
            return self._attempt(each, advance)
        except Unreachable as problem:
            raise PublishError(f"{each.filename} was not published: {problem}") from problem

    def _attempt(self, each: Distribution, advance: Advance) -> Answer:
        form, sent = make_form(each), 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            advance(size)

        accepted = False
        try:
            answer = self._client.post(
                self._where.upload, form.content_type, form.length, form.pieces(count)
            )
            accepted = answer.status < 300
        finally:
            if not accepted:
                advance(-sent)
        return answer

    def _confirm(self, each: Distribution) -> None:
        """With pages that were named: the file must be there now. Raises `PublishError`."""
        if not self._where.is_checked:
            return
        for pause in (*_PAUSES, None):
            found = _digest(self._page(each.project)[0], each.filename)
            if found == each.sha256:
                return
            if found is not None:
                raise PublishError(conflict(each, found, self._host))
            if pause is not None:
                self._pause(pause)
        raise PublishError(
            f"{self._host} took {each.filename}, but the page of {each.project} at "
            f"{self._where.pages} does not list it."
        )

    def _is_there_by_now(self, each: Distribution, answer: Answer) -> bool:
        """Whether it was refused because somebody else was faster, or our first attempt arrived.

        Who was not let in (401) has learned nothing of that. Nor does a page help that has the
        bytes from an upstream: they were there before, and the index still has not taken them.
        """
        if answer.status < 400 or answer.status == 401:
            return False
        page, is_own = self._page(each.project)
        return is_own and _digest(page, each.filename) == each.sha256

    def _page(self, name: NormalizedName) -> tuple[ProjectPage | None, bool]:
        """The project's page now, `None` where there is none, and whether it tells what the index
        has of its own: a proxyindex says if not, and pages that were named always do.

        Raises `PublishError` where nobody can tell, of pages that were named.
        """
        if self._where.pages is None:
            return None, True
        url = f"{self._where.pages}{name}/"
        try:
            answer = self._client.get(url, _ACCEPT)
            if answer.status == 404:
                return None, True
            if answer.status == 200 and len(answer.body) <= MAX_PAGE:
                content_type = answer.headers.get("content-type", "")
                page = parse_page(
                    answer.body, content_type, project=name, base_url=url, upstream="target"
                )
                told = answer.headers.get(inquiry.OUTCOME_HEADER, inquiry.Outcome.LOCAL)
                return page, told == inquiry.Outcome.LOCAL or self._where.is_checked
            problem = f"it answers {answer.status}"
        except (Unreachable, InvalidPage) as exc:
            problem = str(exc).removesuffix(".")
        if self._where.is_checked:
            raise PublishError(f"The page {url} cannot be compared with: {problem}.")
        return None, True

    def _refusal(self, each: Distribution, answer: Answer, *, overwrite: bool) -> str:
        said = answer.said(self._credentials)
        sentence = f"{self._host} refused {each.filename}: {answer.status} {said}".rstrip(". ")
        if 300 <= answer.status < 400:
            return (
                f"{sentence}. It redirects to {answer.leads()!r}; publish there, if that is meant."
            )
        if answer.status == 401:
            return f"{sentence}. {login_hint(self._credentials)}"
        if answer.status == 409 and overwrite:
            return (
                f"{sentence}. Whether files may be replaced is for the index to say; a proxyindex "
                "lets them with `overwrite = true`."
            )
        return sentence + "."


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as problem:
        raise PublishError(f"The URL cannot be used: {problem}.") from problem
    if "@" in parts.netloc:
        raise PublishError(
            "The URL has credentials in it, where everybody can see them: leave them out, and set "
            "PROXYINDEX_PUBLISH_TOKEN, or PROXYINDEX_PUBLISH_USERNAME and "
            "PROXYINDEX_PUBLISH_PASSWORD, or use netrc or keyring."
        )
    if parts.scheme not in ("http", "https") or not url.isprintable():
        raise PublishError(f"{url!r} is no http or https URL.")
    if not is_host(parts.hostname or ""):
        raise PublishError(f"{url!r} names no host that can be looked up.")
    return parts


def _digest(page: ProjectPage | None, filename: str) -> str | None:
    """The sha256 a page tells of a file; one without a digest cannot be compared with."""
    listed = page.files if page else ()
    return next((file.sha256 for file in listed if file.filename == filename), None)


def _outcome(answer: Answer, *, overwrite: bool) -> Outcome:
    """What became of an upload that was taken; only a proxyindex says where nothing did."""
    if answer.headers.get(inquiry.OUTCOME_HEADER) == inquiry.UNCHANGED:
        return Outcome.THERE
    return Outcome.REPLACED if overwrite else Outcome.PUBLISHED


def _asked_pause(answer: Answer) -> float | None:
    """Seconds after which a 503 wants to be asked again; `None`: it does not, or not soon."""
    seconds = whole_number(answer.headers.get("retry-after", ""))
    is_fit = answer.status == 503 and seconds is not None and seconds <= _LONGEST_PAUSE
    return seconds if is_fit else None
