"""Remembered answers: those of the plain way, and only for as long as these would be the same."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from proxyindex.disk import signature
from proxyindex.inquiry import Ground
from proxyindex.store.facts import Facts
from proxyindex.web import express as express_module
from proxyindex.web import given as given_module
from proxyindex.web.given import Asker, Given, Looks
from tests.support.builders import make_wheel
from tests.support.hermetic import until
from tests.support.pages import FileSpec, json_page, sdist_spec, wheel_spec
from tests.support.quick import quick_answer
from tests.web.conftest import House

PAGE = "/simple/demo/"
JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"
ASKS = {"accept": JSON, "accept-encoding": "gzip"}


@pytest.fixture
def wheel() -> FileSpec:
    return wheel_spec("demo", payload=5000)


@pytest.fixture
async def client(house: House, wheel: FileSpec) -> httpx.AsyncClient:
    """Of an application that has been asked for all of the project."""
    house.project("demo", wheel, sdist_spec("demo", "0.9"))
    shutil.rmtree(house.folder)
    house.folder.mkdir()
    os.utime(house.folder, (1e9, 1e9))
    made = await house.client(folders=())
    for target in (PAGE, file_of(wheel), file_of(wheel) + ".metadata"):
        await made.get(target)
    return made


def file_of(spec: FileSpec) -> str:
    return f"{PAGE}{spec.filename}"


async def asked(
    house: House, client: httpx.AsyncClient, target: str, headers: dict[str, str]
) -> tuple[httpx.Response, Given | None]:
    """The plain answer, and the remembered one to the same question."""
    request = client.build_request("GET", target, headers=headers)
    plain = await client.send(request)
    fields = [(name.lower(), value) for name, value in request.headers.raw]
    return plain, quick_answer(house.express, target.encode(), fields)


def same(plain: httpx.Response, given: Given | None) -> bool:
    if given is None:
        return False
    fields = b"".join(b"%b: %b\r\n" % (k.lower(), v) for k, v in plain.headers.raw)
    raw = plain.content if "content-encoding" not in plain.headers else given.body
    return (given.status, given.fields, given.body) == (plain.status_code, fields + b"\r\n", raw)


@pytest.mark.parametrize("accept", [JSON, HTML, "*/*"])
@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_pages_are_remembered_in_every_form(
    house: House, client: httpx.AsyncClient, accept: str, coding: str
) -> None:
    plain, given = await asked(house, client, PAGE, {"accept": accept, "accept-encoding": coding})
    assert plain.headers["content-type"].startswith(HTML if accept == HTML else "")
    assert same(plain, given)
    etag = plain.headers["etag"]
    asking = {"accept": accept, "accept-encoding": coding, "if-none-match": etag}
    plain, given = await asked(house, client, PAGE, asking)
    assert plain.status_code == 304
    assert same(plain, given)


@pytest.mark.parametrize("count", [1, 4000], ids=["small", "large"])
async def test_what_was_fetched_is_remembered_as_soon_as_it_is_stored(
    house: House, count: int
) -> None:
    one = sdist_spec("demo", "1.0")
    many = [replace(one, filename=f"demo-1.{number}.tar.gz") for number in range(count)]
    route = house.serves("/simple/demo/", json_page("demo", many), content_type=JSON)
    client = await house.client(folders=())
    plain, _ = await asked(house, client, PAGE, ASKS)
    assert plain.headers["x-proxyindex"] == "fetched"
    fields = [(k.encode(), v.encode()) for k, v in ASKS.items()]
    await until(lambda: quick_answer(house.express, PAGE.encode(), fields), "its storing")
    given = quick_answer(house.express, PAGE.encode(), fields)
    plain.headers["x-proxyindex"] = "hit"
    assert same(plain, given)
    assert given is not None
    assert given.exchange.outcome == "hit"
    assert route.call_count == 1


async def test_what_the_disk_does_not_take_is_not_remembered(house: House, wheel: FileSpec) -> None:
    house.project("demo", wheel)
    client = await house.client(folders=())
    (house.root / "cache" / "pages").write_bytes(b"in the way")
    for _ in range(3):
        _, given = await asked(house, client, PAGE, {"accept": JSON})
        assert given is None


async def test_digests_of_metadata_do_not_take_a_page_back(house: House) -> None:
    wheel = wheel_spec("demo", "1.0", core_metadata=None)
    house.project("demo", wheel)
    client = await house.client(folders=())
    before, _ = await asked(house, client, PAGE, ASKS)
    assert (await client.get(file_of(wheel) + ".metadata")).status_code == 200
    _, given = await asked(house, client, file_of(wheel) + ".metadata", {})
    assert given is not None
    fields = [(k.encode(), v.encode()) for k, v in ASKS.items()]
    given = quick_answer(house.express, PAGE.encode(), fields)
    assert given is not None, "the page is right without it"
    assert before.headers["etag"].encode() in given.fields
    (entry,) = (await client.get(PAGE, headers=ASKS | {"pragma": "x"})).json()["files"]
    assert entry["core-metadata"] == {"sha256": sha256(wheel.metadata or b"").hexdigest()}


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_digest_that_the_page_tells_does_not_take_it_back(
    house: House, *, is_told: bool
) -> None:
    wheel = wheel_spec("demo", "1.0", **({} if is_told else {"hashes": {}}))
    house.project("demo", wheel)
    client = await house.client(folders=())
    await asked(house, client, PAGE, ASKS)
    assert (await client.get(file_of(wheel))).status_code == 200
    fields = [(k.encode(), v.encode()) for k, v in ASKS.items()]
    assert bool(quick_answer(house.express, PAGE.encode(), fields)) is is_told
    (entry,) = (await client.get(PAGE, headers=ASKS | {"pragma": "x"})).json()["files"]
    assert entry["hashes"] == {"sha256": sha256(wheel.body).hexdigest()}
    (known,) = (
        Facts(house.root / "cache" / "facts")
        .read(*(only(house.root / "cache" / "facts").parent.name, "demo"))
        .values()
    )
    assert known.sha256 == sha256(wheel.body).hexdigest(), "the first bytes are pinned"


@pytest.mark.parametrize("suffix", ["", ".metadata"])
async def test_small_files_and_their_metadata_are_remembered(
    house: House, client: httpx.AsyncClient, wheel: FileSpec, suffix: str
) -> None:
    plain, given = await asked(house, client, file_of(wheel) + suffix, {})
    assert plain.status_code == 200
    assert same(plain, given)


@pytest.mark.parametrize(
    "headers",
    [
        {"range": "bytes=0-9"},
        {"cache-control": "no-cache"},
        {"if-none-match": '"another"'},
        {"if-none-match": "*"},
        {"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"if-match": '"another"'},
        {"if-unmodified-since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"if-range": '"another"'},
        {"pragma": "no-cache"},
        {"via": "1.1 proxyindex-0123456789abcdef"},
        {"content-length": "0"},
        {"accept": "text/plain"},
    ],
    ids=str,
)
async def test_what_is_unusual_takes_the_plain_way(
    house: House, client: httpx.AsyncClient, wheel: FileSpec, headers: dict[str, str]
) -> None:
    for target in (PAGE, file_of(wheel)):
        if target == PAGE or "accept" not in headers:
            _, given = await asked(house, client, target, headers)
            assert given is None


async def test_what_old_pips_say_with_every_page_does_not(
    house: House, client: httpx.AsyncClient
) -> None:
    asking = {"accept": JSON, "cache-control": "max-age=0", "user-agent": 'pip/23.2.1 {"ci":null}'}
    plain, given = await asked(house, client, PAGE, asking)
    assert same(plain, given)
    for changed in ({"user-agent": "pip/26.2"}, {"cache-control": "no-cache"}):
        _, given = await asked(house, client, PAGE, asking | changed)
        assert given is None


async def test_a_field_given_twice_takes_the_plain_way(
    house: House, client: httpx.AsyncClient
) -> None:
    await client.get(PAGE, headers={"accept": JSON})
    twice = [(b"accept", JSON.encode()), (b"accept", b"text/html")]
    assert quick_answer(house.express, PAGE.encode(), twice) is None


@pytest.mark.parametrize("target", ["/simple/absent/", "/simple/Demo/", "/simple/demo", "/simple/"])
async def test_other_answers_are_not_remembered(
    house: House, client: httpx.AsyncClient, target: str
) -> None:
    house.serves("/simple/absent/", status=404)
    await client.get(target)
    assert (await asked(house, client, target, {}))[1] is None


async def test_a_query_or_a_head_request_is_not_remembered(
    house: House, client: httpx.AsyncClient
) -> None:
    target = PAGE + "?format=" + JSON
    assert (await asked(house, client, target, {}))[1] is None
    await client.head(PAGE, headers={"accept": "a/b, */*"})
    assert quick_answer(house.express, PAGE.encode(), [(b"accept", b"a/b, */*")]) is None


def only(folder: Path) -> Path:
    (found,) = (path for path in folder.rglob("*") if path.is_file())
    return found


async def test_a_page_that_changed_on_disk_is_forgotten(
    house: House, client: httpx.AsyncClient
) -> None:
    assert (await asked(house, client, PAGE, {}))[1]
    page = only(house.root / "cache" / "pages")
    page.rename(page.with_name("elsewhere"))
    assert quick_answer(house.express, PAGE.encode(), []) is None
    page.with_name("elsewhere").rename(page)
    _, given = await asked(house, client, PAGE, {"accept": "*/*"})
    assert given, "and learned anew"


async def test_a_new_fact_is_noticed(house: House, client: httpx.AsyncClient) -> None:
    assert (await asked(house, client, PAGE, {}))[1]
    with (only(house.root / "cache" / "facts").parent / "demo").open("ab") as stream:
        stream.write(b"\n")  # where the page must tell it at once
    fields = [(k.lower(), v) for k, v in client.build_request("GET", PAGE).headers.raw]
    assert quick_answer(house.express, PAGE.encode(), fields) is None


@pytest.mark.parametrize("change", ["removed", "damaged", "replaced"])
async def test_a_file_that_changed_on_disk_is_forgotten(
    house: House, client: httpx.AsyncClient, wheel: FileSpec, change: str
) -> None:
    target = file_of(wheel)
    plain, given = await asked(house, client, target, {})
    assert given
    sha256 = plain.headers["etag"].strip('"')
    path = house.root / "cache" / "blobs" / sha256[:2] / sha256
    if change == "removed":
        path.unlink()
    elif change == "damaged":
        kept = path.stat()
        path.write_bytes(bytes(kept.st_size))
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    else:
        copy = path.with_name("copy")
        shutil.copy2(path, copy)
        copy.rename(path)
    fields = [(k.lower(), v) for k, v in client.build_request("GET", target).headers.raw]
    assert quick_answer(house.express, target.encode(), fields) is None
    assert (await client.get(target)).content == wheel.body


async def test_a_page_is_remembered_for_its_lifetime_only(
    house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await asked(house, client, PAGE, {}))[1]
    fields = [(k.lower(), v) for k, v in client.build_request("GET", PAGE).headers.raw]
    now = given_module.time.time()
    for shift in (-10.0, 601.0):
        monkeypatch.setattr(given_module.time, "time", lambda at=now + shift: at)
        assert quick_answer(house.express, PAGE.encode(), fields) is None, shift
        monkeypatch.undo()
        assert (await asked(house, client, PAGE, {}))[1]


async def test_own_packages_win_at_once(house: House, wheel: FileSpec) -> None:
    house.project("demo", wheel)
    os.utime(house.folder, (1e9, 1e9))
    client = await house.client()
    for _ in range(2):
        await client.get(PAGE)
    fields = [(k.lower(), v) for k, v in client.build_request("GET", PAGE).headers.raw]
    # a directory that changed a moment ago may change again under the same stamp
    assert quick_answer(house.express, PAGE.encode(), fields) is None
    own = house.folder / "demo-9.0-py3-none-any.whl"
    own.write_bytes(make_wheel("demo", "9.0"))
    assert "9.0" in (await client.get(PAGE)).text
    assert quick_answer(house.express, PAGE.encode(), fields) is None


async def test_refused_files_and_names_are_never_remembered(house: House, wheel: FileSpec) -> None:
    from proxyindex.settings import PolicySettings  # noqa: PLC0415

    house.project("demo", wheel)
    client = await house.client(folders=(), policy=PolicySettings(deny=("demo<2",)))
    for _ in range(2):
        assert (await client.get(file_of(wheel))).status_code == 403
    assert (await asked(house, client, file_of(wheel), {}))[1] is None
    plain, given = await asked(house, client, PAGE, {})
    plain, given = await asked(house, client, PAGE, {})
    assert same(plain, given)
    assert wheel.filename not in plain.text


async def test_uses_are_noted(house: House, client: httpx.AsyncClient) -> None:
    _, given = await asked(house, client, PAGE, {})
    assert given
    before = (await client.get("/metrics")).text
    quick_answer(house.express, PAGE.encode(), [(b"accept", b"*/*"), (b"accept-encoding", b"gzip")])
    await asked(house, client, PAGE, {})
    house.express.note(given, "192.0.2.1", 0.001)
    after = (await client.get("/metrics")).text
    name = 'proxyindex_requests_total{kind="page",outcome="hit",status="200"}'
    counts = [
        float(line.rpartition(" ")[2])
        for text in (before, after)
        for line in text.splitlines()
        if line.startswith(name)
    ]
    assert counts[1] - counts[0] == 2


async def test_the_memory_is_bounded(
    house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(express_module, "_LIMIT", 3)
    for number in range(5):
        await client.get(PAGE, headers={"accept": f"a/b{number}, */*"})
    coding = client.headers["accept-encoding"].encode()
    remembered = []
    for number in range(5):
        fields = [(b"accept", f"a/b{number}, */*".encode()), (b"accept-encoding", coding)]
        remembered.append(quick_answer(house.express, PAGE.encode(), fields) is not None)
    assert remembered == [False, False, True, True, True]
    monkeypatch.setattr(express_module, "_BUDGET", 10)
    await client.get(PAGE)
    assert house.express._size == 0


def test_an_answer_of_which_nobody_spoke_does_not_stand() -> None:
    assert not given_module.stands(Ground())
    assert not given_module.stands(Ground(witnesses=[("/", None)]))


async def test_what_an_answer_rests_on_is_looked_at_once_per_turn_of_the_loop(
    tmp_path: Path,
) -> None:
    witness = tmp_path / "witness"
    witness.touch()
    ground = Ground()
    ground.rests_on((str(witness), signature(witness)))
    looks, polled, other = Looks(), Asker(is_polled=True), Asker()
    assert looks.stands(ground, polled)
    witness.unlink()
    assert looks.stands(ground, polled), "what came in the same turn came before the change"
    assert not looks.stands(ground, other), "what TLS had held back may have come after it"
    await asyncio.sleep(0)  # the next turn
    assert not looks.stands(ground, polled)


async def test_a_preference_of_kilobytes_takes_the_plain_way(
    house: House, client: httpx.AsyncClient
) -> None:
    _, given = await asked(house, client, PAGE, {"accept": f"{JSON}, a/{'b' * 1024}"})
    assert given is None, "they would be kept, outside of the budget"


@pytest.mark.parametrize("name", [b"range", b"authorization", b"accept"])
async def test_a_field_without_a_value_takes_the_plain_way(
    house: House, client: httpx.AsyncClient, name: bytes
) -> None:
    await client.get(PAGE)
    coding = (b"accept-encoding", client.headers["accept-encoding"].encode())
    assert quick_answer(house.express, PAGE.encode(), [(b"accept", b"*/*"), coding])
    assert not quick_answer(
        house.express, PAGE.encode(), [(b"accept", b"*/*"), coding, (name, b"")]
    )
