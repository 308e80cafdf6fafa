"""Strategies that build inputs of the right shape with wrong things in them, by target."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from html import escape
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.headers import ETAG

Bytes = st.SearchStrategy[bytes]

_VERSIONS = ("1.0", "1.0.0", "2.0rc1", "1!3", "1.0+cpu", "legacy", "", "9" * 60, "1.0-post1", "..")
_ENDS = ("-py3-none-any.whl", "-1-py3-none-any.whl", ".tar.gz", ".zip", ".egg", ".exe", ".whl", "")
_PROJECTS = (
    "demo_pkg",
    "Demo.PKG",
    "demo-pkg",
    "other",
    "con",
    ".demo_pkg",
    "démo_pkg",
    "demo pkg",
)
_HOMES = (
    "",
    "https://files.example/a/",
    "//files.example/",
    "/x/",
    "../../y/",
    "https://u:p@files.example/",
    "http://[::1]:8080/",
    "file:///etc/",
    "javascript:",
    "\\\\host\\",
    "https://files.example/%2e%2e%2f",
    "https://files.example/a%252f",
    "https://files.example\n/",
    "//[",
)
_TAILS = ("", "?sig=1", "#sha256=00", "#" + "sha256=" + "a1" * 32, "%00", "\n", "%2Fx.zip", "%")

_nasty = st.sampled_from(
    [
        "\0",
        "\x1b[31m",
        "\x85",
        "\u2028",
        "\x7f",
        '<script>"',
        "&#0;&lt;",
        "'\"><a href=x>",
        "é",
        "😀",
    ]
)
texts = st.lists(
    _nasty | st.text(max_size=8) | st.sampled_from([">=3.8", ",<4", " "]), max_size=4
).map("".join)
filenames = st.builds(
    "{}-{}{}".format,
    st.sampled_from(_PROJECTS),
    st.sampled_from(_VERSIONS),
    st.sampled_from(_ENDS),
)
urls = st.builds(
    "{}{}{}".format, st.sampled_from(_HOMES), filenames, st.sampled_from(_TAILS) | st.just("")
)
_numbers = st.sampled_from([0, -1, 12, 2**53, 10**400, 1.5, float("inf"), float("nan"), True])
_odd = st.none() | _numbers | texts | st.lists(st.integers(), max_size=2) | st.just({"a": []})
_digest = st.sampled_from(["a1" * 32, "A1" * 32, "0" * 63, "g" * 64, "0" * 128, "0" * 32, ""])
_hashes = st.dictionaries(
    st.sampled_from(["sha256", "SHA256", "md5", "sha512", "blake2b", ""]),
    _digest | _odd,
    max_size=3,
)
_times = st.sampled_from(
    [
        "2024-02-29T12:30:59Z",
        "2024-02-29T12:30:59.123456789Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2024-02-29",
        "2024-02-29T12:30:59",
        "20240229T123059+0530",
    ]
)


def _entry(url: str, same_name: bool, rest: dict[str, Any]) -> dict[str, Any]:
    name = url.partition("#")[0].partition("?")[0].rpartition("/")[2]
    return {"url": url, **({"filename": name} if same_name else {}), **rest}


_fields = st.fixed_dictionaries(
    {},
    optional={
        "hashes": _hashes | _odd,
        "size": st.integers(0, 10**9) | _odd,
        "upload-time": _times | _odd,
        "requires-python": texts | _odd,
        "yanked": st.booleans() | texts | _odd,
        "core-metadata": st.booleans() | _hashes | _odd,
        "dist-info-metadata": st.booleans() | _hashes | _odd,
        "provenance": urls | _odd,
        "gpg-sig": st.booleans() | _odd,
    },
)
_entries = st.lists(st.builds(_entry, urls, st.booleans(), _fields) | _odd, max_size=6)
_statuses = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["active", "archived", "quarantined", "UNKNOWN\n", "", "a b"])
        | _odd,
        "reason": texts | _odd,
    },
)
_metas = st.fixed_dictionaries(
    {}, optional={"api-version": st.sampled_from(["1.0", "1.9", "2.0", 1.4, "1\n", "①"]) | _odd}
)
_pages = st.fixed_dictionaries(
    {"files": _entries},
    optional={
        "meta": _metas | _odd,
        "versions": st.lists(st.sampled_from(_VERSIONS) | texts | _odd, max_size=4) | _odd,
        "project-status": _statuses | _odd,
        "name": texts,
    },
)


def _damaged(body: bytes, cut: int, place: int, junk: bytes) -> bytes:
    """Mostly as it is; cut short where `cut` is small, and with `junk` somewhere."""
    where = place % (len(body) + 1)
    body = body[:where] + junk + body[where:]
    return body[:cut] if cut < 60 else body


def _mostly_whole(bodies: Bytes) -> Bytes:
    junk = st.just(b"") | st.sampled_from([b"\xff", b"\0", b"<", b'"', b"\\ud800", b"\xef\xbb\xbf"])
    return st.builds(_damaged, bodies, st.integers(0, 2000), st.integers(0, 10**6), junk)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


_ATTRIBUTES = (
    "href",
    "HREF",
    "data-requires-python",
    "data-yanked",
    "data-core-metadata",
    "data-dist-info-metadata",
    "data-size",
    "data-upload-time",
    "data-provenance",
    "data-gpg-sig",
)
_values = st.one_of(
    texts,
    urls,
    _times,
    st.sampled_from(["true", "false", "12", "9" * 30, "٣", "sha256=" + "a1" * 32, "sha256=zz"]),
)
_quoted: list[Callable[[str], str]] = [
    lambda value: f'="{escape(value)}"',
    lambda value: f"='{value}'",
    lambda value: f" = {value}",
    lambda _: "",
]
_attribute = st.builds(
    lambda name, write, value: f" {name}{write(value)}",
    st.sampled_from(_ATTRIBUTES),
    st.sampled_from(_quoted),
    _values,
)
_anchor = st.builds(
    lambda url, attributes, text: f'<a href="{escape(url)}"{"".join(attributes)}>{text}</a>',
    urls,
    st.lists(_attribute, max_size=5),
    texts,
)
_MARKUP = (
    "<!DOCTYPE html><title>Links for demo-pkg</title>",
    "<h1>Index of /demo-pkg/</h1>",
    '<base href="//files.example/b/">',
    '<meta name="pypi:repository-version" content="1.0">',
    '<meta name="pypi:project-status" content="archived">',
    '<meta name="pypi:project-status-reason" content="a&#0;&quot;\n<b">',
    "<script>'<a href=demo_pkg-1.0.zip>'</script>",
    "<!-- <a href=demo_pkg-1.0.zip> -->",
    "<!-->",
    "<![CDATA[",
    "<?x>",
    "</ x>",
    "<a",
    "<",
)
_html = st.lists(_anchor | st.sampled_from(_MARKUP), max_size=10).map(
    lambda parts: "".join(parts).encode("utf-8", "replace")
)

_DATES = (
    "Thu, 29 Feb 2024 12:30:59 GMT",
    "Thu, 29 Feb 2024 13:30:59 +0100",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Thursday, 29-Feb-24 12:30:59 GMT",
    "0",
    "-1",
)


def _lines(*parts: st.SearchStrategy[str]) -> Bytes:
    return st.tuples(*parts).map(lambda lines: "\n".join(lines).encode("latin-1", "replace"))


_line = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
_dates = st.sampled_from(_DATES) | _line
_media = st.sampled_from(
    [
        "application/vnd.pypi.simple.v1+json",
        "application/vnd.pypi.simple.v1+html",
        "application/vnd.pypi.simple.latest+html",
        "text/html",
        "text/*",
        "application/*",
        "*/*",
        "image/png",
        "/",
    ]
)
_qualities = st.sampled_from(
    ["", ";q=0", ";q=1", "; q=0.5", ";q=0.555", ";Q=.5", ";q=2", ";a=b;q=0.1"]
)
_accept = st.lists(st.builds("{}{}".format, _media, _qualities) | _line, max_size=5).map(", ".join)
_ends = st.integers(0, 3000).map(str) | st.sampled_from(["", "0", "9" * 18, "9" * 19, "-1", " 1"])
_ranges = st.builds("bytes={}-{}".format, _ends, _ends) | _line
_tags = st.lists(st.sampled_from([ETAG, f"W/{ETAG}", '"x,y"', "*", "W/"]) | _line, max_size=3).map(
    ", ".join
)
_ages = st.sampled_from(
    ["max-age=600", "s-maxage=0", "no-store", 'max-age="5"', "max-age", "public"]
)
_controls = st.lists(_ages | _line, max_size=3).map(", ".join)


def _patched(archive: bytes, signature: bytes, patches: list[tuple[int, int]]) -> bytes:
    """The archive with bytes of its last such record overwritten, `(offset, value)` each."""
    at, content = archive.rfind(signature), bytearray(archive)
    for offset, value in patches:
        if at >= 0 and at + offset < len(content):
            content[at + offset] = value
    return bytes(content)


def _zip(entries: list[tuple[str, bytes, int]], comment: bytes) -> bytes:
    stream = io.BytesIO()
    # a name that stands twice is worth a warning to zipfile
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(stream, "w") as archive:
        for name, content, method in entries:
            info = zipfile.ZipInfo(name, (2020, 2, 2, 0, 0, 0))
            info.compress_type = method
            archive.writestr(info, content)
        archive.comment = comment
    return stream.getvalue()


_INFO = "demo_pkg-1.0.dist-info/METADATA"
_METADATA = b"Metadata-Version: 2.1\nName: demo-pkg\nVersion: 1.0\nRequires-Python: >=3.8\n"
_NAMES = (_INFO, "demo_pkg-1.0/PKG-INFO", "demo/x.py", "other-1.0.dist-info/METADATA", "../x", "a/")
_CONTENTS = (_METADATA, b"", _METADATA + b"\x01", b"Name: \xff", b"\0" * 300_000)
_contents = st.integers(0, len(_CONTENTS) - 1).map(lambda number: _CONTENTS[number])
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_members = st.lists(
    st.tuples(st.sampled_from(_NAMES), _contents, st.sampled_from(_METHODS)),
    max_size=4,
    unique_by=lambda member: member[0],
).map(lambda members: [(_INFO, _METADATA, zipfile.ZIP_DEFLATED), *members[1:]])
_patches = st.lists(
    st.tuples(st.integers(4, 45), st.sampled_from([0, 1, 127, 128, 255])), max_size=3
)
_zips = st.builds(
    _patched,
    st.builds(_zip, _members, st.sampled_from([b"", b"PK\5\6", b"x" * 30])),
    st.sampled_from([b"PK\1\2", b"PK\5\6", b"PK\3\4"]),
    _patches,
)


def tar_member(name: str, kind: bytes, size: int, content: bytes) -> bytes:
    header = struct.pack(
        "100s8s8s8s12s12s8s1s355s",
        name.encode()[:100],
        *[b"0000644\0"] * 3,
        b"%011o\0" % size,
        b"0" * 11 + b"\0",
        b" " * 8,
        kind,
        b"\0" * 355,
    )
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return header + content + b"\0" * (-len(content) % 512)


_tars = st.lists(
    st.builds(
        lambda name, kind, content, lie: tar_member(name, kind, len(content) + lie, content),
        st.sampled_from(["demo_pkg-1.0/PKG-INFO", "./x/PKG-INFO", "x", "é" * 60, "a/b/PKG-INFO"]),
        st.sampled_from([b"0", b"\0", b"5", b"2", b"L", b"K", b"x", b"g", b"X", b"S", b"7", b"?"]),
        st.sampled_from([b"", _METADATA, b"28 path=demo_pkg-1.0/PKG-INFO\n", b"a/PKG-INFO\0"]),
        st.sampled_from([0, 0, 0, 1, 511, 8**11 - 600]),
    ),
    max_size=5,
).map(lambda members: b"".join(members) + b"\0" * 1024)
_gzips = _tars.map(lambda tar: zlib.compress(tar, 1, 31))

_settings_lines = st.lists(
    st.builds(
        "{} = {}".format,
        st.sampled_from(
            ["page-ttl", "cache_size", "port", "upstream", "workers", "offline", "no-such"]
        ),
        st.sampled_from(
            ['"5m"', '"50GB"', "5", "-1", "true", "[]", '["http://u:hunter2@a.example"]']
        )
        | texts.map(json.dumps),
    )
    | st.sampled_from(["[policy]", 'deny = ["a<2"]', "[[upstream]]", 'url = "http://a.example"']),
    max_size=6,
).map("\n".join)
_settings_environ = st.lists(
    st.builds(
        "PROXYINDEX_{}={}".format,
        st.sampled_from(["PORT", "UPSTREAM", "PAGE_TTL", "POLICY_DENY", "UPSTREAM_PYPI_PASSWORD"]),
        st.sampled_from(["5", "tcp://1", "http://a.example, http://b.example", "a<2,<3 b"]) | _line,
    ),
    max_size=3,
).map("\n".join)

BUILT: dict[str, Bytes] = {
    "json-page": _mostly_whole(_pages.map(_json)),
    "html-page": _mostly_whole(_html),
    "json-list": _mostly_whole(
        st.fixed_dictionaries(
            {"projects": st.lists(st.builds(lambda n: {"name": n}, texts | filenames) | _odd)},
            optional={"meta": _metas | _odd},
        ).map(_json)
    ),
    "html-list": _mostly_whole(_html),
    "link": urls.map(lambda url: b"\n" + url.encode("utf-8", "replace")),
    "filename": filenames.map(lambda name: name.encode("utf-8", "replace")),
    "accept": _lines(_accept),
    "range": _lines(_ranges, st.sampled_from(["", ETAG, f"W/{ETAG}"]) | _dates, _ends),
    "conditional": _lines(_tags, _dates),
    "caching": _lines(_controls, _ends, _dates, _dates),
    "wheel": _mostly_whole(_zips),
    "zip-sdist": _mostly_whole(_zips),
    "tar-sdist": _mostly_whole(_tars),
    "gzip-body": _mostly_whole(st.lists(_gzips, min_size=1, max_size=3).map(b"".join)),
    "gzip-sdist": _mostly_whole(_gzips),
    "core-metadata": texts.map(
        lambda text: f"Name: demo\nRequires-Python: {text}\n".encode("utf-8", "replace")
    ),
    "configuration": st.builds(
        lambda toml, environ: f"{toml}\0{environ}".encode("utf-8", "replace"),
        _settings_lines,
        _settings_environ,
    ),
}
