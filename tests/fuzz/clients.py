"""Reads our pages the way installers do: with pip's own parser, and by the rules of uv's.

uv refuses a whole page for one field of the wrong shape; which shapes it takes was measured with
uv 0.13 and is written out here, because a process for every input would be too slow.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from packaging.utils import canonicalize_name
from pip._internal.index.collector import IndexContent, parse_links

PAGE_URL = "http://proxy.example/simple/demo-pkg/"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_+!~@=][A-Za-z0-9._+!~@=-]{0,254}")
_RAW_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_HEX = re.compile(r"[0-9a-f]+")
_HASH_LENGTHS = {"md5": 32, "sha256": 64, "sha384": 96, "sha512": 128}
_FILE_KEYS = {
    "filename",
    "url",
    "hashes",
    "core-metadata",
    "yanked",
    "requires-python",
    "size",
    "upload-time",
    "provenance",
    "gpg-sig",
}
_LINK_KEYS = {
    "href",
    "data-requires-python",
    "data-yanked",
    "data-core-metadata",
    "data-dist-info-metadata",
    "data-gpg-sig",
    "data-provenance",
    "data-size",
    "data-upload-time",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """What a client learns of one file, in terms that all clients and both forms share.

    `yanked` is empty for "yanked, no reason given". `hashes` are sorted pairs; a link can carry
    but one of them.
    """

    filename: str
    yanked: str | None
    requires_python: str | None
    has_metadata: bool
    hashes: tuple[tuple[str, str], ...]


def pip_reads(body: bytes, content_type: str) -> list[Listed]:
    """The files pip finds on a page; every link is checked to lie below the page."""
    mime = content_type.partition(";")[0]
    content = IndexContent(body, mime, "utf-8", PAGE_URL, cache_link_parsing=False)
    found = []
    for link in parse_links(content):
        _check_below(link.url_without_fragment, link.filename)
        reason = link.yanked_reason
        assert (reason is not None) is link.is_yanked
        hashes = tuple(sorted((link._hashes or {}).items()))
        found.append(
            Listed(
                link.filename,
                reason,
                link.requires_python,
                link.metadata_file_data is not None,
                hashes,
            )
        )
    return found


def uv_reads_json(body: bytes) -> list[Listed]:
    """The files uv finds on a JSON page, which has nothing that uv refuses a page for."""
    assert body.isascii()
    assert not _RAW_CONTROL.search(body)
    page = json.loads(body, parse_constant=_no_number, object_pairs_hook=_without_doubles)
    assert set(page) <= {"meta", "name", "versions", "files", "project-status"}
    assert page["meta"] in ({"api-version": "1.4"}, {"api-version": "1.0"})
    assert all(isinstance(version, str) for version in page["versions"])
    assert len(set(page["versions"])) == len(page["versions"])
    if (status := page.get("project-status")) is not None:
        assert set(status) <= {"status", "reason"}
        assert all(isinstance(text, str) for text in status.values())
    _check_texts(page)
    listed = [_json_file(file) for file in page["files"]]
    if page["meta"]["api-version"] == "1.4":
        assert all("size" in file for file in page["files"])
    return listed


def uv_reads_html(body: bytes) -> list[Listed]:
    """The files uv finds on an HTML page, which has nothing that uv refuses a page for."""
    assert not _RAW_CONTROL.search(body)
    page = _Page()
    page.feed(body.decode("utf-8"))
    page.close()
    assert page.closed, "the page ends within a tag"
    return [_html_file(attributes, text) for attributes, text in page.links]


def listed_names(body: bytes, content_type: str) -> list[str]:
    """The projects of a project list, as a client of either form reads them."""
    assert not _RAW_CONTROL.search(body)
    if content_type.endswith("json"):
        page = json.loads(body, object_pairs_hook=_without_doubles)
        assert page["meta"] == {"api-version": "1.4"}
        assert all(set(project) == {"name"} for project in page["projects"])
        names = [project["name"] for project in page["projects"]]
    else:
        document = _Page()
        document.feed(body.decode("utf-8"))
        document.close()
        assert document.closed
        assert all(attributes["href"] == f"{text}/" for attributes, text in document.links)
        names = [text for _, text in document.links]
    for name in names:
        assert canonicalize_name(name, validate=True) == name
        assert urljoin(PAGE_URL, f"../{name}/") == f"http://proxy.example/simple/{name}/"
    return names


def _json_file(file: dict[str, object]) -> Listed:
    assert set(file) <= _FILE_KEYS, set(file) - _FILE_KEYS
    name, url, hashes = file["filename"], file["url"], file["hashes"]
    assert isinstance(name, str)
    assert isinstance(url, str)
    _check_below(urljoin(PAGE_URL, url), name)
    core = file["core-metadata"]
    assert isinstance(core, bool) or core  # pip takes an empty object for "there is one"
    if isinstance(core, dict):
        _check_hashes(core)
    yanked = file["yanked"]
    assert isinstance(yanked, bool) or (isinstance(yanked, str) and yanked)
    if "size" in file:
        assert type(file["size"]) is int
        assert 0 <= file["size"] < 2**64
    if "upload-time" in file:
        assert _TIME.fullmatch(str(file["upload-time"]))
    if "provenance" in file:
        assert urlsplit(str(file["provenance"])).scheme in {"http", "https"}
    requires = file.get("requires-python")
    assert requires is None or isinstance(requires, str)
    reason = None if yanked is False else "" if yanked is True else str(yanked)
    return Listed(name, reason, requires, bool(core), _check_hashes(hashes))


def _html_file(attributes: dict[str, str], text: str) -> Listed:
    assert set(attributes) <= _LINK_KEYS, set(attributes) - _LINK_KEYS
    for value in attributes.values():
        _check_texts(value)
    url, mark, fragment = attributes["href"].partition("#")
    _check_below(urljoin(PAGE_URL, url), text)
    assert bool(mark) is bool(fragment)
    hashes = _check_hashes(dict([fragment.split("=", 1)]) if fragment else {})
    metadata = attributes.get("data-core-metadata")
    assert metadata == attributes.get("data-dist-info-metadata")
    if metadata not in (None, "true"):
        _check_hashes(dict([str(metadata).split("=", 1)]))
    if (size := attributes.get("data-size")) is not None:
        assert size.isascii()
        assert size.isdigit()
        assert int(size) < 2**64
    if (moment := attributes.get("data-upload-time")) is not None:
        assert _TIME.fullmatch(moment)
    return Listed(
        text,
        attributes.get("data-yanked"),
        attributes.get("data-requires-python"),
        metadata is not None,
        hashes,
    )


def _check_below(url: str, filename: str) -> None:
    """The link is a plain name right below the page, and says no more than the name."""
    assert url.startswith(PAGE_URL), url
    encoded = url.removeprefix(PAGE_URL)
    assert unquote(encoded) == filename, (encoded, filename)
    assert _PLAIN_NAME.fullmatch(filename), filename
    assert ".." not in filename
    assert not re.search(r"%(?:2[ef]|5c|25|[01]|7f)", encoded, re.IGNORECASE), encoded
    parts = urlsplit(url)
    assert not parts.query
    assert not parts.fragment


def _check_hashes(hashes: object) -> tuple[tuple[str, str], ...]:
    assert isinstance(hashes, dict)
    for name, digest in hashes.items():
        assert len(digest) == _HASH_LENGTHS[name]
        assert _HEX.fullmatch(digest)
    return tuple(sorted(hashes.items()))


def _check_texts(value: object) -> None:
    match value:
        case str():
            assert not _CONTROL.search(value), ascii(value)
        case list():
            for item in value:
                _check_texts(item)
        case dict():
            _check_texts([*value.keys(), *value.values()])


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a key stands twice"
    return found


def _no_number(text: str) -> object:
    raise AssertionError(f"{text} is not JSON")


class _Page(HTMLParser):
    """The links of a page with their texts. uv rejects a relative `<base>`, pip crashes on it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[tuple[dict[str, str], str]] = []
        self.closed = False
        self._text: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"html", "head", "meta", "title", "body", "h1", "a", "br"}, tag
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), "an attribute stands twice"
        if tag == "a":
            assert all(value is not None for _, value in attrs), "pip ignores valueless markers"
            self._text = []
            self.links.append(({name: value or "" for name, value in attrs}, ""))

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._text is not None:
            self.links[-1] = (self.links[-1][0], "".join(self._text))
            self._text = None
        self.closed = tag == "html"
