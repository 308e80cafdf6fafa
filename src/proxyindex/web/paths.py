"""What a request target may look like, decided once, before routing.

Targets are refused or cleaned here, so that endpoints see decoded, slash-collapsed paths in which
no encoded separator can hide (protocol of old pips: such a link writes outside their folder).
"""

import re

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from proxyindex.web.accesslog import CROWDED_KEY

MAX_TARGET = 2048
_SLASHES = re.compile(r"/{2,}")
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|\Z)")
_BAD_CHARACTER = re.compile(r"[\\\x00-\x1f\x7f]")
# %00, controls, encoded separators, encoded dots, and percent signs that encode nothing
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%[01][0-9A-Fa-f]|%7[Ff]|%2[EeFf]|%5[Cc]")


class PathGuard:
    """ASGI middleware: 400 for hostile targets, 508 for our own requests coming back, 503 where
    the server says that it is crowded, and the prefix (`base_path`) moved from the path into
    `root_path`."""

    def __init__(self, app: ASGIApp, *, base_path: str, via: str) -> None:
        self._app = app
        self._base_path = base_path
        self._via = via.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            status, reason = refusal
            answer: ASGIApp = PlainTextResponse(
                reason + "\n", status, {"Cache-Control": "no-store"}
            )
            await answer(scope, receive, send)
        elif self._base_path and scope["path"] == self._base_path:
            await RedirectResponse(self._base_path + "/", 301)(scope, receive, send)
        else:
            scope["path"] = self._full_path(scope["path"])
            scope["root_path"] = self._base_path
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        if scope.get(CROWDED_KEY):
            return 503, "Too many clients are connected."
        if any(name == b"via" and self._via in value for name, value in scope["headers"]):
            return 508, "The upstreams of this index lead back to itself."
        raw = scope.get("raw_path") or scope["path"].encode()
        if len(raw) > MAX_TARGET:
            return 400, f"The path is longer than {MAX_TARGET} bytes."
        path = scope["path"]
        if not path.startswith("/"):
            return 400, "The request target is not a path."
        if _BAD_ESCAPE.search(raw):
            return 400, "The path holds an escape that is not allowed in it."
        if _BAD_CHARACTER.search(path):
            return 400, "The path holds a character that is not allowed in it."
        if _DOT_SEGMENT.search(path):
            return 400, "The path holds a dot segment."
        return None

    def _full_path(self, path: str) -> str:
        """The path below the prefix, also where a front has already stripped it."""
        path, prefix = _SLASHES.sub("/", path), self._base_path
        return path if path.startswith(prefix + "/") else prefix + path
