"""The form of PyPI's JSON API over HTTP."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from proxyindex.model import ProjectPage
from proxyindex.settings import PolicySettings
from proxyindex.simple import described
from proxyindex.web import described as endpoint
from tests.support.builders import put_wheel
from tests.support.pages import JSON_TYPE, FileSpec, json_page, wheel_spec
from tests.web.conftest import House

DEMO = wheel_spec("demo", "1.0", requires_dist=["other>=1"])
NEWER = wheel_spec("demo", "2.0")
PATHS = ("/pypi/demo/json", "/demo/json", "/pypi/DEMO/json")


async def test_a_project_is_described_with_links_that_its_page_has_too(house: House) -> None:
    house.project("demo", DEMO, NEWER)
    client = await house.client()
    for path in PATHS:
        answer = await client.get(f"http://10.0.0.1:8080{path}")
        assert answer.headers["content-type"] == "application/json"
        told = answer.json()
        assert (told["info"]["version"], set(told["releases"])) == ("2.0", {"1.0", "2.0"})
        assert told["urls"] == told["releases"]["2.0"]
    page = await client.get("http://10.0.0.1:8080/simple/demo/", headers={"accept": JSON_TYPE})
    links = {str(page.url.join(file["url"])) for file in page.json()["files"]}
    assert {file["url"] for files in told["releases"].values() for file in files} == links


async def test_a_release_is_described_by_its_core_metadata(house: House) -> None:
    house.project("demo", DEMO, NEWER)
    client = await house.client()
    told = (await client.get("/pypi/demo/1/json")).json()
    assert (told["info"]["version"], told["info"]["requires_dist"]) == ("1.0", ["other>=1"])
    assert [file["filename"] for file in told["urls"]] == [DEMO.filename]
    missing = await client.get("/pypi/demo/3.0/json")
    assert (missing.status_code, "'3.0'" in missing.text) == (404, True)


async def test_without_core_metadata_the_files_are_told_all_the_same(house: House) -> None:
    house.project("demo", DEMO)
    house.serves(DEMO.path + ".metadata", status=500)
    house.serves(DEMO.path, status=500)
    client = await house.client()
    told = (await client.get("/demo/json")).json()
    assert (told["info"]["requires_dist"], len(told["urls"])) == (None, 1)


async def test_own_packages_are_described(house: House) -> None:
    put_wheel(house.folder, "mine", "1.0")
    client = await house.client()
    told = (await client.get("/pypi/mine/json")).json()
    assert told["info"]["name"] == "mine"
    assert told["urls"][0]["digests"]["sha256"]


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_no_project_or_denied_is_so_here_too(house: House, path: str) -> None:
    house.serves("/simple/demo/", status=404)
    client = await house.client()
    assert (await client.get(path)).status_code == 404
    house.project("demo", DEMO)
    client = await house.client(policy=PolicySettings(deny=("demo",)))
    assert (await client.get(path)).status_code == 403
    client = await house.client(policy=PolicySettings(reserved=("demo",)))
    assert (await client.get(path)).status_code == 404


async def test_files_that_a_rule_denies_are_not_told(house: House) -> None:
    house.project("demo", DEMO, NEWER)
    client = await house.client(policy=PolicySettings(deny=("demo>=2",)))
    told = (await client.get("/pypi/demo/json")).json()
    assert (told["info"]["version"], set(told["releases"])) == ("1.0", {"1.0"})


async def test_copies_are_confirmed_and_nobody_else_s(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client()
    answers = [
        await client.get("/demo/json", headers={"accept-encoding": coding})
        for coding in ("gzip", "identity")
    ]
    packed, plain = answers
    assert packed.headers["content-encoding"] == "gzip"
    assert (packed.json(), packed.headers["vary"]) == (plain.json(), "Accept-Encoding")
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["cache-control"].startswith("private, ")
    condition = {"accept-encoding": "identity", "if-none-match": plain.headers["etag"]}
    again = await client.get("/demo/json", headers=condition)
    assert (again.status_code, again.content) == (304, b"")
    forged = condition | {"host": "forged.example", "x-forwarded-host": "forged.example"}
    assert (await client.get("/demo/json", headers=forged)).status_code == 304, "nor is it told"


async def test_links_are_below_the_public_url(house: House) -> None:
    house.project("demo", DEMO)
    client = await house.client(public_url="https://pkgs.example/py", base_path="/py")
    told = (await client.get("/py/demo/json")).json()
    assert told["urls"][0]["url"] == f"https://pkgs.example/py/simple/demo/{DEMO.filename}"


@pytest.mark.parametrize("kind", ["files", "versions"])
async def test_no_more_is_described_than_one_client_may_cost(
    house: House, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_MOST_FILES", 100)
    many = [f"1.{number}" for number in range(101)]
    files = [FileSpec(filename=f"demo-{version}.zip", size=1) for version in many]
    page = json_page("demo", files) if kind == "files" else json_page("demo", [], versions=many)
    house.serves("/simple/demo/", page, content_type=JSON_TYPE)
    client = await house.client()
    answer = await client.get("/demo/json")
    assert (answer.status_code, "101 files or versions: too many" in answer.text) == (404, True)


@pytest.mark.parametrize("path", ["/simple/json", "/simple/json/"])
async def test_a_project_called_json_has_its_page(house: House, path: str) -> None:
    house.project("json", wheel_spec("json"))
    client = await house.client()
    answer = await client.get(path, headers={"accept": JSON_TYPE}, follow_redirects=True)
    assert answer.json()["name"] == "json"


async def test_a_crowd_has_a_project_described_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str | None] = []

    info = described._info

    def counted(page: ProjectPage, version: str | None, *args: Any) -> dict[str, object]:
        made.append(version)
        return info(page, version, *args)

    monkeypatch.setattr(described, "_info", counted)
    house.project("demo", DEMO, NEWER)
    client = await house.client()
    answers: list[httpx.Response] = []

    async def ask(path: str) -> None:
        answers.append(await client.get(path))

    async with anyio.create_task_group() as crowd:
        for _ in range(8):
            crowd.start_soon(ask, "/demo/json")
    await ask("/demo/json")
    assert ({answer.content for answer in answers}, made) == ({answers[0].content}, ["2.0"])
    await ask("/pypi/demo/1.0/json")
    plain = await client.get("/demo/json", headers={"accept-encoding": "identity"})
    elsewhere = await client.get("http://10.0.0.1:8080/demo/json")
    assert plain.json() == answers[0].json() != elsewhere.json()
    assert made == ["2.0", "1.0", "2.0", "2.0"], "what differs is made anew"
