"""What an index does about names that no folder has: PyPI Cloud's table of modes and rights.

Its rows about reading and logging in are those of whoever knows users; a client that may read is
taken for granted here. Where we answer otherwise than it does: docs/decisions/0029.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from proxyindex.settings import IndexSettings, PolicySettings, Route, Secret
from tests.support.builders import put_wheel
from tests.support.pages import JSON_TYPE, sdist_spec, wheel_spec
from tests.support.quick import quick_answer
from tests.web.conftest import UPSTREAM, House

JSON = {"accept": JSON_TYPE}
AWAY = 302
MISSING = 404

# files are named by their version: 1 lies in our folder, 2 is stored, 3 only upstream has
NAMES = ("own", "held", "new", "nowhere")
TABLE: Mapping[tuple[str, bool, bool], tuple[object, ...]] = {
    # mode, merge, may fetch: what is answered for each of the names
    ("none", False, False): ("1", MISSING, MISSING, MISSING),
    ("none", False, True): ("1", MISSING, MISSING, MISSING),
    ("none", True, False): ("1", MISSING, MISSING, MISSING),
    ("none", True, True): ("1", MISSING, MISSING, MISSING),
    ("redirect", False, False): ("1", AWAY, AWAY, AWAY),
    ("redirect", False, True): ("1", AWAY, AWAY, AWAY),
    ("redirect", True, False): ("12", AWAY, AWAY, AWAY),
    ("redirect", True, True): ("123", AWAY, AWAY, AWAY),
    ("proxy", False, False): ("1", "2", MISSING, MISSING),
    ("proxy", False, True): ("1", "23", "23", MISSING),
    ("proxy", True, False): ("12", "2", MISSING, MISSING),
    ("proxy", True, True): ("123", "23", "23", MISSING),
}


async def warmed(house: House) -> int:
    """Upstream has all but one of the names; `own` and `held` were asked for once. How often."""
    put_wheel(house.folder, "own", "1")
    for name in ("own", "held", "new"):
        house.project(name, wheel_spec(name, "2"), wheel_spec(name, "3"))
    house.serves("/simple/nowhere/", status=404)
    client = await house.client(folders=())
    for name in ("own", "held"):
        assert (await client.get(f"/simple/{name}/{wheel_spec(name, '2').filename}")).content
    return house.router.calls.call_count


async def restricted(house: House, *, may_fetch: bool, **settings: Any) -> httpx.AsyncClient:
    fetch = ("*",) if may_fetch else ()
    tables = tuple(replace(one, fetch=fetch) for one in settings.pop("index_tables", ()))
    return await house.client(fetch=fetch, index_tables=tables, **settings)


async def seen(client: httpx.AsyncClient, name: str) -> object:
    """The versions of the files on the page as one text, or the status."""
    answer = await client.get(f"/simple/{name}/", headers=JSON)
    if answer.status_code == AWAY:
        assert answer.headers["location"] == f"{UPSTREAM}/simple/{name}/"
        assert answer.headers["cache-control"] == "no-store"
    if answer.status_code != 200:
        return answer.status_code
    return "".join(file["filename"].split("-")[1] for file in answer.json()["files"])


@pytest.mark.parametrize("case", TABLE, ids=str)
async def test_the_table_of_modes(house: House, case: tuple[str, bool, bool]) -> None:
    mode, merges, may_fetch = case
    before = await warmed(house)
    merge = ("*",) if merges else ()
    client = await restricted(house, may_fetch=may_fetch, fallback=mode, merge=merge)
    assert tuple([await seen(client, name) for name in NAMES]) == TABLE[case]
    if not may_fetch or mode == "none" or (mode == "redirect" and not merges):
        assert house.router.calls.call_count == before
    if mode == "redirect":
        assert all("/own/" in str(call.request.url) for call in house.router.calls[before:])


async def test_a_stored_page_of_which_no_file_is_stored_is_empty(house: House) -> None:
    house.project("six", wheel_spec("six", "2"))
    assert await seen(await house.client(), "six") == "2"
    assert await seen(await restricted(house, may_fetch=False), "six") == ""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("suffix", ["", ".metadata", ".asc"])
async def test_without_the_right_only_stored_files_are_served(
    house: House, method: str, suffix: str
) -> None:
    before = await warmed(house)
    client = await restricted(house, may_fetch=False, page_ttl=0.0, stale_if_error=0.0)
    held, other = (wheel_spec("held", version).filename + suffix for version in "23")
    stored = await client.request(method, f"/simple/held/{held}")
    assert stored.status_code == (404 if suffix == ".asc" else 200)
    for headers in ({}, {"range": "bytes=0-10"}, {"cache-control": "no-cache"}):
        missing = await client.request(method, f"/simple/held/{other}", headers=headers)
        assert missing.status_code == 404
    assert house.router.calls.call_count == before


async def test_without_the_right_nothing_is_remembered_for_others(house: House) -> None:
    await warmed(house)
    client = await restricted(house, may_fetch=False, folders=())
    path, headers = "/simple/held/", {**JSON, "accept-encoding": "identity"}
    for _ in range(2):
        assert (await client.get(path, headers=headers)).headers["x-proxyindex"] == "hit"
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert quick_answer(house.express, path.encode(), fields) is None


async def test_the_page_of_stored_files_is_made_once(house: House) -> None:
    await warmed(house)
    client = await restricted(house, may_fetch=False)
    index = await _tags(client)
    assert index == await _tags(client)
    both = await restricted(house, may_fetch=True)
    assert index != await _tags(both)


async def _tags(client: httpx.AsyncClient) -> str:
    return (await client.get("/simple/held/", headers=JSON)).headers["etag"]


async def test_files_are_not_redirected_whose_page_is(house: House) -> None:
    await warmed(house)
    client = await house.client(fallback="redirect")
    assert (await client.get(f"/simple/new/{wheel_spec('new', '2').filename}")).status_code == 404
    assert (await client.get("/simple/new/new-2.tar.gz.metadata")).status_code == 404


async def test_rules_hold_where_clients_are_sent_away(house: House) -> None:
    rules = PolicySettings(deny=("evil",), reserved=("acme",))
    routes = (Route("tool-*", "folders"),)
    client = await house.client(fallback="redirect", policy=rules, routes=routes)
    assert [await seen(client, name) for name in ("evil", "acme-x", "tool-x", "six")] == [
        403,
        MISSING,
        MISSING,
        AWAY,
    ]


@pytest.mark.parametrize(
    ("rules", "answered"),
    [
        (PolicySettings(deny=("torch<2.1",)), {"torch": 403, "torchvision": AWAY, "six": AWAY}),
        (PolicySettings(deny=("torch*<2.1",)), {"torch": 403, "torchvision": 403, "six": AWAY}),
        (PolicySettings(allow=("torch>=2", "six")), {"torch": 403, "own": 403, "six": AWAY}),
        (PolicySettings(allow=("torch>=2", "torch*", "six")), {"torch": AWAY, "six": AWAY}),
    ],
)
@pytest.mark.parametrize("of_upstream", [False, True])
async def test_nobody_is_sent_away_for_versions_that_rules_would_refuse(
    house: House, rules: PolicySettings, answered: Mapping[str, object], of_upstream: bool
) -> None:
    given: dict[str, Any] = {"upstream": {"policy": rules}} if of_upstream else {"policy": rules}
    client = await house.client(fallback="redirect", **given)
    assert {name: await seen(client, name) for name in answered} == answered
    reason = (await client.get("/simple/torch/", headers=JSON)).text
    assert ("some versions of torch are not allowed here" in reason) == (answered["torch"] == 403)


async def test_own_files_are_judged_where_clients_are_sent_away(house: House) -> None:
    put_wheel(house.folder, "own", "1")
    put_wheel(house.folder, "own", "2")
    client = await house.client(fallback="redirect", policy=PolicySettings(deny=("own<2",)))
    assert await seen(client, "own") == "2"


async def test_no_credentials_go_into_a_redirect(house: House) -> None:
    known = {"username": "user", "password": Secret("secret")}
    client = await house.client(fallback="redirect", upstream=known)
    answer = await client.get("/simple/six/")
    assert (answer.status_code, answer.headers["location"]) == (302, f"{UPSTREAM}/simple/six/")
    assert "secret" not in str(answer.headers)


async def test_the_mode_is_that_of_the_index_asked(house: House) -> None:
    house.project("six", wheel_spec("six", "2"))
    client = await house.client(
        folders=(),
        index_tables=(
            IndexSettings("away", bases=("through",), fallback="redirect"),
            IndexSettings("through", bases=("away-too",)),
            IndexSettings("away-too", upstreams=("up",), fallback="redirect"),
            IndexSettings("closed", upstreams=("up",), fallback="none"),
            IndexSettings("above-closed", bases=("closed",)),
        ),
    )
    found = {}
    for name in ("away", "through", "away-too", "closed", "above-closed"):
        found[name] = (await client.get(f"/{name}/simple/six/")).status_code
    assert found == {
        "away": 302,
        "through": 200,
        "away-too": 302,
        "closed": 404,
        "above-closed": 404,
    }


async def test_offline_is_told_apart_from_not_being_allowed(house: House) -> None:
    await warmed(house)
    house.project("held", wheel_spec("held", "2"), sdist_spec("held", "3"))
    client = await restricted(house, may_fetch=True, offline=True)
    assert [await seen(client, name) for name in ("own", "held", "new")] == ["1", "2", 503]
    client = await restricted(house, may_fetch=False, offline=True)
    assert [await seen(client, name) for name in ("own", "held", "new")] == ["1", "2", 404]
