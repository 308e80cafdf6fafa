"""The upload form: fields from the metadata, and a body that is streamed from the disk.

Source: the legacy upload API, of which PyPI's server is the reference; the fields are those that
twine and uv send (measured).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.metadata import parse_email

from proxyindex.publishing.distribution import Distribution, Unpublishable
from proxyindex.publishing.target import Advance
from proxyindex.uploads.checks import read_form
from proxyindex.uploads.form import FormReader
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.stage import Digests

# metadata as `packaging` names it -> the form's field
_RENAMED: Mapping[str, str] = {
    "platforms": "platform",
    "supported_platforms": "supported_platform",
    "license_files": "license_file",
}
_NEEDED = ("metadata_version", "name", "version")


@dataclass(frozen=True, slots=True)
class Form:
    """A `multipart/form-data` body whose last part is the file (RFC 7578)."""

    distribution: Distribution
    boundary: str
    head: bytes
    tail: bytes

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def length(self) -> int:
        """Bytes of the whole body."""
        return len(self.head) + self.distribution.size + len(self.tail)

    def pieces(self, advance: Advance) -> Iterator[bytes]:
        """The body, the file read as it goes; `advance` learns of the file's bytes that have left.

        Raises `Unpublishable` where the file is not what it was when it was read.
        """
        yield self.head
        for piece in self.distribution.pieces():
            yield piece
            advance(len(piece))
        yield self.tail


def make_form(distribution: Distribution) -> Form:
    """The form of a file. Raises `Unpublishable` where its metadata lacks what a form must say."""
    boundary = secrets.token_hex(16)
    parts = [_field(boundary, name, value) for name, value in fields(distribution)]
    if distribution.signature is not None:
        name = distribution.filename + ".asc"
        parts += [_file(boundary, "gpg_signature", name), distribution.signature, b"\r\n"]
    parts.append(_file(boundary, "content", distribution.filename))
    return Form(distribution, boundary, b"".join(parts), f"\r\n--{boundary}--\r\n".encode())


def checked(distribution: Distribution) -> Distribution:
    """The same, if its form is one that an index takes. Raises `Unpublishable`."""
    form = make_form(distribution)
    digests = Digests(distribution.sha256, distribution.blake2b, "")
    try:
        reader = FormReader(form.boundary.encode(), lambda content: None)
        reader.feed(form.head + form.tail)
        read_form(reader.finish(), digests)
    except UploadRejected as problem:
        raise Unpublishable(distribution.path, str(problem)) from problem
    return distribution


def fields(distribution: Distribution) -> list[tuple[str, str]]:
    """Names and values in the order of the form; a name may come several times."""
    raw, _ = parse_email(distribution.metadata)
    told: dict[str, object] = dict(raw)
    for name in _NEEDED:
        if not told.get(name):
            raise Unpublishable(distribution.path, f"its metadata has no single {name!r}")
    made = [
        (":action", "file_upload"),
        ("protocol_version", "1"),
        ("filetype", distribution.filetype),
        ("pyversion", _pyversion(distribution)),
        ("sha256_digest", distribution.sha256),
        ("blake2_256_digest", distribution.blake2b),
    ]
    if distribution.attestations:
        made.append(("attestations", distribution.attestations))
    for key, value in told.items():
        made += [(_RENAMED.get(key, key), text) for text in _texts(key, value)]
    return made


def _texts(key: str, value: object) -> list[str]:
    match value:
        case list() if key == "keywords":
            return [",".join(value)]
        case list():
            return [str(text) for text in value]
        case dict():  # project_urls
            return [f"{label}, {url}" for label, url in value.items()]
        case _:
            return [str(value)]


def _pyversion(distribution: Distribution) -> str:
    if distribution.filetype == "sdist":
        return "source"
    return distribution.filename.removesuffix(".whl").split("-")[-3]


def _field(boundary: str, name: str, value: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return head.encode() + value.encode("utf-8", "replace") + b"\r\n"


def _file(boundary: str, name: str, filename: str) -> bytes:
    """The head of a part; file names are safe ones, so there is nothing to escape."""
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
