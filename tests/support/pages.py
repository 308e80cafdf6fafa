"""Standard upstream pages, JSON 1.4 and HTML, from a list of files."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.support.builders import make_sdist, make_wheel, metadata, sdist_name, wheel_name
from tests.support.reply import Body, sha256_of

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"
UPLOADED = "2024-01-17T16:53:12.779164Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """One file as an upstream lists it; what is not given is what a faithful upstream would say.

    `url`: as it appears on the page; default `/files/<filename>`, percent-encoded, root-relative.
    `hashes`: default the sha256 of `body`.  `size`: default its length; `None` leaves the key out.
    `yanked`: `True`, a reason, or `None`.
    `metadata`: the bytes of the `.metadata` sibling; advertised with its sha256 if given.
    `core_metadata`: overrides what is advertised (`True`, hashes, `False`).
    `entry`: keys merged last into the JSON entry as they are, to make it wrong on purpose.
    """

    filename: str
    body: Body = b""
    url: str | None = None
    hashes: Mapping[str, str] | None = None
    size: int | None = -1
    upload_time: str | None = UPLOADED
    requires_python: str | None = None
    yanked: str | bool | None = None
    metadata: bytes | None = None
    core_metadata: bool | Mapping[str, str] | None = None
    provenance: str | None = None
    gpg_sig: bool | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the fake upstream serves the file unless `url` says otherwise."""
        return "/files/" + quote(self.filename)

    @property
    def href(self) -> str:
        return self.path if self.url is None else self.url

    def known_hashes(self) -> Mapping[str, str]:
        return {"sha256": sha256_of(self.body)} if self.hashes is None else self.hashes

    def advertised(self) -> bool | Mapping[str, str] | None:
        if self.core_metadata is None and self.metadata is not None:
            return {"sha256": sha256_of(self.metadata)}
        return self.core_metadata

    def to_json(self) -> dict[str, Any]:
        """The entry under `files` of a JSON page."""
        entry: dict[str, Any] = {
            "filename": self.filename,
            "url": self.href,
            "hashes": self.known_hashes(),
            "requires-python": self.requires_python,
            "size": len(self.body) if self.size == -1 else self.size,
            "upload-time": self.upload_time,
            "core-metadata": self.advertised(),
            "provenance": self.provenance,
            "gpg-sig": self.gpg_sig,
        }
        entry = {key: value for key, value in entry.items() if value is not None}
        return {**entry, "yanked": self.yanked or False, **self.entry}

    def to_html(self) -> str:
        """The anchor of an HTML page."""
        hashes = self.known_hashes()
        fragment = "".join(f"#{name}={value}" for name, value in list(hashes.items())[:1])
        attributes = {"href": self.href + fragment}
        if self.requires_python is not None:
            attributes["data-requires-python"] = self.requires_python
        if self.yanked is not None and self.yanked is not False:
            attributes["data-yanked"] = "" if self.yanked is True else self.yanked
        if offered := self.advertised():
            pairs = ["true"] if offered is True else [f"{k}={v}" for k, v in offered.items()]
            attributes["data-core-metadata"] = pairs[0]
        inside = " ".join(f'{name}="{html.escape(text)}"' for name, text in attributes.items())
        return f"<a {inside}>{html.escape(self.filename)}</a><br>"


def wheel_spec(
    name: str,
    version: str = "1.0",
    *,
    requires_dist: Iterable[str] = (),
    requires_python: str | None = None,
    payload: int = 0,
    **spec: Any,
) -> FileSpec:
    """An installable wheel as PyPI lists it, core metadata included; `spec` overrides fields."""
    needs = {"requires_dist": tuple(requires_dist), "requires_python": requires_python}
    usual: dict[str, Any] = {
        "filename": wheel_name(name, version),
        "body": make_wheel(name, version, payload=payload, **needs),  # type: ignore[arg-type]
        "metadata": metadata(name, version, **needs),  # type: ignore[arg-type]
        "requires_python": requires_python,
    }
    return FileSpec(**{**usual, **spec})


def sdist_spec(name: str, version: str = "1.0", **spec: Any) -> FileSpec:
    """A source archive as PyPI lists it; `spec` overrides fields."""
    usual = {"filename": sdist_name(name, version), "body": make_sdist(name, version)}
    return FileSpec(**{**usual, **spec})


def json_page(name: str, files: Iterable[FileSpec], **extra: Any) -> bytes:
    """A JSON 1.4 page; `extra` keys (with `_` for `-`) are added at top level."""
    files = list(files)
    page: dict[str, Any] = {
        "meta": {"api-version": "1.4"},
        "name": name,
        "versions": sorted({_version(file.filename) for file in files}),
        "files": [file.to_json() for file in files],
    }
    page |= {key.replace("_", "-"): value for key, value in extra.items()}
    return json.dumps(page).encode()


def html_page(name: str, files: Iterable[FileSpec], head: str = "") -> bytes:
    """An HTML 1.4 page; `head` is put into the document's head as it is."""
    lines = [
        "<!DOCTYPE html><html><head>",
        '<meta name="pypi:repository-version" content="1.4">',
        f"{head}<title>Links for {html.escape(name)}</title></head><body>",
        *(file.to_html() for file in files),
        "</body></html>",
    ]
    return "\n".join(lines).encode()


def json_list(names: Iterable[str]) -> bytes:
    """A JSON project list."""
    projects = [{"name": name} for name in names]
    return json.dumps({"meta": {"api-version": "1.4"}, "projects": projects}).encode()


def _version(filename: str) -> str:
    stem = filename.removesuffix(".tar.gz").removesuffix(".zip").removesuffix(".whl")
    return stem.split("-")[1] if filename.endswith(".whl") else stem.rpartition("-")[2]
