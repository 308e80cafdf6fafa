"""Whose a name is: docs/conformance.md, checks 103, 104, 107 to 109."""

from __future__ import annotations

import pytest

from tests.support.builders import put_sdist, put_wheel
from tests.support.crowd import together
from tests.support.fixtures import Index, ServerFactory
from tests.support.pages import JSON_TYPE, sdist_spec, wheel_spec
from tests.support.reply import NOT_FOUND, Reply, redirect
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, html_reply

JSON = {"Accept": JSON_TYPE}


def listed(running: ProxyIndex | Index, name: str) -> list[str]:
    page = running.get(f"/simple/{name}/", JSON)
    assert page.status == 200, page.body
    return [entry["filename"] for entry in page.json()["files"]]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "target",
    [
        "/simple/local-lib/",
        "/simple/Local.Lib/",
        "/simple/local-lib/{0}",
        "/simple/local-lib/{0}.metadata",
        "/simple/local-lib/{0}.asc",
        "/simple/local-lib/local_lib-9.9-py3-none-any.whl",
        "/simple/local-lib/local_lib-9.9-py3-none-any.whl.metadata",
        "/simple/local-lib/local_lib-9.9-py3-none-any.whl.asc",
        "/simple/LOCAL_LIB/{0}",
        "/simple/",
    ],
)
def test_103_a_local_name_is_never_asked_of_an_upstream(
    index: Index, method: str, target: str
) -> None:
    before = index.upstream.count()
    for control in ("max-age=60", "no-cache"):
        index.get(target.format(index.local_filename), {"Cache-Control": control}, method=method)
    assert index.upstream.count() == before


def test_103_a_crowd_does_not_change_that(crowded: Index) -> None:
    targets = ["", crowded.local_filename, crowded.local_filename + ".metadata", "no-1.0.tar.gz"]
    for target in targets:
        together(12, lambda target=target: crowded.get(f"/simple/local-lib/{target}"))  # type: ignore[misc]
    assert [seen for seen in crowded.upstream.requests() if "local" in seen.path] == []


def test_103_a_file_put_into_the_folder_is_listed_at_once_by_all_workers(crowded: Index) -> None:
    put_wheel(crowded.folder, "late-comer", "1.0")
    for _ in range(8):
        assert listed(crowded, "late-comer") == ["late_comer-1.0-py3-none-any.whl"]
    put_sdist(crowded.folder, "late-comer", "2.0")
    for _ in range(8):
        assert len(listed(crowded, "late-comer")) == 2
    assert crowded.upstream.count("/simple/late-comer/") == 0


def test_104_an_upstream_s_higher_version_is_not_visible(index: Index) -> None:
    assert listed(index, "local-lib") == [index.local_filename]
    assert index.get("/simple/local-lib/", JSON).json()["versions"] == ["1.0"]
    html = index.get("/simple/local-lib/", {"Accept": "text/html"}).text
    assert "-9.9" not in html
    for sibling in ("", ".metadata", ".asc"):
        target = f"/simple/local-lib/local_lib-9.9-py3-none-any.whl{sibling}"
        assert index.get(target).status == 404


def test_104_a_name_that_becomes_local_leaves_upstream_behind(
    server: ServerFactory, upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("packages")
    public = wheel_spec("taken", "9.9")
    upstream.project("taken", public)
    running = server(folder, upstream=upstream)
    assert running.get(f"/simple/taken/{public.filename}").body == public.body
    put_wheel(folder, "taken", "1.0")
    assert listed(running, "taken") == ["taken-1.0-py3-none-any.whl"]
    assert running.get(f"/simple/taken/{public.filename}").status == 404


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Reply(status=503, etag=None), 503),
        (Reply(status=401, etag=None), 502),
        (Reply(status=403, etag=None), 502),
        (Reply(raw=b""), 503),
        (Reply(body=b"{", content_type=JSON_TYPE), 502),
    ],
    ids=["503", "401", "403", "cut", "broken"],
)
def test_107_a_failing_upstream_never_promotes_the_next(
    server: ServerFactory,
    upstream: FakeUpstream,
    other_upstream: FakeUpstream,
    failure: Reply,
    status: int,
) -> None:
    upstream.script("/simple/wanted/", failure)
    spec = wheel_spec("wanted")
    other_upstream.project("wanted", spec)
    running = server("--upstream", upstream.simple_url, "--upstream", other_upstream.simple_url)
    for target in ("/simple/wanted/", f"/simple/wanted/{spec.filename}"):
        answer = running.get(target, JSON)
        assert answer.status == status
        assert answer.header("cache-control") == "no-store"
    assert other_upstream.count() == 0


def test_107_a_dead_upstream_never_promotes_the_next(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream
) -> None:
    other_upstream.project("wanted", wheel_spec("wanted"))
    running = server("--upstream", upstream.simple_url, "--upstream", other_upstream.simple_url)
    upstream.down()
    for _ in range(2):
        answer = running.get("/simple/wanted/", JSON)
        assert answer.status == 503
        assert answer.header("retry-after")
    assert other_upstream.count() == 0


@pytest.mark.parametrize("status", [404, 410])
def test_108_an_upstream_without_the_project_leaves_it_to_the_next(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream, status: int
) -> None:
    upstream.script("/simple/wanted/", NOT_FOUND.with_(status=status))
    spec = wheel_spec("wanted")
    other_upstream.project("wanted", spec)
    running = server("--upstream", upstream.simple_url, "--upstream", other_upstream.simple_url)
    assert listed(running, "wanted") == [spec.filename]
    assert running.get(f"/simple/wanted/{spec.filename}").body == spec.body
    assert upstream.count("/simple/wanted/") == 1
    assert running.get("/simple/nobody-has/").status == 404


def test_108_the_first_that_has_the_project_answers_alone(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream
) -> None:
    first, second = wheel_spec("wanted", "1.0"), wheel_spec("wanted", "9.9")
    upstream.project("wanted", first)
    other_upstream.project("wanted", second)
    running = server("--upstream", upstream.simple_url, "--upstream", other_upstream.simple_url)
    assert listed(running, "wanted") == [first.filename]
    assert running.get(f"/simple/wanted/{second.filename}").status == 404
    assert other_upstream.count() == 0
    upstream.project("empty")
    other_upstream.project("empty", wheel_spec("empty"))
    assert listed(running, "empty") == [], "a project without files is a project"
    assert other_upstream.count() == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_109_a_page_redirect_off_the_origin_is_not_found(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream, status: int
) -> None:
    other_upstream.project("lured", wheel_spec("lured"))
    elsewhere = f"http://localhost:{other_upstream.port}/simple/lured/"
    upstream.script("/simple/lured/", redirect(elsewhere, status=status))
    running = server(upstream=upstream)
    assert running.get("/simple/lured/", JSON).status == 404
    assert other_upstream.connections == 0


def test_109_a_page_redirect_to_https_gives_the_name_to_nobody(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream
) -> None:
    other_upstream.project("private", wheel_spec("private", "99.0"))
    for target in (upstream.url.replace("http:", "https:"), other_upstream.url):
        upstream.script("/simple/private/", redirect(f"{target}/simple/private/"))
        running = server("--upstream", upstream.simple_url, "--upstream", other_upstream.simple_url)
        answer = running.get("/simple/private/", JSON)
        assert (answer.status, "its url has to name what answers" in answer.text) == (502, True)
        assert "private: Upstream" in running.logs
    assert other_upstream.connections == 0


def test_109_the_next_upstream_is_asked_when_one_redirects_away(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream
) -> None:
    spec = sdist_spec("lured")
    other_upstream.project("lured", spec)
    for target in ("https://upstream.example/simple/lured/", "file:///etc/passwd", "//x.example/"):
        upstream.script("/simple/lured/", redirect(target))
        running = server("--upstream", upstream.simple_url, "--upstream", other_upstream.simple_url)
        assert listed(running, "lured") == [spec.filename]


def test_109_a_page_redirect_within_the_origin_is_followed(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("moved", url="../../files/" + wheel_spec("moved").filename)
    upstream.script("/simple/moved/", redirect("/elsewhere/deep/moved/"))
    upstream.script("/elsewhere/deep/moved/", html_reply("moved", spec))
    upstream.script("/elsewhere/files/" + spec.filename, Reply(body=spec.body))
    running = server(upstream=upstream)
    assert listed(running, "moved") == [spec.filename]
    assert running.get(f"/simple/moved/{spec.filename}").body == spec.body


def test_109_a_redirect_loop_ends(server: ServerFactory, upstream: FakeUpstream) -> None:
    upstream.script("/simple/round/", redirect("/simple/round/"))
    running = server(upstream=upstream)
    assert running.get("/simple/round/", JSON).status == 502
    assert upstream.count("/simple/round/") <= 6
