"""Bodies that arrive encoded although we asked for identity (protocol quirk of some servers).

A `.tar.gz` labelled `Content-Encoding: gzip` may be the file itself, mislabelled, or the file
compressed once more. The expected digest tells, of whatever kind; without one, the expected size;
without both, whether what a gzip file decodes to is a gzip file. Else the label is believed.
"""

import hashlib
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from proxyindex import disk
from proxyindex.errors import StoreError, UpstreamInvalid
from proxyindex.model import File, best_hash
from proxyindex.threads import in_thread
from proxyindex.unzip import GZIP, PIECE, ZLIB, unzipped
from proxyindex.upstream.client import Reply

_GZIP_MAGIC = b"\x1f\x8b"
_WINDOW = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}


def is_encoded(reply: Reply) -> bool:
    """Whether the reply carries a content coding."""
    return reply.headers.get("content-encoding", "").strip().lower() not in ("", "identity")


async def identity(
    reply: Reply, file: File, *, upstream: str, spool: Path | None, limit: int
) -> AsyncIterator[bytes]:
    """The file's own bytes out of a reply, decoded at most once.

    An encoded body is spooled below `spool` first (`None`: the system's own folder for such
    files), because only its end tells what it is. Raises
    `UpstreamInvalid` for an unknown coding, a broken one, or more than `limit` bytes, and
    `StoreError` when the disk refuses.
    """
    if not is_encoded(reply):
        async for chunk in reply.raw():
            yield chunk
        return
    coding = reply.headers["content-encoding"].strip().lower()
    with scratch(spool) as raw:
        best = best_hash(file.hashes)
        digest = hashlib.new(best[0] if best else "sha256", usedforsecurity=False)
        size = 0
        async for chunk in reply.raw():
            size += len(chunk)
            if size > limit:
                raise UpstreamInvalid(upstream, f"sent more than {limit} bytes")
            digest.update(chunk)
            await in_thread(write, raw, chunk)
        raw.seek(0)
        if best is not None:
            is_itself = best[1] == digest.hexdigest()
        elif file.size is not None:
            is_itself = file.size == size
        else:
            is_itself = await in_thread(_is_itself, raw, file)
        pieces = _plain(raw) if is_itself else _decoded(raw, coding, upstream, limit)
        while piece := await in_thread(next, pieces, b""):
            yield piece


async def small(reply: Reply, file: File, *, upstream: str, spool: Path, limit: int) -> bytes:
    """All of the file's own bytes. Raises what `identity` does, and `UpstreamInvalid` for more
    than `limit`."""
    body = bytearray()
    async for chunk in identity(reply, file, upstream=upstream, spool=spool, limit=limit):
        body += chunk
        if len(body) > limit:
            raise UpstreamInvalid(upstream, f"sent more than {limit} bytes")
    return bytes(body)


def scratch(folder: Path | None) -> BinaryIO:
    """A file without a name, in the system's own folder for such files if `None`.

    Raises `StoreError`.
    """
    try:
        if folder is not None:
            disk.make_folder(folder)
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as problem:
        raise StoreError("unpack a file", problem) from problem


def write(raw: BinaryIO, chunk: bytes) -> None:
    """All of it. Raises `StoreError`."""
    view = memoryview(chunk)
    try:
        while view:
            view = view[raw.write(view) :]
    except OSError as problem:
        raise StoreError("unpack a file", problem) from problem


def _is_itself(raw: BinaryIO, file: File) -> bool:
    """Whether only what was sent is a gzip file, and not what it decodes to."""
    start = raw.read(PIECE)
    raw.seek(0)
    if not file.filename.endswith((".gz", ".tgz")) or not start.startswith(_GZIP_MAGIC):
        return False
    with suppress(zlib.error):
        return zlib.decompressobj(GZIP).decompress(start, len(_GZIP_MAGIC)) != _GZIP_MAGIC
    return False


def _plain(raw: BinaryIO) -> Iterator[bytes]:
    while piece := raw.read(PIECE):
        yield piece


def _decoded(raw: BinaryIO, coding: str, upstream: str, limit: int) -> Iterator[bytes]:
    if coding not in _WINDOW:
        raise UpstreamInvalid(upstream, f"sent a file with the unknown coding {coding[:20]!r}")
    size = 0
    try:
        for decoded in unzipped(_plain(raw), _WINDOW[coding]):
            size += len(decoded)
            if size > limit:
                raise UpstreamInvalid(upstream, f"sent more than {limit} bytes")
            yield decoded
    except zlib.error as problem:
        raise UpstreamInvalid(upstream, "sent a file with a broken coding") from problem
    except EOFError as problem:
        raise UpstreamInvalid(upstream, "cut a file's coding short") from problem
