"""A client that asks for one thing at a time finds the next already here."""

from __future__ import annotations

import pytest

from proxyindex.settings import PolicySettings
from tests.support.hermetic import until
from tests.support.pages import FileSpec, wheel_spec
from tests.web.conftest import House

APP = wheel_spec("app", "1.0", requires_dist=["lib", "tool"])
LIB = wheel_spec("lib", "1.0")
TOOL = wheel_spec("tool", "1.0")


def counted(house: House, path: str) -> int:
    return sum(call.request.url.path == path for call in house.router.calls)


def of(spec: FileSpec) -> str:
    """The page of a wheel's project, as upstream and we call it."""
    return f"/simple/{spec.filename.partition('-')[0]}/"


async def test_what_a_client_asks_next_is_here_before(house: House) -> None:
    house.project("app", APP)
    house.project("lib", LIB)
    house.project("tool", TOOL)
    client = await house.client(look_ahead=True)

    async def outcome(path: str) -> str:
        answer = await client.get(path)
        assert answer.status_code == 200
        return answer.headers["x-proxyindex"]

    assert await outcome(of(APP)) == "fetched"
    await until(lambda: counted(house, LIB.path + ".metadata") == 1, "what app requires")
    assert counted(house, LIB.path) == 0
    assert await outcome(of(APP) + APP.filename + ".metadata") == "hit"
    assert await outcome(of(LIB)) == "hit"
    assert await outcome(of(LIB) + LIB.filename + ".metadata") == "hit"
    # only who asks for one wheel will install the others
    assert counted(house, APP.path) == counted(house, LIB.path) == 0
    assert await outcome(of(APP) + APP.filename) == "fetched"
    await until(lambda: counted(house, LIB.path) == 1, "the other wheel")
    # joined: the file may still be arriving
    assert await outcome(of(LIB) + LIB.filename) in {"hit", "joined"}
    paths = [path for spec in (APP, LIB) for path in (spec.path, spec.path + ".metadata", of(spec))]
    assert [counted(house, path) for path in paths] == [1] * 6


@pytest.mark.parametrize(
    "policy", [PolicySettings(deny=("lib",)), PolicySettings(reserved=("lib",))], ids=str
)
async def test_names_that_are_not_for_upstream_stay_here(
    house: House, policy: PolicySettings
) -> None:
    house.project("app", APP)
    house.project("lib", LIB)
    house.project("tool", TOOL)
    client = await house.client(policy=policy, look_ahead=True)
    await client.get(of(APP))
    await until(lambda: counted(house, TOOL.path + ".metadata"), "what comes after lib")
    assert counted(house, of(LIB)) == 0


async def test_it_can_be_switched_off(house: House) -> None:
    for name, spec in (("app", APP), ("lib", LIB), ("tool", TOOL)):
        house.project(name, spec)
    client = await house.client(look_ahead=False)
    for spec in (APP, TOOL):  # the latter only to give it time
        for path in ("", spec.filename + ".metadata", spec.filename):
            assert (await client.get(of(spec) + path)).headers["x-proxyindex"] == "fetched"
    assert counted(house, of(LIB)) == 0
