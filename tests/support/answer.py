"""What a scripted reply comes to for one request: status, headers, part of the body. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate
from http.client import responses

from tests.support.reply import Body, Generated, Reply

NO_BODY = (204, 304)


@dataclass(slots=True)
class Seen:
    """One request as recorded; `at` is `time.monotonic()`, which all processes share."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    at: float
    connection: int
    status: int = 0
    sent: int = 0
    is_finished: bool = False
    is_left: bool = False

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name), None)

    def matches(self, path: str | None, method: str | None) -> bool:
        return path in (None, self.target, self.path) and method in (None, self.method)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reply comes to for one request."""

    status: int
    headers: dict[str, str]
    start: int
    stop: int


def plan(reply: Reply, seen: Seen, content: Body) -> Plan:
    """Decide status, headers and the part of the body, as RFC 9110 §13 and §14 order it."""
    size = len(content)
    headers = _headers(reply, content)
    if reply.status != 200:
        return Plan(reply.status, headers, 0, size)
    if reply.conditional and _is_not_modified(reply, seen):
        return Plan(304, headers, 0, 0)
    wanted = _range(reply, seen, size)
    if wanted is None:
        return Plan(200, headers, 0, size)
    start, stop = wanted
    if start >= size:
        return Plan(416, {**headers, "Content-Range": f"bytes */{size}"}, 0, 0)
    start, stop = start + reply.range_shift, stop + reply.range_shift
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Plan(206, headers, start, stop)


def _headers(reply: Reply, content: Body) -> dict[str, str]:
    headers: dict[str, str | None] = {
        "Date": formatdate(usegmt=True),
        "Content-Type": reply.content_type,
        "ETag": reply.entity_tag(),
        "Last-Modified": reply.last_modified,
        "Accept-Ranges": "bytes" if reply.ranges != "none" and reply.status == 200 else None,
        "Content-Encoding": "gzip" if reply.gzip else None,
        "Connection": "close" if reply.close or reply.declare is not None else None,
    }
    return {name: value for name, value in (headers | dict(reply.headers)).items() if value}


def _is_not_modified(reply: Reply, seen: Seen) -> bool:
    if tags := seen.header("if-none-match"):
        tag = (reply.entity_tag() or "").removeprefix("W/")
        return bool(tag) and tag in [t.strip().removeprefix("W/") for t in tags.split(",")]
    since = seen.header("if-modified-since")
    return since is not None and since == reply.last_modified


def _range(reply: Reply, seen: Seen, size: int) -> tuple[int, int] | None:
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", seen.header("range") or "")
    if not asked or reply.ranges != "honour" or seen.method != "GET":
        return None
    if (proof := seen.header("if-range")) and proof not in (
        reply.entity_tag(),
        reply.last_modified,
    ):
        return None
    first, last = asked.groups()
    if not first:
        return (max(0, size - int(last)), size) if last else None
    return int(first), min(size, int(last) + 1) if last else size


def head(reply: Reply, chosen: Plan) -> bytes:
    """Status line and headers as bytes."""
    headers = dict(chosen.headers)
    if chosen.status not in NO_BODY:
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            length = chosen.stop - chosen.start if reply.declare is None else reply.declare
            headers.setdefault("Content-Length", str(length))
    reason = reply.reason or responses.get(chosen.status, "Odd")
    lines = [f"HTTP/1.1 {chosen.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def part(content: Body, start: int, stop: int) -> bytes:
    """Some of the body, whichever kind it is."""
    return content.read(start, stop) if isinstance(content, Generated) else content[start:stop]
