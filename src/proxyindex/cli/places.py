"""Where own packages are changed: in the folders, by the server's services, or by a server's API.

Both places raise `ProxyindexError`s with the same sentences.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import anyio
from packaging.utils import NormalizedName

from proxyindex.audit import Action, Change
from proxyindex.cli import audited
from proxyindex.cli.calling import caller, credentials_for
from proxyindex.cli.printing import tell_of_old_pages
from proxyindex.errors import ProxyindexError, ServedElsewhere
from proxyindex.inquiry import OUTCOME_HEADER
from proxyindex.publishing import server
from proxyindex.publishing.client import Answer, Unreachable, origin
from proxyindex.publishing.credentials import Credentials, login_hint
from proxyindex.repository import base
from proxyindex.uploads import changes, promotion
from proxyindex.uploads.rejection import no_folder, no_other_index
from proxyindex.web.responses import NOTHING_HERE

if TYPE_CHECKING:
    from proxyindex.settings import Settings
    from proxyindex.uploads.service import Publisher
    from proxyindex.web.house import House
    from proxyindex.web.index import IndexService

T = TypeVar("T")

_REFRESH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Files:
    """Which files are meant: of an index (`None`: the default one) all those of a project, those of
    a version of it, or one by its name."""

    index: str | None
    project: NormalizedName
    version: str | None = None
    filename: str | None = None


class Place(Protocol):
    """The changes there are. They return the names of the files that were changed."""

    def delete(self, files: Files) -> list[str]: ...

    def yank(self, files: Files, reason: str | None) -> list[str]:
        """`reason`: `None` takes a yank back."""
        ...

    def push(self, files: Files, target: str) -> list[str]:
        """To the index `target`; the names of those that were not there yet."""
        ...

    def refresh(self, index: str | None, project: NormalizedName) -> str:
        """What came of asking the upstream: an `Outcome`, `missing` or `offline`."""
        ...


class Folders:
    """The folders of this configuration, whether a server runs on them or not.

    Where there are none, the command has said so before anything is changed here.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def delete(self, files: Files) -> list[str]:
        async def work(house: House, by: Change) -> list[str]:
            own = _publisher(_index(house, files.index))
            return await changes.delete(own, files.project, files.version, files.filename, by=by)

        return self._change("delete", files.index, files.project, work)

    def yank(self, files: Files, reason: str | None) -> list[str]:
        async def work(house: House, by: Change) -> list[str]:
            own = _publisher(_index(house, files.index))
            return await changes.yank(
                own, files.project, files.version, files.filename, reason, by=by
            )

        return self._change(
            "unyank" if reason is None else "yank", files.index, files.project, work
        )

    def push(self, files: Files, target: str) -> list[str]:
        async def work(house: House, by: Change) -> list[str]:
            source = _index(house, files.index)
            own, others = _publisher(source), house.targets(source)
            other = others.get(target)
            if other is None or other.publisher is None:
                raise no_other_index(target, others)
            return await promotion.push(
                own, other.publisher, files.project, files.version or "", by=by
            )

        return self._change("push", target, files.project, work, source=files.index)

    def refresh(self, index: str | None, project: NormalizedName) -> str:
        async def ask(house: House) -> str:
            repository, is_offline = _index(house, index).repository, self._settings.offline
            try:
                outcome = await base.refresh(
                    repository, project, _REFRESH_SECONDS, is_offline=is_offline
                )
            except ServedElsewhere as problem:
                raise _nothing_kept() from problem
            return outcome or ""

        return self._with(ask)

    def _change(
        self,
        action: Action,
        index: str | None,
        project: NormalizedName,
        work: Callable[[House, Change], Awaitable[list[str]]],
        source: str | None = None,
    ) -> list[str]:
        """Do it, and let the audit log say so; `index` is the one that is changed."""
        by = audited.changing(self._settings, action, index or self._settings.default.name, source)
        if names := self._with(lambda house: work(house, by)):
            by.note(names)
            tell_of_old_pages(self._folder(index), [project])
        return names

    def _folder(self, index: str | None) -> Path:
        """The one that is changed of this index, which has one."""
        default = self._settings.default
        named = (one for one in self._settings.indexes if one.name == index)
        return next(named, default).folders[0]

    def _with(self, work: Callable[[House], Awaitable[T]]) -> T:
        from proxyindex.app import alone  # noqa: PLC0415 - not for the other commands

        async def run() -> T | ProxyindexError:
            async with alone(self._settings) as house:
                try:
                    return await work(house)
                except ProxyindexError as problem:  # let through, its task groups would wrap it
                    return problem

        if isinstance(outcome := anyio.run(run), ProxyindexError):
            raise outcome
        return outcome


class Server:
    """The management API of a running server, with the credentials that publishing there has.

    `url`: where its indexes are, with `simple/` or not. `ca_file`: whom to believe instead of the
    system's authorities. Raises `PublishError` for a URL that cannot be used.
    """

    def __init__(self, url: str, ca_file: Path | None) -> None:
        self._asked_for = server.address(url, None).upload  # as publishing asks for credentials
        parts = urlsplit(url)
        path = (server.base_of(parts.path) or parts.path).rstrip("/")
        self._base = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        self._ca_file = ca_file

    @cached_property
    def _known(self) -> Credentials | None:
        """Looked for once, for all projects of a command: a keyring may have to be unlocked."""
        return credentials_for(self._asked_for)

    def delete(self, files: Files) -> list[str]:
        path = filter(None, (files.project, files.version, files.filename))
        return self._files("DELETE", files.index, ["projects", *path], "deleted")

    def yank(self, files: Files, reason: str | None) -> list[str]:
        path = ["projects", files.project, files.version or "", "yank"]
        wanted = {"filename": files.filename}
        if reason is None:
            return self._files("DELETE", files.index, path, "unyanked", wanted)
        return self._files("POST", files.index, path, "yanked", wanted | {"reason": reason})

    def push(self, files: Files, target: str) -> list[str]:
        wanted = {"project": files.project, "version": files.version, "to": target}
        return self._files("POST", files.index, ["push"], "pushed", wanted)

    def refresh(self, index: str | None, project: NormalizedName) -> str:
        outcome = self._ask("POST", index, ["projects", project, "refresh"]).get("outcome")
        return outcome if isinstance(outcome, str) and outcome.isprintable() else ""

    def _files(
        self,
        method: str,
        index: str | None,
        path: list[str],
        key: str,
        wanted: dict[str, Any] | None = None,
    ) -> list[str]:
        names = self._ask(method, index, path, wanted).get(key)
        if not isinstance(names, list) or not all(_is_name(name) for name in names):
            raise self._nobody(index)
        return names

    def _ask(
        self, method: str, index: str | None, path: list[str], wanted: object = None
    ) -> dict[str, Any]:
        parts = ["api", *path] if index is None else [index, "api", *path]
        target = "".join(f"/{_quoted(part)}" for part in parts)
        url = self._base + target
        body = None if wanted is None else json.dumps(wanted).encode()
        logins = {origin(url): self._known} if self._known else {}
        with closing(caller(logins, self._ca_file)) as client:
            try:
                answer = client.ask(method, url, body)
            except Unreachable as problem:
                again = "See whether it runs, and at this address; then say the same again."
                raise ProxyindexError(f"{problem} {again}") from problem
        if answer.status != 200:
            if 300 <= answer.status < 400:
                # a front's redirect has no such header: it means the address of the server
                if answer.headers.get(OUTCOME_HEADER) == "redirected":
                    raise _nothing_kept()
                raise self._led_away(answer, target)
            raise self._refusal(answer, index)
        try:
            told = json.loads(answer.body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise self._nobody(index)
        return told

    def _led_away(self, answer: Answer, target: str) -> ProxyindexError:
        """For a redirect: credentials go nowhere but where somebody said."""
        there = answer.leads().removesuffix(target)
        return ProxyindexError(
            f"{self._base} redirects ({answer.status}) to {there!r}: "
            "say that after --server, if it is meant."
        )

    def _refusal(self, answer: Answer, index: str | None) -> ProxyindexError:
        """What the server says, if it is one of ours, and what to do about it."""
        said = answer.said(self._known)
        # a sentence, and no page; others have words such as "Not Found"
        is_plain = answer.headers.get("content-type", "").startswith("text/plain")
        # nor where the server has nothing at all: then it is the address that is wrong
        is_ours = is_plain and said.endswith(".") and said != NOTHING_HERE
        if answer.status in (404, 405) and not is_ours:
            return self._nobody(index)
        if not is_ours:
            said = f"{urlsplit(self._base).netloc} answers {answer.status} {said}."
        return ProxyindexError(
            f"{said} {login_hint(self._known)}" if answer.status == 401 else said
        )

    def _nobody(self, index: str | None) -> ProxyindexError:
        what = f"no index {index!r}" if index else "no proxyindex"
        return ProxyindexError(
            f"There is {what} at {self._base}. The address is that of the server's start page, or "
            "the one that installers use, which ends in /simple/."
        )


def _is_name(text: object) -> bool:
    """Whether it may be printed as the name of a file."""
    return isinstance(text, str) and text.isprintable()


def _quoted(part: str) -> str:
    """As a part of a path, and one part only: another would mean another request."""
    if part in ("", ".", "..") or "/" in part or not part.isprintable():
        raise ProxyindexError(f"{part!r} is not the name of an index, a version or a file.")
    return quote(part, safe="!+")


def _index(house: House, name: str | None) -> IndexService:
    found = house.indexes.get(name or house.default)
    if found is None:
        raise ProxyindexError(f"There is no index {name!r}; there are: {', '.join(house.indexes)}.")
    return found


def _nothing_kept() -> ProxyindexError:
    return ProxyindexError(
        "This index sends clients on to the upstream for it and keeps no page of it: there is "
        "nothing to refresh."
    )


def _publisher(index: IndexService) -> Publisher:
    if index.publisher is None:
        raise no_folder()
    return index.publisher
