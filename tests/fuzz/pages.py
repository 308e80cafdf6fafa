"""Targets for what upstreams say: project pages, project lists, links and file names."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from datetime import datetime

from packaging.utils import InvalidName as NoName
from packaging.utils import (
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import Version

from proxyindex import simple
from proxyindex.model import ProjectPage, UpstreamOrigin
from proxyindex.names import InvalidName, is_safe_filename, normalize, parse_filename
from proxyindex.simple import InvalidPage, MediaType
from proxyindex.simple.entries import resolve
from tests.fuzz.clients import (
    Listed,
    listed_names,
    pip_reads,
    uv_reads_html,
    uv_reads_json,
)

PROJECT = NormalizedName("demo-pkg")
BASE_URL = "https://index.example/simple/demo-pkg/"
_FILE_URL = re.compile(r"https?://[^\x00-\x20\x7f\\#@/]+/[^\x00-\x20\x7f\\#]*")


def json_page(body: bytes) -> None:
    """An upstream's JSON page, through to what pip and uv read of ours."""
    _page(body, MediaType.JSON.content_type)


def html_page(body: bytes) -> None:
    """An upstream's HTML page, through to what pip and uv read of ours."""
    _page(body, MediaType.HTML.content_type)


def json_list(body: bytes) -> None:
    """An upstream's project list in JSON."""
    _list(body, MediaType.JSON.content_type)


def html_list(body: bytes) -> None:
    """An upstream's project list in HTML."""
    _list(body, MediaType.HTML.content_type)


def link(data: bytes) -> None:
    """A link on a page: the URL of the page, a line break, the link."""
    base, _, href = data.decode("utf-8", "surrogateescape").partition("\n")
    found = resolve(href, base if base.startswith("http") else BASE_URL)
    if found is None:
        return
    url, filename = found
    assert _FILE_URL.fullmatch(url), url
    assert is_safe_filename(filename)
    path = url.partition("?")[0]
    assert not re.search(r"%(?:5c|[01][0-9a-f]|7f|(?![0-9a-f]{2}))", path, re.IGNORECASE), url
    assert not re.search(r"%(?:2f|25)", path.rpartition("/")[2], re.IGNORECASE), url


def filename(data: bytes) -> None:
    """A file name: what it tells agrees with what installers take it for."""
    name = data.decode("utf-8", "surrogateescape")
    for project in (None, PROJECT):
        told = parse_filename(name, project)
        assert told.kind in {"wheel", "sdist", "other"}
        assert told.project is None or canonicalize_name(told.project) == told.project
        assert told.version is None or told.version in name
    with contextlib.suppress(InvalidWheelFilename, ValueError):
        owner, version, _, _ = parse_wheel_filename(name)
        if is_safe_filename(name):
            told = parse_filename(name)
            # `a_-1.0-…` is nobody's: no project may be called `a-`
            assert told.project == (owner if _is_name(owner) else None)
            assert told.version is not None
            assert Version(told.version.replace("_", "-")) == version
    if is_safe_filename(name):
        assert re.fullmatch(r"[A-Za-z0-9._+!~@=-]{1,255}", name)
        assert not name.startswith((".", "-"))
        assert ".." not in name


def project_name(data: bytes) -> None:
    """A project name: valid or not, exactly as the specification has it."""
    name = data.decode("utf-8", "surrogateescape")
    expected = canonicalize_name(name) if _is_name(name) and len(name) <= 200 else None
    try:
        found: str | None = normalize(name)
    except InvalidName:
        found = None
    assert found == expected


def _is_name(text: str) -> bool:
    try:
        return bool(canonicalize_name(text, validate=True))
    except NoName:
        return False


def _page(body: bytes, content_type: str) -> None:
    try:
        page = simple.parse_page(
            body, content_type, project=PROJECT, base_url=BASE_URL, upstream="pypi"
        )
    except InvalidPage:
        return
    check_page(page)


def check_page(page: ProjectPage) -> None:
    """Both forms of a page are valid for pip and uv, tell the same, and read back the same."""
    _check_model(page)
    as_json = simple.render_page(page, MediaType.JSON)
    as_html = simple.render_page(page, MediaType.HTML)
    assert simple.render_page(page, MediaType.V1_HTML) == as_html
    expected = [
        Listed(
            file.filename,
            file.yanked,
            file.requires_python,
            file.core_metadata is not None and file.is_wheel,
            tuple(sorted(file.hashes.items())),
        )
        for file in page.files
    ]
    assert uv_reads_json(as_json) == expected
    assert [_without_hashes(file) for file in uv_reads_html(as_html)] == [
        _without_hashes(file) for file in expected
    ]
    assert pip_reads(as_json, MediaType.JSON) == expected
    for file, told in zip(pip_reads(as_html, MediaType.HTML), expected, strict=True):
        assert _without_hashes(file) == _without_hashes(told)
        assert set(file.hashes) <= set(told.hashes)
        assert bool(file.hashes) is bool(told.hashes)
    _check_reads_back(page, as_json, as_html)


def _check_model(page: ProjectPage) -> None:
    names = [file.filename for file in page.files]
    assert len(set(names)) == len(names)
    for file in page.files:
        assert is_safe_filename(file.filename)
        assert not parse_filename(file.filename, PROJECT).is_foreign_to(PROJECT)
        assert file.upload_time is None or isinstance(file.upload_time, datetime)
        assert isinstance(file.origin, UpstreamOrigin)
        assert _FILE_URL.fullmatch(file.origin.url), file.origin.url
        assert file.version is None or file.version in page.versions or _has_equal(page, file)


def _has_equal(page: ProjectPage, file: object) -> bool:
    version = getattr(file, "version", None)
    return any(Version(text) == Version(version) for text in page.versions if _is_version(text))


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except ValueError:
        return False


def _check_reads_back(page: ProjectPage, as_json: bytes, as_html: bytes) -> None:
    """Another proxyindex in front of this one shows the same page."""
    for body, form in ((as_json, MediaType.JSON), (as_html, MediaType.HTML)):
        again = simple.parse_page(
            body, form.content_type, project=PROJECT, base_url=BASE_URL, upstream="pypi"
        )
        assert simple.render_page(again, MediaType.HTML) == as_html
        if form is MediaType.JSON:
            assert simple.render_page(again, MediaType.JSON) == as_json
        if page.status.status != "active":  # of which nothing is said, nor why
            assert again.status == page.status


def _list(body: bytes, content_type: str) -> None:
    try:
        listing = simple.parse_list(body, content_type)
    except InvalidPage:
        return
    for form in (MediaType.JSON, MediaType.HTML):
        rendered = simple.render_list(listing, form)
        names = listed_names(rendered, form.value)
        assert names == list(listing.names)
        assert simple.parse_list(rendered, form.content_type) == listing


def _without_hashes(file: Listed) -> Listed:
    return replace(file, hashes=())
