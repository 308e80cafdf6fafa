"""Forged links, hosts, headers and leaking secrets: docs/conformance.md, 126 to 129 and 131."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import http
from tests.support.fixtures import Index, ServerFactory
from tests.support.pages import JSON_TYPE, FileSpec, sdist_spec, wheel_spec
from tests.support.reply import NOT_FOUND, Reply, redirect
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, html_reply, json_reply

JSON = {"Accept": JSON_TYPE}


def configured(server: ServerFactory, folder: Path, text: str, *args: str) -> ProxyIndex:
    """A server that has its upstreams from a file."""
    config = folder / "proxyindex.toml"
    config.write_text(text)
    running = server("--config", config, *args, is_started=False)
    running.args.remove("--no-upstream")
    return running.start()


def raw_head(response: http.Response) -> str:
    return "\n".join(f"{name}: {value}" for name, value in response.headers)


FOREIGN = [
    "http://169.254.169.254/latest/meta-data/{file}",
    "http://127.0.0.1:{port}/files/{file}",
    "http://localhost:{port}/files/{file}",
    "http://[::1]:{port}/files/{file}",
    "http://[::ffff:127.0.0.1]:{port}/files/{file}",
    "http://2130706433:{port}/files/{file}",
    "http://0.0.0.0:{port}/files/{file}",
    "http://0x7f.1:{port}/files/{file}",
    "http://files.attacker.example/files/{file}",
    "//127.0.0.1:{port}/files/{file}",
    "https://127.0.0.1:{port}/files/{file}",
    "http://127.0.0.1:22/{file}",
    "http://user:pass@127.0.0.1:{own}/files/{file}",
    "http://127.0.0.1:{own}@127.0.0.1:{port}/files/{file}",
    "file:///etc/{file}",
    "ftp://127.0.0.1:{port}/{file}",
]


@pytest.fixture(scope="module")
def decoy() -> object:
    with FakeUpstream() as upstream:
        upstream.otherwise(Reply(body=b"stolen"))
        yield upstream


@pytest.mark.parametrize("link", FOREIGN)
@pytest.mark.parametrize("way", ["json", "html", "base", "redirect"])
def test_126_a_link_elsewhere_is_never_followed(
    index: Index, decoy: FakeUpstream, link: str, way: str
) -> None:
    name = index.new_name()
    plain = sdist_spec(name)
    url = link.format(port=decoy.port, own=index.upstream.port, file=plain.filename)
    linked = FileSpec(filename=plain.filename, body=plain.body, url=url)
    if way == "json":
        index.project(linked, name=name)
    elif way == "html":
        index.project(linked, name=name, form="html")
    elif way == "base":
        body = html_reply(name, FileSpec(filename=plain.filename, url=plain.filename)).body
        assert isinstance(body, bytes)
        base = f'<base href="{url.rpartition("/")[0]}/">'.encode()
        reply = html_reply(name).with_(body=body.replace(b"<head>", b"<head>" + base))
        index.upstream.script(f"/simple/{name}/", reply)
    else:
        index.project(plain, name=name)
        index.upstream.script(plain.path, redirect(url))
    answer = index.get(f"/simple/{name}/{plain.filename}")
    assert answer.status in (404, 502)
    assert b"stolen" not in answer.body
    sidecar = index.get(f"/simple/{name}/{plain.filename}.asc")
    assert sidecar.status in (404, 502)
    assert decoy.connections == 0
    # nor is a forged base ignored, which would make another link of it
    assert index.upstream.count(f"/simple/{name}/{plain.filename}") == 0
    for seen in (answer, sidecar, index.get(f"/simple/{name}/", JSON)):
        assert f":{decoy.port}" not in seen.text + raw_head(seen)
        assert "169.254" not in seen.text + raw_head(seen)


def test_126_a_metadata_redirect_elsewhere_is_not_followed(
    index: Index, decoy: FakeUpstream
) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=1_000)
    index.project(spec, name=name)
    index.upstream.script(spec.path + ".metadata", redirect(f"{decoy.url}/x.metadata"))
    answer = index.get(f"/simple/{name}/{spec.filename}.metadata")
    assert answer.body == spec.metadata, "extracted instead"
    assert decoy.connections == 0


def test_126_a_redirect_chain_is_checked_at_every_hop(index: Index, decoy: FakeUpstream) -> None:
    name = index.new_name()
    spec = sdist_spec(name)
    index.project(spec, name=name)
    index.upstream.script(spec.path, redirect(f"/hop/{name}/1"))
    index.upstream.script(f"/hop/{name}/1", redirect(f"/hop/{name}/2"))
    index.upstream.script(f"/hop/{name}/2", redirect(f"{decoy.url}/{spec.filename}"))
    assert index.get(f"/simple/{name}/{spec.filename}").status in (404, 502)
    assert decoy.connections == 0


def test_126_a_configured_file_host_is_followed(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream, tmp_path: Path
) -> None:
    plain = wheel_spec("hosted")
    linked = wheel_spec("hosted", url=other_upstream.url + plain.path)
    upstream.project("hosted", linked)
    other_upstream.file(plain)
    hosts = f'file-hosts = ["127.0.0.1:{other_upstream.port}"]'
    running = configured(
        server, tmp_path, f'[[upstream]]\nurl = "{upstream.simple_url}"\n{hosts}\n'
    )
    assert running.get(f"/simple/hosted/{plain.filename}").body == plain.body
    assert running.get(f"/simple/hosted/{plain.filename}.metadata").body == plain.metadata


FORGED = [
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"},
    {"Forwarded": "host=evil.example;proto=https"},
    {"X-Forwarded-Prefix": "/evil.example"},
    {"X-Original-URL": "/evil.example", "X-Rewrite-URL": "/evil.example"},
    {"X-Forwarded-Server": "evil.example", "X-Host": "evil.example"},
    {"Origin": "https://evil.example", "Referer": "https://evil.example/"},
]
TARGETS = [
    "/",
    "/simple",
    "/simple/",
    "/simple/foo-bar",
    "/simple/Foo.Bar",
    "/simple/foo-bar/",
    "/simple/foo-bar/{0}",
    "/simple/foo-bar/{0}.metadata",
    "/simple/local-lib/",
    "/simple/no-such-project/",
    "/pypi/foo-bar/json",
    "/local-lib/json",
    "/packages/{0}",
    "/no-such-path",
    "/simple/%2e%2e/",
    "/health",
]


@pytest.mark.parametrize("headers", FORGED, ids=lambda headers: next(iter(headers)))
@pytest.mark.parametrize("target", TARGETS)
def test_127_a_forged_host_leaves_no_trace(
    index: Index, target: str, headers: dict[str, str]
) -> None:
    for accept in (JSON_TYPE, "text/html"):
        answer = index.get(
            target.format(index.wheel.filename), {"Accept": accept, **headers}, host="evil.example"
        )
        assert "evil.example" not in raw_head(answer)
        assert b"evil.example" not in answer.body
        location = answer.header("location")
        assert location is None or (location.startswith("/") and not location.startswith("//"))


INJECTION = "gone\r\nSet-Cookie: stolen=1\r\n\r\n<script>alert(1)</script>"


@pytest.mark.parametrize("form", ["json", "html"])
def test_128_a_hostile_page_injects_no_header(index: Index, form: str) -> None:
    name = index.new_name()
    spec = wheel_spec(
        name,
        yanked=INJECTION,
        requires_python=INJECTION,
        upload_time=INJECTION,
        core_metadata={"sha256": INJECTION},
        hashes={"sha256": INJECTION},
        provenance="https://a.example/" + INJECTION,
    )
    reply = (json_reply if form == "json" else html_reply)(name, spec)
    page = reply.with_(
        headers={**reply.headers, "X-PyPI-Last-Serial": "1"}, etag='"quoted\\"; x=1"'
    )
    index.upstream.script(f"/simple/{name}/", page)
    index.upstream.file(spec)
    targets = ["", spec.filename, spec.filename + ".metadata", spec.filename + ".asc"]
    for target in targets:
        for accept in (JSON_TYPE, "text/html"):
            for method in ("GET", "HEAD"):
                answer = index.get(f"/simple/{name}/{target}", {"Accept": accept}, method=method)
                assert answer.header("set-cookie") is None
                assert "stolen" not in raw_head(answer)
                if method == "GET" and (answer.header("content-type") or "").startswith("text/htm"):
                    assert "<script" not in answer.text
                    assert "sandbox" in (answer.header("content-security-policy") or "")


@pytest.mark.parametrize(
    "target",
    [
        "/simple/foo%0D%0ASet-Cookie:%20stolen=1/",
        "/simple/Foo-Bar?x=%0D%0ASet-Cookie:%20stolen=1",
        "/simple?%0d%0aSet-Cookie:stolen=1",
        "/simple/foo-bar/x%0d%0aSet-Cookie:%20stolen=1.whl",
        "/simple/foo-bar/%E2%80%A8Set-Cookie:stolen=1",
        "/simple/foo-bar/?format=%0d%0aSet-Cookie:stolen=1",
    ],
)
def test_128_a_hostile_request_injects_no_header(index: Index, target: str) -> None:
    answer = index.get(target)
    assert answer.status in (301, 400, 404, 406)
    assert answer.header("set-cookie") is None
    assert not (answer.header("content-type") or "").startswith("text/html")


def test_128_a_denial_with_line_ends_stays_in_its_line(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("haunted")
    body = json.loads(json_reply("haunted", spec).body)  # type: ignore[arg-type]
    body["project-status"] = {"status": "quarantined", "reason": INJECTION}
    reply = json_reply("haunted", spec).with_(body=json.dumps(body).encode())
    upstream.script("/simple/haunted/", reply)
    answer = server(upstream=upstream).get(f"/simple/haunted/{spec.filename}")
    assert answer.status in (403, 404)
    assert answer.header("set-cookie") is None
    assert "\n" not in answer.reason
    assert "\r" not in answer.reason


CLIENT = [
    ("Authorization", "Basic Y2xpZW50OmNsaWVudC1zZWNyZXQ="),
    ("Proxy-Authorization", "Basic Y2xpZW50OmNsaWVudC1zZWNyZXQ="),
    ("Cookie", "session=client-secret"),
    ("X-Api-Key", "client-secret"),
]
UPSTREAM_AUTH = "Basic cm9ib3Q6dXBzdHJlYW0tc2VjcmV0"  # robot:upstream-secret
SECRETS = ("client-secret", "Y2xpZW50", "upstream-secret", "cm9ib3Q6", "s1gned", "X-Amz-Signature")


@pytest.fixture
def guarded(
    server: ServerFactory, upstream: FakeUpstream, other_upstream: FakeUpstream, tmp_path: Path
) -> ProxyIndex:
    """A server that logs all it can, with credentials for `upstream` and files at another host."""
    return configured(
        server,
        tmp_path,
        f"""
[[upstream]]
url = "http://robot:upstream-secret@127.0.0.1:{upstream.port}/simple/"
file-hosts = ["127.0.0.1:{other_upstream.port}"]
retries = 0
""",
        "--log-level",
        "debug",
    )


def exercise(
    running: ProxyIndex, upstream: FakeUpstream, other: FakeUpstream
) -> list[http.Response]:
    """One of everything that speaks to an upstream, successful and failing."""
    near, far = wheel_spec("near", metadata=None), wheel_spec("far", "1.0")
    upstream.project("near", near)
    upstream.project("far", wheel_spec("far", url=other.url + far.path))
    other.file(far)
    signed = sdist_spec("signed")
    upstream.project("signed", signed)
    target = f"/{signed.filename}?X-Amz-Signature=s1gned"
    upstream.script(signed.path, redirect(other.url + target))
    other.script(target, Reply(body=signed.body))
    lost = sdist_spec("lost")
    upstream.project("lost", lost)
    upstream.script(lost.path, redirect(other.url + "/lost?X-Amz-Signature=s1gned"))
    other.script("/lost", Reply(status=403, body=b"s1gned", etag=None))
    wrong = sdist_spec("wrong", hashes={"sha256": "0" * 64})
    upstream.project("wrong", wrong)
    upstream.script("/simple/broken/", Reply(body=b"{", content_type=JSON_TYPE))
    upstream.script("/simple/away/", redirect("https://x.example/?X-Amz-Signature=s1gned"))
    upstream.script("/simple/denied/", Reply(status=401, etag=None))
    upstream.script("/simple/none/", NOT_FOUND)
    targets = [f"/simple/{name}/" for name in ("near", "far", "broken", "away", "denied", "none")]
    for spec in (near, far, signed, lost, wrong):
        name = spec.filename.partition("-")[0]
        targets += [f"/simple/{name}/{spec.filename}{end}" for end in (".metadata", ".asc", "")]
    answers = []
    for asked in targets:
        with running.connect() as connection:
            answer = connection.request(asked + "?token=client-secret", CLIENT)
            try:
                answer.read()
            except http.ShortBodyError:
                assert "wrong" in asked
            answers.append(answer)
    assert [one.status for one in answers[:2]] == [200, 200]
    return answers


def test_129_credentials_stay_with_whom_they_are_for(
    guarded: ProxyIndex, upstream: FakeUpstream, other_upstream: FakeUpstream
) -> None:
    exercise(guarded, upstream, other_upstream)
    near, far = upstream.requests(), other_upstream.requests()
    assert near
    assert len({seen.path for seen in far}) >= 3
    assert {seen.header("authorization") for seen in near} == {UPSTREAM_AUTH}
    assert {seen.header("authorization") for seen in far} == {None}
    for seen in near + far:
        told = f"{seen.target} {seen.headers}"
        assert "client-secret" not in told
        assert "Y2xpZW50" not in told
        assert seen.header("cookie") is None
        assert seen.header("proxy-authorization") is None
        assert seen.header("x-api-key") is None


def test_131_logs_and_answers_tell_no_secrets(
    guarded: ProxyIndex, upstream: FakeUpstream, other_upstream: FakeUpstream
) -> None:
    answers = exercise(guarded, upstream, other_upstream)
    upstream.down()
    answers.append(guarded.get("/simple/unknown/?token=client-secret", CLIENT))
    answers += [guarded.get(target, CLIENT) for target in ("/", "/health", "/metrics", "/status")]
    guarded.stop()
    assert "/simple/near/" in guarded.logs
    for secret in SECRETS:
        assert secret not in guarded.logs
        for answer in answers:
            assert secret not in raw_head(answer)
            assert secret.encode() not in bytes(answer._received)


def test_131_a_request_cannot_forge_a_log_line(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream)
    upstream.project("yanked", wheel_spec("yanked", yanked=INJECTION))
    for target in (
        "/simple/x%0AERROR%20forged/",
        "/simple/yanked/x%1b[2Jforged.whl",
        "/%E2%80%A8ERROR forged",
        "/simple/%C2%85forged/",
        "/\x1b[31mforged",
    ):
        running.get(target, {"User-Agent": "x\tforged"})
    running.stop()
    lines = running.logs.splitlines()
    assert not [line for line in lines if line.strip().startswith(("ERROR", "forged"))]
    assert "\x1b" not in running.logs
