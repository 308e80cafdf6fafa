"""The upload form (multipart/form-data) as it arrives; the only door to python-multipart.

The order of its fields is anybody's: the file may come first, and digests after it. What nobody
asks for is counted and thrown away. Source: PyPI's legacy upload API; RFC 7578.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from proxyindex.uploads.rejection import UploadRejected, bad

FORM_TYPE = b"multipart/form-data"
MAX_FIELDS = 2000
MAX_HEADERS = 8  # of one field
MAX_HEADER = 2048  # bytes of a line of them
MAX_FIELD = 8 * 1024**2  # bytes of one text: descriptions are long
MAX_TEXTS = 64 * 1024**2  # bytes of all that is not the file
MAX_SIGNATURE = 64 * 1024
MAX_ATTESTED = 1024**2
_CONTENT, _SIGNATURE = "content", "gpg_signature"
_MAX_WORD = 4096
# the fields that are kept, and how many bytes of each
_KEPT = {
    ":action": _MAX_WORD,
    "protocol_version": _MAX_WORD,
    "filetype": _MAX_WORD,
    "name": _MAX_WORD,
    "version": _MAX_WORD,
    "sha256_digest": _MAX_WORD,
    "blake2_256_digest": _MAX_WORD,
    "md5_digest": _MAX_WORD,
    "attestations": MAX_ATTESTED,
    _SIGNATURE: MAX_SIGNATURE,
}
# it would write what an uploader sends into our log
_SILENT = logging.Logger("multipart")
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent: the last of each text we look at, the file's name, and a signature."""

    texts: Mapping[str, str]
    filename: str | None
    signature: bytes | None


@dataclass(slots=True)
class _Part:
    """One part while it arrives."""

    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    name: str = ""
    data: bytearray = field(default_factory=bytearray)
    size: int = 0


def boundary_of(content_type: str) -> bytes | None:
    """What separates the parts of a form; `None` if the type is no form's."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary") or None if kind == FORM_TYPE else None


class FormReader:
    """Takes a form in pieces of any size; `write` gets the bytes of the file as they come.

    Its methods raise `UploadRejected` for what is no such form, and whatever `write` raises.
    """

    def __init__(self, boundary: bytes, write: Callable[[memoryview], None]) -> None:
        self._write = write
        self._kept: dict[str, bytes] = {}
        self._filename: str | None = None
        self._part = _Part()
        self._count = 0
        self._size = 0
        self._is_whole = False
        self._awaited = b"--" + boundary  # of the body's start
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER,
            )
        except FormParserError as problem:
            raise bad(f"The form's boundary cannot be used: {problem}.") from problem
        self._parser.logger = _SILENT

    def feed(self, data: bytes) -> None:
        """Take more of the body. Blocks as `write` does."""
        if self._awaited:
            self._check_start(data)
        try:
            self._parser.write(data)
        except FormParserError as problem:
            raise bad("The body is no sound multipart/form-data.") from problem

    def finish(self) -> Form:
        """The form, which has arrived."""
        if not self._is_whole:
            raise bad("The body ends before the form does.")
        signature = self._kept.pop(_SIGNATURE, b"")
        texts = {name: _text(name, data) for name, data in self._kept.items()}
        return Form(texts, self._filename, signature or None)

    def _check_start(self, data: bytes) -> None:
        """Refuse what comes before the first boundary: no client sends any, and the parser reads it
        one way or another, by the pieces it happens to come in."""
        count = min(len(data), len(self._awaited))
        if data[:count] != self._awaited[:count]:
            raise bad("The body does not begin with the form's boundary.")
        self._awaited = self._awaited[count:]

    def _on_part(self) -> None:
        self._count += 1
        if self._count > MAX_FIELDS:
            raise bad(f"The form has more than {MAX_FIELDS} fields.")
        self._part = _Part()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _on_header(self) -> None:
        if self._part.header.lower() == b"content-disposition":
            self._on_disposition(bytes(self._part.value))
        self._part.header.clear()
        self._part.value.clear()

    def _on_disposition(self, value: bytes) -> None:
        _, options = parse_options_header(value)
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part.name == _CONTENT:
            if self._filename is not None:
                raise bad("The form has more than one field 'content'.")
            try:
                self._filename = options[b"filename"].decode()
            except (KeyError, UnicodeDecodeError):
                raise bad("The form's field 'content' has no (readable) file name.") from None

    def _on_headers(self) -> None:
        if not self._part.name:
            raise bad("The form has a field without a name.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.name == _CONTENT:
            self._write(memoryview(data)[start:end])
            return
        part.size += end - start
        self._size += end - start
        limit = _KEPT.get(part.name, MAX_FIELD)
        if part.size > limit:
            raise UploadRejected(413, f"The form's field {part.name[:80]!r} is over {limit} bytes.")
        if self._size > MAX_TEXTS:
            raise UploadRejected(413, f"The form's texts are over {MAX_TEXTS} bytes.")
        if part.name in _KEPT:
            part.data += data[start:end]

    def _on_part_end(self) -> None:
        if self._part.name in _KEPT:
            self._kept[self._part.name] = bytes(self._part.data)

    def _on_end(self) -> None:
        self._is_whole = True


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise bad(f"The form's field {name!r} is not UTF-8.") from None
