"""What takes an upstream body in: how far it is, and what proves that a resumed body fits.

Bytes are never stitched from two versions of a file: a continuation is accepted only where a
digest will prove it in the end, or the same validator vouches for it, or the bytes sent again
equal the ones we have.
"""

import hashlib
from typing import Protocol

from proxyindex.archives.sdist import check_whole
from proxyindex.archives.wheel import InvalidArchive
from proxyindex.errors import StoreError
from proxyindex.files.coding import is_encoded
from proxyindex.model import File, best_hash
from proxyindex.store.partials import Partial
from proxyindex.texts import whole_number
from proxyindex.upstream.client import Reply


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class OtherFile(ValueError):
    """An answer that is whole and right for some other file than the page's."""


class KeptTooMuch(ValueError):
    """The file is shorter than what we have of it."""


class Writing:
    """Position, digests and validator of one file being fetched, and the partial it goes to.

    Without a partial (the disk refuses) nothing is kept, but all is judged just the same.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self.written = 0
        self.size = file.size
        self.has_begun = False
        self.took_over = 0  # bytes of a dead writer
        self._partial: Partial | None = None
        self._skip = 0
        self._skipped = hashlib.sha256()
        self._validator: str | None = None  # of the answer that brought the newest bytes
        self._offered: str | None = None  # of the one that is being read
        self._ranges_fail = False
        self._digest = hashlib.sha256()
        best = best_hash(file.hashes)
        self._other: tuple[str, _Hash] | None = None
        if best is not None and best[0] != "sha256":
            self._other = best[0], hashlib.new(best[0], usedforsecurity=False)

    @property
    def is_behind(self) -> bool:
        """Whether an answer that began anew has not come to where the one before broke off."""
        return self._skip > 0

    @property
    def is_complete(self) -> bool:
        return self.size is not None and self.written == self.size and self.written > 0

    def begin(self, partial: Partial) -> None:
        """Start from what a dead writer left, if the digest can prove it in the end."""
        self.has_begun = True
        self._partial = partial
        left = partial.length()
        if self._file.sha256 is None or (self.size is not None and left > self.size):
            left = 0
            partial.truncate(left)
        for piece in partial.read_all(left):
            self._hash(piece)
            self.written += len(piece)
        self.took_over = self.written

    def headers(self) -> dict[str, str]:
        """The range still missing, conditional on the version already begun (RFC 9110, 13.1.5)."""
        provable = self._file.sha256 is not None or self._validator is not None
        if not self.written or self._ranges_fail or not provable:
            return {}
        condition = {"If-Range": self._validator} if self._validator else {}
        return {"Range": f"bytes={self.written}-", **condition}

    def accept(self, reply: Reply) -> int | None:
        """Judge an answer's head; the total size.

        Raises `ValueError` if it cannot continue the file, `KeptTooMuch` where none will, and
        `OtherFile` if it is none of this file.
        """
        if reply.status == 206:
            start, total = content_range(reply.headers.get("content-range", ""))
            # a part of nobody knows how much may end anywhere
            known = total if self.size is None else self.size
            fits = start == self.written and known is not None and total in (None, known)
            # of a coded body it is a part of the code (RFC 9110, 14.2), which is none of ours
            if not fits or is_encoded(reply) or self._is_other_version(reply):
                self._ranges_fail = True
                raise ValueError("answered another range or version than asked")
            self._skip = 0
            self._offered = self._validator or _strong_validator(reply)
        elif reply.status == 416:
            self._ranges_fail = True
            raise ValueError("refused to continue the file")
        else:
            total = content_length(reply)
            if self.size is not None and total not in (None, self.size):
                raise OtherFile(f"announced {total} bytes, not {self.size}")
            if total is not None and total < self.written:
                raise KeptTooMuch(f"announced {total} bytes after sending {self.written}")
            self._skip, self._skipped = self.written, hashlib.sha256()
            self._offered = _strong_validator(reply)
        self.size = total if self.size is None else self.size
        return self.size

    def add(self, chunk: bytes) -> bytes:
        """Take what is new in `chunk`; the new bytes. Runs in a worker thread.

        Raises `ValueError` when bytes sent again differ from the ones we have, and `StoreError`.
        """
        if self._skip:
            known, chunk = chunk[: self._skip], chunk[self._skip :]
            self._skip -= len(known)
            self._skipped.update(known)
            if self._skip == 0 and self._skipped.digest() != self._digest.digest():
                raise ValueError("changed the file while it was being fetched")
        if chunk:
            self._validator = self._offered  # not before: what we have may be of another version
            if self._partial is not None:
                self._partial.write(chunk, self.written)
            self._hash(chunk)
            self.written += len(chunk)
        return chunk

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def mismatch(self) -> tuple[str, str] | None:
        """Expected and actual digest where they differ, else `None`."""
        if self._file.sha256 is not None:
            expected, actual = self._file.sha256, self.sha256()
        elif self._other is not None:
            expected, actual = self._file.hashes[self._other[0]], self._other[1].hexdigest()
        else:
            return None
        return None if expected == actual else (expected, actual)

    def proof(self) -> bool | None:
        """Whether what has come is a whole file, by its digest or else by its format; `None` if
        neither tells. Reads it all, for a thread."""
        if self._file.best_digest is not None:
            return self.mismatch() is None
        if self._partial is None:
            return None
        try:
            with open(self._partial.fd, "rb", closefd=False) as archive:
                return check_whole(archive, self._file.filename) or None
        except InvalidArchive:
            return False
        except OSError as problem:
            raise StoreError("keep a file", problem) from problem

    def _is_other_version(self, reply: Reply) -> bool:
        now = _strong_validator(reply) or reply.headers.get("last-modified")
        return self._validator is not None and now is not None and now != self._validator

    def _hash(self, data: bytes) -> None:
        self._digest.update(data)
        if self._other is not None:
            self._other[1].update(data)


def content_range(header: str) -> tuple[int | None, int | None]:
    """First byte and total of `bytes a-b/n`."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    first = whole_number(span.partition("-")[0])
    if unit != "bytes" or first is None:
        return None, None
    return first, whole_number(total)


def content_length(reply: Reply) -> int | None:
    """Bytes of the whole file that a 200 announces; `None` if it does not, or is encoded."""
    if is_encoded(reply):
        return None
    return whole_number(reply.headers.get("content-length", ""))


def _strong_validator(reply: Reply) -> str | None:
    # beside an entity tag, weak or not, a date is no condition (RFC 9110, 13.1.5)
    if etag := reply.headers.get("etag"):
        return None if etag.startswith("W/") else etag
    return reply.headers.get("last-modified")
