"""How the fake upstream answers: a value that describes one answer, polite or rude.

Shared by the handle (`upstream.py`, in the test) and the process (`upstream_process.py`); crosses
between them as JSON.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

BEFORE_HEADERS = -1
AUTO = "auto"
OLD = "Mon, 01 Jan 2024 00:00:00 GMT"
_PERIOD = 1_048_573  # a prime, so that no offset used by a client falls on a repetition


@dataclass(frozen=True, slots=True)
class Generated:
    """A body of `size` bytes that is never held whole; equal for equal `seed`, incompressible."""

    size: int
    seed: int = 0

    def __len__(self) -> int:
        return self.size

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop` (clamped to the size)."""
        stop = min(stop, self.size)
        block = _block(self.seed)
        out = bytearray()
        while start < stop:
            offset = start % _PERIOD
            piece = block[offset : offset + stop - start]
            out += piece
            start += len(piece)
        return bytes(out)

    def sha256(self) -> str:
        """The hex digest of the whole body."""
        digest = hashlib.sha256()
        for start in range(0, self.size, 8 * _PERIOD):
            digest.update(self.read(start, start + 8 * _PERIOD))
        return digest.hexdigest()


@lru_cache(maxsize=4)
def _block(seed: int) -> bytes:
    return random.Random(seed).randbytes(_PERIOD)


Body = bytes | Generated


def sha256_of(body: Body) -> str:
    """The hex digest of a body of either kind."""
    return body.sha256() if isinstance(body, Generated) else hashlib.sha256(body).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted answer. The defaults are those of a well-behaved server.

    `headers`: added to, or replacing, the usual ones; `None` takes one away.
    `etag`: `AUTO` derives a strong one from the body; a text is sent as it is; `None` sends none.
    `conditional`: whether `If-None-Match` and `If-Modified-Since` can give a 304.
    `ranges`: "honour"; "ignore" announces ranges but answers 200; "none" does not even announce.
    `range_shift`: a 206 starts so many bytes beside what was asked, and says so.
    `declare`: a `Content-Length` that need not be true; the connection closes after the body.
    `chunked`: no `Content-Length`.  `gzip`: encoded whatever the client accepts.
    `delay`: seconds before the headers.  `rate`: bytes per second of the body.
    `hold_at`: at this count of body bytes (or `BEFORE_HEADERS`) wait until the test releases
    `gate`.  `cut_after`, `hang_after`: after so many body bytes close the connection, or go silent
    for as long as the client stays.  `reset`: a cut is an RST, not a FIN.
    `raw`: exactly these bytes instead of an answer, then the connection closes.
    """

    status: int = 200
    reason: str | None = None
    body: Body = b""
    content_type: str | None = "application/octet-stream"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    etag: str | None = AUTO
    last_modified: str | None = None
    conditional: bool = True
    ranges: Literal["honour", "ignore", "none"] = "honour"
    range_shift: int = 0
    declare: int | None = None
    chunked: bool = False
    gzip: bool = False
    close: bool = False
    delay: float = 0.0
    rate: int | None = None
    hold_at: int | None = None
    gate: str = "gate"
    cut_after: int | None = None
    hang_after: int | None = None
    reset: bool = False
    raw: bytes | None = None

    def with_(self, **changes: Any) -> Reply:
        """The same answer with some fields changed."""
        return dataclasses.replace(self, **changes)

    def content(self) -> Body:
        """The bytes as they go over the wire."""
        if not self.gzip:
            return self.body
        whole = self.body if isinstance(self.body, bytes) else self.body.read(0, self.body.size)
        return gzip.compress(whole, mtime=0)

    def entity_tag(self) -> str | None:
        """The `ETag` to send."""
        if self.etag != AUTO:
            return self.etag
        if isinstance(self.body, Generated):  # digesting half a gigabyte per request takes seconds
            return f'"{self.body.size}-{self.body.seed}"'
        return f'"{sha256_of(self.body)[:32]}"'

    def to_json(self) -> dict[str, Any]:
        """A form that survives `json.dumps`."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["headers"] = dict(self.headers)
        plain["body"] = _pack(self.body)
        plain["raw"] = None if self.raw is None else _pack(self.raw)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Reply:
        """The inverse of `to_json`."""
        raw = None if plain["raw"] is None else _unpack(plain["raw"])
        return cls(**{**plain, "body": _unpack(plain["body"]), "raw": raw})


NOT_FOUND = Reply(status=404, body=b"404 Not Found", content_type="text/plain", etag=None)


def redirect(location: str, status: int = 302) -> Reply:
    """An answer that points elsewhere; `location` may be relative or absolute."""
    return Reply(status=status, headers={"Location": location}, etag=None, content_type=None)


def _pack(body: Body) -> list[Any]:
    if isinstance(body, Generated):
        return [body.size, body.seed]
    return [base64.b64encode(body).decode()]


def _unpack(packed: list[Any]) -> Any:
    return Generated(*packed) if len(packed) == 2 else base64.b64decode(packed[0])
