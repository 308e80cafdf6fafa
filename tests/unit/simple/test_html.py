"""The HTML form: pages of every kind of upstream, and ours."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.model import File, LocalOrigin, ProjectPage, Status
from proxyindex.simple import (
    InvalidPage,
    MediaType,
    parse_list,
    parse_page,
    render_list,
    render_page,
)
from proxyindex.simple.tags import tags
from tests.unit.simple.support import (
    BASE,
    FOO,
    SHA256,
    SOURCE,
    WHEEL,
    Elements,
    origin_url,
    pages,
    pip_links,
)

HTML = MediaType.HTML.content_type
TITLE = "<title>Links for foo</title>"
HREF = f'href="{WHEEL}"'


def parse(text: str, **source: Any) -> ProjectPage:
    return parse_page(text.encode(), HTML, **(SOURCE | source))


def parse_one(attributes: str) -> File:
    (file,) = parse(f"<a {attributes}>text</a>").files
    return file


def urls(page: ProjectPage) -> list[str]:
    return [origin_url(file) for file in page.files]


def render(page: ProjectPage) -> str:
    return render_page(page, MediaType.HTML).decode()


def page_of(**fields: Any) -> ProjectPage:
    return ProjectPage(FOO, (File(WHEEL, LocalOrigin("x"), **fields),))


REQUESTS = """<!DOCTYPE html>
<html>
<head><title>Links for requests</title></head>
<body>
<h1>Links for requests</h1>
<a href="https://files.upstream.example/requests-2.32.0-py3-none-any.whl#sha256={sha}"
 data-requires-python="&gt;=3.8"
 data-yanked="Yanked due to conflicts with CVE-2024-35195 mitigation">
requests-2.32.0-py3-none-any.whl</a><br/>
<!--SERIAL 22406780-->
"""
NGINX = """<html>
<head><title>Index of /foo/</title></head>
<body><h1>Index of /foo/</h1><hr><pre><a href="../">../</a>
<a href="foo-0.1.0%2Blocal.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
>foo-0.1.0+local.1-cp311-cp311-manylinux_2_17_x86_64..&gt;</a> 22-Nov-2026 16:48                1382
</pre><hr></body></html>"""
APACHE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN"><html>
<head><title>Index of /simple/foo</title></head><body><h1>Index of /simple/foo</h1>
<table><tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th>
<th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
<tr><td><a href="/simple/">Parent Directory</a></td><td>&nbsp;</td></tr>
<tr><td><a href="foo-1.0.tar.gz">foo-1.0.tar.gz</a></td><td align="right">2026-11-22 16:48</td></tr>
<tr><td><a href="foo-1.0.tar.gz.asc">foo-1.0.tar.gz.asc</a></td></tr>
</table></body></html>"""
HTTP_SERVER = """<!DOCTYPE HTML>
<html lang="en"><head><meta charset="utf-8"><title>Directory listing for /foo/</title></head>
<body><h1>Directory listing for /foo/</h1><hr><ul>
<li><a href="foo-1.0%2Bx.tar.gz">foo-1.0+x.tar.gz</a></li>
<li><a href="subdir/">subdir/</a></li></ul><hr></body></html>"""
PYPISERVER = """<!DOCTYPE html><html><head><title>Links for foo</title></head><body>
<h1>Links for foo</h1>
<a href="/packages/foo-1.0.tar.gz">foo-1.0.tar.gz</a><br>
<a href="/packages/sub/foo-1.0.tar.gz#sha256={sha}">foo-1.0.tar.gz</a><br></body></html>"""
DUMB_PYPI = """<!doctype html><html><head><meta charset="utf-8"><title>foo</title>
<script>document.write('<a href="foo-6.6.6.tar.gz">x</a>')</script><style>a > b {{}}</style></head>
<body><!-- <a href="foo-6.6.7.tar.gz"> --><section class="versions"><ul><li>
<a class="button" href="../../packages/foo-1.0-py3-none-any.whl#sha256={sha}"
   data-requires-python="&gt;=3.9" data-core-metadata="true">
   foo-1.0-py3-none-any.whl</a> (2026-01-01, by me)</li></ul></section></body></html>"""
ARTIFACTORY = """<html><head><title>Simple Index</title><meta name="api-version" value="2" /></head>
<body><a href="../../packages/packages/ab/cd/foo-1.0.tar.gz#sha256={sha}" >foo</a><br/>
</body></html>"""
NEXUS = """<html lang="en"><head><title>Links for foo</title></head><body><h1>Links for foo</h1>
  <a href="../../packages/foo/1.0/foo-1.0.tar.gz#md5={md5}" rel="internal">foo-1.0.tar.gz</a><br/>
</body></html>"""
PYTORCH = """<!DOCTYPE html><html><body><h1>Links for foo</h1>
<a href="/whl/cu126/foo-2.6.0%2Bcu126-cp311-cp311-linux_x86_64.whl#sha256={sha}"
 data-dist-info-metadata="sha256={sha}" data-core-metadata="sha256={sha}">foo</a><br/>
<a href="https://cdn.example/whl/foo-2.5.0-py3-none-any.whl">foo-2.5.0-py3-none-any.whl</a><br/>
</body></html><!--TIMESTAMP 1732-->"""
DEVPI = """<!DOCTYPE html><html><head><title>root/dev: links for foo</title>
<meta name="pypi:repository-version" content="1.0"></head><body>
<h1>root/dev: links for foo</h1>
<a href="../../+f/539/694cc65d4e52f/foo-0.1.0.tar.gz#sha256={sha}" >foo</a><br/>
</body></html>"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            NGINX,
            ["foo/foo-0.1.0%2Blocal.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"],
        ),
        (APACHE, ["foo/foo-1.0.tar.gz"]),
        (HTTP_SERVER, ["foo/foo-1.0%2Bx.tar.gz"]),
        (PYPISERVER, ["/packages/sub/foo-1.0.tar.gz"]),
        (DUMB_PYPI, ["/packages/foo-1.0-py3-none-any.whl"]),
        (ARTIFACTORY, ["/packages/packages/ab/cd/foo-1.0.tar.gz"]),
        (NEXUS, ["/packages/foo/1.0/foo-1.0.tar.gz"]),
        (
            PYTORCH,
            [
                "https://cdn.example/whl/foo-2.5.0-py3-none-any.whl",
                "/whl/cu126/foo-2.6.0%2Bcu126-cp311-cp311-linux_x86_64.whl",
            ],
        ),
        (DEVPI, ["/+f/539/694cc65d4e52f/foo-0.1.0.tar.gz"]),
    ],
    ids=[
        "nginx",
        "apache",
        "http.server",
        "pypiserver",
        "dumb-pypi",
        "artifactory",
        "nexus",
        "pytorch",
        "devpi",
    ],
)
def test_pages_of_all_kinds_of_upstreams(text, expected):
    page = parse(text.replace("{sha}", SHA256).replace("{md5}", SHA256[:32]))
    roots = {"/": "https://upstream.example", "f": "https://upstream.example/simple/", "h": ""}
    assert urls(page) == [roots[path[0]] + path for path in expected]


def test_the_attributes_of_an_index_page_are_read():
    page = parse(REQUESTS.replace("{sha}", SHA256), project="requests")
    (file,) = page.files
    assert file.filename == "requests-2.32.0-py3-none-any.whl"
    assert file.sha256 == SHA256
    assert file.requires_python == ">=3.8"
    assert file.yanked == "Yanked due to conflicts with CVE-2024-35195 mitigation"
    assert (file.version, file.size, file.core_metadata) == ("2.32.0", None, None)
    assert page.versions == ("2.32.0",)


@pytest.mark.parametrize(
    ("attributes", "name", "expected"),
    [
        (f'href="{WHEEL}#sha256={SHA256}"', "hashes", {"sha256": SHA256}),
        (f'href="{WHEEL}#md5={SHA256[:32]}"', "hashes", {"md5": SHA256[:32]}),
        (f'href="{WHEEL}#sha256={SHA256}&amp;egg=x"', "hashes", {"sha256": SHA256}),
        (f'href="{WHEEL}#egg=x&sha256={SHA256.upper()}"', "hashes", {"sha256": SHA256}),
        (f'href="{WHEEL}#sha1={SHA256[:40]}"', "hashes", {}),
        (f'href="{WHEEL}#sha224={SHA256[:56]}"', "hashes", {}),
        (f'href="{WHEEL}#sha256=abc"', "hashes", {}),
        (f'href="{WHEEL}#egg=x"', "hashes", {}),
        (f'href="{WHEEL}#"', "hashes", {}),
        (f"{HREF} data-yanked", "yanked", ""),
        (f'{HREF} data-yanked=""', "yanked", ""),
        (f"{HREF} DATA-YANKED='a &lt;b&gt; &amp;amp;'", "yanked", "a <b> &amp;"),
        (HREF, "yanked", None),
        (f'{HREF} data-core-metadata="true"', "core_metadata", {}),
        (f"{HREF} data-core-metadata=sha256={SHA256}", "core_metadata", {"sha256": SHA256}),
        (f'{HREF} data-core-metadata="false"', "core_metadata", None),
        (f'{HREF} data-core-metadata="maybe"', "core_metadata", None),
        (f"{HREF} data-core-metadata", "core_metadata", None),
        (f'{HREF} data-dist-info-metadata="true"', "core_metadata", {}),
        (
            f'{HREF} data-core-metadata="false" data-dist-info-metadata="true"',
            "core_metadata",
            None,
        ),
        (
            f'{HREF} data-upload-time="2024-08-23T16:01:49.963235Z"',
            "upload_time",
            datetime(2024, 8, 23, 16, 1, 49, 963235, UTC),
        ),
        (f'{HREF} data-upload-time="2024-08-23"', "upload_time", None),
        (f'{HREF} data-size="12"', "size", 12),
        (f'{HREF} data-size="-12"', "size", None),
        (f'{HREF} data-size="{"9" * 5000}"', "size", None),
        (f'{HREF} data-size="\u0663"', "size", None),
        (f'{HREF} data-gpg-sig="true"', "has_signature", True),
        (f'{HREF} data-gpg-sig="false"', "has_signature", False),
        (f'{HREF} data-provenance="https://a.example/p"', "provenance", "https://a.example/p"),
        (f'{HREF} data-requires-python="&gt;=3.8"', "requires_python", ">=3.8"),
        (f'{HREF} data-requires-python=""', "requires_python", None),
    ],
)
def test_link_attributes(attributes, name, expected):
    assert getattr(parse_one(attributes), name) == expected


@pytest.mark.parametrize(
    ("base", "href", "expected"),
    [
        ("", WHEEL, f"{BASE}{WHEEL}"),
        ("", f"../../p/{WHEEL}", f"https://upstream.example/p/{WHEEL}"),
        ("", f"//cdn.example/{WHEEL}", f"https://cdn.example/{WHEEL}"),
        ("", f"\n {WHEEL} ", f"{BASE}{WHEEL}"),
        ('<base href="/x/">', WHEEL, f"https://upstream.example/x/{WHEEL}"),
        ('<base href="x/"><base href="/y/">', WHEEL, f"{BASE}x/{WHEEL}"),
        ('<base target="_top"><base href="//y.example">', WHEEL, f"https://y.example/{WHEEL}"),
        ('<base href="https://z.example/a/b">', WHEEL, f"https://z.example/a/{WHEEL}"),
        ('<base href="javascript:x">', WHEEL, f"{BASE}{WHEEL}"),
        ('<base href="data:text/html,">', WHEEL, f"{BASE}{WHEEL}"),
        ('<base href="//[">', WHEEL, f"{BASE}{WHEEL}"),
        ('<base href="">', WHEEL, f"{BASE}{WHEEL}"),
    ],
)
def test_links_are_resolved_against_the_first_base_and_the_page(base, href, expected):
    assert urls(parse(f'{TITLE}{base}<a href="{href}">x</a>')) == [expected]


@pytest.mark.parametrize("base", ["file:///etc/", "ftp://ftp.example/", "other:/x/"])
def test_below_a_base_that_may_not_be_asked_is_nothing(base):
    page = parse(f'{TITLE}<base href="{base}"><a href="{WHEEL}">x</a><a href="{BASE}{WHEEL}">x</a>')
    assert urls(page) == [BASE + WHEEL]


@pytest.mark.parametrize(
    "link",
    [
        "<a>x</a>",
        "<a href>x</a>",
        '<a href="">x</a>',
        '<a href="#top">x</a>',
        '<a href="../">x</a>',
        f'<a href="javascript:{WHEEL}">',
        f'<a href="file:///{WHEEL}">',
        '<a href="mailto:a@b.example">',
        '<a href="?C=N;O=D">',
        '<a href="evil-1.0.tar.gz">',
        '<a href="evil-1.0-py3-none-any.whl">',
        f'<link href="{WHEEL}">',
        f"<script>'<a href=\"{WHEEL}\">'</script>",
        f"<!-- <a {HREF}> -->",
        f"<textarea><a {HREF}></textarea>",
        f"<p title='<a {HREF}>'>",
        f"<STYLE><a {HREF}></sTyLe >",
        '<a href="%2e%2e%2ffoo-1.0.zip">',
        '<a href="x%252ffoo-1.0.zip">',
        f"</a {HREF}>",
        f"<!doctype x '<a'><? <a ?>< a {HREF}>",
        '<a href="foo-1.0-py3-none-any.whl/">',
    ],
)
def test_other_links_are_not_listed(link):
    assert parse(f"{TITLE}{link}").files == ()


def test_metas_tell_version_and_status():
    page = parse(
        '<meta name="pypi:repository-version" content="1.9">'
        '<meta name="pypi:project-status" content="archived">'
        '<meta name="pypi:project-status-reason" content="&lt;done&gt;">'
        '<meta name="pypi:project-status" content="active"><meta name="x">'
    )
    assert page.status == Status("archived", "<done>")
    assert page.files == ()


@pytest.mark.parametrize("version", ["2.0", "3", "x", ""])
def test_other_versions_are_refused(version):
    text = f'<meta name="pypi:repository-version" content="{version}"><a {HREF}>x</a>'
    with pytest.raises(InvalidPage, match="API version"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not found",
        "<html><head><title>Sign in</title></head><body><form></form></body></html>",
        '<title>Welcome</title><h1>Hotel</h1><a href="/login">Log in</a><a href="vpn.exe">VPN</a>',
        '{"files": []}',
    ],
)
def test_a_page_that_is_no_index_is_refused(text):
    with pytest.raises(InvalidPage, match="no index"):
        parse(text)
    with pytest.raises(InvalidPage, match="no list"):
        parse_list(text.encode(), HTML)


@pytest.mark.parametrize(
    "text",
    [
        "<h1>Links for foo</h1>",
        "<title>\n Index of /foo/</title>",
        "<TITLE>Directory listing for /foo/</TITLE>",
        '<meta content="1.0" name="pypi:repository-version">',
    ],
)
def test_an_empty_index_page_is_a_page(text):
    assert parse(text).files == ()


@pytest.mark.parametrize("text", [f"{TITLE}<a {HREF}>x</a><a hre", f"{TITLE}<!-- <a {HREF}>"])
def test_a_page_that_ends_within_markup_is_refused_as_cut_short(text):
    with pytest.raises(InvalidPage, match="ends within"):
        parse(text)


def test_the_number_of_links_is_bounded():
    with pytest.raises(InvalidPage, match="more than 200000 links"):
        parse(TITLE + "<a href=x>" * 200_001)


@pytest.mark.parametrize(
    "piece",
    [
        "<div>",
        "<b><p>",
        "<a href=x",
        "<!--",
        "<script>",
        "<a x='",
        "<![",
        "</",
        "<a x y ",
        "<a\n\n",
    ],
)
def test_hostile_markup_takes_linear_time(piece):
    # quadratic parsers need minutes for this, and the test's time limit ends them
    with contextlib.suppress(InvalidPage):
        assert parse(TITLE + piece * (4_000_000 // len(piece))).files == ()


# Python's parser takes any white space of Unicode for a separator; HTML knows five
_attribute_values = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=("Cc", "Zs", "Zl", "Zp"),
        exclude_characters="\"'`=<>",
    ),
    min_size=1,
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["href", "data-yanked", "CLASS", "x"]),
            st.sampled_from(["", '="{}"', "='{}'", " = {} ", "={}"]),
            _attribute_values,
        ),
        max_size=4,
    ),
    st.sampled_from(["<br/>", "<!-- <a> -->", "<p title='<a>'>", "<script><a></script>", "< ", ""]),
)
def test_tags_agree_with_pythons_own_parser(attributes, other):
    inside = " ".join(name + form.replace("{}", value) for name, form, value in attributes)
    text = f"{other}<a {inside} >text</a>{other}<a href=last>"
    ours = [dict(tag.attributes) for tag in tags(text, {"a"})]
    theirs = [
        {name: value or "" for name, value in attributes.items()}
        for attributes in Elements(text.encode()).named("a")
    ]
    assert ours == theirs


def test_the_page_sent_has_the_specified_shape():
    page = ProjectPage(
        FOO,
        (
            File(
                filename="foo-1.0+x-py3-none-any.whl",
                origin=LocalOrigin("x"),
                hashes={"md5": SHA256[:32], "sha256": SHA256},
                requires_python=">=3.8,<4",
                core_metadata={"sha256": SHA256},
            ),
        ),
        status=Status("archived", "</title><script>"),
    )
    assert render(page) == (
        '<!DOCTYPE html>\n<html lang="en">\n  <head>\n    <meta charset="utf-8">\n'
        '    <meta name="pypi:repository-version" content="1.4">\n'
        '    <meta name="pypi:project-status" content="archived">\n'
        '    <meta name="pypi:project-status-reason" content="&lt;/title&gt;&lt;script&gt;">\n'
        "    <title>Links for foo</title>\n  </head>\n  <body>\n    <h1>Links for foo</h1>\n"
        f'    <a href="foo-1.0%2Bx-py3-none-any.whl#sha256={SHA256}" '
        'data-requires-python="&gt;=3.8,&lt;4" '
        f'data-core-metadata="sha256={SHA256}" data-dist-info-metadata="sha256={SHA256}">'
        "foo-1.0+x-py3-none-any.whl</a><br />\n  </body>\n</html>\n"
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, f'<a href="{WHEEL}">{WHEEL}</a>'),
        ({"hashes": {"md5": SHA256[:32]}}, f'<a href="{WHEEL}#md5={SHA256[:32]}">'),
        ({"yanked": ""}, 'data-yanked=""'),
        ({"yanked": 'bad "<b>'}, 'data-yanked="bad &quot;&lt;b&gt;"'),
        ({"core_metadata": {}}, 'data-core-metadata="true" data-dist-info-metadata="true"'),
        ({"core_metadata": {"md5": SHA256[:32]}}, 'data-core-metadata="true"'),
        ({"has_signature": True}, 'data-gpg-sig="true"'),
        ({"provenance": "https://a.example/?a&b"}, 'data-provenance="https://a.example/?a&amp;b"'),
        ({"size": 5}, 'data-size="5"'),
        (
            {"upload_time": datetime(2024, 1, 2, tzinfo=UTC)},
            'data-upload-time="2024-01-02T00:00:00Z"',
        ),
    ],
)
def test_attributes_sent(fields, expected):
    text = render(page_of(**fields))
    assert expected in text
    assert "false" not in text
    assert "<base" not in text


def test_signatures_are_marked_on_every_link_or_on_none():
    files = (File("foo-1.zip", LocalOrigin("x"), has_signature=True), File(WHEEL, LocalOrigin("x")))
    links = Elements(render_page(ProjectPage(FOO, files), MediaType.HTML)).named("a")
    assert [link["data-gpg-sig"] for link in links] == ["true", "false"]


def test_both_html_types_have_the_same_body():
    page = page_of(size=1)
    assert render_page(page, MediaType.V1_HTML) == render_page(page, MediaType.HTML)


def test_lists_are_read_by_href_and_sent():
    text = (
        "<title>Simple Index</title>"
        '<a href="0-0/">0-._.-._.-._.-._.-._.-._.-0</a><a href="/simple/Foo.Bar/">x</a>'
        '<a href="https://upstream.example/simple/baz/">x</a><a href="qux/index.html">x</a>'
        '<a href="../">up</a><a href="?C=N">x</a><a href="style.css">x</a><a href="Idna_/">x</a>'
        '<a href="//[/">x</a><a href="f%C3%B6o/">x</a><a href="/">x</a><a href="b%2Fc/">x</a>'
    )
    listing = parse_list(text.encode(), HTML)
    assert listing.names == ("0-0", "baz", "foo-bar", "qux")
    body = render_list(listing, MediaType.HTML)
    assert b'<a href="foo-bar/">foo-bar</a>' in body
    assert parse_list(body, HTML) == listing


def test_a_list_may_be_empty():
    assert parse_list(b"<title>Simple index</title>", HTML).names == ()


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/octet-stream",
        "application/json",
        "text/plain",
        "binary/octet-stream",
        "application/vnd.pypi.simple.latest+json",
        "text/htmlx",
        "x" * 1000,
    ],
)
def test_other_content_types_are_refused(content_type):
    with pytest.raises(InvalidPage, match="content type"):
        parse_page(b"<h1>Links for foo</h1>", content_type, **SOURCE)
    with pytest.raises(InvalidPage, match="content type"):
        parse_list(b"<h1>Simple index</h1>", content_type)


@pytest.mark.parametrize(
    "content_type", ["text/html", "Text/HTML ; charset=x", MediaType.V1_HTML.content_type]
)
def test_content_types_may_have_parameters(content_type):
    assert parse_page(TITLE.encode(), content_type, **SOURCE).name == "foo"


@given(pages)
def test_a_page_survives_the_round_trip(page):
    body = render_page(page, MediaType.HTML, origin_url)
    assert parse_page(body, HTML, **SOURCE) == page


@given(pages)
def test_pip_reads_what_is_sent(page):
    links = pip_links(render_page(page, MediaType.HTML), HTML)
    assert [link.filename for link in links] == [file.filename for file in page.files]
    for link, file in zip(links, page.files, strict=True):
        assert link.url_without_fragment.startswith(BASE)
        assert link.is_yanked is (file.yanked is not None)
        assert link.requires_python == file.requires_python
        assert (link.metadata_file_data is not None) is (file.core_metadata is not None)
        assert link.has_hash is bool(file.hashes)


@given(pages)
def test_nothing_hostile_becomes_an_element(page):
    elements = Elements(render_page(page, MediaType.HTML))
    assert {tag for tag, _ in elements.tags} <= {
        "html",
        "head",
        "meta",
        "title",
        "body",
        "h1",
        "a",
        "br",
    }
    assert len(elements.named("a")) == len(page.files)


@given(st.text(alphabet="<>!-/ab=\"'&; hrefscipt", max_size=60))
def test_arbitrary_markup_raises_nothing_but_invalid_page(text):
    with contextlib.suppress(InvalidPage):
        assert parse(TITLE + text).files == ()
