"""Project pages and lists over HTTP, the upstream being a table of answers."""

from __future__ import annotations

import base64
import hashlib

import anyio
import httpx
import pytest

from proxyindex.settings import PolicySettings
from tests.support.builders import put_wheel
from tests.support.mirrors import answer
from tests.support.pages import JSON_TYPE, json_list, wheel_spec
from tests.web.conftest import House

JSON = {"accept": JSON_TYPE}
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
DEMO = wheel_spec("demo", "1.0", payload=2000)


async def test_an_upstream_page_is_fetched_once_and_relinked(house: House) -> None:
    page = house.project("demo", DEMO)
    client = await house.client()
    first = await client.get("/simple/demo/", headers=JSON)
    assert first.status_code == 200
    assert first.headers["x-proxyindex"] == "fetched"
    assert first.headers["cache-control"] == "max-age=0, must-revalidate"
    assert first.headers["vary"] == "Accept, Accept-Encoding"
    assert [file["url"] for file in first.json()["files"]] == [DEMO.filename]
    again = await client.get("/simple/demo/", headers=JSON)
    assert again.headers["x-proxyindex"] == "hit"
    assert (again.headers["etag"], again.content) == (first.headers["etag"], first.content)
    assert page.call_count == 1


async def test_html_is_for_browsers_and_locked_down(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    page = await client.get("/simple/demo/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    lock = "default-src 'none'; sandbox allow-downloads"  # of files whose links are clicked
    assert page.headers["content-security-policy"] == lock
    assert page.headers["x-content-type-options"] == "nosniff"
    assert DEMO.filename in page.text


@pytest.mark.parametrize("target", ["/simple/demo/", "/simple/"])
async def test_a_browser_gets_the_installers_page_with_a_style_that_shows_its_attributes(
    house: House, target: str
) -> None:
    put_wheel(house.folder, "demo", "1.0")
    client = await house.client()
    plain = await client.get(target, headers={"accept": "text/html"})
    page = await client.get(target, headers=BROWSER)
    head, _, rest = page.text.partition("    <style>")
    style, _, rest = rest.partition("</style>\n")
    assert head + rest == plain.text
    for attribute in ("size", "upload-time", "requires-python", "yanked"):
        assert f"attr(data-{attribute})" in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    lock = plain.headers["content-security-policy"]
    assert page.headers["content-security-policy"] == f"{lock}; style-src 'sha256-{digest}'"
    assert page.headers["etag"] != plain.headers["etag"]
    assert page.headers["vary"] == plain.headers["vary"] == "Accept, Accept-Encoding"


async def test_the_copy_of_a_client_is_confirmed(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    etag = (await client.get("/simple/demo/", headers=JSON)).headers["etag"]
    known = await client.get("/simple/demo/", headers={**JSON, "if-none-match": etag})
    assert (known.status_code, known.content) == (304, b"")
    assert known.headers["etag"] == etag
    assert known.headers["vary"] == "Accept, Accept-Encoding"
    html = await client.get("/simple/demo/", headers={"if-none-match": etag})
    assert html.status_code == 200


async def test_another_page_than_the_client_s_is_412(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    etag = (await client.get("/simple/demo/", headers=JSON)).headers["etag"]
    for condition, status in ((etag, 200), ('"x"', 412)):
        reply = await client.get("/simple/demo/", headers={**JSON, "if-match": condition})
        assert reply.status_code == status
    assert reply.headers["cache-control"] == "no-store"


async def test_fields_that_are_lists_may_come_in_several_lines(house: House) -> None:
    house.project("demo", *(wheel_spec("demo", f"1.{n}") for n in range(30)))
    client = await house.client()
    coding = [("accept-encoding", "br"), ("accept-encoding", "gzip")]
    packed = await client.get("/simple/demo/", headers=coding)
    assert packed.headers["content-encoding"] == "gzip"
    tags = [("if-none-match", '"x"'), ("if-none-match", packed.headers["etag"])]
    for _ in range(2):  # also where the answer is remembered
        known = await client.get("/simple/demo/", headers=[*coding, *tags])
        assert known.status_code == 304


async def test_head_is_get_without_the_body(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    get = await client.get("/simple/demo/", headers={**JSON, "accept-encoding": "identity"})
    head = await client.head("/simple/demo/", headers={**JSON, "accept-encoding": "identity"})
    for name in ("etag", "content-type", "content-length", "vary"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("count", [30, 300])
async def test_gzip_has_an_etag_of_its_own(house: House, count: int) -> None:
    house.project("demo", *(wheel_spec("demo", f"1.{n}") for n in range(count)))
    client = await house.client()
    for refusal in ("gzip;q=0.", "gzip;\tQ=0.000 , br", "gzip; q=0.00", "gzip;q=0"):
        plain = await client.get("/simple/demo/", headers={"accept-encoding": refusal})
        assert "content-encoding" not in plain.headers
    packed = await client.get("/simple/demo/", headers={"accept-encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]


async def test_a_herd_is_one_upstream_request(house: House) -> None:
    page = house.project("demo", *(wheel_spec("demo", f"1.{n}") for n in range(250)))
    client = await house.client()
    answers: list[httpx.Response] = []

    async def one() -> None:
        answers.append(await client.get("/simple/demo/", headers=JSON))

    async with anyio.create_task_group() as clients:
        for _ in range(50):
            clients.start_soon(one)
    assert page.call_count == 1
    assert {reply.status_code for reply in answers} == {200}
    assert len({reply.content for reply in answers}) == 1
    outcomes = [reply.headers["x-proxyindex"] for reply in answers]
    assert outcomes.count("fetched") == 1
    assert {"fetched", "joined"} <= set(outcomes) <= {"fetched", "joined", "hit"}, "hit: came late"


@pytest.mark.parametrize(
    "target",
    [
        "/health/",
        "/metrics/",
        "/simple/demo/demo-1.0.tar.gz/",
        "/api/push/",
        "/api/projects/demo/",
        "/api/projects/demo/refresh/",
    ],
)
async def test_no_redirect_is_made_of_what_the_client_calls_us(house: House, target: str) -> None:
    client = await house.client(read=("@users",))
    for method in ("GET", "POST", "DELETE"):
        reply = await client.request(method, target, headers={"host": "evil.example"})
        assert reply.status_code in (404, 405), method
        assert "location" not in reply.headers


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/simple", (301, "/simple/")),
        ("GET", "/simple/demo", (301, "/simple/demo/")),
        ("POST", "/legacy", (403, None)),
        ("POST", "/legacy/", (403, None)),
        ("POST", "/simple", (405, None)),
    ],
)
async def test_addresses_without_their_slash_are_known(
    house: House, method: str, target: str, expected: tuple[int, str | None]
) -> None:
    client = await house.client()
    reply = await client.request(method, target)
    assert (reply.status_code, reply.headers.get("location")) == expected


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("/simple", "/simple/"),
        ("/simple/Foo.Bar/", "/simple/foo-bar/"),
        ("/simple/FOO__bar", "/simple/foo-bar/"),
        ("/simple/foo-bar", "/simple/foo-bar/"),
        ("/simple/foo-bar?format=x&y=%0d%0a", "/simple/foo-bar/?format=x&y=%0d%0a"),
        (
            "/packages/Foo.Bar-1.0+a-py3-none-any.whl",
            "/simple/foo-bar/Foo.Bar-1.0+a-py3-none-any.whl",
        ),
        ("/packages/any/folders/foo-bar-1.0.tar.gz", "/simple/foo-bar/foo-bar-1.0.tar.gz"),
    ],
)
async def test_other_spellings_are_redirected_in_one_hop(
    house: House, asked: str, location: str
) -> None:
    client = await house.client()
    reply = await client.get(asked)
    assert (reply.status_code, reply.headers["location"]) == (301, location)
    assert reply.headers["vary"] == "Accept"
    assert not house.router.calls


@pytest.mark.parametrize(
    "path",
    ["", "foo", "foo.txt", "foo-1.0.egg", "x/", "-1.0.tar.gz", "f%C3%B6-1.0.tar.gz", "f%3F-1.zip"],
)
async def test_what_is_no_file_of_any_project_leads_nowhere(house: House, path: str) -> None:
    client = await house.client()
    assert (await client.get(f"/packages/{path}")).status_code == 404
    assert not house.router.calls


@pytest.mark.parametrize("host", ["evil.example", "evil.example/a?b=c#", "[", "a b"])
async def test_a_forged_host_leaves_no_trace(house: House, host: str) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    reply = await client.get("/simple/demo?a=b", headers={"host": host})
    assert (reply.status_code, reply.headers["location"]) == (301, "/simple/demo/?a=b")
    page = await client.get("/simple/demo/", headers={"host": host})
    assert page.status_code == 200
    assert "evil" not in page.text


async def test_everything_stays_below_a_prefix(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client(base_path="/idx")
    assert (await client.get("/idx/simple/Demo")).headers["location"] == "/idx/simple/demo/"
    assert (await client.get("/simple/Demo")).headers["location"] == "/idx/simple/demo/"
    assert (await client.get("/idx/simple/demo/")).status_code == 200


@pytest.mark.parametrize("name", ["-foo", "foo-", "Idna_", "f%C3%B6o", "+list", "a" * 300])
async def test_a_name_that_is_none_is_not_found_and_not_asked(house: House, name: str) -> None:
    client = await house.client()
    assert (await client.get(f"/simple/{name}/")).status_code == 404
    assert not house.router.calls


async def test_doubled_slashes_are_collapsed(house: House) -> None:
    page = house.project("demo", DEMO)
    client = await house.client()
    assert (await client.get("http://index.example//simple//demo//")).status_code == 200
    assert page.call_count == 1


async def test_nothing_acceptable_is_406(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    for headers, query in (({"accept": "application/json"}, ""), ({}, "?format=foo")):
        reply = await client.get("/simple/demo/" + query, headers=headers)
        assert reply.status_code == 406
        assert reply.headers["vary"] == "Accept"


@pytest.mark.parametrize("target", ["/", "/simple/", "/legacy/"])
async def test_an_upload_that_nobody_may_make_tells_why_in_the_status_line(
    house: House, target: str
) -> None:
    reply = await (await house.client()).post(target)
    assert reply.headers["x-proxyindex-reason"] == reply.text.rstrip(), "twine shows nothing else"
    assert "takes no uploads" in reply.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_methods_are_not_allowed(house: House, method: str) -> None:
    client = await house.client()
    reply = await client.request(method, "/simple/demo/")
    assert reply.status_code == 405
    assert "GET" in reply.headers["allow"]
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("status", [404, 410])
async def test_an_unknown_project_is_404_and_not_stored_by_clients(
    house: House, status: int
) -> None:
    route = house.serves("/simple/demo/", status=status)
    client = await house.client()
    for _ in range(2):
        reply = await client.get("/simple/demo/")
        assert reply.status_code == 404
        assert reply.headers["cache-control"] == "no-store"
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ({"status": 500}, 503),
        ({"status": 503}, 503),
        ({"status": 401}, 502),
        ({"body": b"<a>", "content_type": "application/octet-stream"}, 502),
        ({"body": b"{", "content_type": JSON_TYPE}, 502),
        ({"status": 508}, 508),
        ({"status": 304}, 502),
    ],
)
async def test_failure_is_never_absence(
    house: House, upstream: dict[str, object], expected: int
) -> None:
    house.serves("/simple/demo/", **upstream)  # type: ignore[arg-type]
    client = await house.client()
    reply = await client.get("/simple/demo/")
    assert reply.status_code == expected
    assert reply.headers["cache-control"] == "no-store"
    assert ("retry-after" in reply.headers) == (expected == 503)
    assert "up.example" not in reply.text


async def test_an_upstream_that_cannot_be_reached_is_503(house: House) -> None:
    house.router.get("http://up.example/simple/demo/").mock(side_effect=httpx.ConnectError("x"))
    client = await house.client()
    assert (await client.get("/simple/demo/")).status_code == 503


async def test_a_hostile_header_from_upstream_is_survived(house: House) -> None:
    page = house.router.get("http://up.example/simple/demo/")
    page.mock(
        side_effect=lambda request: httpx.Response(
            200,
            headers=[
                (b"etag", '"é"'.encode()),
                (b"content-type", JSON_TYPE.encode()),
                (b"expires", b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT"),
            ],
            stream=answer(200, b'{"name": "demo", "files": []}').stream,
        )
    )
    client = await house.client(page_ttl=0)
    for _ in range(2):
        assert (await client.get("/simple/demo/")).status_code == 200
    assert page.call_count == 2


async def test_a_stale_page_is_served_while_upstream_fails(house: House) -> None:
    route = house.project("demo", DEMO)
    client = await house.client(page_ttl=0)
    await client.get("/simple/demo/")
    route.mock(side_effect=lambda request: answer(500))
    reply = await client.get("/simple/demo/")
    assert (reply.status_code, reply.headers["x-proxyindex"]) == (200, "stale")


async def test_no_cache_asks_upstream_but_not_at_once_again(house: House) -> None:
    route = house.project("demo", DEMO)
    client = await house.client()
    await client.get("/simple/demo/")
    for control in ("no-cache", "max-age=0", "max-age=00", "no-cache-please"):
        await client.get("/simple/demo/", headers={"cache-control": control})
    assert route.call_count == 1  # validated less than two seconds ago


async def test_a_local_project_is_ours_alone(house: House) -> None:
    route = house.project("demo", wheel_spec("demo", "9.9"))
    put_wheel(house.folder, "demo", "1.0")
    client = await house.client()
    page = (await client.get("/simple/demo/", headers=JSON)).json()
    assert page["versions"] == ["1.0"]
    assert route.call_count == 0


async def test_merging_is_by_setting_only(house: House) -> None:
    house.project("demo", wheel_spec("demo", "9.9"))
    put_wheel(house.folder, "demo", "1.0")
    client = await house.client(merge=("dem*",))
    page = (await client.get("/simple/demo/", headers=JSON)).json()
    assert page["versions"] == ["1.0", "9.9"]


async def test_reserved_and_denied_names(house: House) -> None:
    policy = PolicySettings(reserved=("acme",), deny=("evil-*",))
    client = await house.client(policy=policy)
    assert (await client.get("/simple/acme-core/")).status_code == 404
    denied = await client.get("/simple/evil-1/")
    assert denied.status_code == 403
    assert "deny evil-*" in denied.text
    assert not house.router.calls


async def test_a_reason_from_upstream_is_no_header(house: House) -> None:
    house.project(
        "demo", DEMO, project_status={"status": "quarantined", "reason": "a\r\nSet-Cookie: b=c"}
    )
    client = await house.client()
    page = await client.get("/simple/demo/", headers=JSON)
    assert page.json()["files"] == []
    refused = await client.get(f"/simple/demo/{DEMO.filename}")
    assert refused.status_code in (403, 404)
    assert "set-cookie" not in refused.headers


async def test_offline_answers_from_the_cache(house: House) -> None:
    route = house.project("demo", DEMO)
    await (await house.client()).get("/simple/demo/")
    client = await house.client(offline=True)
    assert (await client.get("/simple/demo/")).headers["x-proxyindex"] == "hit"
    unknown = await client.get("/simple/other/")
    assert unknown.status_code == 503
    assert "this server is offline, and its cache does not have this: install it" in unknown.text
    assert route.call_count == 1


async def test_the_list_is_local_by_default(house: House) -> None:
    put_wheel(house.folder, "demo", "1.0")
    client = await house.client()
    listed = await client.get("/simple/", headers=JSON)
    assert [project["name"] for project in listed.json()["projects"]] == ["demo"]
    assert "demo/" in (await client.get("/simple/")).text
    assert not house.router.calls


async def test_the_list_may_include_upstreams(house: House) -> None:
    put_wheel(house.folder, "mine", "1.0")
    route = house.serves("/simple/", json_list(["b", "A.a"]), content_type=JSON_TYPE)
    client = await house.client(project_list="all")
    for _ in range(2):
        listed = await client.get("/simple/", headers=JSON)
        assert [project["name"] for project in listed.json()["projects"]] == ["a-a", "b", "mine"]
    assert route.call_count == 1


async def test_two_workers_share_one_cache(house: House) -> None:
    route = house.project("demo", DEMO)
    one, two = await house.client(), await house.client()
    await one.get("/simple/demo/")
    assert (await two.get("/simple/demo/")).headers["x-proxyindex"] == "hit"
    assert route.call_count == 1


async def test_the_front_page_tells_how_to_use_it(house: House) -> None:
    client = await house.client()
    page = await client.get("/")
    assert page.status_code == 200
    assert "pip" in page.text
    assert page.headers["x-content-type-options"] == "nosniff"
    assert (await client.get("/favicon.ico")).status_code == 404
