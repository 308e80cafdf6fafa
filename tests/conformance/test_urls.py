"""Conformance checks 1-13: URLs, names, redirects, absence, methods, mount prefix."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest

from tests.support.fixtures import Index, ServerFactory
from tests.support.pages import HTML_TYPE, JSON_TYPE, sdist_spec, wheel_spec
from tests.support.reading import AS_HTML, AS_JSON, html_of, json_of, offer, read_html
from tests.support.reply import Reply
from tests.support.upstream import FakeUpstream, html_reply, json_reply


@pytest.mark.parametrize(
    "target",
    ["/simple/Foo.Bar/", "/simple/foo_bar/", "/simple/FOO-bar/", "/simple/foo.-_bar/"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_001_another_spelling_is_redirected_without_asking_upstream(
    index: Index, target: str, method: str
) -> None:
    asked = index.upstream.count()
    response = index.get(target, method=method, host="forged.example")
    assert response.status == 301
    assert response.all("location") == ["/simple/foo-bar/"]
    assert response.header("cache-control") == "max-age=86400"
    assert index.upstream.count() == asked


def test_002_spelling_and_missing_slash_take_one_hop(index: Index) -> None:
    response = index.get("/simple/FOO__bar")
    assert (response.status, response.header("location")) == (301, "/simple/foo-bar/")
    assert index.get("/simple/foo-bar/").status == 200


@pytest.mark.parametrize("query", ["", "?x=1&y=a%2Bb", "?format=" + JSON_TYPE, "?a?b/c", "?%F6"])
@pytest.mark.parametrize("path", ["/simple/foo-bar", "/simple/Foo.Bar/"])
def test_003_a_redirect_keeps_the_query(index: Index, path: str, query: str) -> None:
    response = index.get(path + query)
    assert response.status == 301
    assert response.header("location") == "/simple/foo-bar/" + query


@pytest.mark.parametrize("query", ["", "?x=1"])
def test_004_the_list_is_redirected_to_its_slash(index: Index, query: str) -> None:
    response = index.get("/simple" + query)
    assert (response.status, response.header("location")) == (301, "/simple/" + query)


@pytest.mark.parametrize("host", ["evil.example?x=", "evil.example/x", "evil.example#", "[", "a b"])
@pytest.mark.parametrize("target", ["/simple/foo-bar", "/simple/FOO-bar/", "/simple"])
def test_001_003_004_a_strange_host_moves_no_redirect(index: Index, target: str, host: str) -> None:
    response = index.get(target, host=host)
    assert response.status in (301, 400)
    if response.status == 301:
        assert response.header("location") in ("/simple/", "/simple/foo-bar/")
    assert "evil" not in response.text + str(response.headers)


def test_005_a_double_slash_is_one(index: Index) -> None:
    name = index.project(wheel_spec("px-slash"), name="px-slash")
    doubled = index.get(f"/simple//{name}/", AS_JSON)
    single = index.get(f"/simple/{name}/", AS_JSON)
    assert doubled.status == single.status == 200
    assert doubled.body == single.body
    assert doubled.header("etag") == single.header("etag")
    assert not any("//" in seen.target for seen in index.upstream.requests())


@pytest.mark.parametrize("target", ["/simple/foo-bar//", "//simple/foo-bar///", "/simple//foo-bar"])
def test_006_more_slashes_lead_to_the_page_too(index: Index, target: str) -> None:
    response = index.get(target, AS_JSON)
    if response.status == 301:
        assert response.header("location") == "/simple/foo-bar/"
    else:
        assert response.status == 200
        assert response.body == index.get("/simple/foo-bar/", AS_JSON).body


@pytest.mark.parametrize(
    "target",
    [
        "/simple/-foo/",
        "/simple/foo-/",
        "/simple/Idna_/",
        "/simple/f%C3%B6o/",
        "/simple/foo%0A/",
        "/simple/..%2Fx/",
        "/simple/foo%20bar/",
        "/simple/foo%252Fbar/",
        "/simple/%EF%BC%A6oo/",
        "/simple/%ff/",
        "/simple/" + "a" * 1500 + "/",
    ],
)
def test_007_an_invalid_name_is_refused_without_asking_upstream(index: Index, target: str) -> None:
    asked = index.upstream.count()
    for spelling in (target, target.rstrip("/")):
        response = index.get(spelling)
        assert response.status in (400, 404)
        assert response.header("location") is None
    assert index.upstream.count() == asked


@pytest.mark.parametrize("accept", [JSON_TYPE, HTML_TYPE, "text/html", "*/*"])
def test_008_an_unknown_project_is_404(index: Index, accept: str) -> None:
    response = index.get("/simple/px-unknown/", {"Accept": accept})
    assert response.status == 404
    assert (response.header("content-type") or "").startswith("text/plain")
    assert "max-age=6" not in (response.header("cache-control") or "")


@pytest.mark.parametrize("reply", [json_reply, html_reply], ids=["json", "html"])
def test_009_a_project_without_files_is_an_empty_page(index: Index, reply: object) -> None:
    assert callable(reply)
    name = index.new_name()
    offer(index, reply(name), name)
    assert json_of(index, name)["files"] == []
    assert html_of(index, name).anchors == []


def test_010_gone_upstream_is_not_found_here(index: Index) -> None:
    name = offer(index, Reply(status=410))
    assert index.get(f"/simple/{name}/").status == 404


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("accept", [JSON_TYPE, HTML_TYPE, "text/html"])
@pytest.mark.parametrize("target", ["/simple/", "/simple/foo-bar/", "/simple/local-lib/"])
def test_011_head_tells_what_get_would(index: Index, target: str, accept: str, coding: str) -> None:
    headers = [("Accept", accept), ("Accept-Encoding", coding)]
    whole = index.get(target, headers)
    assert whole.status == 200
    with index.server.connect() as connection:
        head = connection.request(target, [*headers, ("Connection", "close")], method="HEAD")
        assert connection.is_closed(), "a HEAD was answered with a body"
    for field in ("etag", "content-type", "vary", "content-encoding", "cache-control"):
        assert head.all(field) == whole.all(field)
    assert head.status == 200
    assert head.header("content-length") == str(len(whole.body))


@pytest.mark.parametrize("target", ["/simple", "/simple/Foo-Bar/", "/simple/px-unknown/"])
def test_011_head_of_a_redirect_or_of_nothing_is_that_of_its_get(index: Index, target: str) -> None:
    whole = index.get(target)
    with index.server.connect() as connection:
        head = connection.request(target, {"Connection": "close"}, method="HEAD")
        assert connection.is_closed(), "a HEAD was answered with a body"
    assert head.status == whole.status in (301, 404)
    for field in ("location", "vary", "content-type", "content-length"):
        assert head.all(field) == whole.all(field)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("target", ["/simple/foo-bar/", "/simple/foo-bar", "/simple/"])
def test_012_other_methods_are_refused(index: Index, target: str, method: str) -> None:
    response = index.get(target, method=method, body=b"x=1" if method == "POST" else b"")
    assert response.status == 405
    allowed = {name.strip() for name in (response.header("allow") or "").split(",")}
    assert allowed == {"GET", "HEAD"}


def test_013_everything_stays_below_the_mount_prefix(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    wheel = wheel_spec("foo-bar", "1.0+local.1")
    sdist = sdist_spec("foo-bar", "1.0")
    upstream.project("foo-bar", wheel, sdist)
    upstream.project_list("foo-bar")
    running = server("--base-path", "/idx", "--project-list", "all", upstream=upstream)

    for target in ("/idx", "/idx/simple", "/idx/simple/foo-bar", "/idx/simple/Foo.Bar/"):
        response = running.get(target)
        assert response.status == 301
        assert (response.header("location") or "").startswith("/idx/")
    for target, count in (("/idx/", 0), ("/idx/simple/", 1), ("/idx/simple/foo-bar/", 2)):
        page = read_html(running.get(target, {"Accept": "text/html"}).text)
        links = [urljoin(running.url + target, anchor.url) for anchor in page.anchors]
        assert len(links) >= count
        # a landing page may also point at other sites
        ours = [link for link in links if link.startswith(running.url)]
        assert all(urlsplit(link).path.startswith("/idx/") for link in ours)
        assert target == "/idx/" or len(ours) == len(links) == count
        for link in ours:
            assert running.get(link.removeprefix(running.url)).status == 200
    for entry in running.get("/idx/simple/foo-bar/", AS_JSON).json()["files"]:
        path = urljoin("/idx/simple/foo-bar/", entry["url"])
        assert path.startswith("/idx/")
        body = wheel.body if entry["filename"] == wheel.filename else sdist.body
        assert running.get(path).body == body
    assert running.get("/idx/simple/foo-bar/", AS_HTML).status == 200
