"""Targets for what clients ask: the path, and the headers that decide how it is answered."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from proxyindex.web.index import accepts_gzip, inquiry_of
from proxyindex.web.paths import PathGuard

_HOP = re.compile(r"1\.1 proxyindex-[A-Za-z0-9_.-]{1,40}")
_HIDDEN = re.compile(r"%(?:2[ef]|5c|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})", re.IGNORECASE)


def path(data: bytes) -> None:
    """A request target below a prefix: refused, or a clean path that hides nothing."""
    raw = b"/" + data.replace(b"?", b"")
    if not raw.isascii():  # the HTTP parser's affair
        return
    scope: Scope = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
    scope |= {"raw_path": raw, "path": unquote(raw.decode()), "root_path": ""}
    passed, status = _guarded(scope)
    if not passed:
        assert status in (301, 400)
        return
    assert len(raw) <= 2048
    assert not _HIDDEN.search(raw.decode())
    found = scope["path"]
    assert found.startswith("/pypi/")
    assert "//" not in found
    assert "\\" not in found
    assert not {".", ".."} & set(found.split("/"))
    assert not any(ord(character) < 32 or ord(character) == 127 for character in found)


def request(data: bytes) -> None:
    """Accept-Encoding, Cache-Control and Via of a client, a line each."""
    lines = [*data.split(b"\n"), b"", b"", b""]
    names = (b"accept-encoding", b"cache-control", b"via")
    headers = [(name, line) for name, line in zip(names, lines, strict=False) if line]
    asked = Request({"type": "http", "method": "GET", "headers": headers})
    inquiry = inquiry_of(asked, may_fetch=True)
    control = lines[1].decode("latin-1").lower()
    assert not inquiry.revalidate or "no-cache" in control or "max-age=0" in control
    # it goes on to upstreams, so nothing else may be in it
    hops = inquiry.via.split(", ") if inquiry.via else []
    assert len(hops) <= 20
    assert all(_HOP.fullmatch(hop) for hop in hops)
    coding = lines[0].decode("latin-1")
    if accepts_gzip(asked):
        assert "gzip" in coding.lower()


def _guarded(scope: Scope) -> tuple[bool, int | None]:
    """Whether the guard lets the request pass, and the status of its answer if not."""
    seen: list[int] = []
    passed: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        if "status" in message:
            seen.append(message["status"])

    guard = PathGuard(app, base_path="/pypi", via="proxyindex-test")
    _finish(guard(scope, receive, send))
    return bool(passed), seen[0] if seen else None


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run what awaits nothing that is not there yet, without an event loop."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("the guard waits for something")
