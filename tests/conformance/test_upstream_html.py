"""Conformance checks 55-64: the HTML that upstreams really send."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clients import Workbench
from tests.support.fixtures import Index
from tests.support.pages import HTML_TYPE, JSON_TYPE, FileSpec, html_page, sdist_spec, wheel_spec
from tests.support.reading import (
    AS_JSON,
    entry_of,
    html_of,
    html_text_reply,
    json_of,
    offer,
)
from tests.support.reply import Reply, redirect, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, html_reply


def names_of(index: Index, name: str) -> set[str]:
    """The file names on a project's page, the same in both forms."""
    files = {entry["filename"] for entry in json_of(index, name)["files"]}
    assert files == {anchor.text for anchor in html_of(index, name).anchors}
    return files


def downloads(index: Index, name: str, spec: FileSpec) -> bytes:
    """The bytes behind the link to a file."""
    (url,) = [e["url"] for e in json_of(index, name)["files"] if e["filename"] == spec.filename]
    response = index.get(f"/simple/{name}/{url}")
    assert response.status == 200, response.text
    return response.body


def links(name: str, *hrefs: str, head: str = "") -> str:
    """A plain index page with these links, of no telling text."""
    anchors = "\n".join(f'<a href="{href}">a file</a><br>' for href in hrefs)
    return (
        f"<!DOCTYPE html><html><head>{head}<title>Links for {name}</title></head>{anchors}</html>"
    )


def test_055_nginx_cuts_names_short_but_not_links(index: Index) -> None:
    name = "pxdemo-pkg-with-a-very-long-name"
    spec = wheel_spec(
        name,
        filename="pxdemo_pkg_with_a_very_long_name-0.1.0+local.1-cp311-cp311-"
        "manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    )
    encoded = spec.filename.replace("+", "%2B")
    page = (
        f"<html>\r\n<head><title>Index of /simple/{name}/</title></head>\r\n<body>\r\n"
        f'<h1>Index of /simple/{name}/</h1><hr><pre><a href="../">../</a>\r\n'
        f'<a href="{encoded}">pxdemo_pkg_with_a_very_long_name-0.1.0+local.1-..&gt;</a>'
        " 22-Nov-2026 16:48                1382\r\n</pre><hr></body>\r\n</html>\r\n"
    )
    offer(index, html_text_reply(page, chunked=True, etag=None), name)
    index.upstream.script(f"/simple/{name}/{encoded}", Reply(body=spec.body))
    entry = entry_of(index, name)
    assert entry["filename"] == spec.filename
    assert html_of(index, name).anchors[0].text == spec.filename
    assert downloads(index, name, spec) == spec.body
    assert index.upstream.count(f"/simple/{name}/{encoded}") == 1


def test_056_apaches_other_links_are_no_files(index: Index) -> None:
    name = index.new_name()
    spec = sdist_spec(name)
    page = (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n<html>\n <head>\n'
        f"  <title>Index of /simple/{name}</title>\n </head>\n <body>\n<h1>Index of</h1>\n"
        '  <table>\n   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th>'
        '<th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th>'
        '<th><a href="?C=S;O=A">Size</a></th><th><a href="?C=D;O=A">Description</a></th></tr>\n'
        '<tr><td><a href="/simple/">Parent Directory</a></td></tr>\n'
        '<tr><td><a href="README.html">README.html</a></td></tr>\n'
        '<tr><td><a href="old/">old/</a></td></tr><tr><td><a href="#top">top</a>\n'
        '<a href="mailto:root@upstream.example">root</a><a name="here">here</a><a href="">.</a>'
        f'<tr><td><a href="{spec.filename}?C=N">1</a><a href="{spec.filename}">{name}-1..&gt;</a>'
        f'<a href="{spec.filename}.asc">{spec.filename}.asc</a></td></tr>\n'
        "</table>\n<address>Apache/2.4.62 Server</address>\n</body></html>\n"
    )
    offer(index, html_text_reply(page), name)
    assert names_of(index, name) == {spec.filename}


def listing(name: str, *filenames: str) -> str:
    """What `python -m http.server` sends for a folder."""
    items = "\n".join(f'<li><a href="{one}">{one}</a></li>' for one in filenames)
    title = f"Directory listing for /simple/{name}/"
    return (
        f'<!DOCTYPE HTML>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n<hr>\n<ul>\n"
        f"{items}\n</ul>\n<hr>\n</body>\n</html>\n"
    )


def test_057_a_file_without_a_hash_gets_one_when_it_has_been_downloaded(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=20_000)
    offer(index, html_text_reply(listing(name, spec.filename, "sub/"), etag=None), name)
    index.upstream.script(f"/simple/{name}/{spec.filename}", Reply(body=spec.body))
    before = entry_of(index, name)
    assert before["hashes"] == {}
    assert "size" not in before
    assert html_of(index, name).anchors[0].fragment == ""
    assert downloads(index, name, spec) == spec.body
    after = entry_of(index, name)
    assert after["hashes"] == {"sha256": sha256_of(spec.body)}
    assert after["size"] == len(spec.body)
    assert html_of(index, name).anchors[0].fragment == f"sha256={sha256_of(spec.body)}"


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("FILE", "/simple/NAME/FILE"),
        ("./files/FILE", "/simple/NAME/files/FILE"),
        ("/root/FILE", "/root/FILE"),
        ("../../up/FILE", "/up/FILE"),
        ("../../../../../up/FILE", "/up/FILE"),
        ("../FILE", "/simple/FILE"),
        ("//HOST/protocol/FILE", "/protocol/FILE"),
        ("http://HOST/absolute/FILE", "/absolute/FILE"),
        ("HTTP://HOST/absolute/FILE", "/absolute/FILE"),
        (" \n/spaced/FILE\t", "/spaced/FILE"),
        ("/with space/FILE", "/with%20space/FILE"),
        ("/query/FILE?signed=1&amp;x=2", "/query/FILE?signed=1&x=2"),
        ("/a/./b/../FILE", "/a/FILE"),
    ],
)
@pytest.mark.parametrize("way", ["straight", "redirected", "based", "based-redirected"])
def test_058_links_resolve_like_in_a_browser(index: Index, href: str, path: str, way: str) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    host = index.upstream.url.removeprefix("http://")

    def filled(text: str) -> str:
        return text.replace("FILE", spec.filename).replace("NAME", name).replace("HOST", host)

    folder = f"/simple/{name}/"
    head = ""
    if "redirected" in way:
        folder = f"/moved/{name}/here/"
        index.upstream.script(f"/simple/{name}/", redirect(folder))
    if "based" in way:  # only the first one counts
        head = '<base href="/x/y/"><base href="/wrong/">'
    index.upstream.script(folder, html_text_reply(links(name, filled(href), head=head)))
    start = "/x/y/" if "based" in way else folder
    expected = filled(path)
    if path.startswith("/simple/NAME/"):
        expected = start + expected.removeprefix(f"/simple/{name}/")
    elif href == "../FILE":
        expected = start.rpartition("/")[0].rpartition("/")[0] + f"/{spec.filename}"
    elif href.startswith("../../up"):
        expected = "/".join(start.split("/")[:-3]) + f"/up/{spec.filename}"
    index.upstream.script(expected, Reply(body=spec.body))
    assert downloads(index, name, spec) == spec.body
    assert index.upstream.count(expected) == 1


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("sub/", "/simple/NAME/sub/FILE"),
        ("/x/", "/x/FILE"),
        ("/x/page.html", "/x/FILE"),
        ("http://HOST/y/", "/y/FILE"),
        ("//HOST/z/", "/z/FILE"),
        ("../", "/simple/FILE"),
        ("javascript:x/", "/simple/NAME/FILE"),
        ("", "/simple/NAME/FILE"),
    ],
)
def test_058_a_base_is_itself_relative_to_the_page(index: Index, base: str, path: str) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    host = index.upstream.url.removeprefix("http://")
    expected = path.replace("FILE", spec.filename).replace("NAME", name)
    head = f'<base href="{base.replace("HOST", host)}">'
    offer(index, html_text_reply(links(name, spec.filename, head=head)), name)
    index.upstream.script(expected, Reply(body=spec.body))
    assert downloads(index, name, spec) == spec.body


def test_059_md5_alone_is_kept(index: Index) -> None:
    name = index.new_name()
    spec = sdist_spec(name, hashes={"md5": "0" * 32})
    index.project(spec, name=name, form="html")
    assert entry_of(index, name)["hashes"] == {"md5": "0" * 32}
    assert html_of(index, name).anchors[0].fragment == f"md5={'0' * 32}"


@pytest.mark.parametrize(
    ("fragment", "hashes"),
    [
        (f"sha256={'a' * 64}&amp;egg=x", {"sha256": "a" * 64}),
        (f"egg=x&amp;sha256={'a' * 64}", {"sha256": "a" * 64}),
        (f"SHA256={'A' * 64}", {"sha256": "a" * 64}),
        (f"sha1={'a' * 40}", {}),
        (f"sha224={'a' * 56}", {}),
        ("egg=x", {}),
        ("sha256=abc", {}),
        ("sha256=", {}),
        ("sha256", {}),
        (f"sha512={'b' * 128}", {"sha512": "b" * 128}),
    ],
)
def test_059_only_a_usable_hash_is_passed_on(
    index: Index, fragment: str, hashes: dict[str, str]
) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    offer(index, html_text_reply(links(name, f"{spec.filename}#{fragment}")), name)
    assert entry_of(index, name)["hashes"] == hashes
    expected = "&".join(f"{algorithm}={digest}" for algorithm, digest in hashes.items())
    assert html_of(index, name).anchors[0].fragment == expected


@pytest.mark.e2e
def test_059_uv_takes_what_was_made_of_bad_hashes(index: Index, tmp_path: Path) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    bad = (f"sha1={'a' * 40}", f"sha224={'a' * 56}", f"egg={name}", "sha256=abc")
    stem = name.replace("-", "_")
    others = [f"{stem}-0.{n}-py3-none-any.whl#{fragment}" for n, fragment in enumerate(bad)]
    index.upstream.script(f"/simple/{name}/{spec.filename}", Reply(body=spec.body))
    offer(index, html_text_reply(links(name, *others, f"{spec.filename}#sha1={'b' * 40}")), name)
    done = Workbench(tmp_path).uv_pip_compile(index.server.simple_url, name)
    assert f"{name}==1.0" in done.stdout


@pytest.mark.parametrize("attribute", ["data-yanked", 'data-yanked=""', "DATA-YANKED=''"])
def test_060_a_valueless_yanked_means_yanked(index: Index, attribute: str) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    page = html_page(name, [spec]).decode().replace("<a ", f"<a {attribute} ")
    offer(index, html_text_reply(page), name)
    assert entry_of(index, name)["yanked"] is True
    assert 'data-yanked=""' in html_of(index, name).text


def test_060_metadata_that_upstream_calls_false_is_not_advertised(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    attributes = {"foo-bar": "data-core-metadata", "foo-baz": "data-dist-info-metadata"}
    for name, attribute in attributes.items():
        page = html_page(name, [wheel_spec(name, metadata=None)]).decode()
        page = page.replace("<a ", f'<a {attribute}="false" ')
        upstream.script(f"/simple/{name}/", html_text_reply(page))
    # nor is it made up where the operator says that this upstream's word is all there is
    settings = tmp_path / "proxyindex.toml"
    settings.write_text(f'[[upstream]]\nurl = "{upstream.simple_url}"\nmetadata = false\n')
    with ProxyIndex("--config", settings, workdir=tmp_path) as quiet:
        for name in attributes:
            (entry,) = quiet.get(f"/simple/{name}/", AS_JSON).json()["files"]
            assert entry["core-metadata"] is False
            html = quiet.get(f"/simple/{name}/").text
            assert entry["filename"] in html
            assert "-metadata" not in html


@pytest.mark.parametrize("attribute", ["data-core-metadata", "data-dist-info-metadata"])
def test_060_a_false_is_never_passed_on_and_what_is_advertised_instead_is_served(
    index: Index, attribute: str
) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    page = html_page(name, [wheel_spec(name, metadata=None)]).decode()
    offer(index, html_text_reply(page.replace("<a ", f'<a {attribute}="false" ')), name)
    index.upstream.file(wheel_spec(name, metadata=None))
    assert '"false"' not in html_of(index, name).text
    if entry_of(index, name)["core-metadata"]:
        sidecar = index.get(f"/simple/{name}/{spec.filename}.metadata")
        assert (sidecar.status, sidecar.body) == (200, spec.metadata)


def test_061_a_file_listed_twice_is_listed_once(index: Index) -> None:
    digest = "a" * 64
    for first, second in (
        (f"#sha256={digest}", f"#sha256={'b' * 64}"),
        ("", f"#sha256={digest}"),
        (f"#sha256={digest}", ""),
    ):
        name = index.new_name()
        filename = wheel_spec(name).filename
        hrefs = f"/a/{filename}{first}", f"/b/{filename}{second}"
        offer(index, html_text_reply(links(name, *hrefs)), name)
        assert entry_of(index, name)["hashes"] == {"sha256": digest}
        assert len(html_of(index, name).anchors) == 1


def test_062_files_of_other_projects_are_dropped(index: Index) -> None:
    name = index.new_name()
    stem = name.replace("-", "_")
    own = [
        wheel_spec(name).filename,
        f"{stem.upper()}-2.0-py3-none-any.whl",
        f"{name}-1.0.tar.gz",
        f"{name}-1.0.win32.exe",
        f"{stem}-0.9-py3.11.egg",
    ]
    foreign = [
        "evil-1.0-py3-none-any.whl",
        f"evil_{stem}-1.0-py3-none-any.whl",
        f"{stem}_evil-1.0-py3-none-any.whl",
        "evil-1.0.tar.gz",
        f"{name}-evil-1.0.tar.gz",
        "evil-1.0.zip",
    ]
    offer(index, html_text_reply(links(name, *own, *foreign)), name)
    assert names_of(index, name) == set(own)
    for filename in foreign:
        assert index.get(f"/simple/{name}/{filename}").status == 404


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)//FILE",
        "javascript:/FILE",
        "file:///etc/FILE",
        "file:FILE",
        "data:text/html,/FILE",
        "ftp://upstream.example/FILE",
        "git+https://upstream.example/FILE",
        "vbscript:x/FILE",
        "//[/FILE",
        "http://user:pw@upstream.example/FILE",
        "/a%2FFILE",
        "/..%2f..%2fFILE",
        "/a%5CFILE",
        "java\nscript:x/FILE",
    ],
)
@pytest.mark.parametrize("form", ["html", "json"])
def test_063_targets_that_are_no_web_addresses_are_dropped(
    index: Index, href: str, form: str
) -> None:
    name = index.new_name()
    good, bad = wheel_spec(name, "1.0"), wheel_spec(name, "2.0")
    target = href.replace("FILE", bad.filename)
    if form == "html":
        offer(index, html_text_reply(links(name, good.filename, target)), name)
    else:
        index.project(good, wheel_spec(name, "2.0", url=target), name=name)
    assert names_of(index, name) == {good.filename}
    assert index.get(f"/simple/{name}/{bad.filename}").status == 404


@pytest.mark.parametrize(
    "content_type",
    ["text/html", "text/html; charset=utf-8", "Text/HTML ;charset=UTF-8", HTML_TYPE],
)
def test_064_html_where_json_was_asked_for_is_read_as_html(index: Index, content_type: str) -> None:
    name = index.new_name()
    offer(index, html_reply(name, wheel_spec(name), content_type=content_type), name)
    assert names_of(index, name) == {wheel_spec(name).filename}
    (asked,) = index.upstream.requests(f"/simple/{name}/")
    assert (asked.header("accept") or "").startswith(JSON_TYPE)


@pytest.mark.parametrize(
    "content_type",
    ["application/octet-stream", "binary/octet-stream", "application/json", "text/plain", None],
)
def test_064_any_other_type_is_refused(index: Index, content_type: str | None) -> None:
    name = index.new_name()
    reply = html_reply(name, wheel_spec(name), content_type=content_type)
    offer(index, reply, name)
    response = index.get(f"/simple/{name}/", AS_JSON)
    assert response.status == 502
    assert response.header("cache-control") == "no-store"


def test_064_a_log_in_page_is_no_empty_project(index: Index) -> None:
    name = index.new_name()
    page = "<!DOCTYPE html><title>Sign in</title><a href='/login'>Sign in</a>"
    offer(index, html_text_reply(page), name)
    assert index.get(f"/simple/{name}/").status == 502
