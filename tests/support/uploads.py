"""Upload forms as the clients send them, and ones that are wrong in one chosen way.

The order of fields is that of the real clients (twine 7, uv 0.13, poetry 2.5, hatch 1.18, flit 4.2,
pdm 2.29): what they send was looked at, not guessed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import http
from tests.support.privacy import file_is_private
from tests.support.server import ProxyIndex

BOUNDARY = "b0b1b2b3b4b5b6b7b8b9"
BASIC = "Basic dXNlcjpwYXNzd29yZA=="

# what each client sends before the file, in its order; `*` ends what may be repeated
ORDERS: dict[str, str] = {
    "twine": "name license_file* classifiers* summary project_urls* metadata_version "
    "requires_dist* requires_python version description_content_type description pyversion "
    "filetype sha256_digest blake2_256_digest :action protocol_version",
    "uv": ":action sha256_digest blake2_256_digest protocol_version metadata_version name version "
    "filetype pyversion author_email description description_content_type license_expression "
    "summary requires_python classifiers* license_file* project_urls* provides_extra* "
    "import_names* requires_dist*",
    "poetry": "md5_digest sha256_digest blake2_256_digest filetype pyversion project_urls* name "
    "version metadata_version summary description requires_python import_names* :action "
    "protocol_version",
    "hatch": "description metadata_version name version summary requires_python import_name* "
    "filetype pyversion :action protocol_version md5_digest sha256_digest blake2_256_digest",
    "flit": ":action name version metadata_version summary description classifiers* "
    "requires_python description_content_type protocol_version filetype pyversion md5_digest "
    "sha256_digest",
    "pdm": "name version filetype pyversion metadata_version summary description classifiers* "
    "project_urls* requires_dist* requires_python description_content_type license_expression "
    "md5_digest sha256_digest blake2_256_digest license_file* :action protocol_version",
}
UNTYPED = frozenset({"uv"})  # its file part has no Content-Type


@dataclass(slots=True)
class UploadForm:
    """A form as a list of fields; a file is a field whose third item is its name."""

    filename: str
    content: bytes
    fields: list[tuple[str, str]]
    has_type: bool = True
    tail: list[tuple[str, bytes, str | None]] = field(default_factory=list)
    is_content_first: bool = False

    def with_(self, **changes: str | None) -> UploadForm:
        """Other values of fields (`_` first stands for `:`), `None` leaves one out."""
        wanted = {name.replace("_action", ":action", 1): value for name, value in changes.items()}
        fields = [(name, wanted.pop(name, value)) for name, value in self.fields]
        fields += list(wanted.items())
        kept = [(name, value) for name, value in fields if value is not None]
        return UploadForm(self.filename, self.content, kept, self.has_type, [*self.tail])

    def named(self, filename: str) -> UploadForm:
        """With another file name."""
        return UploadForm(filename, self.content, [*self.fields], self.has_type, [*self.tail])

    @property
    def body(self) -> bytes:
        content = ("content", self.content, self.filename)
        texts = [(name, value.encode(), None) for name, value in self.fields]
        parts = [content, *texts] if self.is_content_first else [*texts, content]
        return multipart([*parts, *self.tail], has_type=self.has_type)

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Authorization": BASIC,
        }

    def post(self, server: ProxyIndex, target: str = "/legacy/") -> http.Response:
        """Send it, on a connection of its own, and read the answer."""
        file_is_private(self.filename)
        return server.get(target, self.headers, method="POST", body=self.body)


TWO_INDEXES = """
default-index = "prod"
[index.dev]
folders = ["{home}/dev"]
bases = ["prod"]
overwrite = true
upload = ["*"]
delete = ["*"]
yank = ["*"]
[index.prod]
folders = ["{home}/prod"]
upload = ["*"]
delete = ["*"]
yank = ["*"]
"""


def two_indexes(home: Path) -> Path:
    """A configuration file of a volatile `dev` and a `prod`, their folders beside it."""
    for name in ("dev", "prod"):
        (home / name).mkdir(parents=True)
    config = home / "proxyindex.toml"
    config.write_text(TWO_INDEXES.format(home=home))
    return config


def upload_form(
    filename: str,
    content: bytes,
    *,
    name: str | None = None,
    version: str | None = None,
    client: str = "twine",
    requires_python: str | None = None,
) -> UploadForm:
    """What this client sends for this file; name and version are read off it unless given."""
    stem = filename.removesuffix(".whl").removesuffix(".tar.gz").removesuffix(".zip")
    told, said = stem.split("-")[:2]
    is_wheel = filename.endswith(".whl")
    values: dict[str, Sequence[str]] = {
        ":action": ["file_upload"],
        "protocol_version": ["1"],
        "name": [name or told],
        "version": [version or said],
        "metadata_version": ["2.4"],
        "filetype": ["bdist_wheel" if is_wheel else "sdist"],
        "pyversion": ["py3" if is_wheel else "source"],
        "summary": ["a test"],
        "description": ["# Words\n\nwith ü and\r\nlines\n"],
        "description_content_type": ["text/markdown"],
        "requires_python": [requires_python] if requires_python else [],
        "classifiers": ["Private :: Do Not Upload", "Topic :: Software Development"],
        "project_urls": ["Homepage, https://demo.example/"],
        "license_expression": ["MIT"],
        "author_email": ["A. Nobody <a@demo.example>"],
        "sha256_digest": [hashlib.sha256(content).hexdigest()],
        "blake2_256_digest": [hashlib.blake2b(content, digest_size=32).hexdigest()],
        "md5_digest": [hashlib.md5(content).hexdigest()],
    }
    order = [word.rstrip("*") for word in ORDERS[client].split()]
    fields = [(word, value) for word in order for value in values.get(word, ())]
    return UploadForm(filename, content, fields, has_type=client not in UNTYPED)


def multipart(parts: Iterable[tuple[str, bytes, str | None]], *, has_type: bool = True) -> bytes:
    """A multipart/form-data body of (name, value, file name) in order."""
    out = bytearray()
    for name, value, filename in parts:
        out += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            out += f'; filename="{filename}"'.encode()
            out += b"\r\nContent-Type: application/octet-stream" if has_type else b""
        out += b"\r\n\r\n" + value + b"\r\n"
    return bytes(out + f"--{BOUNDARY}--\r\n".encode())


def attestation_of(filename: str, content: bytes) -> dict[str, object]:
    """One of the form that is checked, speaking of this file; nobody has signed it (PEP 740)."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": filename, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}],
        "predicateType": "https://docs.example/attestations/publish/v1",
        "predicate": None,
    }
    return {
        "version": 1,
        "verification_material": {"certificate": "MIIC", "transparency_entries": [{}]},
        "envelope": {
            "statement": base64.b64encode(json.dumps(statement).encode()).decode(),
            "signature": "MEUC",
        },
    }
