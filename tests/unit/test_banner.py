"""What is said at start and at `/`: lines that work, and nothing that is not for everyone."""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from proxyindex.banner import client_hints, start_lines
from proxyindex.settings import IndexSettings, Route, Secret, Settings, UpstreamSettings
from proxyindex.web.clients import ClientHints, Snippet, snippets
from proxyindex.web.landing import CONTENT_SECURITY_POLICY, render

SETTINGS = Settings(
    folders=(Path("/srv/private-folder"),),
    upstreams=(
        UpstreamSettings("corp", "https://hidden.example/simple", "user", Secret("secret")),
        UpstreamSettings("pypi", "https://other-hidden.example/simple"),
    ),
    cache_dir=Path("/var/cache/px"),
)


def hints(base_url: str = "https://packages.example") -> ClientHints:
    return ClientHints(base_url, has_own_packages=True, upstreams=("pypi",), version="1.2")


def snippet(base_url: str, client: str, where: str) -> Snippet:
    (found,) = [
        each for each in snippets(hints(base_url)) if (each.client, each.where) == (client, where)
    ]
    return found


@pytest.mark.parametrize(
    ("settings", "urls", "base_url"),
    [
        (Settings(), [], "http://127.0.0.1:8080"),
        (Settings(port=0), ["http://127.0.0.1:34567"], "http://127.0.0.1:34567"),
        (Settings(port=0), [], "http://127.0.0.1:PORT"),
        (Settings(host="::1"), [], "http://[::1]:8080"),
        (Settings(host="0.0.0.0"), ["http://0.0.0.0:8080"], "http://HOST:8080"),
        (Settings(host="::", base_path="/pypi"), [], "http://HOST:8080/pypi"),
        (Settings(port=80, host="srv.example"), [], "http://srv.example"),
        (Settings(port=443, tls_cert=Path("c")), [], "https://127.0.0.1"),
        (Settings(unix_socket=Path("/run/x")), ["unix:/run/x"], "http://HOST"),
        (Settings(public_url="https://p.example/x/"), ["http://h:1"], "https://p.example/x"),
    ],
)
def test_base_url_is_the_public_one_or_where_the_server_listens(
    settings: Settings, urls: list[str], base_url: str
) -> None:
    assert client_hints(settings, urls).base_url == base_url


@pytest.mark.parametrize(
    ("base_url", "trusted", "remark"),
    [
        ("https://packages.example", None, ""),
        ("http://packages.example:81", "packages.example:81", "refuses"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "own cache"),
        ("http://localhost", "localhost", "own cache"),
    ],
)
def test_pip_trusts_the_host_where_plain_http_needs_it(
    base_url: str, trusted: str | None, remark: str
) -> None:
    lines = snippet(base_url, "pip", "pip.conf")
    parser = configparser.RawConfigParser()
    parser.read_string(lines.text)
    assert parser["global"]["index-url"] == f"{base_url}/simple/"
    assert parser["global"].get("trusted-host") == trusted
    assert remark in lines.remark
    assert bool(lines.remark) == bool(remark)


def test_uv_lines_make_this_the_default_index() -> None:
    table = tomllib.loads(snippet("https://packages.example", "uv", "pyproject.toml").text)
    expected = {"name": "proxyindex", "url": "https://packages.example/simple/", "default": True}
    assert table["tool"]["uv"]["index"] == [expected]
    line = snippet("https://packages.example", "uv", "environment").text
    assert line == "export UV_DEFAULT_INDEX=https://packages.example/simple/"


def test_poetry_and_docker_lines_name_the_index() -> None:
    line = snippet("https://packages.example", "poetry", "shell").text
    assert line == (
        "poetry source add --priority=primary proxyindex https://packages.example/simple/"
    )
    docker = snippet("http://127.0.0.1:8080", "Docker", "Dockerfile")
    assert docker.text.splitlines() == [
        "ARG PIP_INDEX_URL=http://127.0.0.1:8080/simple/",
        "ARG UV_DEFAULT_INDEX=http://127.0.0.1:8080/simple/",
        "ARG PIP_TRUSTED_HOST=127.0.0.1:8080",
    ]
    assert "--network=host" in docker.remark
    assert "TRUSTED" not in snippet("https://packages.example", "Docker", "Dockerfile").text


def test_start_lines_tell_where_it_listens_serves_and_caches() -> None:
    text = "\n".join(start_lines(SETTINGS, ["http://127.0.0.1:8080"]))
    assert "listens on http://127.0.0.1:8080" in text
    assert "/srv/private-folder, then corp (https://hidden.example/simple), then pypi" in text
    assert "/var/cache/px, at most 50GB" in text
    assert "secret" not in text
    for each in snippets(client_hints(SETTINGS)):
        assert all(f"    {line}" in text for line in each.text.splitlines())


def test_several_indexes_are_told_each_with_its_address_and_sources() -> None:
    settings = Settings(
        upstreams=SETTINGS.upstreams,
        index_tables=(
            IndexSettings("dev", folders=(Path("/srv/dev"),), bases=("prod",)),
            IndexSettings("prod", folders=(Path("/srv/prod"),), upstreams=("pypi",)),
            IndexSettings("shut", bases=("prod",), fallback="none"),
        ),
    )
    text = "\n".join(start_lines(settings, ["http://127.0.0.1:8080"]))
    everything = "/srv/prod, then pypi (https://other-hidden.example/simple)\n"
    assert f"  serves  /dev/simple/: /srv/dev, then {everything}" in text
    assert f"  serves  /prod/simple/: {everything}" in text
    assert "  serves  /shut/simple/: /srv/prod\n" in text
    assert client_hints(settings).indexes == ("dev", "prod", "shut")
    own = client_hints(settings, index=settings.indexes[2])
    assert own.index_url == "http://127.0.0.1:8080/shut/simple/"
    assert own.serves == "own packages"


def test_routes_are_told_as_such_and_not_as_something_that_is_asked_next() -> None:
    routes = (Route("torch*", "wheels"), Route("acme-*", "folders"))
    settings = Settings(
        upstreams=(*SETTINGS.upstreams, UpstreamSettings("wheels", "https://w.example/whl")),
        index_tables=(
            IndexSettings("prod", folders=(Path("/srv"),), upstreams=("pypi",), routes=routes),
        ),
    )
    text = "\n".join(start_lines(settings, ["http://127.0.0.1:8080"]))
    told = "/srv, then pypi (https://other-hidden.example/simple)"
    assert f"{told}; torch* from wheels; acme-* from folders only\n" in text
    page = client_hints(settings).serves
    assert page == "own packages first, then upstream pypi; torch* from wheels"
    shut = replace(settings.indexes[0], read=("@users",))
    assert client_hints(settings, index=shut).serves == "own packages first, then upstream pypi"


def test_log_in_and_upload_are_told_where_they_are_needed() -> None:
    def told(**settings: Any) -> dict[str, Snippet]:
        found = client_hints(replace(SETTINGS, public_url="https://p.example", **settings))
        return {each.client: each for each in snippets(found)}

    assert not {"Log-in", "Upload"} & told(delete=("*",)).keys()
    assert "Log-in" not in told(read=("alice secret-*", "*"))
    assert "Log-in" in told(read=("* public-*", "@users"))
    login = told(read=("@users",))["Log-in"]
    assert login.text == "machine p.example login USER password PASSWORD"
    assert "https://USER:PASSWORD@p.example/simple/" in login.remark
    assert "Upload" in told(upload=("alice",))
    assert "Upload" not in told(upload=("alice",), folders=())


def test_each_way_to_upload_has_its_lines() -> None:
    settings = replace(SETTINGS, public_url="https://p.example", upload=("alice",))
    found = {each.where: each for each in snippets(client_hints(settings))}
    publish = found["shell, with proxyindex"]
    assert "proxyindex publish dist --to https://p.example/simple/" in publish.text
    assert "token create" in publish.remark
    uv = "uv publish --publish-url https://p.example/legacy/ --token TOKEN"
    assert found["shell, with uv"].text == uv
    login, twine = found["shell, with twine"].text.splitlines()
    assert login == "export TWINE_USERNAME=__token__ TWINE_PASSWORD=TOKEN"
    assert twine == "twine upload --repository-url https://p.example/legacy/ dist/*"


def test_start_lines_explain_the_placeholder() -> None:
    text = "\n".join(start_lines(Settings(host="0.0.0.0"), ["http://0.0.0.0:8080"]))
    assert "http://HOST:8080/simple/" in text
    assert "--public-url" in text


def test_json_log_gets_one_json_line() -> None:
    (line,) = start_lines(Settings(log_format="json"), ["http://127.0.0.1:8080"])
    record = json.loads(line)
    assert record["message"] == "listening"
    assert record["urls"] == ["http://127.0.0.1:8080"]
    assert record["cache_size"] == 50_000_000_000


@pytest.mark.parametrize(
    ("has_own", "upstreams", "offline", "phrase"),
    [
        (True, ("pypi",), False, "own packages first, then upstream pypi"),
        (True, (), False, "own packages"),
        (False, ("a", "b"), False, "upstreams a, b"),
        (False, ("a",), True, "upstream a (offline: from the cache only)"),
    ],
)
def test_sources_are_told_by_name_only(
    has_own: bool, upstreams: tuple[str, ...], offline: bool, phrase: str
) -> None:
    assert ClientHints("https://x.example", has_own, upstreams, "1", offline).serves == phrase


class _Page(HTMLParser):
    """Collects the texts of `<pre>` and `<style>` and every tag and attribute."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.pre: list[str] = []
        self.style = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack[-1:] == ["pre"]:
            self.pre.append(data)
        elif self.stack[-1:] == ["style"]:
            self.style += data


def test_page_shows_the_same_lines_as_the_start() -> None:
    page = _Page(render(client_hints(SETTINGS)))
    assert page.stack == []
    assert page.pre == [each.text for each in snippets(client_hints(SETTINGS))]


def test_page_reveals_no_paths_addresses_or_credentials() -> None:
    text = render(client_hints(SETTINGS)).decode()
    for private in ("/srv", "private-folder", "/var", "hidden.example", "secret", "user\n"):
        assert private not in text
    assert "own packages first, then upstreams corp, pypi" in text


def test_page_runs_under_its_policy() -> None:
    page = _Page(render(hints()))
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none';")
    assert not page.tags & {"script", "img", "link", "iframe", "form"}
    assert not page.attributes & {"style", "src"}
    assert not [name for name in page.attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import", page.style)


def test_page_escapes_what_the_configuration_says() -> None:
    hostile = ClientHints(
        'https://x.example/"><script>', has_own_packages=False, upstreams=("<b>",), version="<i>"
    )
    page = _Page(render(hostile))
    assert not page.tags & {"script", "b", "i"}


def test_page_explains_the_placeholder_only_where_there_is_one() -> None:
    assert b"in place of HOST" in render(hints("http://HOST:8080"))
    assert b"in place of HOST" not in render(hints())
