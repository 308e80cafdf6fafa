"""The ways in which an upstream can be wrong, each a function from what was asked to what is sent.

`FILE_FAULTS` and `PAGE_FAULTS` list them; the first of each is what a burst of errors consists of.
"""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

_HTML = b"<!DOCTYPE html><html><body>Please log in to this network.</body></html>"


@dataclass(frozen=True, slots=True)
class Sent:
    """One answer. `declared` is its Content-Length: its true one unless given, none if negative.

    Seconds: `delay` before it, `hang` after it until the connection is dropped.
    """

    status: int
    body: bytes | memoryview
    headers: dict[str, str] = field(default_factory=dict)
    declared: int | None = None
    delay: float = 0.0
    hang: float = 0.0
    is_last: bool = False
    is_reset: bool = False
    raw: bytes | None = None

    def head(self) -> bytes:
        if self.raw is not None:
            return self.raw
        length = len(self.body) if self.declared is None else self.declared
        lines = [f"HTTP/1.1 {self.status} Whatever"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {length}"] if length >= 0 else []
        lines += ["Connection: close"] if self.is_last else []
        return "\r\n".join([*lines, "", ""]).encode()

    def cut(self, at: int, **how: bool | float) -> Sent:
        """The same announced whole, but only `at` bytes of it."""
        return replace(self, body=self.body[:at], declared=len(self.body), **how)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for `body`, in full or in part."""

    body: bytes | memoryview
    headers: dict[str, str]
    content_type: str = "application/octet-stream"

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'

    def span(self) -> tuple[int, int] | None:
        """First byte asked for and the one after the last; `None` if all is wanted."""
        first, _, last = self.headers.get("range", "").removeprefix("bytes=").partition("-")
        if not first.isdigit() or int(first) >= len(self.body):
            return None
        return int(first), min(int(last) + 1, len(self.body)) if last else len(self.body)

    def good(self, *, etag: str | None = None, body: bytes | memoryview | None = None) -> Sent:
        """What a well-behaved upstream sends, perhaps of other bytes under another tag."""
        mine, body = self.etag, self.body if body is None else body
        tag = etag or mine
        headers = {"Content-Type": self.content_type, "ETag": tag, "Accept-Ranges": "bytes"}
        if self.headers.get("if-none-match") == tag:
            return Sent(304, b"", {"ETag": tag}, declared=-1)
        span = self.span()
        if span is None or self.headers.get("if-range", mine) not in (mine, tag):
            return Sent(200, body, headers)
        return self.part(*span, body=body, headers=headers)

    def part(
        self, start: int, stop: int, *, body: bytes | memoryview, headers: dict[str, str]
    ) -> Sent:
        told = {"Content-Range": f"bytes {start}-{stop - 1}/{len(self.body)}"}
        return Sent(206, body[start:stop], {**headers, **told})


Fault = Callable[[Asked, random.Random], Sent]


def _somewhere(sent: Sent, chance: random.Random) -> int:
    """Where to cut: at the very beginning and the very end more often than between."""
    most = max(len(sent.body) - 1, 0)
    return chance.choice([0, min(1, most), most // 2, most, chance.randint(0, most)])


def _damaged(body: bytes | memoryview, chance: random.Random) -> bytes:
    changed = bytearray(body)
    if changed:
        at = chance.randrange(len(changed))
        changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed)


def error(asked: Asked, chance: random.Random) -> Sent:
    status = chance.choice([500, 502, 503, 503, 504, 429])
    return Sent(status, b"no", {"Retry-After": "1"} if status == 429 else {})


def cut(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return good.cut(_somewhere(good, chance), is_last=True)


def reset(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return good.cut(_somewhere(good, chance), is_reset=True)


def flipped(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return replace(good, body=_damaged(good.body, chance))


def zeroed(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    kept = _somewhere(good, chance)
    return replace(good, body=bytes(good.body[:kept]) + bytes(len(good.body) - kept))


def shorter(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return replace(good, body=good.body[: _somewhere(good, chance)])


def longer(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return replace(good, body=bytes(good.body) + chance.randbytes(chance.randint(1, 5000)))


def chunked_short(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return _chunked(good, bytes(good.body[: _somewhere(good, chance)]))


def chunked_damaged(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return _chunked(good, _damaged(good.body, chance))


def chunked(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return _chunked(good, bytes(good.body))


def unsized_short(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return replace(good.cut(_somewhere(good, chance), is_last=True), declared=-1)


def empty(asked: Asked, chance: random.Random) -> Sent:
    return Sent(200, b"", {"Content-Type": asked.content_type})


def notice(asked: Asked, chance: random.Random) -> Sent:
    return Sent(200, _HTML, {"Content-Type": "text/html"})


def noise(asked: Asked, chance: random.Random) -> Sent:
    return Sent(0, b"", raw=chance.randbytes(200), is_last=True)


def gone(asked: Asked, chance: random.Random) -> Sent:
    return Sent(404, b"no such file")


def gzipped(asked: Asked, chance: random.Random) -> Sent:
    body = gzip.compress(bytes(asked.body), 1)
    return Sent(200, body, {"Content-Encoding": "gzip", "Content-Type": asked.content_type})


def gzipped_short(asked: Asked, chance: random.Random) -> Sent:
    whole = gzipped(asked, chance)
    return replace(whole, body=whole.body[: _somewhere(whole, chance)])


def silent(asked: Asked, chance: random.Random) -> Sent:
    good = asked.good()
    return good.cut(_somewhere(good, chance), hang=chance.uniform(0.05, 0.5))


def late(asked: Asked, chance: random.Random) -> Sent:
    return replace(asked.good(), delay=chance.uniform(0.01, 0.3))


def shifted(asked: Asked, chance: random.Random) -> Sent:
    """Another part than asked for, and it says so."""
    start, stop = asked.span() or (0, len(asked.body))
    start = min(start + chance.randint(1, 9), stop - 1)
    return asked.part(start, stop, body=asked.body, headers={"ETag": asked.etag})


def shifted_secretly(asked: Asked, chance: random.Random) -> Sent:
    """Another part than asked for, under the right name."""
    start, stop = asked.span() or (0, len(asked.body))
    turned = bytes(asked.body[start + 1 : stop]) + bytes(asked.body[start : start + 1])
    right = asked.part(start, stop, body=asked.body, headers={"ETag": asked.etag})
    return replace(right, body=turned)


def range_ignored(asked: Asked, chance: random.Random) -> Sent:
    return Sent(200, asked.body, {"Content-Type": asked.content_type, "ETag": asked.etag})


def other_tag(asked: Asked, chance: random.Random) -> Sent:
    return asked.good(etag=f'"{chance.random()}"')


def other_version(asked: Asked, chance: random.Random) -> Sent:
    return asked.good(etag=f'"{chance.random()}"', body=_damaged(asked.body, chance))


def cut_then_other_version(asked: Asked, chance: random.Random) -> Sent:
    """Announced and begun like the right file; what follows at a resume may be another."""
    wrong = asked.good(body=_damaged(asked.body, chance))
    return wrong.cut(_somewhere(wrong, chance), is_last=True)


def _chunked(good: Sent, body: bytes) -> Sent:
    half = len(body) // 2
    pieces = [piece for piece in (body[:half], body[half:]) if piece]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    if good.status == 304:
        return good
    headers = {**good.headers, "Transfer-Encoding": "chunked"}
    return replace(good, body=coded, headers=headers, declared=-1)


FILE_FAULTS: tuple[Fault, ...] = (
    error, cut, cut, cut, reset, reset, flipped, flipped, zeroed, shorter, longer, chunked_short,
    chunked_damaged, chunked, unsized_short, empty, notice, noise, gone, gzipped, gzipped_short,
    silent, late, shifted, shifted_secretly, range_ignored, other_tag, other_version,
    cut_then_other_version,
)  # fmt: skip
# a page that is sound but lies would be served, as it must be: only damage that shows
PAGE_FAULTS: tuple[Fault, ...] = (
    error, cut, reset, shorter, chunked, chunked_short, unsized_short, empty, notice, noise,
    gzipped, gzipped_short, silent, late, other_tag,
)  # fmt: skip
