"""Files over HTTP: cold, warm, in ranges, with siblings, and what must not be served."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

from proxyindex import disk
from proxyindex.errors import FileUnreadable
from proxyindex.files import patience
from proxyindex.files.content import READ_SIZE, Content, Own, Stored
from proxyindex.files.service import FileService
from proxyindex.flight import Flights
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, MetadataOrigin
from proxyindex.settings import PolicySettings, UpstreamSettings
from proxyindex.store.cache import Cache
from proxyindex.threads import COMMON
from tests.support.builders import (
    make_sdist,
    make_wheel,
    metadata,
    noise,
    put,
    put_wheel,
    wheel_name,
)
from tests.support.crowd import open_in
from tests.support.hermetic import calls, until
from tests.support.mirrors import Recorder, answer
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.reply import sha256_of
from tests.web.conftest import UPSTREAM, House

DEMO = wheel_spec("demo", "1.0", payload=3000)
SDIST = sdist_spec("demo", "1.0")
URL = f"/simple/demo/{DEMO.filename}"
BODY = DEMO.body
assert isinstance(BODY, bytes)
TAG = f'"{sha256_of(BODY)}"'


def counted(house: House, path: str) -> int:
    return sum(call.request.url.path == path for call in house.router.calls)


async def test_a_cold_file_is_fetched_once_and_then_a_hit(house: House) -> None:
    page = house.project("demo", DEMO)
    client = await house.client()
    cold = await client.get(URL)
    warm = await client.get(URL)
    for reply, outcome in ((cold, "fetched"), (warm, "hit")):
        assert (reply.status_code, reply.content) == (200, BODY)
        assert reply.headers["x-proxyindex"] == outcome
        assert reply.headers["content-length"] == str(len(BODY))
        assert reply.headers["etag"] == TAG
        assert reply.headers["cache-control"] == "public, max-age=365000000, immutable"
        assert reply.headers["accept-ranges"] == "bytes"
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["last-modified"] == "Wed, 17 Jan 2024 16:53:12 GMT"
        assert "content-encoding" not in reply.headers
    assert (page.call_count, counted(house, DEMO.path)) == (1, 1)


async def test_a_herd_for_a_cold_file_is_one_download(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    bodies: list[bytes] = []

    async def one() -> None:
        bodies.append((await client.get(URL)).content)

    async with anyio.create_task_group() as clients:
        for _ in range(20):
            clients.start_soon(one)
    assert bodies == [BODY] * 20
    assert counted(house, DEMO.path) == 1


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize(
    ("header", "status", "content_range", "part"),
    [
        ("bytes=0-99", 206, "bytes 0-99/{}", slice(0, 100)),
        ("bytes=100-", 206, "bytes 100-{last}/{}", slice(100, None)),
        ("bytes=-100", 206, "bytes {tail}-{last}/{}", slice(-100, None)),
        ("bytes=5-2", 200, None, slice(None)),
        ("bytes=0-1,5-6", 200, None, slice(None)),
    ],
)
async def test_ranges(
    house: House, is_warm: bool, header: str, status: int, content_range: str | None, part: slice
) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    if is_warm:
        await client.get(URL)
    reply = await client.get(URL, headers={"range": header})
    size = len(BODY)
    assert (reply.status_code, reply.content) == (status, BODY[part])
    expected = content_range and content_range.format(size, last=size - 1, tail=size - 100)
    assert reply.headers.get("content-range") == expected


@pytest.mark.parametrize("header", ["bytes=999999-", "bytes=-0"])
async def test_a_range_outside_is_416_and_asks_nobody(house: House, header: str) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    reply = await client.get(URL, headers={"range": header})
    assert reply.status_code == 416
    assert reply.headers["content-range"] == f"bytes */{len(BODY)}"
    assert reply.headers["cache-control"] == "no-store"
    assert counted(house, DEMO.path) == 0


async def test_a_range_of_another_version_is_the_whole_file(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    for condition, status in ((TAG, 206), ('"x"', 200), ("W/" + TAG, 200)):
        headers = {"range": "bytes=0-9", "if-range": condition}
        assert (await client.get(URL, headers=headers)).status_code == status


async def test_a_far_range_of_a_cold_file_is_passed_through(house: House) -> None:
    body = noise(3 * 1024**2, seed="big")
    big = FileSpec(filename="demo-2.0.tar.gz", body=body)
    house.project("demo", big)

    def ranged(request: httpx.Request) -> httpx.Response:
        start, stop = request.headers["range"].removeprefix("bytes=").split("-")
        part = body[int(start) : int(stop) + 1]
        return answer(206, part, content_range=f"bytes {start}-{stop}/{len(body)}")

    house.router.get(UPSTREAM + big.path).mock(side_effect=ranged)
    client = await house.client()
    reply = await client.get(f"/simple/demo/{big.filename}", headers={"range": "bytes=-1000"})
    assert (reply.status_code, reply.content) == (206, body[-1000:])
    assert counted(house, big.path) == 1


async def test_a_far_range_without_ranges_upstream_waits_for_the_file(house: House) -> None:
    body = noise(3 * 1024**2, seed="big")
    big = FileSpec(filename="demo-2.0.tar.gz", body=body)
    house.project("demo", big)
    client = await house.client()
    reply = await client.get(f"/simple/demo/{big.filename}", headers={"range": "bytes=-1000"})
    assert (reply.status_code, reply.content) == (206, body[-1000:])


async def test_head_of_a_cold_file_downloads_nothing(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    head = await client.head(URL, headers={"range": "bytes=0-1"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(BODY)))
    assert head.headers["etag"] == TAG
    assert counted(house, DEMO.path) == 0


@pytest.mark.parametrize("status", [200, 206])
async def test_an_unknown_size_is_learned_with_one_byte(house: House, status: int) -> None:
    spec = replace(DEMO, size=None)
    house.project("demo", spec)
    headers = (
        {"content_range": f"bytes 0-0/{len(BODY)}"}
        if status == 206
        else {"content_length": str(len(BODY))}
    )
    house.serves(spec.path, b"P", status, **headers)
    client = await house.client()
    head = await client.head(URL)
    assert head.headers["content-length"] == str(len(BODY))
    assert house.router.calls.last.request.headers["range"] == "bytes=0-0"


async def test_an_unknown_size_does_not_stop_a_download(house: House) -> None:
    spec = replace(DEMO, size=None, hashes={})
    house.project("demo", spec)
    client = await house.client()
    cold = await client.get(URL)
    assert cold.content == BODY
    assert cold.headers["cache-control"] == "max-age=0, must-revalidate"
    warm = await client.get(URL)
    assert (warm.content, warm.headers["etag"]) == (BODY, TAG)
    assert counted(house, DEMO.path) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"if-none-match": TAG},
        {"if-none-match": f'"x", W/{TAG}'},
        {"if-none-match": "*"},
        {"if-modified-since": "Wed, 17 Jan 2024 16:53:12 GMT"},
        {"if-none-match": TAG, "range": "bytes=0-1"},
    ],
)
async def test_the_copy_of_a_client_is_confirmed_without_asking(
    house: House, headers: dict[str, str]
) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    reply = await client.get(URL, headers=headers)
    assert (reply.status_code, reply.content) == (304, b"")
    assert reply.headers["etag"] == TAG
    assert "immutable" in reply.headers["cache-control"]
    assert counted(house, DEMO.path) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": '"wrong"'},
        {"if-match": "W/" + TAG, "if-none-match": TAG},
        {"if-unmodified-since": "Wed, 17 Jan 2024 16:53:11 GMT"},
    ],
)
async def test_no_part_of_another_version_is_sent_without_asking(
    house: House, headers: dict[str, str]
) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    for method in ("GET", "HEAD"):
        reply = await client.request(method, URL, headers={**headers, "range": "bytes=0-9"})
        assert (reply.status_code, reply.headers["cache-control"]) == (412, "no-store")
    assert counted(house, DEMO.path) == 0


async def test_of_an_own_file_no_part_of_another_version_is_sent(house: House) -> None:
    path = put(house.folder, "mine-1.0.tar.gz", make_sdist("mine", payload=200_000))
    client, target = await house.client(), f"/simple/mine/{path.name}"
    tag = (await client.get(target)).headers["etag"]
    for condition, status in ((tag, 206), (f'"x", {tag}', 206), ("*", 206), ('"x"', 412)):
        reply = await client.get(target, headers={"range": "bytes=0-9", "if-match": condition})
        assert reply.status_code == status


async def test_a_date_that_overflows_is_ignored(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    date = "Wed, 17 Jan 2024 16:53:12 +99999999999999999999"
    for name in ("if-modified-since", "if-range"):
        reply = await client.get(URL, headers={name: date, "range": "bytes=0-1"})
        assert reply.status_code in (200, 206)


async def test_wrong_bytes_never_arrive_whole_and_are_not_kept(house: House) -> None:
    house.project("demo", DEMO)
    house.serves(DEMO.path, noise(len(BODY), seed="evil"))
    client = await house.client()
    for expected in (1, 2):
        try:
            reply = await client.get(URL)
        except AssertionError:
            reply = None  # the in-process transport asserts that an answer has its end
        assert reply is None or len(reply.content) < len(BODY)
        assert counted(house, DEMO.path) == expected
    house.serves(DEMO.path, BODY)
    assert (await client.get(URL)).content == BODY


async def test_a_file_that_upstream_refuses_us_is_502(house: House) -> None:
    house.project("demo", DEMO)
    house.serves(DEMO.path, status=403)
    client = await house.client()
    assert (await client.get(URL)).status_code == 502


async def test_a_file_upstream_that_fails_is_503(house: House) -> None:
    house.project("demo", DEMO)
    house.serves(DEMO.path, status=503, retry_after="7")
    client = await house.client()
    reply = await client.get(URL)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/f", "http://evil.example/f", "http://127.0.0.1:22/f"]
)
async def test_a_link_over_the_border_is_not_asked(house: House, url: str) -> None:
    house.project("demo", replace(DEMO, url=url + "/" + DEMO.filename))
    client = await house.client()
    reply = await client.get(URL)
    assert reply.status_code in (404, 502)
    assert {call.request.url.host for call in house.router.calls} == {"up.example"}


async def test_a_file_may_come_from_a_listed_host(house: House) -> None:
    elsewhere = "http://files.example/" + DEMO.filename
    house.project("demo", replace(DEMO, url=elsewhere))
    house.router.get(elsewhere).mock(side_effect=lambda request: answer(200, BODY))
    client = await house.client(upstream={"file_hosts": ("files.example",), "username": "me"})
    assert (await client.get(URL)).content == BODY
    sent = {call.request.url.host: call.request.headers for call in house.router.calls}
    assert "authorization" in sent["up.example"]
    assert "authorization" not in sent["files.example"]


async def test_an_encoded_answer_is_decoded_once(house: House) -> None:
    house.project("demo", SDIST)
    assert isinstance(SDIST.body, bytes)
    house.serves(SDIST.path, gzip.compress(SDIST.body), content_encoding="gzip")
    client = await house.client()
    assert (await client.get(f"/simple/demo/{SDIST.filename}")).content == SDIST.body


# -- siblings ---


async def test_metadata_is_passed_through_and_kept(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    for outcome in ("fetched", "hit"):
        reply = await client.get(URL + ".metadata")
        assert (reply.status_code, reply.content) == (200, DEMO.metadata)
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.headers["x-proxyindex"] == outcome
    assert counted(house, DEMO.path + ".metadata") == 1
    assert counted(house, DEMO.path) == 0


async def test_metadata_that_the_page_tells_of_is_nothing_to_learn(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    await client.get(URL + ".metadata")
    learned = house.root / "cache" / "facts"
    assert not [path for path in learned.rglob("*") if path.is_file()]
    await client.get(URL)
    assert [path for path in learned.rglob("*") if path.is_file()]


async def test_an_encoded_sidecar_on_a_fresh_cache_is_decoded(house: House) -> None:
    house.project("demo", DEMO)
    assert DEMO.metadata is not None
    packed = gzip.compress(DEMO.metadata)
    house.serves(DEMO.path + ".metadata", packed, content_encoding="gzip")
    client = await house.client()
    assert (await client.get(URL + ".metadata")).content == DEMO.metadata


@pytest.mark.parametrize("sidecar", [404, 500, 508, 200])
async def test_metadata_that_upstream_cannot_give_is_made(house: House, sidecar: int) -> None:
    house.project("demo", DEMO)
    house.serves(DEMO.path + ".metadata", b"wrong", sidecar)
    client = await house.client()
    assert (await client.get(URL + ".metadata")).content == DEMO.metadata


async def test_metadata_that_nobody_advertised_is_found_and_then_advertised(house: House) -> None:
    house.project("demo", replace(DEMO, core_metadata=False, metadata=None))
    client = await house.client()
    json = {"accept": "application/vnd.pypi.simple.v1+json"}
    before = (await client.get("/simple/demo/", headers=json)).json()["files"][0]
    assert before["core-metadata"] is True
    house.serves(DEMO.path + ".metadata", status=404)
    found = await client.get(URL + ".metadata")
    assert found.content == metadata("demo", "1.0")
    after = (await client.get("/simple/demo/", headers=json)).json()["files"][0]
    assert after["core-metadata"] == {"sha256": sha256_of(found.content)}


async def test_a_wheel_without_metadata_is_not_advertised_again(house: House) -> None:
    broken = FileSpec(filename=DEMO.filename, body=b"no zip at all" * 100)
    house.project("demo", broken)
    house.serves(broken.path + ".metadata", status=404)
    client = await house.client()
    assert (await client.get(URL + ".metadata")).status_code == 404
    json = {"accept": "application/vnd.pypi.simple.v1+json"}
    page = (await client.get("/simple/demo/", headers=json)).json()
    assert page["files"][0]["core-metadata"] is False


class Dripping(httpx.AsyncByteStream):
    """A byte now and then, for as long as anybody reads."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await anyio.sleep(0.02)
            yield b"x"


def drips(house: House, path: str, body: bytes = b"") -> None:
    """A path that drips: what is asked of it, or only ranges if there is a `body`."""

    def handle(request: httpx.Request) -> httpx.Response:
        if body and "range" not in request.headers:
            return answer(200, body)
        first, last = request.headers.get("range", "bytes=0-99").removeprefix("bytes=").split("-")
        span = {"content-range": f"bytes {first}-{last}/{len(body)}"}
        return httpx.Response(206 if body else 200, headers=span, stream=Dripping())

    house.router.get(UPSTREAM + path).mock(side_effect=handle)


@pytest.mark.parametrize("way", ["sidecar", "tail"])
async def test_metadata_that_drips_is_had_another_way(
    house: House, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_WHOLE", 0.1)
    house.project("demo", DEMO)
    assert isinstance(DEMO.body, bytes)
    if way == "sidecar":
        drips(house, DEMO.path + ".metadata")
    else:
        house.serves(DEMO.path + ".metadata", status=404)
        drips(house, DEMO.path, DEMO.body)
    client = await house.client()
    with anyio.fail_after(20):
        assert (await client.get(URL + ".metadata")).content == DEMO.metadata


async def test_a_signature_that_drips_is_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_WHOLE", 0.1)
    house.project("demo", SDIST)
    drips(house, SDIST.path + ".asc")
    client = await house.client()
    with anyio.fail_after(20):
        assert (await client.get(f"/simple/demo/{SDIST.filename}.asc")).status_code == 503


async def test_a_missing_signature_is_remembered(house: House) -> None:
    house.project("demo", SDIST)
    route = house.serves(SDIST.path + ".asc", status=404)
    client = await house.client()
    for _ in range(2):
        reply = await client.get(f"/simple/demo/{SDIST.filename}.asc")
        assert reply.status_code == 404
    assert route.call_count == 1


async def test_a_signature_is_passed_through(house: House) -> None:
    house.project("demo", SDIST)
    house.serves(SDIST.path + ".asc", b"-----BEGIN PGP SIGNATURE-----")
    client = await house.client()
    reply = await client.get(f"/simple/demo/{SDIST.filename}.asc")
    assert reply.content.startswith(b"-----BEGIN")
    assert reply.headers["content-type"] == "application/pgp-signature"
    assert reply.headers["cache-control"] == "max-age=0, must-revalidate"


@pytest.mark.parametrize("status", [200, 404])
async def test_a_herd_for_a_signature_is_one_upstream_request(
    house: House, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.project("demo", SDIST)
    joined: list[str] = []
    all_wait, join = anyio.Event(), Flights.join

    def noted(self: Flights[bytes], key: str, work: Callable[[], Awaitable[bytes]]) -> object:
        joined.extend([key] if len(key) == 64 else [])
        return join(self, key, work)

    async def held(request: httpx.Request) -> httpx.Response:
        await all_wait.wait()
        return answer(status, b"signature")

    monkeypatch.setattr(Flights, "join", noted)
    route = house.router.get(UPSTREAM + SDIST.path + ".asc").mock(side_effect=held)
    client = await house.client()
    outcomes: list[tuple[int, str]] = []

    async def one(scope: anyio.CancelScope) -> None:
        with scope:
            reply = await client.get(f"/simple/demo/{SDIST.filename}.asc")
            outcomes.append((reply.status_code, reply.headers["x-proxyindex"]))

    async with anyio.create_task_group() as clients:
        scopes = [anyio.CancelScope() for _ in range(10)]
        for number, scope in enumerate(scopes, 1):
            clients.start_soon(one, scope)
            await until(lambda count=number: len(joined) == count, "the next one waits")
        scopes[0].cancel()  # who began it leaves
        all_wait.set()
    assert outcomes == [(status, "joined" if status == 200 else "missing")] * 9
    assert (route.call_count, len(set(joined))) == (1, 1)


async def test_an_encoded_signature_is_decoded(house: House) -> None:
    house.project("demo", SDIST)
    packed = gzip.compress(b"-----BEGIN PGP SIGNATURE-----")
    house.serves(SDIST.path + ".asc", packed, content_encoding="gzip")
    client = await house.client()
    reply = await client.get(f"/simple/demo/{SDIST.filename}.asc")
    assert (reply.content, "content-encoding" in reply.headers) == (gzip.decompress(packed), False)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_an_endless_signature_is_refused(house: House, coding: str) -> None:
    house.project("demo", SDIST)
    endless = b"x" * 100_000
    body = gzip.compress(endless) if coding == "gzip" else endless
    house.serves(SDIST.path + ".asc", body, content_encoding=coding)
    client = await house.client()
    assert (await client.get(f"/simple/demo/{SDIST.filename}.asc")).status_code == 502


# -- local files ---


async def test_a_local_file_with_its_siblings(house: House) -> None:
    path = put_wheel(house.folder, "mine", "1.0")
    put(house.folder, path.name + ".asc", b"signed")
    client = await house.client()
    file = await client.get(f"/simple/mine/{path.name}")
    assert (file.content, file.headers["x-proxyindex"]) == (path.read_bytes(), "local")
    part = await client.get(f"/simple/mine/{path.name}", headers={"range": "bytes=-10"})
    assert part.content == path.read_bytes()[-10:]
    assert (await client.get(f"/simple/mine/{path.name}.metadata")).content == metadata("mine")
    assert (await client.get(f"/simple/mine/{path.name}.asc")).content == b"signed"
    assert not house.router.calls


@pytest.mark.parametrize("suffix", ["", ".metadata", ".asc", ".provenance"])
async def test_a_copy_of_a_local_file_or_sibling_is_confirmed(house: House, suffix: str) -> None:
    path = put_wheel(house.folder, "mine", "1.0")
    put(house.folder, path.name + ".asc", b"signed")
    put(house.folder, path.name + ".provenance", b"{}")
    client, target = await house.client(), f"/simple/mine/{path.name}{suffix}"
    first = await client.get(target)
    assert first.headers["etag"] == f'"{sha256_of(first.content)}"'
    for condition, told in (("if-none-match", "etag"), ("if-modified-since", "last-modified")):
        again = await client.get(target, headers={condition: first.headers[told]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]


async def test_metadata_of_a_local_wheel_that_is_replaced_is_of_the_one_that_is_listed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_wheel(house.folder, "mine", "1.0")
    newer = make_wheel("mine", requires_dist=["other"])
    client = await house.client()
    opened = after_the_look(
        monkeypatch, lambda: put(house.root, "new", newer).rename(path) if not opened else None
    )
    reply = await client.get(f"/simple/mine/{path.name}.metadata")
    assert (reply.status_code, reply.content) == (200, metadata("mine", requires_dist=["other"]))
    listed = [wheel.origin.wheel for wheel in opened if isinstance(wheel.origin, MetadataOrigin)]
    assert [wheel.sha256 for wheel in listed][1:] == [sha256_of(newer)]


@pytest.mark.parametrize("suffix", ["", ".metadata"])
async def test_a_local_wheel_that_may_not_be_read_is_503_and_so_is_its_metadata(
    house: House, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = put_wheel(house.folder, "mine", "1.0")
    client = await house.client()

    def refused(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    after_the_look(monkeypatch, lambda: monkeypatch.setattr(disk, "at_once", refused))
    reply = await client.get(f"/simple/mine/{path.name}{suffix}")
    assert reply.status_code == 503
    assert f"Our own file {path.name!r} cannot be read" in reply.text


async def test_local_files_that_hang_leave_their_threads_to_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.project("demo", DEMO)
    path = put(house.folder, "mine-1.0.tar.gz", make_sdist("mine", payload=2 * READ_SIZE))
    inode, answers = path.stat().st_ino, threading.Event()
    client = await house.client()
    hanging: list[int] = []
    really = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == inode:
            hanging.append(fd)
            answers.wait(10)
        return really(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(COMMON, "most", 2)
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(client.get, f"/simple/mine/{path.name}")
            await until(lambda: len(hanging) >= 2, "two reads that hang")
            await until(lambda: calls(COMMON) == 0, "the threads of all others")
            assert (await client.get(URL)).status_code == 200
            answers.set()
    finally:
        answers.set()


async def test_a_local_file_that_cannot_be_read_on_is_not_blamed_on_the_cache(
    tmp_path: Path,
) -> None:
    limiter = anyio.CapacityLimiter(1)
    fd = os.open(tmp_path, os.O_RDONLY)  # a folder: EISDIR
    content = Stored(fd, 5, sha256=None, modified=None, own=Own("mine-1.0.tar.gz", limiter))
    with pytest.raises(FileUnreadable, match=r"Our own file 'mine-1\.0\.tar\.gz' cannot be read"):
        await anext(aiter(await content.stream()))
    await content.aclose()


async def test_a_signature_of_ours_that_the_disk_does_not_give_is_told_and_closed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_wheel(house.folder, "mine", "1.0")
    put(house.folder, f"{path.name}.asc", b"signed")
    client = await house.client()
    read = disk.sha256_of

    def unread(source: BufferedReader) -> str:
        if os.fstat(source.fileno()).st_size == len(b"signed"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(source)

    monkeypatch.setattr(disk, "sha256_of", unread)
    reply = await client.get(f"/simple/mine/{path.name}.asc")
    assert (reply.status_code, "cannot be read: Input/output error" in reply.text) == (503, True)
    assert f"{path}.asc" not in map(os.path.realpath, Path("/proc/self/fd").iterdir())


async def test_metadata_of_a_pipe_in_the_place_of_a_local_wheel_hangs_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_wheel(house.folder, "mine", "1.0")
    client = await house.client()
    end = threading.Timer(10, release, (path,))

    def make_pipe() -> None:
        path.unlink()
        os.mkfifo(path)
        end.start()

    after_the_look(monkeypatch, make_pipe)
    assert (await client.get(f"/simple/mine/{path.name}.metadata")).status_code == 404
    assert end.is_alive()
    end.cancel()


def after_the_look(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[File]:
    """Do something between the look at a file's page and its opening; the files as listed."""
    asked: list[File] = []
    really = FileService.open

    async def opened(self: FileService, file: File, inquiry: Inquiry, *, whole: bool) -> Content:
        act()
        asked.append(file)
        return await really(self, file, inquiry, whole=whole)

    monkeypatch.setattr(FileService, "open", opened)
    return asked


def release(path: Path) -> None:
    """Let go of who waits for a writer, lest a failed test never ends."""
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


async def test_a_local_file_without_signature_is_404(house: House) -> None:
    path = put_wheel(house.folder, "mine", "1.0")
    client = await house.client()
    assert (await client.get(f"/simple/mine/{path.name}.asc")).status_code == 404


# -- what must not be served ---


@pytest.mark.parametrize(
    "target",
    [
        "/simple/demo/other-1.0.tar.gz",
        "/simple/demo/..%2F..%2Fetc%2Fpasswd",
        "/simple/demo/%2e%2e/x.whl",
        "/simple/demo/..%5Cx.whl",
        "/simple/demo/x.whl%00",
        "/simple/-demo/x.whl",
    ],
)
async def test_what_is_not_on_the_page_is_not_served(house: House, target: str) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    assert (await client.get(target)).status_code in (400, 404)
    assert all(call.request.url.path == "/simple/demo/" for call in house.router.calls)


async def test_a_denied_file_is_refused_also_when_it_is_stored(house: House) -> None:
    house.project("demo", DEMO)
    await (await house.client()).get(URL)
    client = await house.client(policy=PolicySettings(deny=("demo<2",)))
    for suffix in ("", ".metadata", ".asc"):
        reply = await client.get(URL + suffix)
        assert reply.status_code == 403
        assert "demo<2" in reply.headers["x-proxyindex-reason"]


async def test_a_file_withdrawn_upstream_is_served_from_the_cache(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client(page_ttl=0)
    await client.get(URL)
    house.project("demo", SDIST)
    assert DEMO.filename not in (await client.get("/simple/demo/")).text
    assert (await client.get(URL)).content == BODY
    await client.get("/simple/demo/")  # ends what that request has started behind it
    house.serves("/simple/demo/", status=404)
    assert (await client.get("/simple/demo/")).status_code == 404
    assert (await client.get(URL)).content == BODY


async def test_a_new_file_is_found_although_the_page_is_old(house: House) -> None:
    house.project("demo", SDIST)
    client = await house.client(page_ttl=0)
    await client.get("/simple/demo/")
    house.project("demo", SDIST, DEMO)
    assert (await client.get(URL)).content == BODY


def grow_old(house: House, name: str, seconds: float) -> None:
    """Let so much time pass for a stored page."""
    cache = Cache.open(house.root / "cache", file_limit=10**9, page_limit=10**9, events=Recorder())
    with closing(cache):
        (upstream,) = cache.pages.upstreams()
        stored = cache.pages.read(upstream, name)
        assert stored is not None
        head = replace(stored.head, validated_at=stored.head.validated_at - seconds)
        cache.pages.write(upstream, name, head, stored.body)


async def test_a_new_file_is_found_although_the_page_is_just_stale(house: House) -> None:
    house.project("demo", SDIST)
    client = await house.client()
    await client.get("/simple/demo/")
    house.project("demo", SDIST, DEMO)
    grow_old(house, "demo", 700)
    assert (await client.get(URL)).content == BODY


async def test_a_herd_for_files_that_do_not_exist_renews_a_stale_page_once(house: House) -> None:
    house.project("demo", SDIST)
    client = await house.client()
    await client.get("/simple/demo/")
    grow_old(house, "demo", 700)
    before = counted(house, "/simple/demo/")
    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(missing, client, f"/simple/demo/demo-9.{number}.tar.gz")
    assert counted(house, "/simple/demo/") == before + 1


async def missing(client: httpx.AsyncClient, url: str) -> None:
    assert (await client.get(url)).status_code == 404


async def test_a_new_file_of_one_source_is_found_although_the_last_has_none(house: House) -> None:
    house.project("demo", SDIST)
    house.router.get("http://other.example/simple/demo/").mock(
        side_effect=lambda request: answer(404)
    )
    upstreams = [
        UpstreamSettings(name, f"http://{name}.example/simple", retries=0)
        for name in ("up", "other")
    ]
    client = await house.client(upstreams=tuple(upstreams), merge=("demo",), page_ttl=0)
    await client.get("/simple/demo/")
    house.project("demo", SDIST, DEMO)
    assert (await client.get(URL)).content == BODY


async def test_plus_and_its_escape_are_one_file(house: House) -> None:
    spec = wheel_spec("demo", "1.0+cpu", filename=wheel_name("demo", "1.0+cpu"))
    house.project("demo", spec)
    client = await house.client()
    for spelled in ("1.0+cpu", "1.0%2Bcpu"):
        reply = await client.get(f"/simple/demo/demo-{spelled}-py3-none-any.whl")
        assert reply.content == make_wheel("demo", "1.0+cpu")


async def test_offline_serves_stored_files_and_makes_their_metadata(house: House) -> None:
    house.project("demo", DEMO, SDIST)
    await (await house.client()).get(URL)
    asked = len(house.router.calls)
    client = await house.client(offline=True)
    assert (await client.get(URL)).content == BODY
    assert (await client.get(URL + ".metadata")).content == DEMO.metadata
    missing = await client.get(f"/simple/demo/{SDIST.filename}")
    assert missing.status_code == 404
    assert missing.text == (
        f"This server is offline, and '{SDIST.filename}' is not in its cache: "
        "download it from this server once while that is online.\n"
    )
    put_wheel(house.folder, "own")
    assert "has no file" in (await client.get("/simple/own/own-2.0.tar.gz")).text, "it is ours"
    assert len(house.router.calls) == asked


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
async def test_metadata_made_from_a_stored_wheel_is_a_hit(house: House, offline: bool) -> None:
    house.project("demo", DEMO)
    await (await house.client()).get(URL)
    asked = len(house.router.calls)
    reply = await (await house.client(offline=offline)).get(URL + ".metadata")
    assert (reply.content, len(house.router.calls)) == (DEMO.metadata, asked)
    assert reply.headers["X-Proxyindex"] == "hit", "no upstream was asked for it"


@pytest.mark.parametrize("forbids", [{"offline": True}, {"fetch": ()}], ids=["offline", "rights"])
async def test_metadata_of_a_damaged_wheel_is_asked_for_by_those_only_who_may(
    house: House, forbids: dict[str, object]
) -> None:
    spec = replace(DEMO, core_metadata=False, metadata=None)
    house.project("demo", spec)
    await (await house.client()).get(URL)
    (stored,) = (house.root / "cache").rglob(sha256_of(BODY))
    stored.write_bytes(bytes(len(BODY)))
    client = await house.client(**forbids)
    asked = len(house.router.calls)
    assert (await client.get(URL + ".metadata")).status_code in {404, 503}
    assert len(house.router.calls) == asked


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no file system with such times")
async def test_an_own_file_of_a_time_that_cannot_be_told_is_served_and_yanked(house: House) -> None:
    shutil.rmtree(house.folder)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        house.folder.symlink_to(elsewhere)
        wheel = put_wheel(house.folder, "demo")
        os.utime(wheel, (3e11, 3e11))  # in the year 11476
        client = await house.client(upload=("*",), yank=("*",))
        counts = set()
        for _ in range(4):
            reply = await client.get(f"/simple/demo/{wheel.name}", headers={"range": "bytes=0-9"})
            assert (reply.status_code, reply.content) == (206, wheel.read_bytes()[:10])
            assert "last-modified" not in reply.headers
            counts.add(open_in(os.getpid()).count(str(wheel.resolve())))
        assert counts <= {0, 1}, "none is left open by each of them"
        reply = await client.post("/api/projects/demo/1.0/yank")
        assert reply.status_code == 200, reply.text
