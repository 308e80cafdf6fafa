"""Two indexes of one server, one inheriting from the other, as pip and uv see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support.builders import put_sdist, put_wheel
from tests.support.clients import Workbench
from tests.support.pages import wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

CONFIGURATION = """
default-index = "prod"
select-by-user = true
[index.dev]
folders = ["dev"]
bases = ["prod"]
[index.prod]
folders = ["prod"]
upstreams = ["up"]
routes = [{match = "px-wheels*", to = "wheels"}]
policy = {deny = ["px-denied"]}
[index.away]
folders = ["away"]
upstreams = ["up"]
fallback = "redirect"
[index.shut]
bases = ["prod"]
fallback = "none"
"""


@dataclass(frozen=True, slots=True)
class House:
    server: ProxyIndex
    upstream: FakeUpstream
    wheels: FakeUpstream

    def url(self, index: str = "") -> str:
        return f"{self.server.url}{index}/simple/"


@pytest.fixture(scope="module", params=[1, 4])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    home = tmp_path_factory.mktemp("house")
    put_wheel(home / "dev", "px-two-app", "2.0.dev1", requires_dist=["px-two-lib"])
    put_wheel(home / "prod", "px-two-app", "1.0", requires_dist=["px-two-lib"])
    put_sdist(home / "prod" / "px-two-lib", "px-two-lib", "0.2")
    put_wheel(home / "away", "px-two-own", "1.0", requires_dist=["px-public"])
    with FakeUpstream() as upstream, FakeUpstream() as wheels:
        for name in ("px-public", "px-wheels", "px-denied", "px-two-app", "px-two-lib"):
            upstream.project(name, wheel_spec(name, "3.0"))
        wheels.project("px-wheels", wheel_spec("px-wheels", "4.0"))
        tables = (
            f'[[upstream]]\nname = "{name}"\nurl = "{one.simple_url}"\n'
            for name, one in (("up", upstream), ("wheels", wheels))
        )
        path = home / "proxyindex.toml"
        path.write_text(CONFIGURATION + "\n".join(tables))
        args = ("--config", path, "--workers", str(request.param))
        with ProxyIndex(*args, workdir=home / "server") as server:
            yield House(server, upstream, wheels)


Install = Callable[..., object]
INSTALLERS = {"pip": Workbench.pip_install, "uv": Workbench.uv_pip_install}
each_installer = pytest.mark.parametrize("install", INSTALLERS.values(), ids=INSTALLERS)


@each_installer
def test_an_index_has_what_its_base_has_and_more(
    house: House, workbench: Workbench, install: Install
) -> None:
    requirements = ["px-two-app>=2.0.dev0", "px-public", "px-wheels"]
    install(workbench, house.url("/dev"), *requirements)
    assert workbench.installed() == {
        "px-two-app": "2.0.dev1",
        "px-two-lib": "0.2",
        "px-public": "3.0",
        "px-wheels": "4.0",
    }


@each_installer
@pytest.mark.parametrize("index", ["", "/prod", "/shut"])
def test_a_base_knows_nothing_of_its_heirs(
    house: House, workbench: Workbench, install: Install, index: str
) -> None:
    install(workbench, house.url(index), "px-two-app")
    assert workbench.installed() == {"px-two-app": "1.0", "px-two-lib": "0.2"}
    done = install(workbench, house.url(index), "px-two-app==2.0.dev1", check=False)
    assert done.returncode  # type: ignore[attr-defined]


@each_installer
def test_the_user_name_selects_the_index(
    house: House, workbench: Workbench, install: Install
) -> None:
    url = house.url().replace("://", "://dev:x@")
    install(workbench, url, "px-two-app==2.0.dev1")
    assert workbench.installed() == {"px-two-app": "2.0.dev1", "px-two-lib": "0.2"}


@each_installer
def test_clients_follow_where_they_are_sent(
    house: House, workbench: Workbench, install: Install
) -> None:
    before = house.upstream.count("/files/px_public-3.0-py3-none-any.whl")
    install(workbench, house.url("/away"), "px-two-own")
    assert workbench.installed() == {"px-two-own": "1.0", "px-public": "3.0"}
    # by the client itself, each time anew
    assert house.upstream.count("/files/px_public-3.0-py3-none-any.whl") == before + 1
    assert house.server.get("/away/simple/px-public/").status == 302


@each_installer
def test_where_nothing_is_asked_nothing_is_found(
    house: House, workbench: Workbench, install: Install
) -> None:
    done = install(workbench, house.url("/shut"), "px-public", check=False)
    assert done.returncode  # type: ignore[attr-defined]
    done = install(workbench, house.url("/dev"), "px-denied", check=False)
    assert done.returncode  # type: ignore[attr-defined]


def test_a_lock_file_of_an_index_is_its_own(house: House, workbench: Workbench) -> None:
    url = house.url("/dev")
    workbench.uv_lock(url, "px-two-app==2.0.dev1")
    lock = (workbench.project / "uv.lock").read_text()
    assert f"{url}px-two-app/px_two_app-2.0.dev1-py3-none-any.whl" in lock


def test_own_names_stay_in_the_house(house: House) -> None:
    for upstream in (house.upstream, house.wheels):
        assert not [seen for seen in upstream.requests() if "two" in seen.target]
