"""Requests to one upstream: what is sent to whom, what is followed, what an answer means."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpcore
import httpx
import pytest

from proxyindex.errors import (
    FileGone,
    LoopDetected,
    ProxyindexError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from proxyindex.upstream import client as client_module
from proxyindex.upstream import retry as retry_module
from proxyindex.upstream.client import Client, OffOrigin
from proxyindex.upstream.connection import Connection
from proxyindex.upstream.index import ACCEPT, Absent, Fetched, NotModified, Upstream, Validators
from proxyindex.upstream.pool import NotHttp
from proxyindex.upstream.proxies import ProxyUnusable
from proxyindex.upstream.ways import Foreign

BASE = "http://up.corp.example"
Answer = httpx.Response | Exception


class Script(httpx.AsyncBaseTransport):
    """Answers in order (the last one for ever), and keeps what was asked."""

    def __init__(self, *answers: Answer | Callable[[httpx.Request], Answer]) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer.stream, httpx.ByteStream):  # httpx has read it: as from a socket again
            body = Once(b"".join(answer.stream))
            return httpx.Response(answer.status_code, headers=answer.headers, stream=body)
        return answer


class Once(httpx.AsyncByteStream):
    """A body in one piece."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


class Broken(httpx.AsyncByteStream):
    """A body that breaks off, or never goes on."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.error:
            raise self.error
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        self.is_closed = True


def connection(**more: Any) -> Connection:
    return Connection(**{"name": "up", "url": BASE + "/simple", "via": "proxyindex-1", **more})


def redirect(url: str, status: int = 302) -> httpx.Response:
    return httpx.Response(status, headers={"location": url})


async def fetched(script: Script, url: str = BASE + "/x", **more: Any) -> tuple[int, bytes, str]:
    client = Client(connection(**more), transport=script)
    async with client.get(url, {}) as reply:
        result = reply.status, await reply.text(1000), reply.url
    await client.aclose()
    return result


async def test_a_request_names_us_and_nothing_else() -> None:
    script = Script(httpx.Response(200))
    await fetched(script)
    headers = script.asked[0].headers
    assert headers["via"] == "1.1 proxyindex-1"
    assert headers["user-agent"] == "proxyindex"
    assert not {"authorization", "cookie", "referer"} & set(headers)


async def test_cookies_are_neither_kept_nor_sent_back() -> None:
    script = Script(httpx.Response(200, headers={"set-cookie": "id=1; Path=/"}))
    client = Client(connection(), transport=script)
    for _ in range(2):
        async with client.get(BASE + "/x", {}):
            pass
    assert "cookie" not in script.asked[1].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_to_the_final_url(status: int) -> None:
    script = Script(redirect("/y?z=1", status), httpx.Response(200, content=b"ok"))
    assert await fetched(script) == (200, b"ok", BASE + "/y?z=1")


async def test_a_redirect_may_tell_the_host_in_letters_of_its_own() -> None:
    target = "http://b\u00fccher.corp.example/y"
    moved = httpx.Response(302, headers={"location": target.encode()})
    script = Script(moved, httpx.Response(200, content=b"ok"))
    assert (await fetched(script))[2] == "http://xn--bcher-kva.corp.example/y"


async def test_a_redirect_without_a_target_is_the_answer() -> None:
    assert (await fetched(Script(httpx.Response(302))))[0] == 302


async def test_credentials_go_to_the_index_alone() -> None:
    script = Script(redirect("http://files.corp.example/x"), httpx.Response(200))
    await fetched(script, username="me", password="secret")
    assert [("authorization" in request.headers) for request in script.asked] == [True, False]


async def test_a_user_without_a_password_is_sent() -> None:
    script = Script(httpx.Response(200))
    await fetched(script, username="me")
    assert script.asked[0].headers["authorization"] == "Basic bWU6"


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/",
        "http://127.0.0.1/",
        "http://up.corp.example:8000/",
        "http://user@up.corp.example/",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_over_the_border_is_not_asked(target: str) -> None:
    script = Script(redirect(target))
    with pytest.raises(UpstreamInvalid) as caught:
        await fetched(script)
    assert len(script.asked) == 1
    assert "evil.example/" not in str(caught.value)


@pytest.mark.parametrize("same_origin", [True, False])
@pytest.mark.parametrize(
    "target",
    [
        "http://[bad",
        "http://up.corp.example:bad/",
        "http://\x00/",
    ],
)
async def test_a_redirect_to_no_url_is_an_unusable_answer(target: str, same_origin: bool) -> None:
    client = Client(connection(), transport=(script := Script(redirect(target))))
    with pytest.raises(UpstreamInvalid):
        async with client.get(BASE + "/x", {}, same_origin=same_origin):
            pass
    assert len(script.asked) == 1


async def test_the_first_url_is_judged_like_any_other() -> None:
    script = Script(httpx.Response(200))
    with pytest.raises(UpstreamInvalid):
        await fetched(script, "http://evil.example/")
    assert script.asked == []


async def test_five_redirects_are_followed_and_no_sixth() -> None:
    hops = [redirect(f"/{n}") for n in range(5)]
    assert (await fetched(Script(*hops, httpx.Response(200))))[0] == 200
    script = Script(redirect("/again"))
    with pytest.raises(UpstreamInvalid, match="redirected more than 5 times"):
        await fetched(script)
    assert len(script.asked) == 6


async def stay(target: str) -> None:
    """Ask for what redirects to `target`, and only the origin may answer."""
    client = Client(connection(), transport=Script(redirect(target)))
    async with client.get(BASE + "/x", {}, same_origin=True):
        pass


@pytest.mark.parametrize("target", ["http://files.corp.example/", "ftp://up.corp.example/"])
async def test_leaving_the_origin_is_told_apart_where_it_must_not_be_left(target: str) -> None:
    with pytest.raises(OffOrigin):
        await stay(target)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("https://UP.corp.example/", "https on port 443 of its host"),
        ("http://up.corp.example:8080/x", "http on port 8080 of its host"),
    ],
)
async def test_another_scheme_or_port_is_the_upstream_itself(target: str, told: str) -> None:
    with pytest.raises(UpstreamInvalid, match=told):
        await stay(target)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (httpx.ConnectTimeout("x"), UpstreamUnavailable, "did not answer in time"),
        (httpx.ReadTimeout("x"), UpstreamUnavailable, "did not answer in time"),
        (httpx.PoolTimeout("x"), UpstreamUnavailable, "did not answer in time"),
        (httpx.ConnectError("x"), UpstreamUnavailable, "cannot be reached"),
        (httpx.ProxyError("407 No"), UpstreamUnavailable, "is behind a proxy that answers 407"),
        (httpx.ReadError("x"), UpstreamUnavailable, "broke the connection"),
        (httpx.RemoteProtocolError("x"), UpstreamUnavailable, "broke the connection"),
        (ssl.SSLError("alert certificate required"), UpstreamUnavailable, "broke the connection"),
        (NotHttp("no head"), UpstreamUnavailable, r"sent what is not HTTP \(no head\)"),
        (httpx.UnsupportedProtocol("x"), UpstreamInvalid, "unusable link"),
        (httpx.InvalidURL("x"), UpstreamInvalid, "unusable link"),
    ],
)
async def test_foreign_errors_become_ours(
    error: Exception, kind: type[ProxyindexError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await fetched(Script(error))


async def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(RuntimeError):
        await fetched(Script(RuntimeError("a bug")))


async def test_a_body_that_breaks_off_is_unavailable_and_closed() -> None:
    body = Broken(b"ab", error=httpx.ReadError("gone"))
    with pytest.raises(UpstreamUnavailable):
        await fetched(Script(httpx.Response(200, stream=body)))
    assert body.is_closed


async def test_a_reader_that_leaves_closes_the_connection() -> None:
    body = Broken(b"ab")
    client = Client(connection(), transport=Script(httpx.Response(200, stream=body)))
    async with client.get(BASE + "/x", {}) as reply:
        async for chunk in reply.raw():
            assert chunk == b"ab"
            break
    assert body.is_closed


async def test_a_page_over_the_limit_is_invalid() -> None:
    script = Script(httpx.Response(200, content=b"x" * 1001))
    with pytest.raises(UpstreamInvalid, match="more than 1000 bytes"):
        await fetched(script)


async def test_the_limit_counts_decoded_bytes() -> None:
    bomb = gzip.compress(bytes(100_000))
    script = Script(httpx.Response(200, content=bomb, headers={"content-encoding": "gzip"}))
    with pytest.raises(UpstreamInvalid, match="more than 1000 bytes"):
        await fetched(script)


async def test_a_page_announced_as_too_large_is_not_begun() -> None:
    body = Broken()
    script = Script(httpx.Response(200, stream=body, headers={"content-length": "1001"}))
    with pytest.raises(UpstreamInvalid, match="more than 1000 bytes"):
        await fetched(script)
    assert body.is_closed


@pytest.mark.parametrize(
    ("packed", "page"),
    [
        (gzip.compress(b"one ") + gzip.compress(b"two"), b"one two"),
        ((gzip.compress(b"one ") + gzip.compress(b"two"))[:-1], None),
        (gzip.compress(b"one") + b"garbage", None),
        (b"", None),
        (gzip.compress(b"") * 60, None),  # more on the wire than a page may be
    ],
    ids=["whole", "cut", "garbage", "nothing", "empty members"],
)
async def test_all_gzip_members_make_the_page(packed: bytes, page: bytes | None) -> None:
    script = Script(httpx.Response(200, stream=Once(packed), headers={"content-encoding": "gzip"}))
    if page is not None:
        assert (await fetched(script))[1] == page
    else:
        with pytest.raises(UpstreamInvalid):
            await fetched(script)


class Slow(httpx.AsyncBaseTransport):
    """Whatever keeps the head of an answer from arriving, without any silence."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError


async def test_the_head_of_an_answer_has_a_deadline() -> None:
    client = Client(connection(connect_timeout=0.01, read_timeout=0.01), transport=Slow())
    with pytest.raises(UpstreamUnavailable, match="did not answer in time"):
        async with client.get(BASE + "/x", {}):
            pass


async def test_raw_bytes_stay_encoded() -> None:
    packed = gzip.compress(b"hello")
    script = Script(httpx.Response(200, stream=Once(packed), headers={"content-encoding": "gzip"}))
    client = Client(connection(), transport=script)
    async with client.get(BASE + "/x", {}) as reply:
        assert b"".join([chunk async for chunk in reply.raw()]) == packed


async def test_others_have_their_turn_while_a_body_is_decoded() -> None:
    """20 MB in one piece: half a second of a slow processor."""
    packed = gzip.compress(bytes(20_000_000))
    script = Script(httpx.Response(200, stream=Once(packed), headers={"content-encoding": "gzip"}))
    client, turns = Client(connection(), transport=script), 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with client.get(BASE + "/x", {}) as reply, anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await anyio.lowlevel.checkpoint()
        before = turns
        assert len(await reply.text(30_000_000)) == 20_000_000
        assert turns - before >= 20
        tasks.cancel_scope.cancel()


async def test_our_own_loop_is_told() -> None:
    with pytest.raises(LoopDetected):
        await fetched(Script(httpx.Response(508)))


async def test_a_refusal_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_DRAIN_SECONDS", 0.01)
    body = Broken(b"no")
    answer = httpx.Response(404, stream=body, headers={"content-length": "100"})
    client = Client(connection(), transport=Script(answer))
    async with client.get(BASE + "/x", {}) as reply:
        assert reply.status == 404
    assert body.is_closed


@pytest.mark.parametrize("error", [httpx.ReadError("gone"), ssl.SSLError("bad record")])
async def test_a_refusal_stands_although_its_body_breaks(error: Exception) -> None:
    body = Broken(error=error)
    answer = httpx.Response(404, stream=body, headers={"content-length": "100"})
    client = Client(connection(), transport=Script(answer))
    async with client.get(BASE + "/x", {}) as reply:
        assert reply.status == 404


class Dripping(httpx.AsyncByteStream):
    """A body without end that comes in pieces of this size, each after a pause."""

    def __init__(self, size: int, pause: float) -> None:
        self.size = size
        self.pause = pause

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await anyio.sleep(self.pause)
            yield bytes(self.size)


async def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_PACE_SECONDS", 0.05)
    answer = httpx.Response(200, stream=Dripping(1, 0.001))
    client = Client(connection(), transport=Script(answer))
    with anyio.fail_after(20), pytest.raises(UpstreamUnavailable, match="too slowly"):
        await body_of(client)


async def body_of(client: Client) -> bytes:
    async with client.get(BASE + "/x", {}) as reply:
        return b"".join([piece async for piece in reply.raw()])


@pytest.mark.parametrize(("size", "pause", "rest"), [(32 * 1024, 0.01, 0.0), (1, 0.0, 0.1)])
async def test_neither_a_steady_body_nor_a_slow_reader_is_given_up(
    size: int, pause: float, rest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_PACE_SECONDS", 0.3)
    answer = httpx.Response(200, stream=Dripping(size, pause))
    client = Client(connection(), transport=Script(answer))
    begun = anyio.current_time()
    async with client.get(BASE + "/x", {}) as reply:
        async for _ in reply.raw():
            await anyio.sleep(rest)
            if anyio.current_time() > begun + 1.0:
                break


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("5", 5),
        ("0", 1),
        ("999", 30),
        ("-1", None),
        ("soon", None),
        ("9" * 5000, None),
        ("²", None),
    ],
)
async def test_how_long_upstream_asks_us_to_wait(header: str, seconds: int | None) -> None:
    answer = httpx.Response(503, headers=[(b"retry-after", header.encode())])
    client = Client(connection(), transport=Script(answer))
    async with client.get(BASE + "/x", {}) as reply:
        assert reply.asked_pause() == seconds


PROXY = "http://proxy.example:3128"
INDEX, FAMILY = "https://up.corp.example:8443/simple/", "https://files.corp.example/x.whl"
USUAL_PORT = "https://up.corp.example/x.whl"


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the environment's proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def put(**given: str) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize("url", [INDEX, FAMILY, USUAL_PORT])
def test_everything_goes_through_the_configured_proxy(
    url: str, variables: Callable[..., None]
) -> None:
    variables(https_proxy="http://other.example", no_proxy="*")
    client = Client(connection(url=INDEX, proxy=PROXY))
    assert client.border.objection(url) is None
    assert through(client, url) == b"proxy.example"


@pytest.mark.parametrize(
    ("given", "url", "proxy"),
    [
        ({}, FAMILY, None),
        ({"https_proxy": PROXY}, FAMILY, b"proxy.example"),
        ({"HTTPS_PROXY": PROXY}, USUAL_PORT, b"proxy.example"),
        ({"all_proxy": PROXY}, FAMILY, b"proxy.example"),
        ({"https_proxy": "proxy.example:3128"}, FAMILY, b"proxy.example"),
        ({"https_proxy": "alice:s3cret@proxy.example:3128"}, FAMILY, b"proxy.example"),
        ({"https_proxy": PROXY, "all_proxy": "socks5://proxy.example"}, FAMILY, b"proxy.example"),
        ({"https_proxy": "socks4://x", "no_proxy": "up.corp.example"}, INDEX, None),
        ({"http_proxy": PROXY}, FAMILY, None),
        ({"http_proxy": PROXY}, "http://up.corp.example/", b"proxy.example"),
        ({"https_proxy": PROXY, "no_proxy": "corp.example"}, FAMILY, None),
        ({"https_proxy": PROXY, "no_proxy": "up.corp.example"}, INDEX, None),
        ({"https_proxy": PROXY, "no_proxy": "up.corp.example"}, FAMILY, b"proxy.example"),
    ],
)
def test_the_environments_proxies_are_chosen_for_each_url(
    given: dict[str, str], url: str, proxy: bytes | None, variables: Callable[..., None]
) -> None:
    variables(**given)
    assert through(Client(connection(url=INDEX)), url) == proxy


@pytest.mark.parametrize(
    "text",
    [
        "socks4://alice:s3cret@proxy.example",
        "http://",
        "alice:s3cret@proxy.example:99999",
        "http://alice:s3cret@[proxy.example",
        "alice:s3#cret@proxy.example",
        "alice:s3 cret@proxy.example",
        "http://alice:s3cret@ä..example",
        "alice:s3cret@proxy..example",
        "http://alice:s3cret@192.0.2.256:3128",
        "http://alice:s3cret@\u00e4_b.example",  # letters that Python would look up, and httpx not
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
def test_a_variable_without_a_usable_proxy_is_named_but_not_shown(
    text: str, name: str, variables: Callable[..., None]
) -> None:
    variables(**{name: text})
    with pytest.raises(ProxyUnusable) as found:
        Client(connection(url=INDEX))
    assert name in str(found.value)
    assert "alice" not in str(found.value)


async def test_files_are_not_asked_past_a_proxy_that_cannot_be_used(
    variables: Callable[..., None],
) -> None:
    variables(https_proxy="socks4://proxy.example", no_proxy="up.corp.example")
    client = Client(connection(url=INDEX))
    with pytest.raises(UpstreamInvalid, match="unusable proxy"):
        async with client.get(FAMILY, {}):
            pass


def through(client: Client, url: str) -> bytes | None:
    """The host of the proxy on the way to the URL."""
    way = client._ways.to(url)
    if not isinstance(way, Foreign):
        return None
    assert isinstance(way.transport, httpx.AsyncHTTPTransport)
    pool: object = way.transport._pool
    return pool._proxy_url.host if isinstance(pool, httpcore.AsyncHTTPProxy) else None


# -- the index ---


def upstream(script: Script, **more: Any) -> Upstream:
    return Upstream(connection(), transport=script, **{"retries": 0, **more})


async def page(script: Script, validators: Validators | None = None, **more: Any) -> object:
    index = upstream(script, **more)
    try:
        return await index.page("demo", validators or Validators())
    finally:
        await index.aclose()


async def test_a_page_is_fetched_with_what_a_cache_needs() -> None:
    headers = {
        "content-type": "text/html",
        "etag": 'W/"1"',
        "last-modified": "Mon, 01 Jan 2024 00:00:00 GMT",
        "x-pypi-last-serial": "42",
        "cache-control": "max-age=60",
    }
    script = Script(httpx.Response(200, content=b"<a>", headers=headers))
    assert await page(script) == Fetched(
        url=BASE + "/simple/demo/",
        content_type="text/html",
        body=b"<a>",
        etag='W/"1"',
        last_modified="Mon, 01 Jan 2024 00:00:00 GMT",
        serial=42,
        lifetime=60.0,
    )
    asked = script.asked[0]
    assert str(asked.url) == BASE + "/simple/demo/"
    assert asked.headers["accept"] == ACCEPT
    assert asked.headers["accept-encoding"] == "gzip"


async def test_the_list_is_asked_at_the_root() -> None:
    script = Script(httpx.Response(200))
    await upstream(script).page("", Validators())
    assert str(script.asked[0].url) == BASE + "/simple/"


async def test_an_upstream_that_knows_nothing_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = upstream(Script(httpx.Response(404)))
    for name in ("", "one", "two", "two", "one"):
        assert await index.page(name, Validators()) == Absent()
    assert not caplog.messages, "few names"
    for name in ("three", "four", "five"):
        await index.page(name, Validators())
    (told,) = caplog.messages
    assert "knows none of the 3 projects" in told
    assert f"{BASE}/simple/, has to be" in told
    assert "--index-url" in told


async def test_an_upstream_that_another_follows_may_know_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = upstream(Script(httpx.Response(404)), may_know_nothing=True)
    for number in range(9):
        assert await index.page(f"name-{number}", Validators()) == Absent()
    assert not caplog.messages


async def test_an_upstream_that_sends_strangers_elsewhere_is_an_index(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = upstream(Script(redirect("https://other.example/simple/x/")))
    for number in range(9):
        assert await index.page(f"name-{number}", Validators()) == Absent(is_elsewhere=True)
    assert not caplog.messages


@pytest.mark.parametrize("status", [200, 304])
async def test_an_upstream_that_knows_a_project_may_lack_any_number(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    none = httpx.Response(404)
    index = upstream(Script(none, none, httpx.Response(status), none))
    for number in range(9):
        await index.page(f"name-{number}", Validators('"1"'))
    assert not caplog.messages


@pytest.mark.parametrize("value", ['"é"', '"' + "x" * 3000 + '"'])
async def test_a_validator_that_cannot_be_sent_back_is_none(value: str) -> None:
    script = Script(httpx.Response(200, headers=[(b"etag", value.encode())]))
    answer = await page(script)
    assert isinstance(answer, Fetched)
    assert answer.etag is None


@pytest.mark.parametrize("serial", ["", "-1", "x", "²", "9" * 30])
async def test_a_serial_that_is_none(serial: str) -> None:
    answer = await page(
        Script(httpx.Response(200, headers=[(b"x-pypi-last-serial", serial.encode())]))
    )
    assert isinstance(answer, Fetched)
    assert answer.serial is None


async def test_validators_are_sent_verbatim_and_304_is_not_modified() -> None:
    script = Script(httpx.Response(304, headers={"etag": '"1"', "cache-control": "max-age=5"}))
    answer = await page(script, Validators('W/"1"', "yesterday"))
    assert answer == NotModified('"1"', 5.0)
    assert script.asked[0].headers["if-none-match"] == 'W/"1"'
    assert script.asked[0].headers["if-modified-since"] == "yesterday"


async def test_a_304_that_nobody_asked_for_is_invalid() -> None:
    with pytest.raises(UpstreamInvalid):
        await page(Script(httpx.Response(304)))


@pytest.mark.parametrize("status", [404, 410])
async def test_absence(status: int) -> None:
    assert await page(Script(httpx.Response(status))) == Absent()


async def test_a_page_that_leaves_its_origin_is_absent() -> None:
    assert await page(Script(redirect("https://elsewhere.example/"))) == Absent(is_elsewhere=True)


async def test_forbidden_means_missing_only_where_configured() -> None:
    script = Script(httpx.Response(403))
    assert await page(script, forbidden_is_missing=True) == Absent()
    with pytest.raises(UpstreamInvalid, match="refused us with status 403"):
        await page(script)


@pytest.mark.parametrize("status", [400, 401, 406, 407, 418])
async def test_refusals_are_invalid_and_not_repeated(status: int) -> None:
    script = Script(httpx.Response(status))
    with pytest.raises(UpstreamInvalid):
        await page(script, retries=3)
    assert len(script.asked) == 1


async def test_failures_are_retried_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_module, "_BACKOFF", (0.0,))
    script = Script(httpx.Response(502), httpx.ReadTimeout("x"), httpx.Response(200))
    assert isinstance(await page(script, retries=2), Fetched)
    script = Script(httpx.Response(500))
    with pytest.raises(UpstreamUnavailable, match="answered 500"):
        await page(script, retries=2)
    assert len(script.asked) == 3


async def test_an_upstream_that_asks_for_patience_is_not_asked_again() -> None:
    script = Script(httpx.Response(429, headers={"retry-after": "20"}))
    with pytest.raises(UpstreamUnavailable) as caught:
        await page(script, retries=3)
    assert caught.value.retry_after == 20
    assert len(script.asked) == 1


async def test_a_page_that_never_ends_is_given_up() -> None:
    body = Broken(b"<html>")
    with pytest.raises(UpstreamUnavailable, match="did not finish"):
        await page(Script(httpx.Response(200, stream=body)), page_seconds=0.01)
    assert body.is_closed


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (404, {}, FileGone),
        (410, {}, FileGone),
        (500, {}, UpstreamUnavailable),
        (403, {}, UpstreamInvalid),
        (304, {}, UpstreamInvalid),
        (206, {}, UpstreamInvalid),  # nobody asked for a part
        (416, {}, UpstreamInvalid),
        (200, {}, None),
        (200, {"Range": "bytes=0-1"}, None),
        (206, {"Range": "bytes=0-1"}, None),
        (416, {"Range": "bytes=0-1"}, None),
    ],
)
async def test_what_a_file_request_may_be_answered(
    status: int, headers: dict[str, str], error: type[Exception] | None
) -> None:
    asked = upstream(Script(httpx.Response(status))).download(
        BASE + "/f", filename="f", headers=headers
    )
    if error is None:
        async with asked as reply:
            assert reply.status == status
    else:
        with pytest.raises(error):
            await asked.__aenter__()


async def test_files_are_asked_for_unencoded() -> None:
    script = Script(httpx.Response(200))
    async with upstream(script).download(BASE + "/f", filename="f"):
        pass
    assert script.asked[0].headers["accept-encoding"] == "identity"
    assert script.asked[0].headers["accept"] == "*/*"
