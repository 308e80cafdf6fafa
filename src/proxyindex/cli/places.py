"""Where own packages are changed: in the folders, by the server's services, or by a server's API.

Both places raise `ProxyindexError`s with the same sentences.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import anyio
from packaging.utils import NormalizedName

from proxyindex.errors import NotFound, ProxyindexError
from proxyindex.inquiry import Inquiry
from proxyindex.publish import changes, promotion

if TYPE_CHECKING:
    from proxyindex.publish.service import Publisher
    from proxyindex.settings import Settings
    from proxyindex.web.house import House
    from proxyindex.web.simple import IndexService

T = TypeVar("T")

TOKEN = "PROXYINDEX_PUBLISH_TOKEN"  # noqa: S105 - the name of a variable
USERNAME = "PROXYINDEX_PUBLISH_USERNAME"
PASSWORD = "PROXYINDEX_PUBLISH_PASSWORD"  # noqa: S105 - the name of a variable
_SECONDS = 600.0  # a push copies all files before it is answered
_REFRESH_SECONDS = 60.0
_MOST = 16 * 1024**2  # bytes of an answer


class Place(Protocol):
    """The changes there are. `index`: `None` for the default one. Return names of files."""

    def delete(
        self, index: str | None, project: NormalizedName, version: str | None, filename: str | None
    ) -> list[str]: ...

    def yank(
        self,
        index: str | None,
        project: NormalizedName,
        version: str,
        filename: str | None,
        reason: str | None,
    ) -> list[str]:
        """`reason`: `None` takes a yank back."""
        ...

    def push(self, source: str, target: str, project: NormalizedName, version: str) -> list[str]:
        """The names of those that were not there yet."""
        ...

    def refresh(self, index: str | None, project: NormalizedName) -> str:
        """What came of asking the upstream."""
        ...


class Folders:
    """The folders of this configuration, whether a server runs on them or not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def delete(
        self, index: str | None, project: NormalizedName, version: str | None, filename: str | None
    ) -> list[str]:
        return self._with(
            lambda house: changes.delete(_publisher(house, index), project, version, filename)
        )

    def yank(
        self,
        index: str | None,
        project: NormalizedName,
        version: str,
        filename: str | None,
        reason: str | None,
    ) -> list[str]:
        return self._with(
            lambda house: changes.yank(_publisher(house, index), project, version, filename, reason)
        )

    def push(self, source: str, target: str, project: NormalizedName, version: str) -> list[str]:
        return self._with(
            lambda house: promotion.push(
                _publisher(house, source).own, _publisher(house, target), project, version
            )
        )

    def refresh(self, index: str | None, project: NormalizedName) -> str:
        async def ask(house: House) -> str:
            inquiry = Inquiry(revalidate=True, deadline=time.monotonic() + _REFRESH_SECONDS)
            try:
                await _index(house, index).repository.project(project, inquiry)
            except NotFound:
                return "missing"
            return inquiry.outcome.value if inquiry.outcome else ""

        return self._with(ask)

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
    """The management API of a running server. `url`: where its indexes are, `…/simple/` or not."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ProxyindexError(
                "The server's URL must begin with http:// or https:// and hold no credentials; "
                f"those belong into {TOKEN}, or {USERNAME} and {PASSWORD}."
            )
        self._base = url.rstrip("/").removesuffix("/simple")

    def delete(
        self, index: str | None, project: NormalizedName, version: str | None, filename: str | None
    ) -> list[str]:
        path = [project, *filter(None, (version, filename))]
        return self._files("DELETE", index, ["projects", *path], "deleted")

    def yank(
        self,
        index: str | None,
        project: NormalizedName,
        version: str,
        filename: str | None,
        reason: str | None,
    ) -> list[str]:
        path, wanted = ["projects", project, version, "yank"], {"filename": filename}
        if reason is None:
            return self._files("DELETE", index, path, "unyanked", wanted)
        return self._files("POST", index, path, "yanked", wanted | {"reason": reason})

    def push(self, source: str, target: str, project: NormalizedName, version: str) -> list[str]:
        wanted = {"project": project, "version": version, "to": target}
        return self._files("POST", source, ["push"], "pushed", wanted)

    def refresh(self, index: str | None, project: NormalizedName) -> str:
        return str(self._ask("POST", index, ["projects", project, "refresh"]).get("outcome"))

    def _files(
        self,
        method: str,
        index: str | None,
        path: list[str],
        key: str,
        wanted: dict[str, Any] | None = None,
    ) -> list[str]:
        files = self._ask(method, index, path, wanted).get(key)
        if not isinstance(files, list):
            raise ProxyindexError(f"{self._base} is no server with this API.")
        return [str(name) for name in files]

    def _ask(
        self, method: str, index: str | None, path: list[str], wanted: object = None
    ) -> dict[str, Any]:
        parts = ["api", *path] if index is None else [index, "api", *path]
        url = "/".join([self._base, *(quote(part, safe="!+") for part in parts)])
        body = None if wanted is None else json.dumps(wanted).encode()
        request = urllib.request.Request(url, body, method=method, headers=_login())  # noqa: S310
        try:
            with _opener().open(request, timeout=_SECONDS) as answer:
                told = json.loads(answer.read(_MOST))
        except urllib.error.HTTPError as problem:
            said = problem.read(_MOST).decode("utf-8", "replace").strip()
            raise ProxyindexError(f"{problem.code}: {said or problem.reason}") from None
        except (OSError, http.client.HTTPException) as problem:
            raise ProxyindexError(f"{self._base} did not answer: {problem}.") from problem
        except ValueError:
            raise ProxyindexError(f"{self._base} is no server with this API.") from None
        return told if isinstance(told, dict) else {}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The credentials are for the server that was named."""

    def redirect_request(self, *_: object) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    return urllib.request.build_opener(_NoRedirects, trusting)


def _login() -> dict[str, str]:
    """From the variables that `proxyindex publish` reads as well."""
    password = os.environ.get(TOKEN) or os.environ.get(PASSWORD)
    if not password:
        return {}
    user = os.environ.get(USERNAME) or "__token__"
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _index(house: House, name: str | None) -> IndexService:
    found = house.indexes.get(name or house.default)
    if found is None:
        raise ProxyindexError(f"There is no index {name!r}; there are: {', '.join(house.indexes)}.")
    return found


def _publisher(house: House, name: str | None) -> Publisher:
    found = _index(house, name)
    if found.publisher is None:
        raise ProxyindexError(f"The index {found.name!r} has no folder of its own.")
    return found.publisher
