"""File names that would lead a client out of its folder never reach one, in no place of an answer.

Old pips unquote the last segment of a link and write where it says; names that are not what they
look like deceive people. Both must end here, whether they come in a page's names or in its links.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyindex.simple.entries import resolve
from tests.support.builders import make_sdist, put
from tests.support.clients import Workbench
from tests.support.fixtures import Index
from tests.support.pages import HTML_TYPE, JSON_TYPE, FileSpec, sdist_spec, wheel_spec
from tests.support.reading import html_of, json_of
from tests.support.reply import Reply

# `{0}` is the project's name as file names spell it, so that nothing but the oddity is wrong
NAMES = {
    "dots": "../{0}-1.0.tar.gz",
    "dots-deep": "../../../../../../tmp/{0}-1.0.tar.gz",
    "dots-inside": "{0}-1.0/../../{0}-1.0.tar.gz",
    "dots-in-version": "{0}-1..0.tar.gz",
    "absolute": "/tmp/{0}-1.0.tar.gz",
    "slash": "x/{0}-1.0.tar.gz",
    "slash-encoded": "..%2f{0}-1.0.tar.gz",
    "slash-encoded-upper": "..%2F{0}-1.0.tar.gz",
    "slash-encoded-twice": "..%252f{0}-1.0.tar.gz",
    "slash-encoded-thrice": "..%25252f{0}-1.0.tar.gz",
    "slash-overlong": "..%c0%af{0}-1.0.tar.gz",
    "slash-full-width": "..\uff0f{0}-1.0.tar.gz",
    "slash-division": "..\u2215{0}-1.0.tar.gz",
    "dots-encoded": "%2e%2e%2f{0}-1.0.tar.gz",
    "dots-encoded-twice": "%252e%252e%252f{0}-1.0.tar.gz",
    "dots-leader": "\u2025\uff0f{0}-1.0.tar.gz",
    "backslash": "..\\{0}-1.0.tar.gz",
    "backslash-encoded": "..%5c{0}-1.0.tar.gz",
    "backslash-encoded-upper": "..%5C{0}-1.0.tar.gz",
    "backslash-encoded-twice": "..%255c{0}-1.0.tar.gz",
    "drive": "C:{0}-1.0.tar.gz",
    "drive-encoded": "C%3A{0}-1.0.tar.gz",
    "stream": "{0}-1.0.tar.gz:x.tar.gz",
    "nul": "{0}-1.0.tar.gz\0.tar.gz",
    "nul-encoded": "{0}-1.0%00.tar.gz",
    "nul-encoded-twice": "{0}-1.0%2500.tar.gz",
    "line-end": "{0}-1.0\n.tar.gz",
    "line-end-last": "{0}-1.0.tar.gz\n",
    "line-end-encoded": "{0}-1.0%0a.tar.gz",
    "carriage-return-encoded": "{0}-1.0%0d%0aX-Injected:1.tar.gz",
    "escape": "\x1b]0;{0}-1.0.tar.gz",
    "delete-encoded": "{0}-1.0%7f.tar.gz",
    "c1-control": "{0}-1.0\x9b.tar.gz",
    "tab": "{0}-1.0\t.tar.gz",
    "space": "{0} 1.0.tar.gz",
    "space-last": "{0}-1.0.tar.gz ",
    "space-last-encoded": "{0}-1.0.tar.gz%20",
    "space-before-suffix": "{0}-1.0 .tar.gz",
    "space-no-break": "{0}-1.0\u00a0.tar.gz",
    "dot-last": "{0}-1.0.tar.gz.",
    "dot-last-encoded": "{0}-1.0.tar.gz%2e",
    "dot-first": ".{0}-1.0.tar.gz",
    "dash-first": "-{0}-1.0.tar.gz",
    "dash-option": "--{0}-1.0.tar.gz",
    "device": "nul.tar.gz",
    "device-con": "CON.tar.gz",
    "device-com": "com1.tar.gz",
    "device-aux-wheel": "aux.{0}-1.0-py3-none-any.whl",
    "bidi-override": "{0}-1.0\u202egz.rat.tar.gz",
    "bidi-isolate": "{0}-1.0\u2066.tar.gz",
    "zero-width": "{0}-1.0\u200b.tar.gz",
    "soft-hyphen": "{0}\u00ad-1.0.tar.gz",
    "byte-order-mark": "\ufeff{0}-1.0.tar.gz",
    "cyrillic": "{0}-1.0.t\u0430r.gz",
    "cyrillic-encoded": "{0}-1.0.t%D0%B0r.gz",
    "kelvin-sign": "\u212a{0}-1.0.zip",
    "full-width-dot": "{0}-1.0\uff0etar.gz",
    "surrogate": "{0}-1.0\ud800.tar.gz",
    "tag-characters": "{0}-1.0\U000e0041.tar.gz",
    "quote": '{0}-1.0".tar.gz',
    "quote-single": "{0}-1.0'.tar.gz",
    "angle": "{0}-1.0<b>.tar.gz",
    "ampersand": "{0}-1.0&amp;.tar.gz",
    "query": "{0}-1.0.tar.gz?x=.tar.gz",
    "query-encoded": "{0}-1.0%3Fx.tar.gz",
    "fragment-encoded": "{0}-1.0%23egg.tar.gz",
    "parameters": "{0}-1.0.tar.gz;x=/../y.tar.gz",
    "home-shell": "$HOME{0}-1.0.tar.gz",
    "glob": "{0}-*.tar.gz",
    "too-long": "{0}-1." + "0" * 300 + ".tar.gz",
    "script": "{0}-1.0.tar.gz.html",
    "sidecar": "{0}-1.0.tar.gz.metadata",
    "signature": "{0}-1.0.tar.gz.asc",
    "empty": "",
    "one-dot": ".",
    "two-dots": "..",
}
GOOD = "2.0"
PLAIN = re.compile(r"[A-Za-z0-9_!~@=+][A-Za-z0-9._+!~@=-]*")
DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}


@dataclass(frozen=True, slots=True)
class Told:
    """A project whose page has one good file, and bad ones beside it."""

    name: str
    good: FileSpec
    bad: str


def entry_of(filename: object, url: object) -> dict[str, object]:
    return {"filename": filename, "url": url, "hashes": {}, "size": 5}


def offer(index: Index, form: str, pattern: str) -> Told:
    """A page that has the name as name, as link, and as both."""
    name = index.new_name()
    stem = name.replace("-", "_")
    bad, plain = pattern.format(stem), f"{stem}-1.0.tar.gz"
    good = sdist_spec(name, GOOD)
    index.upstream.file(good)
    root = f"/files/{bad}"
    if form == "json":
        entries = [
            good.to_json(),
            entry_of(bad, f"/files/{plain}"),
            entry_of(plain, root),
            entry_of(bad, root),
            entry_of(unquote(bad), root),
            entry_of(None, root),
            entry_of(bad, index.upstream.url + root),
            entry_of(bad, None),
        ]
        page = {"meta": {"api-version": "1.1"}, "name": name, "files": entries}
        reply = Reply(body=json.dumps(page).encode(), content_type=JSON_TYPE)
    else:
        links = [
            (root, bad),
            (root, plain),
            (bad, plain),
            (index.upstream.url + root, unquote(bad)),
        ]
        anchors = "".join(f'<a href="{escape(href)}">{escape(text)}</a>' for href, text in links)
        text = f"<!DOCTYPE html><html><head><title>x</title></head>{good.to_html()}{anchors}</html>"
        reply = Reply(body=text.encode("utf-8", "surrogatepass"), content_type=HTML_TYPE)
    index.upstream.script(f"/simple/{name}/", reply)
    return Told(name, good, bad)


def assert_harmless(filename: str, url: str) -> None:
    """A plain name that is a single segment as it stands, wherever a client may decode it."""
    assert PLAIN.fullmatch(filename), filename
    assert ".." not in filename
    assert filename.endswith((".tar.gz", ".zip", ".whl"))
    assert filename.partition(".")[0].lower() not in DEVICES
    assert url.partition("#")[0] == filename == unquote(filename)


def files_of(index: Index, name: str) -> set[str]:
    """What the page lists, the same in all forms, each name harmless."""
    entries = json_of(index, name)["files"]
    anchors = html_of(index, name).anchors
    for filename, url in [(entry["filename"], entry["url"]) for entry in entries]:
        assert_harmless(filename, url)
    for anchor in anchors:
        assert_harmless(anchor.text, anchor.url)
    assert [entry["filename"] for entry in entries] == [anchor.text for anchor in anchors]
    for accept in (JSON_TYPE, HTML_TYPE, "text/html"):
        body = index.get(f"/simple/{name}/", {"Accept": accept}).text
        assert "%" not in body
        assert ".." not in body
        assert body.isascii()
    return {anchor.text for anchor in anchors}


@pytest.mark.parametrize("oddity", NAMES)
@pytest.mark.parametrize("form", ["json", "html"])
def test_no_page_tells_a_name_that_is_no_plain_one(index: Index, form: str, oddity: str) -> None:
    told = offer(index, form, NAMES[oddity])
    listed = files_of(index, told.name)
    assert told.good.filename in listed, "the others cost it nothing"
    assert told.bad not in listed


@pytest.mark.parametrize("oddity", NAMES)
def test_no_file_is_asked_or_served_under_such_a_name(index: Index, oddity: str) -> None:
    told = offer(index, "json", NAMES[oddity])
    bad = told.bad.encode("utf-8", "surrogatepass")
    files_of(index, told.name)
    for segment in {quote(bad), quote(bad, safe=""), quote(quote(bad, safe=""), safe="")} - {""}:
        for end in ("", ".metadata", ".asc", ".provenance"):
            if segment + end in (".", ".."):
                continue
            answer = index.get(f"/simple/{told.name}/{segment}{end}")
            assert answer.status in (400, 404)
            assert "X-Injected" not in dict(answer.headers)
    asked = {seen.path for seen in index.upstream.requests() if told.name in seen.path}
    assert asked == {f"/simple/{told.name}/"}


def test_files_of_such_names_in_an_own_folder_are_not_listed(index: Index) -> None:
    name = index.new_name()
    stem = name.replace("-", "_")
    folder = index.folder / name
    put(folder, f"{stem}-{GOOD}.tar.gz", make_sdist(name, GOOD))
    made = 0
    for pattern in NAMES.values():
        if "/" in pattern:
            continue
        with contextlib.suppress(OSError, ValueError):  # a NUL, too long
            put(folder, pattern.format(stem), make_sdist(name, "1.0"))
            made += 1
    assert made > 40
    assert files_of(index, name) == {f"{stem}-{GOOD}.tar.gz"}


@pytest.mark.parametrize(
    "disposition",
    [
        'attachment; filename="../../evil.sh"',
        "attachment; filename*=UTF-8''..%2f..%2fevil.sh",
        'inline; filename="x.html"',
    ],
)
def test_an_upstream_s_disposition_is_not_passed_on(index: Index, disposition: str) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    index.project(spec, name=name)
    index.upstream.file(
        spec,
        headers={
            "Content-Disposition": disposition,
            "Content-Location": "../../evil.sh",
            "Link": "<../../evil.sh>; rel=canonical",
            "Refresh": "0; url=//evil.example",
        },
    )
    for headers in ({}, {"Range": "bytes=0-4"}, {}):
        answer = index.get(f"/simple/{name}/{spec.filename}", headers)
        assert answer.status in (200, 206)
        assert "evil" not in str(answer.headers)
        assert answer.header("content-disposition") is None


@pytest.mark.parametrize("form", ["json", "html"])
def test_pip_finds_only_sane_names_and_stays_in_its_folder(
    index: Index, workbench: Workbench, tmp_path: Path, form: str
) -> None:
    name = index.new_name()
    stem = name.replace("-", "_")
    good = sdist_spec(name, GOOD)
    index.upstream.file(good, headers={"Content-Disposition": 'attachment; filename="../e.tgz"'})
    lures = [pattern.format(stem).replace("1.0", "9.9") for pattern in NAMES.values()]
    lures = [lure.encode("utf-8", "replace").decode() for lure in lures]
    if form == "json":
        entries = [good.to_json(), *(entry_of(lure, f"/files/{lure}") for lure in lures)]
        page = {"meta": {"api-version": "1.1"}, "name": name, "files": entries}
        index.upstream.script(
            f"/simple/{name}/", Reply(body=json.dumps(page).encode(), content_type=JSON_TYPE)
        )
    else:
        anchors = "".join(f'<a href="/files/{escape(lure)}">{escape(lure)}</a>' for lure in lures)
        text = f"<html><head><title>x</title></head>{good.to_html()}{anchors}</html>"
        index.upstream.script(f"/simple/{name}/", Reply(body=text.encode(), content_type=HTML_TYPE))
    folder = tmp_path / "a" / "b" / "download"
    args = ["--no-deps", "--no-build-isolation", "--dest", str(folder), f"{name}<3"]
    workbench.pip("download", "--index-url", index.server.simple_url, *args)
    assert [path.name for path in folder.iterdir()] == [good.filename]
    assert [path for path in (tmp_path / "a").rglob("*") if path.is_file()] == [
        folder / good.filename
    ]


PIECES = st.sampled_from(
    [*".%/\\:;?#@~ -_+0afF25cC", "..", "%2f", "%5C", "%25", "\0", "\u202e", "é"]
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from([".tar.gz", ".whl", ".zip", ""]))
def test_a_resolved_link_ends_in_a_name_that_needs_no_encoding(text: str, suffix: str) -> None:
    found = resolve("https://up.example/files/" + text + suffix, "https://up.example/simple/demo/")
    if found is not None:
        _, filename = found
        assert PLAIN.fullmatch(filename)
        assert unquote(filename) == filename
        assert quote(filename, safe="+!~@=") == filename
