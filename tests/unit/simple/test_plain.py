"""Reading entries in bulk gives exactly what judging each of them gives, whatever they say."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxyindex.model import ProjectPage
from proxyindex.simple import InvalidPage, MediaType, parse_page, plain, relative_href, render_page
from proxyindex.simple.plain import NotPlain, PlainEntry
from tests.unit.simple.support import BASE, SHA256, SOURCE, WHEEL, origin_url, pages

JSON, HTML = MediaType.JSON.content_type, MediaType.HTML.content_type
HOST = "https://files.example/p/"
PLAIN: dict[str, Any] = {
    "url": HOST + WHEEL,
    "filename": WHEEL,
    "hashes": {"sha256": SHA256},
    "size": 63695,
    "upload-time": "2024-05-20T16:08:19.530618Z",
    "requires-python": ">=3.8",
    "yanked": False,
    "core-metadata": {"sha256": SHA256},
}


def carefully(body: bytes, content_type: str, **source: Any) -> ProjectPage | str:
    """The page with every entry judged by itself, or why there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "read_plainly", _refuse)
        return read(body, content_type, **source)


def _refuse(entries: object, source: object) -> None:
    raise NotPlain


def read(body: bytes, content_type: str, **source: Any) -> ProjectPage | str:
    try:
        return parse_page(body, content_type, **(SOURCE | source))
    except InvalidPage as problem:
        return str(problem)


def same(body: bytes, content_type: str, **source: Any) -> None:
    assert read(body, content_type, **source) == carefully(body, content_type, **source)


NAMES = [
    WHEEL,
    "Foo-1.0-1build-py3-none-any.whl",
    "foo-1.0-build-py3-none-any.whl",
    "foo-1.0-py3-none.whl",
    "foo-1.0-py3..2-none-any.whl",
    "foo-1.0-py3-none-$.whl",
    "foo-1.0-py3-none-any.WHL",
    "foo-1.0-py3-none-any.zip",
    "foo--py3-none-any.whl",
    "foo-2.0-cp311-abi3-any.whl",
    "foo-2.0+local-cp311-abi3-any.whl",
    "foo-1..0-py3-none-any.whl",
    "bar-1.0-py3-none-any.whl",
    "-1.0-py3-none-any.whl",
    "foo-1.0.tar.gz",
    "foo-bar-1.0.tar.gz",
    "foo-1.0.win32.exe",
    "foo-1.0.egg",
    "foo.html",
    "con.zip",
    "../foo-1.0.zip",
    "foo-1.0$.zip",
    "foo-1.0 .zip",
    "foo-1.0\n.zip",
    "f\u00f6-1.0.zip",
    f"foo-1.0-py3-none-{'a' * 250}.whl",
]
BASES = [
    HOST,
    "",
    "../",
    "/",
    "//h.example/",
    "http://h.example/",
    "http://files.example/",
    "https://files.example.evil/",
    "http://h.example:80/",
    "http://h.example:123456/",
    "HTTPS://h.example/",
    "https://u:p@h.example/",
    "https://[::1]/",
    "https://h.example/a%2Fb/",
    "https://h.example/%zz/",
    "https://h.example/a\n/",
    "https://h.example/a\nhttps://h.example/",
    "https://h.example//../",
    "https://h.example/" + "a" * 9000 + "/",
    "ftp://h.example/",
    "https:///",
]
ENDS = ["", "?x=1", "#sha256=0", "/", "%20"]
ODD: list[Any] = [
    *(None, True, False, 0, 1.0, -1, 2**53, 2**70, 1.5, "", "x", [], {}, [1], {"sha256": 5}),
]
DIGESTS: list[Any] = [
    {"sha256": SHA256},
    {"sha256": SHA256.upper()},
    {"sha256": SHA256[1:] + "g"},
    {"sha256": SHA256[1:]},
    {"sha256": SHA256 + "\n"},
    {"sha256": SHA256[:-1] + "\u0660"},
    {"SHA256": SHA256},
    {"md5": SHA256[:32]},
    {"sha256": SHA256, "md5": SHA256[:32]},
    {"sha256": SHA256, "sha1": "x"},
    {"SHA256": SHA256[::-1], "sha256": SHA256},
]
TIMES = [
    "2024-05-20T16:08:19.530618Z",
    "2024-05-20T16:08:19",
    "2024-05-20T16:08:19+02:00",
    "2024-05-20T16:08:19.1234567+00:00",
    "2024-05-20 16:08:19z",
    "0001-01-01T00:00:00+10:00",
    "20240520T160819Z",
    "2024-05-20",
    "yesterday",
    "2" * 100,
    "2024-05-20T16:08:19." + "1" * 60 + "Z",
]
METADATA = [*DIGESTS, *ODD]
FIELDS: dict[str, list[Any]] = {
    "hashes": METADATA,
    "size": [*ODD, 2**53 - 1, 10**40],
    "upload-time": [*TIMES, *ODD],
    "requires-python": [">=3.8", " >=3,\n<4\0", "9" * 2000, *ODD],
    "yanked": ["bad", "a\0b", "x" * 5000, *ODD],
    "core-metadata": METADATA,
    "dist-info-metadata": METADATA,
    "data-dist-info-metadata": METADATA,
    "provenance": [*(base + "x" for base in BASES), HOST, HOST + "a?b", "https://h.example", *ODD],
    "gpg-sig": ODD,
    "filename": [*NAMES, *ODD],
    "_private": ODD,
}


def listed(name: str, base: str = HOST, end: str = "") -> dict[str, Any]:
    return PLAIN | {"filename": name, "url": base + name + end}


@st.composite
def _entries(draw: st.DrawFn) -> dict[str, Any]:
    """A plain entry of some name, often with an odd thing or two."""
    picks = st.sampled_from
    entry = listed(draw(picks(NAMES)), draw(picks(BASES)), draw(picks(ENDS)))
    odd = draw(st.sets(picks(sorted(FIELDS)), max_size=2))
    entry |= {key: draw(picks(FIELDS[key])) for key in odd}
    for key in draw(st.sets(st.sampled_from(sorted(entry)), max_size=1)):
        del entry[key]
    return entry


@pytest.mark.parametrize(
    "odd",
    [
        *(listed(name, base) for name in NAMES for base in (HOST, "", "../")),
        *(listed(name, base, end) for name in NAMES[:2] for base in BASES for end in ENDS),
        *(PLAIN | {key: value} for key, values in FIELDS.items() for value in values),
        *(
            PLAIN | {"core-metadata": None, key: value}
            for key in ("dist-info-metadata", "data-dist-info-metadata")
            for value in METADATA
        ),
        *({k: v for k, v in PLAIN.items() if k != key} for key in PLAIN),
    ],
    ids=lambda odd: None,
)
def test_an_entry_with_one_odd_thing_is_read_as_if_it_was_judged(odd):
    before, after = listed(NAMES[0]), listed("foo-1.0-cp311-abi3-any.whl")
    for entries in ([odd], [before, odd, after], [odd, after]):
        body = json.dumps({"files": entries}).encode()
        same(body, JSON)
        same(body, JSON, offers_metadata=True, base_url="https://upstream.example/simple/foo")


@given(st.lists(_entries(), max_size=5), st.booleans())
@example([listed("foo-1.0-py3.whl"), PLAIN], False)
@example([PLAIN, PLAIN | {"url": WHEEL}], False)
@example([PLAIN | {"hashes": {}}, PLAIN], False)
def test_json_entries_are_read_as_if_each_was_judged(entries, offers_metadata):
    body = json.dumps({"files": entries}).encode()
    same(body, JSON, offers_metadata=offers_metadata)


VERSIONS = ["1.0", "1.1", "1.0.win32", "1.0rc1", "1.0+local", "1_0", "1.", "2", "", "dev", "1-0"]
ENDINGS = ["-py3-none-any.whl", "-cp311-cp311-any.whl", "-1-py3-none-any.whl", "-py3.whl"]
ENDINGS += [".tar.gz", ".zip", ".win32.zip", ".egg", "-py3.11.egg"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["foo", "Foo", "bar", "con", "~x", "-", "foo-bar", "foo.win32"]),
            st.sampled_from(VERSIONS),
            st.sampled_from(ENDINGS),
        ),
        min_size=2,
        max_size=8,
    ),
    st.sampled_from(["foo", "foo-win32"]),
)
@example([("foo", "1.0.win32", ENDINGS[0]), ("foo", "1.0.win32", ".tar.gz")], "foo")
@example([("foo", "1.0", ENDINGS[0]), ("foo", "1.0", ".tar.gz"), ("foo", "1.1", ENDINGS[0])], "foo")
@example([("con", "1.0", ENDINGS[0]), ("con", "1.1", ENDINGS[0])], "foo")
@example([("foo", "", ENDINGS[0]), ("foo", "", ".tar.gz")], "foo")
@example([("~x", "1.0", ENDINGS[0]), ("~x", "1.0", ".tar.gz")], "foo")
@example([("foo.win32", "1.0", ENDINGS[0]), ("foo.win32", "1.0", ".tar.gz")], "foo-win32")
def test_names_beside_each_other_are_read_as_if_each_was_judged(names, project):
    entries = [listed(f"{name}-{version}{ending}") for name, version, ending in names]
    same(json.dumps({"files": entries}).encode(), JSON, project=project)


@pytest.mark.parametrize(
    "entry",
    [
        b'{"url": "foo-1.zip", "filename": "foo-1.zip", "hashes": {}, "size": 1.0}',
        b'{"url": "foo-1.zip", "url": "foo-2.zip", "hashes": {"sha256": "x"}}',
        b'{"url": "foo-1.zip", "filename": "foo-1.zip", "hashes": {"sha256": "a", "sha256": "b"}}',
        b'{"url": "foo-1.zip", "dist-info-metadata": "\\ud800"}',
        b'{"url": "foo-1.zip", "_private": "\\ud800"}',
        b'{"url": "foo-1.zip\\ud800"}',
        b"[]",
        b"null",
    ],
)
def test_odd_json_is_read_as_if_each_entry_was_judged(entry):
    good = json.dumps(PLAIN).encode()
    odd = good[:-1] + b', "core-metadata": true, "dist-info-metadata": "\\ud800"}'
    twice = good[:-1] + b', "size": "x", "size": 5}'
    whole = good[:-1] + b', "size": 1.0}'
    for listed in ((entry,), (good, entry), (entry, good), (odd, good), (twice, whole)):
        same(b'{"files": [%b]}' % b",".join(listed), JSON)


@given(pages)
def test_pages_of_our_own_kind_are_read_as_if_each_entry_was_judged(page):
    for href in (relative_href, origin_url):
        same(render_page(page, MediaType.JSON, href), JSON)
        same(render_page(page, MediaType.HTML, href), HTML)


_attributes = {
    "data-size": st.sampled_from(["1", "0012", "9" * 15, "9" * 16, "9" * 30, "x", "-1", "1.0"]),
    "data-upload-time": st.sampled_from(TIMES),
    "data-requires-python": st.sampled_from(["&gt;=3.8", "", "\0"]),
    "data-yanked": st.sampled_from(["", "bad"]),
    "data-core-metadata": st.sampled_from(
        ["true", "false", "", f"sha256={SHA256}", f"SHA256={SHA256}", "sha256=x", "md5=0"]
    ),
    "data-dist-info-metadata": st.sampled_from(["true", f"sha256={SHA256}", "x"]),
    "data-provenance": st.sampled_from(BASES),
    "data-gpg-sig": st.sampled_from(["true", "false", ""]),
}
_fragments = st.sampled_from(
    ["", f"#sha256={SHA256}", f"#sha256={SHA256}&x=1", "#sha256=x", f"#md5={SHA256[:32]}", "#x"]
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(BASES),
            st.sampled_from(NAMES),
            _fragments,
            st.fixed_dictionaries({}, optional=_attributes),
        ),
        max_size=4,
    )
)
def test_html_links_are_read_as_if_each_was_judged(links):
    anchors = "".join(
        f'<a href="{base}{name}{fragment}"'
        + "".join(f' {key}="{value}"' for key, value in attributes.items())
        + ">x</a>"
        for base, name, fragment, attributes in links
    )
    same(f"<title>Links for foo</title>{anchors}".encode(), HTML)


def test_one_odd_entry_does_not_change_its_many_neighbours():
    wheels = [f"foo-{n // 7}.0-cp3{n}-cp3{n}-any.whl" for n in range(300)]
    entries = [PLAIN | {"filename": name, "url": HOST + name} for name in wheels]
    for place in (0, 63, 64, 299):
        entries[place] |= {"size": None, "url": f"/q/%7E/{wheels[place]}"}
    same(json.dumps({"files": entries}).encode(), JSON)


def test_what_is_like_the_largest_index_is_read_plainly():
    """Else everything here would hold of code that never runs."""
    source = plain.Source(SOURCE["project"], BASE, "up")
    entry = PLAIN | {"data-dist-info-metadata": {"sha256": SHA256}, "provenance": None}
    told = {"provenance": HOST + "integrity"}
    for fields in ({}, told, {"core-metadata": False, "yanked": "bad"}, {"url": WHEEL}):
        (file,) = plain.read_plainly([plain_entry(entry | fields)], source)
        assert file.filename == WHEEL


def plain_entry(entry: dict[str, Any]) -> PlainEntry:
    import msgspec  # noqa: PLC0415

    return msgspec.json.decode(json.dumps(entry), type=PlainEntry)
