"""Several indexes of one house: addresses, inheritance, and who answers for a name."""

from __future__ import annotations

import base64
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from packaging.utils import NormalizedName

from proxyindex.repository.acceptance import accept
from proxyindex.settings import IndexSettings, PolicySettings, Route, UpstreamSettings
from proxyindex.store.cache import Cache
from tests.support.builders import make_wheel, put_wheel, wheel_name
from tests.support.mirrors import Recorder, answer
from tests.support.pages import JSON_TYPE, json_page, wheel_spec
from tests.support.quick import quick_answer
from tests.support.uploads import upload_form
from tests.web.conftest import House

JSON = {"accept": JSON_TYPE}
SIX = wheel_spec("six", "1.16")


def folder(house: House, name: str) -> Path:
    path = house.root / name
    path.mkdir()
    return path


async def two(house: House, **settings: Any) -> httpx.AsyncClient:
    """`prod` with an upstream, and `dev` which inherits from it; a project `acme` in each."""
    dev, prod = folder(house, "dev"), folder(house, "prod")
    put_wheel(dev, "acme", "2.0.dev1")
    put_wheel(prod, "acme", "1.0")
    put_wheel(prod, "tool", "1.0")
    tables = (
        IndexSettings("dev", folders=(dev,), bases=("prod",), **settings.pop("dev", {})),
        IndexSettings("prod", folders=(prod,), upstreams=("up",), **settings.pop("prod", {})),
    )
    usual: dict[str, Any] = {"folders": (), "index_tables": tables, "default_index": "prod"}
    return await house.client(**{**usual, **settings})


async def test_what_is_not_there_is_told_of_the_index_that_was_asked(house: House) -> None:
    client = await two(house)
    house.serves("/simple/absent/", status=404)
    for target, name, index in (
        ("/simple/absent/", "absent", "prod"),
        ("/dev/simple/absent/", "absent", "dev"),
        ("/dev/simple/absent/absent-1.0.tar.gz", "absent", "dev"),
        ("/dev/simple/absent-/", "absent-", "dev"),  # no name at all
    ):
        missing = await client.get(target)
        told = f"There is no project '{name}' on index '{index}'.\n"
        assert (missing.status_code, missing.text) == (404, told)


async def test_of_what_upstream_removed_the_index_is_told_too(house: House) -> None:
    house.project("six", SIX)
    client = await two(house, page_ttl=0)
    assert (await client.get(f"/dev/simple/six/{SIX.filename}")).status_code == 200
    house.serves("/simple/six/", status=404)
    missing = await client.get("/dev/simple/six/")
    told = "There is no project 'six' on index 'dev'.\n"
    assert (missing.status_code, missing.text) == (404, told)


async def sharing(house: House) -> httpx.AsyncClient:
    """`dev`, whose files may be replaced, and `stock`; `prod` reads the folders of both."""
    folders = {name: folder(house, name) for name in ("prod", "dev", "stock")}
    rights = {"upload": ("*",), "delete": ("*",)}
    tables = (
        IndexSettings("prod", folders=tuple(folders.values()), **rights),
        IndexSettings("dev", folders=(folders["dev"],), overwrite=True, **rights),
        IndexSettings("stock", folders=(folders["stock"],), **rights),
    )
    return await house.client(folders=(), index_tables=tables, default_index="prod")


async def upload(client: httpx.AsyncClient, index: str, name: str, payload: int = 0) -> str:
    """Its answer, but for where it went well: the file's name."""
    form = upload_form(wheel_name(name), make_wheel(name, payload=payload))
    got = await client.post(f"/{index}/legacy/", headers=form.headers, content=form.body)
    return form.filename if got.status_code == 200 else f"{got.status_code} {got.text}"


async def test_what_another_index_may_replace_is_not_kept_for_ever(house: House) -> None:
    client = await sharing(house)
    kept = {}
    for index in ("dev", "stock", "prod"):
        name = f"px-{index}"
        filename = await upload(client, index, name)
        got = await client.get(f"/prod/simple/{name}/{filename}")
        kept[index] = "immutable" in got.headers["cache-control"]
    assert kept == {"dev": False, "stock": True, "prod": True}


async def test_what_another_index_deleted_is_not_taken_again(house: House) -> None:
    client = await sharing(house)
    assert await upload(client, "stock", "acme") == wheel_name("acme")
    assert (await client.delete("/stock/api/projects/acme")).status_code == 200
    told = await upload(client, "prod", "acme", payload=99)
    assert told.startswith("400 A file 'acme-1.0-py3-none-any.whl' was deleted")


async def test_the_only_index_needs_no_name(house: House) -> None:
    house.serves("/simple/absent/", status=404)
    missing = await (await house.client()).get("/simple/absent/")
    assert missing.text == "There is no project 'absent' on this index.\n"


async def versions(client: httpx.AsyncClient, address: str) -> list[str] | int:
    got = await client.get(address, headers=JSON)
    if got.status_code != 200:
        return got.status_code
    return [file["filename"].split("-")[1] for file in got.json()["files"]]


async def test_each_index_has_its_own_address_and_the_default_one_another(house: House) -> None:
    client = await two(house)
    assert await versions(client, "/dev/simple/tool/") == ["1.0"]
    assert await versions(client, "/prod/simple/acme/") == ["1.0"]
    assert await versions(client, "/simple/acme/") == ["1.0"]
    assert await versions(client, "/other/simple/acme/") == 404
    (listed,) = (await client.get("/dev/simple/", headers=JSON),)
    assert [one["name"] for one in listed.json()["projects"]] == ["acme", "tool"]


async def test_own_files_and_those_of_the_bases_are_on_one_page(house: House) -> None:
    client = await two(house)
    assert await versions(client, "/dev/simple/acme/") == ["1.0", "2.0.dev1"]
    name = "acme-1.0-py3-none-any.whl"
    mine = await client.get(f"/dev/simple/acme/{name}")
    assert mine.content == (await client.get(f"/prod/simple/acme/{name}")).content
    assert (await client.get("/simple/acme/acme-2.0.dev1-py3-none-any.whl")).status_code == 404


async def test_a_name_of_any_private_base_hides_every_upstream(house: House) -> None:
    asked = house.project("tool", wheel_spec("tool", "9.9"))
    house.project("six", SIX)
    top = IndexSettings("top", upstreams=("up",), bases=("mid",))
    mid = IndexSettings("mid", bases=("up", "deep"))
    deep = IndexSettings("deep", folders=(folder(house, "deep"),))
    put_wheel(house.root / "deep", "tool", "1.0")
    client = await house.client(folders=(), index_tables=(top, mid, deep))
    for index in ("top", "mid"):
        assert await versions(client, f"/{index}/simple/tool/") == ["1.0"]
        assert await versions(client, f"/{index}/simple/six/") == ["1.16"]
    assert await versions(client, "/deep/simple/six/") == 404
    assert asked.call_count == 0


async def test_an_upstream_is_asked_once_for_all_indexes(house: House) -> None:
    asked = house.project("six", SIX)
    client = await two(house)
    assert await versions(client, "/dev/simple/six/") == ["1.16"]
    assert await versions(client, "/prod/simple/six/") == ["1.16"]
    assert await versions(client, "/simple/six/") == ["1.16"]
    assert asked.call_count == 1


async def test_every_redirect_stays_in_its_index(house: House) -> None:
    client = await two(house, base_path="/pypi")
    for asked, location in (
        ("/pypi/dev", "/pypi/dev/"),
        ("/pypi/dev/simple", "/pypi/dev/simple/"),
        ("/pypi/dev/simple/Acme", "/pypi/dev/simple/acme/"),
        ("/pypi/simple/Acme/", "/pypi/simple/acme/"),
        ("/dev/simple/Acme", "/pypi/dev/simple/acme/"),  # a front has taken the base path off
    ):
        got = await client.get(asked)
        assert (got.status_code, got.headers["location"]) == (301, location), asked


async def test_what_is_there_once_is_not_below_an_index(house: House) -> None:
    client = await two(house)
    for path in ("/health", "/ready", "/metrics"):
        assert (await client.get(path)).status_code == 200
        assert (await client.get("/dev" + path)).status_code == 404


async def test_people_see_all_indexes_and_the_lines_for_each(house: House) -> None:
    client = await two(house)
    front = (await client.get("/")).text
    assert '<a href="dev/">dev</a>, <a href="prod/">prod</a>' in front
    assert "http://127.0.0.1:8080/simple/" in front
    own = (await client.get("/dev/")).text
    assert "http://127.0.0.1:8080/dev/simple/" in own
    assert "All indexes" not in own


async def test_rules_of_a_base_hold_for_what_comes_from_it(house: House) -> None:
    house.project("six", SIX, wheel_spec("six", "1.15"))
    house.project("evil", wheel_spec("evil", "1.0"))
    prod = PolicySettings(deny=("six<1.16", "evil", "tool"))
    client = await two(house, prod={"policy": prod})
    assert await versions(client, "/dev/simple/six/") == ["1.16"]
    assert await versions(client, "/dev/simple/evil/") == 403
    assert await versions(client, "/dev/simple/tool/") == 403
    refused = await client.get(f"/dev/simple/six/{wheel_spec('six', '1.15').filename}")
    assert refused.status_code == 403
    put_wheel(house.root / "dev", "tool", "3.0")  # one's own is one's own to judge
    assert await versions(client, "/dev/simple/tool/") == ["3.0"]


async def test_each_index_has_its_own_rules(house: House) -> None:
    house.project("six", SIX)
    client = await two(house, dev={"policy": PolicySettings(deny=("six",))})
    assert await versions(client, "/prod/simple/six/") == ["1.16"]
    assert await versions(client, "/dev/simple/six/") == 403


async def test_names_reserved_by_a_base_are_asked_nowhere(house: House) -> None:
    asked = house.project("acme-x", wheel_spec("acme_x", "9"))
    reserved = {"policy": PolicySettings(reserved=("acme",))}
    client = await two(house, prod=reserved, dev={"upstreams": ("up",)})
    assert await versions(client, "/dev/simple/acme-x/") == 404
    assert asked.call_count == 0


@pytest.mark.parametrize("index", ["", "/prod", "/dev"])
async def test_the_express_way_keeps_indexes_apart(house: House, index: str) -> None:
    house.project("six", SIX, wheel_spec("six", "1.15"))
    # without folders: a new one may yet change under its stamp, and nothing is remembered
    rules = PolicySettings(deny=("six<1.16",))
    client = await house.client(
        folders=(),
        default_index="prod",
        index_tables=(
            IndexSettings("dev", bases=("prod",), policy=rules),
            IndexSettings("prod", upstreams=("up",)),
        ),
    )
    path = f"{index}/simple/six/"
    for _ in range(2):
        plain = await client.get(path, headers={**JSON, "accept-encoding": "identity"})
    headers = [(b"accept", JSON_TYPE.encode()), (b"accept-encoding", b"identity")]
    given = quick_answer(house.express, path.encode(), headers)
    assert given is not None
    assert given.body == plain.content
    assert given.exchange.index == (index.strip("/") or "prod")
    assert (b"six-1.15" in given.body) is (index != "/dev")


def basic(user: str, password: str = "x", encoding: str = "utf-8") -> dict[str, str]:
    pair = f"{user}:{password}".encode(encoding)
    return {"authorization": "Basic " + base64.b64encode(pair).decode()}


async def test_the_user_name_selects_the_index_where_that_is_wanted(house: House) -> None:
    client = await two(house, select_by_user=True)
    for headers, expected in (
        ({}, ["1.0"]),
        (basic("dev"), ["1.0", "2.0.dev1"]),
        (basic("prod"), ["1.0"]),
        (basic("nobody"), ["1.0"]),
        (basic("dev", "pä"), ["1.0", "2.0.dev1"]),
        (basic("dev", "pä", "latin-1"), ["1.0", "2.0.dev1"]),
        (basic("dev", "x" * 3000), ["1.0", "2.0.dev1"]),
        ({"authorization": "Basic !"}, ["1.0"]),
        ({"authorization": "Bearer dev"}, ["1.0"]),
    ):
        got = await client.get("/simple/acme/", headers={**JSON, **headers})
        found = [file["filename"].split("-")[1] for file in got.json()["files"]]
        assert found == expected, headers
        assert "Authorization" in got.headers["vary"]
    got = await client.get("/prod/simple/acme/", headers={**JSON, **basic("dev")})
    assert len(got.json()["files"]) == 1


async def test_the_user_name_selects_nothing_unless_wanted(house: House) -> None:
    client = await two(house)
    got = await client.get("/simple/acme/", headers={**JSON, **basic("dev")})
    assert len(got.json()["files"]) == 1
    assert "Authorization" not in got.headers["vary"]


ROUTES = (
    Route("torch-private", "folders"),
    Route("torch*", "wheels"),
    Route("acme*", "folders"),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch", "wheels"),
        ("torch-private", None),
        ("acme-x", None),
        ("six", "up"),
        ("torch-own", "own"),
    ],
)
async def test_the_first_matching_route_tells_who_is_asked(
    house: House, name: str, expected: str | None
) -> None:
    own = folder(house, "own")
    put_wheel(own, "torch_own", "7.0")
    file = name.replace("-", "_")
    up = house.project(name, wheel_spec(file, "1.0"))
    wheels = house.router.get(f"http://wheels.example/simple/{name}/")
    body = json_page(name, [wheel_spec(file, "2.0")])
    wheels.mock(side_effect=lambda request: answer(200, body, content_type=JSON_TYPE))
    client = await house.client(
        folders=(),
        upstreams=(_upstream("up"), _upstream("wheels")),
        index_tables=(
            IndexSettings("prod", folders=(own,), upstreams=("up",), routes=ROUTES),
            IndexSettings("dev", bases=("prod", "up")),
        ),
    )
    by_source = {"up": ["1.0"], "wheels": ["2.0"], "own": ["7.0"], None: 404}
    for index in ("prod", "dev"):
        assert await versions(client, f"/{index}/simple/{name}/") == by_source[expected]
    assert up.called is (expected == "up")
    assert wheels.called is (expected == "wheels")


async def test_a_project_that_vanishes_upstream_is_not_the_next_one_s(house: House) -> None:
    house.project("acme-tool", wheel_spec("acme-tool", "1.0"))
    other = json_page("acme-tool", [wheel_spec("acme-tool", "99.0")])
    route = house.router.get("http://other.example/simple/acme-tool/")
    route.mock(side_effect=lambda request: answer(200, other, content_type=JSON_TYPE))
    upstreams = (_upstream("up"), _upstream("other"))
    client = await house.client(folders=(), upstreams=upstreams, page_ttl=0)
    assert await versions(client, "/simple/acme-tool/") == ["1.0"]
    house.serves("/simple/acme-tool/", status=404)  # as to whom its credentials have expired
    assert await versions(client, "/simple/acme-tool/") == ["1.0"]
    assert not route.called
    cache = Cache.open(house.root / "cache", file_limit=10**9, page_limit=10**9, events=Recorder())
    with closing(cache):
        accept(cache, NormalizedName("acme-tool"))
    assert await versions(client, "/simple/acme-tool/") == ["99.0"]


def _upstream(name: str) -> UpstreamSettings:
    return UpstreamSettings(name, f"http://{name}.example/simple", retries=0)
