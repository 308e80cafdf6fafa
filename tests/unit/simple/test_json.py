"""The JSON form: what is kept, what is dropped, what is refused, what is sent."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.model import File, LocalOrigin, ProjectPage, Status, UpstreamOrigin
from proxyindex.names import is_safe_filename, normalize
from proxyindex.simple import (
    InvalidPage,
    MediaType,
    parse_list,
    parse_page,
    render_list,
    render_page,
)
from proxyindex.simple import entries as entries_module
from tests.unit.simple.support import (
    BASE,
    FOO,
    SHA256,
    SOURCE,
    WHEEL,
    origin_url,
    pages,
    pip_links,
)

JSON = MediaType.JSON.content_type
SHA512 = SHA256 * 2


def parse(document: object, **source: Any) -> ProjectPage:
    return parse_page(json.dumps(document).encode(), JSON, **(SOURCE | source))


def parse_one(**entry: object) -> File | None:
    """The file of an acceptable entry changed by `entry`; `...` removes a key."""
    complete: dict[str, object] = {"filename": WHEEL, "url": WHEEL, "hashes": {}} | entry
    kept = {key.replace("_", "-"): value for key, value in complete.items() if value is not ...}
    files = parse({"files": [kept]}).files
    return files[0] if files else None


def field(name: str, **entry: object) -> object:
    file = parse_one(**entry)
    assert file is not None
    return getattr(file, name)


def render(page: ProjectPage) -> Any:
    return json.loads(render_page(page, MediaType.JSON))


def test_a_complete_entry_is_read_whole():
    page = parse(
        {
            "meta": {"api-version": "1.4", "_last-serial": 7, "tracks": ["x"]},
            "name": "foo",
            "versions": ["0.9", "1.0"],
            "alternate-locations": [],
            "project-status": {"status": "archived", "reason": "done"},
            "files": [
                {
                    "core-metadata": {"sha256": SHA256},
                    "data-dist-info-metadata": {"sha256": SHA256},
                    "filename": WHEEL,
                    "gpg-sig": True,
                    "hashes": {"blake2b": SHA512, "md5": SHA256[:32], "sha256": SHA256},
                    "provenance": "https://upstream.example/integrity/foo",
                    "requires-python": ">=3.8",
                    "size": 63695,
                    "upload-time": "2024-05-20T16:08:19.530618Z",
                    "url": f"https://files.upstream.example/packages/f2/{WHEEL}?sig=1#sha256=0",
                    "yanked": "CVE-2024-35195",
                    "_private": 1,
                }
            ],
        }
    )
    assert page.name == "foo"
    assert page.versions == ("0.9", "1.0")
    assert page.status == Status("archived", "done")
    assert page.files == (
        File(
            filename=WHEEL,
            origin=UpstreamOrigin(
                "up", f"https://files.upstream.example/packages/f2/{WHEEL}?sig=1", "foo"
            ),
            hashes={"md5": SHA256[:32], "sha256": SHA256},
            version="1.0",
            size=63695,
            upload_time=datetime(2024, 5, 20, 16, 8, 19, 530618, UTC),
            requires_python=">=3.8",
            yanked="CVE-2024-35195",
            core_metadata={"sha256": SHA256},
            provenance="https://upstream.example/integrity/foo",
            has_signature=True,
        ),
    )


@pytest.mark.parametrize(
    "entry",
    [
        {"url": ...},
        {"url": None},
        {"url": 5},
        {"url": ""},
        {"url": "foo-1.0.tar.gz"},  # not the file that `filename` names
        {"url": f"https://upstream.example/{WHEEL}/"},
        {"url": f"https://user:secret@upstream.example/{WHEEL}"},
        {"url": f"https://upstream.example/a%0Ab/{WHEEL}"},
        {"url": f"https://upstream.example/a%5Cb/{WHEEL}"},
        {"url": f"https://upstream.example/a\\b/{WHEEL}"},
        {"url": f"https://upstream.example/%zz/{WHEEL}"},
        {"url": f"https://[upstream/{WHEEL}"},
        {"url": f"//[/{WHEEL}"},
        {"url": f"file:///{WHEEL}"},
        {"url": f"javascript:alert(1)//{WHEEL}"},
        {"url": f"data:text/plain,/{WHEEL}"},
        {"url": f"ftp://upstream.example/{WHEEL}"},
        {"url": "https://upstream.example/" + "x/" * 5000 + WHEEL},
        {"filename": None, "url": "..%2Ffoo-1.0.tar.gz"},
        {"filename": None, "url": "..%252Ffoo-1.0.tar.gz"},
        {"filename": None, "url": "x%5Cfoo-1.0.tar.gz"},
        {"filename": None, "url": "foo%00-1.0.tar.gz"},
        {"filename": None, "url": "fo%C3%B6-1.0.tar.gz"},
        {"filename": None, "url": ".foo-1.0.tar.gz"},
        {"filename": None, "url": "nul.tar.gz"},
        {"filename": None, "url": "foo.html"},
        {"filename": "../" + WHEEL},
        {"filename": 5},
        {"filename": "evil-1.0.tar.gz", "url": "evil-1.0.tar.gz"},
        {"filename": "evil-1.0-py3-none-any.whl", "url": "evil-1.0-py3-none-any.whl"},
    ],
)
def test_an_unacceptable_entry_is_dropped_and_the_page_stays(entry):
    bad = {"filename": WHEEL, "url": WHEEL} | entry
    bad = {key: value for key, value in bad.items() if value is not ...}
    good = {"filename": "foo-2.0.zip", "url": "foo-2.0.zip"}
    assert [file.filename for file in parse({"files": [bad, good]}).files] == ["foo-2.0.zip"]


def test_entries_that_are_no_objects_are_dropped():
    body = (
        b'{"files": [1, null, "x", [], {"url": "\\ud800"}, {"size": 1e999}, {"url": "foo-1.zip"}]}'
    )
    assert [file.filename for file in parse_page(body, JSON, **SOURCE).files] == ["foo-1.zip"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (WHEEL, f"{BASE}{WHEEL}"),
        (f"../../+f/0e5/{WHEEL}", f"https://upstream.example/+f/0e5/{WHEEL}"),
        (f"/packages/{WHEEL}", f"https://upstream.example/packages/{WHEEL}"),
        (f"//cdn.example:8443/{WHEEL}", f"https://cdn.example:8443/{WHEEL}"),
        (f"HTTP://cdn.example/{WHEEL}", f"http://cdn.example/{WHEEL}"),
        (f"http://[::1]:80/a%2Fb/{WHEEL}", f"http://[::1]:80/a%2Fb/{WHEEL}"),
        (f" my files/{WHEEL}\n", f"{BASE}my%20files/{WHEEL}"),
        (f"{WHEEL}?X=%2F&y=[1]#f", f"{BASE}{WHEEL}?X=%2F&y=[1]"),
        (WHEEL.replace("-", "%2D"), f"{BASE}{WHEEL.replace('-', '%2D')}"),
        (f"http://b\u00fccher.example/{WHEEL}", f"http://xn--bcher-kva.example/{WHEEL}"),
    ],
)
def test_urls_are_resolved_against_the_page(url, expected):
    file = parse_one(url=url)
    assert file is not None
    assert origin_url(file) == expected


def test_credentials_and_query_of_the_page_do_not_reach_its_files():
    body = json.dumps({"files": [{"url": WHEEL}, {"url": "d/foo-2.zip"}]}).encode()
    base = "https://user:secret@upstream.example/simple/foo/?a=/b/#c"
    page = parse_page(body, JSON, **(SOURCE | {"base_url": base}))
    assert [origin_url(file) for file in page.files] == [f"{BASE}{WHEEL}", f"{BASE}d/foo-2.zip"]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://up.example/rel\u00e9/{a b}/foo/", "http://up.example/rel%C3%A9/%7Ba%20b%7D/"),
        ("http://up.example/rel%C3%A9/a%2Fb/foo/", "http://up.example/rel%C3%A9/a%2Fb/"),
        ("http://b\u00fccher.example/simple/foo/", "http://xn--bcher-kva.example/simple/"),
    ],
)
@pytest.mark.parametrize("to", ["foo/", "../"])
def test_the_address_of_the_page_may_be_no_ascii(base, expected, to):
    link = WHEEL if to == "foo/" else f"../{WHEEL}"
    body = json.dumps({"files": [{"url": link}, {"url": f"./{link}"}]}).encode()
    (file,) = parse_page(body, JSON, **(SOURCE | {"base_url": base})).files
    assert origin_url(file) == f"{expected}{to.removeprefix('../')}{WHEEL}"


@pytest.mark.parametrize("url", ["foo-1.0+x.zip", "foo-1.0%2Bx.zip", "foo-1.0%2bx.zip"])
def test_a_plus_may_be_encoded(url):
    assert field("filename", filename="foo-1.0+x.zip", url=url) == "foo-1.0+x.zip"


@pytest.mark.parametrize(
    ("name", "entry", "expected"),
    [
        ("filename", {"filename": ...}, WHEEL),
        ("hashes", {"hashes": ...}, {}),
        ("hashes", {"hashes": None}, {}),
        ("hashes", {"hashes": [SHA256]}, {}),
        ("hashes", {"hashes": {"SHA256": SHA256.upper()}}, {"sha256": SHA256}),
        ("hashes", {"hashes": {"sha256": "abc", "md5": SHA256[:32]}}, {"md5": SHA256[:32]}),
        ("hashes", {"hashes": {"sha256": "g" * 64}}, {}),
        ("hashes", {"hashes": {"sha256": SHA256 + "\n"}}, {}),
        ("hashes", {"hashes": {"sha256": 5}}, {}),
        ("hashes", {"hashes": {"blake2b": SHA512, "sha1": SHA256[:40]}}, {}),
        ("hashes", {"hashes": {"sha512": SHA512}}, {"sha512": SHA512}),
        ("size", {"size": 0}, 0),
        ("size", {"size": None}, None),
        ("size", {"size": "12"}, None),
        ("size", {"size": -1}, None),
        ("size", {"size": True}, None),
        ("size", {"size": 1.5}, None),
        ("size", {"size": 2**53}, None),
        ("size", {"size": 10**40}, None),
        ("upload_time", {"upload-time": None}, None),
        ("upload_time", {"upload-time": 5}, None),
        ("upload_time", {"upload-time": "yesterday"}, None),
        ("upload_time", {"upload-time": "2024-05-20T16:08:19"}, None),
        ("upload_time", {"upload-time": "0001-01-01T00:00:00+10:00"}, None),
        ("upload_time", {"upload-time": "2" * 100}, None),
        (
            "upload_time",
            {"upload-time": "2024-05-20T16:08:19.1234567+02:00"},
            datetime(2024, 5, 20, 14, 8, 19, 123456, UTC),
        ),
        ("requires_python", {"requires-python": None}, None),
        ("requires_python", {"requires-python": ""}, None),
        ("requires_python", {"requires-python": 3}, None),
        ("requires_python", {"requires-python": " >=3.8,\n <4\x00"}, ">=3.8, <4"),
        ("requires_python", {"requires-python": "garbage"}, "garbage"),
        ("requires_python", {"requires-python": "9" * 2000}, None),
        ("yanked", {"yanked": None}, None),
        ("yanked", {"yanked": False}, None),
        ("yanked", {"yanked": True}, ""),
        ("yanked", {"yanked": ""}, ""),
        ("yanked", {"yanked": 1}, ""),
        ("yanked", {"yanked": ' bad "<b>\n'}, ' bad "<b>\n'),
        ("yanked", {"yanked": "a\x00b\r\x1bc"}, "a b  c"),
        ("yanked", {"yanked": "x" * 10_000}, "x" * 4096),
        ("core_metadata", {"core-metadata": True}, {}),
        ("core_metadata", {"core-metadata": False}, None),
        ("core_metadata", {"core-metadata": None}, None),
        ("core_metadata", {"core-metadata": "yes"}, None),
        ("core_metadata", {"core-metadata": {"sha256": SHA256}}, {"sha256": SHA256}),
        ("core_metadata", {"core-metadata": {"sha256": "abc"}}, {}),
        ("core_metadata", {"dist-info-metadata": {"sha256": SHA256}}, {"sha256": SHA256}),
        ("core_metadata", {"data-dist-info-metadata": {"sha256": SHA256}}, {"sha256": SHA256}),
        ("core_metadata", {"core-metadata": False, "dist-info-metadata": True}, None),
        ("provenance", {"provenance": None}, None),
        ("provenance", {"provenance": 5}, None),
        ("provenance", {"provenance": "/relative"}, None),
        ("provenance", {"provenance": "javascript:alert(1)"}, None),
        ("provenance", {"provenance": "http://a.example/p"}, None),
        ("provenance", {"provenance": 'https://a.example/"><b>'}, None),
        ("has_signature", {"gpg-sig": None}, False),
        ("has_signature", {"gpg-sig": "true"}, False),
    ],
)
def test_a_bad_field_is_dropped_and_the_entry_stays(name, entry, expected):
    assert field(name, **entry) == expected


def test_sdists_offer_no_core_metadata():
    sdist = "foo-1.0.tar.gz"
    assert field("core_metadata", filename=sdist, url=sdist, core_metadata=True) is None


def test_a_file_listed_twice_counts_once_and_rather_with_a_hash():
    entries = [
        {"url": f"a/{WHEEL}"},
        {"url": f"b/{WHEEL}", "hashes": {"sha256": SHA256}},
        {"url": f"c/{WHEEL}", "hashes": {"sha256": SHA256[::-1]}},
    ]
    (file,) = parse({"files": entries}).files
    assert origin_url(file) == f"{BASE}b/{WHEEL}"


def test_order_is_by_version_then_name_whatever_the_upstream_does():
    names = ["foo-10.zip", "foo-2.zip", "foo-2.tar.gz", "foo-x.zip", "setup.exe", "foo-1.0rc1.zip"]
    pages = [
        parse({"files": [{"url": name} for name in order], "versions": versions})
        for order, versions in ((names, ["2", "7"]), (names[::-1], ["7", "2"]))
    ]
    assert pages[0] == pages[1]
    assert [file.filename for file in pages[0].files] == [
        "setup.exe",
        "foo-x.zip",
        "foo-1.0rc1.zip",
        "foo-2.tar.gz",
        "foo-2.zip",
        "foo-10.zip",
    ]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (None, ("1.0",)),
        ("1.0", ("1.0",)),
        (["2.0", "2.0", "weird version"], ("weird version", "1.0", "2.0")),
        (["1.0.0"], ("1.0.0",)),  # the upstream's spelling of the file's version
        ([None, 5, "", "a\x00", "x" * 1000, []], ("1.0",)),
    ],
)
def test_versions_are_the_union_of_the_told_and_the_found(versions, expected):
    assert parse({"files": [{"url": WHEEL}], "versions": versions}).versions == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, Status()),
        ({"project-status": "archived"}, Status()),
        ({"project-status": {"status": 5}}, Status()),
        ({"project-status": {"status": "<b>"}}, Status()),
        ({"project-status": {"status": "Deprecated", "reason": 5}}, Status("deprecated")),
        ({"meta": {"project-status": {"status": "archived"}}}, Status("archived")),
        ({"project-status": {"status": "new-one", "reason": "a\x00"}}, Status("new-one", "a ")),
    ],
)
def test_project_status_is_found_at_both_places(document, expected):
    assert parse({"files": []} | document).status == expected


def test_a_quarantined_project_keeps_versions_only():
    document = {
        "meta": {"api-version": "1.4"},
        "project-status": {"status": "quarantined", "reason": "the project is haunted"},
        "files": [{"url": WHEEL}],
        "name": "foo",
        "versions": ["1.2.0", "4.0.0"],
    }
    page = parse(document)
    assert (page.files, page.versions) == ((), ("1.0", "1.2.0", "4.0.0"))
    assert render(page)["project-status"] == document["project-status"]


def test_quarantine_empties_the_rendered_page_too():
    page = ProjectPage(FOO, (File(WHEEL, LocalOrigin("x")),), ("1.0",), Status("quarantined"))
    assert render(page)["files"] == []
    assert render(page)["versions"] == ["1.0"]
    assert WHEEL.encode() not in render_page(page, MediaType.HTML)


@pytest.mark.parametrize("meta", [{}, {"api-version": "1.9"}, {"api-version": None}, 5, None])
def test_known_and_missing_api_versions_are_used(meta):
    assert parse({"meta": meta, "files": [{"url": WHEEL}]}).files


@pytest.mark.parametrize("version", ["2.0", "2", 2, "10.1", "0.9", "", "one", "1.x", [], {}])
def test_other_api_versions_are_refused(version):
    with pytest.raises(InvalidPage, match="API version"):
        parse({"meta": {"api-version": version}, "files": []})
    with pytest.raises(InvalidPage, match="API version"):
        parse_list(json.dumps({"meta": {"api-version": version}, "projects": []}).encode(), JSON)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"files": null}',
        b'{"files": {}}',
        b'{"files": "x"}',
        b"<!DOCTYPE html>",
        b"\xff",
        b'{"files": [}',
        b'{"files": []} x',
        b'{"files":' + b"[" * 10**5,
        b'{"files": [], "meta": ' + b'{"a":' * 10**5,
    ],
)
def test_structural_garbage_is_refused(body):
    with pytest.raises(InvalidPage):
        parse_page(body, JSON, **SOURCE)
    with pytest.raises(InvalidPage):
        parse_list(body, JSON)


def test_half_a_surrogate_pair_is_replaced_and_whole_ones_stay():
    reason = r"a\ud83d\udc0d\uDC0D\ud83d\ud83d\udc0db"
    body = f'{{"files": [{{"url": "{WHEEL}", "yanked": "{reason}"}}]}}'.encode()
    (file,) = parse_page(body, JSON, **SOURCE).files
    assert file.yanked == "a\U0001f40d\ufffd\ufffd\U0001f40db"


def test_nesting_inside_an_entry_costs_the_entry_at_most():
    body = b'{"files": [{"url": "foo-1.zip", "hashes": ' + b"[" * 500 + b"]" * 500 + b"}]}"
    page = parse_page(body, JSON, **SOURCE)
    assert (len(page.files), page.length) == (1, len(body))


def test_the_number_of_files_and_of_parts_is_bounded(monkeypatch):
    monkeypatch.setattr(entries_module, "MAX_FILES", 2)
    with pytest.raises(InvalidPage, match="more than 2 files"):
        parse({"files": [{}, {}, {}]})
    with pytest.raises(InvalidPage, match="more than 2 versions"):
        parse({"files": [], "versions": ["1", "1", None]})
    with pytest.raises(InvalidPage, match="more than 200000 files"):
        parse_page(b'{"files": [' + b"1," * 200_000 + b"1]}", JSON, **SOURCE)
    with pytest.raises(InvalidPage, match="parts"):
        parse_page(b'{"files": [], "versions": [' + b"[]," * 5_000_000 + b"1]}", JSON, **SOURCE)


def test_a_byte_order_mark_is_tolerated():
    assert parse_page(b'\xef\xbb\xbf{"files": []}', JSON, **SOURCE).files == ()


def test_what_is_sent_says_everything_once():
    file = File(
        filename="foo-1.0+x-py3-none-any.whl",
        origin=UpstreamOrigin("up", "https://secret.example/?sig=1"),
        hashes={"sha256": SHA256},
        version="1.0+x",
        size=5,
        upload_time=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        requires_python=">=3.8",
        yanked="",
        core_metadata={"sha256": SHA256},
        provenance="https://upstream.example/p",
        has_signature=True,
    )
    assert render(ProjectPage(FOO, (file,), ("1.0+x",))) == {
        "meta": {"api-version": "1.4"},
        "name": "foo",
        "versions": ["1.0+x"],
        "files": [
            {
                "filename": "foo-1.0+x-py3-none-any.whl",
                "url": "foo-1.0%2Bx-py3-none-any.whl",
                "hashes": {"sha256": SHA256},
                "core-metadata": {"sha256": SHA256},
                "yanked": True,
                "requires-python": ">=3.8",
                "size": 5,
                "upload-time": "2024-01-02T03:04:05Z",
                "provenance": "https://upstream.example/p",
                "gpg-sig": True,
            }
        ],
    }


def test_what_is_not_known_is_left_out_and_the_api_version_tells():
    assert render(ProjectPage(FOO, (File(WHEEL, LocalOrigin("x")),))) == {
        "meta": {"api-version": "1.0"},
        "name": "foo",
        "versions": [],
        "files": [
            {"filename": WHEEL, "url": WHEEL, "hashes": {}, "core-metadata": False, "yanked": False}
        ],
    }


def test_an_empty_page_is_a_page():
    page = parse({"files": []})
    assert render(page) == {
        "meta": {"api-version": "1.4"},
        "name": "foo",
        "versions": [],
        "files": [],
    }


def test_metadata_offered_without_a_sha256_is_true_and_sdists_offer_none():
    files = (
        File(WHEEL, LocalOrigin("x"), core_metadata={}),
        File("foo-1.1-py3-none-any.whl", LocalOrigin("x"), core_metadata={"md5": SHA256[:32]}),
        File("foo-1.0.zip", LocalOrigin("x"), core_metadata={}),
    )
    *wheels, sdist = render(ProjectPage(FOO, files))["files"]
    for wheel in wheels:
        assert wheel["core-metadata"] is True
    assert sdist["core-metadata"] is False


def test_the_old_name_of_core_metadata_is_never_sent_because_pip_23_0_crashes_on_it():
    file = File(WHEEL, LocalOrigin("x"), core_metadata={"sha256": SHA256})
    assert "dist-info-metadata" not in render(ProjectPage(FOO, (file,)))["files"][0]


def test_the_body_is_ascii_and_compact():
    reason = "\u00e9 \U0001f40d \u2028 \\u00e9 </script>"
    body = render_page(parse({"files": [{"url": WHEEL, "yanked": reason}]}), MediaType.JSON)
    assert body.isascii()
    assert b": " not in body
    assert json.loads(body)["files"][0]["yanked"] == reason


def test_withdrawn_files_are_not_sent():
    page = ProjectPage(FOO, (), withdrawn=(File(WHEEL, LocalOrigin("x")),))
    assert render(page)["files"] == []


def test_lists_are_read_and_sent():
    body = json.dumps(
        {
            "meta": {"api-version": "1.4"},
            "projects": [
                {"name": "Foo.Bar", "_last-serial": 1},
                {"name": "a"},
                {"name": "foo_bar"},
                {"name": "Idna_"},
                {"name": 5},
                {},
                None,
                {"name": "../x"},
            ],
        }
    ).encode()
    listing = parse_list(body, JSON)
    assert listing.names == ("a", "foo-bar")
    assert json.loads(render_list(listing, MediaType.JSON)) == {
        "meta": {"api-version": "1.4"},
        "projects": [{"name": "a"}, {"name": "foo-bar"}],
    }


@given(pages)
def test_a_page_survives_the_round_trip(page):
    body = render_page(page, MediaType.JSON, origin_url)
    assert parse_page(body, JSON, **SOURCE) == page


@given(pages)
def test_pip_reads_what_is_sent(page):
    links = pip_links(render_page(page, MediaType.JSON), JSON)
    assert [link.filename for link in links] == [file.filename for file in page.files]
    for link, file in zip(links, page.files, strict=True):
        assert link.url_without_fragment.startswith(BASE)
        assert link.is_yanked is (file.yanked is not None)
        assert link.requires_python == file.requires_python
        assert (link.metadata_file_data is not None) is (file.core_metadata is not None)
        assert set(file.hashes).issubset(link._hashes or {})
        assert (link.upload_time is None) is (file.upload_time is None)


_numbers = st.floats(allow_nan=False, allow_infinity=False)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_keys = st.sampled_from(
    [
        "url",
        "filename",
        "hashes",
        "size",
        "upload-time",
        "requires-python",
        "yanked",
        "core-metadata",
        "dist-info-metadata",
        "data-dist-info-metadata",
        "provenance",
        "gpg-sig",
    ]
)
_urls = st.sampled_from([WHEEL, "foo-1.zip", "../foo-2.zip", "//h.example/foo-3.zip"]) | st.text()


@given(st.binary(max_size=200) | _values.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bodies_raise_nothing_but_invalid_page(body):
    for content_type in MediaType:
        for read in (
            lambda text, kind: parse_page(text, kind, **SOURCE),
            parse_list,
        ):
            with contextlib.suppress(InvalidPage):
                read(body, content_type)


@given(
    st.lists(st.tuples(_urls, st.dictionaries(_keys, _values)), max_size=5),
    st.fixed_dictionaries(
        {}, optional={"versions": _values, "project-status": _values, "name": _values}
    ),
)
def test_arbitrary_entries_never_cost_the_page(entries, rest):
    files = [{"url": url} | fields for url, fields in entries]
    page = parse({"files": files} | rest)
    for file in render(page)["files"]:
        assert is_safe_filename(file["filename"])
        assert "/" not in file["url"]
        assert ":" not in file["url"]
    assert parse_page(render_page(page, MediaType.JSON, origin_url), JSON, **SOURCE) == page


def test_names_in_lists_are_normalized_names():
    assert parse_list(b'{"projects": [{"name": "A.B"}]}', JSON).names == (normalize("a-b"),)


@pytest.mark.parametrize(
    ("told", "expected"), [({}, {}), ({"core-metadata": False}, {}), ({"core-metadata": True}, {})]
)
def test_metadata_can_be_offered_for_wheels_whose_upstream_does_not(told, expected):
    entries = [
        {"filename": name, "url": name, "hashes": {}, **told} for name in (WHEEL, "foo-1.zip")
    ]
    body = json.dumps({"files": entries}).encode()
    by_name = {f.filename: f for f in parse_page(body, JSON, **SOURCE, offers_metadata=True).files}
    assert by_name[WHEEL].core_metadata == expected
    assert by_name["foo-1.zip"].core_metadata is None
