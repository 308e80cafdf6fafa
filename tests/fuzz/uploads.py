"""Targets for what is uploaded: the form, its attestations, and the records beside our files."""

from __future__ import annotations

import hashlib

from proxyindex import records
from proxyindex.names import is_safe_filename
from proxyindex.uploads.attestations import provenance
from proxyindex.uploads.checks import read_form
from proxyindex.uploads.form import Form, FormReader
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.stage import Digests

BOUNDARY = b"b0b1b2b3"
_MISSING = "0" * 64


def form(data: bytes) -> None:
    """A body: refused in one sentence, or a form that is the same in whatever pieces it comes."""
    size, body = (sum(data[:1]) % 64) + 1, data[1:]
    whole = _read([body])
    pieces = _read([body[at : at + size] for at in range(0, len(body), size)])
    assert (whole is None) == (pieces is None)
    if whole is None or pieces is None:
        return
    assert whole == pieces
    sent, content = whole
    assert len(content) + sum(map(len, sent.texts.values())) <= len(body)
    refused = None
    try:
        upload = read_form(sent, _digests(content))
    except UploadRejected as problem:
        refused = problem
    if refused is not None:
        assert 400 <= refused.status <= 413
        assert len(str(refused)) < 2000
        return
    assert is_safe_filename(upload.filename)
    assert upload.sha256 == hashlib.sha256(content).hexdigest()


def attestations(data: bytes) -> None:
    """The JSON list of a form: refused, or it speaks of this very file."""
    try:
        text = data.decode()
        provenance(text, "demo-1.0.tar.gz", _MISSING)
    except (UnicodeDecodeError, UploadRejected):
        return


def record(data: bytes) -> None:
    """A record: none, or one that is fit for any page and for another reading."""
    if (read := records.decode(data)) is None:
        return
    both = [one for one in (read, read.before) if one is not None]
    for text in (text for one in both for text in (one.yanked, one.uploader, one.requires_python)):
        assert text is None or text.isprintable() or not any(ord(c) < 32 for c in text)
    assert records.decode(records.encode(read)) == read


def _read(pieces: list[bytes]) -> tuple[Form, bytes] | None:
    content = bytearray()
    reader = FormReader(BOUNDARY, content.extend)
    try:
        for piece in pieces:
            reader.feed(piece)
        return reader.finish(), bytes(content)
    except UploadRejected:
        return None


def _digests(content: bytes) -> Digests:
    return Digests(
        hashlib.sha256(content).hexdigest(),
        hashlib.blake2b(content, digest_size=32).hexdigest(),
        hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )
