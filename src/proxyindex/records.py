"""What an upload notes of a file: a small JSON record beside it, `<filename>.json`.

A file without a record is served all the same, so folders can be filled and copied by hand. A
record speaks of the bytes with its digest only; beside other bytes it is ignored. Where a file is
replaced, its record comes first, and says what is noted of the bytes before as well.
"""

from __future__ import annotations

import errno
import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from proxyindex.disk import is_sha256, no_link
from proxyindex.model import RECORD_SUFFIX
from proxyindex.texts import one_line

log = logging.getLogger(__name__)

MAX_RECORD = 64 * 1024  # bytes
MAX_REASON = 4096  # characters of why a file was yanked
_MAX_TEXT = 1024


class Examined(msgspec.Struct, frozen=True, rename="kebab"):
    """The state of the file that was examined when the record was written."""

    inode: int
    mtime_ns: int


class Record(msgspec.Struct, frozen=True, rename="kebab"):
    """`yanked` is `None`, the reason, or `""` for "no reason given". Digests are lower-case hex.

    `upload_time` is aware UTC; `core_metadata` is the sha256 of a wheel's METADATA. `examined`
    saves reading the file again: while it is in this very state, what the record says of its
    content is believed; without it the file came by other ways than an upload. `before` is what
    was noted of the bytes that these replaced.
    """

    sha256: str
    size: int
    upload_time: datetime
    uploader: str | None = None
    yanked: str | None = None
    requires_python: str | None = None
    core_metadata: str | None = None
    examined: Examined | None = None
    before: Record | None = None

    def about(self, sha256: str | None) -> Record | None:
        """What is noted of these bytes, and of none before them."""
        for one in (self, self.before):
            if one is not None and one.sha256 == sha256:
                return msgspec.structs.replace(one, before=None)
        return None

    def vouches_for(self, *, size: int, mtime_ns: int, inode: int) -> bool:
        """Whether the file in this state is the one that was examined."""
        return size == self.size and self.examined == Examined(inode, mtime_ns)


def record_path(path: str | Path) -> Path:
    """Where the record of the file at `path` lies."""
    return Path(f"{path}{RECORD_SUFFIX}")


def encode(record: Record) -> bytes:
    """The record as its file has it, made to be read by people."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def read(path: Path) -> Record | None:
    """The record in the file `path`; `None`, and a line in the log, if that is no record.

    Raises `OSError` if it cannot be read: a yank must not be forgotten by that.
    """
    try:
        with open(path, "rb", opener=no_link) as source:
            body = source.read(MAX_RECORD + 1)
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno in {errno.ELOOP, errno.EISDIR, errno.ENOTDIR}:
            return None  # a link, or no file
        raise
    record = decode(body) if len(body) <= MAX_RECORD else None
    if record is None:
        log.warning("ignoring the record %r: it is damaged", str(path))
    return record


def decode(body: bytes) -> Record | None:
    """The record these bytes are, its texts made fit for any page; `None` if they are none."""
    try:
        told = msgspec.json.decode(body, type=Record)
        record = _sound(told)
        if record is not None and told.before is not None:
            record = msgspec.structs.replace(record, before=_sound(told.before))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    return record


def _sound(told: Record) -> Record | None:
    """Raises `ValueError`, `OverflowError`."""
    digests = (told.sha256, told.core_metadata or told.sha256)
    if told.upload_time.tzinfo is None or told.size < 0 or not all(map(is_sha256, digests)):
        return None
    return msgspec.structs.replace(
        told,
        upload_time=told.upload_time.astimezone(UTC),
        yanked=None if told.yanked is None else plain(told.yanked, MAX_REASON),
        uploader=plain(told.uploader or "", _MAX_TEXT) or None,
        requires_python=plain(told.requires_python or "", _MAX_TEXT) or None,
        before=None,
    )


def plain(text: str, limit: int) -> str:
    """The text on one line, without control characters, cut at `limit` characters."""
    return one_line(text[: 2 * limit])[:limit]
