"""Own packages come first, and neither they nor reserved names are ever spoken of upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.builders import put_sdist, put_wheel
from tests.support.clients import Workbench
from tests.support.fixtures import start_server
from tests.support.pages import wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

PRIVATE = ("px-private", "px_private", "px-buried", "px_buried", "acme")
INSTALLED = {"px-private": "1.0", "px-buried": "0.2", "px-public": "3.0"}


@dataclass(frozen=True, slots=True)
class House:
    """A server whose own packages an attacker offers upstream in higher versions."""

    server: ProxyIndex
    upstream: FakeUpstream

    def betrayed(self) -> list[str]:
        """Requests to the upstream in which a private name occurs anywhere."""
        return [
            f"{seen.method} {seen.target} {seen.headers}"
            for seen in self.upstream.requests()
            if any(name in f"{seen.target} {seen.headers}".lower() for name in PRIVATE)
        ]


@pytest.fixture(scope="module", params=[1, 4])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    home = tmp_path_factory.mktemp("house")
    packages = home / "packages"
    put_wheel(packages, "px-private", "1.0", requires_dist=["px-buried", "px-public"])
    put_sdist(packages / "px-buried", "px-buried", "0.2")
    with FakeUpstream() as upstream:
        for name in ("px-private", "px-buried", "acme-core"):
            upstream.project(name, wheel_spec(name, "99.0"))
        upstream.project("px-public", wheel_spec("px-public", "3.0"))
        made = start_server(
            home / "server",
            *(packages, "--policy-reserved", "acme"),
            upstream=upstream,
            workers=request.param,
        )
        with made as server:
            yield House(server, upstream)


def with_pip(bench: Workbench, url: str) -> None:
    bench.pip_install(url, "px-private")


def with_uv(bench: Workbench, url: str) -> None:
    bench.uv_pip_install(url, "px-private")


def with_lock(bench: Workbench, url: str) -> None:
    bench.uv_lock(url, "px-private")
    bench.env["UV_PROJECT_ENVIRONMENT"] = str(bench.python.parent.parent)
    bench.uv_sync(url, args=["--no-install-project"])


@pytest.mark.parametrize("install", [with_pip, with_uv, with_lock])
def test_own_packages_are_installed_and_their_names_stay_in_the_house(
    house: House, workbench: Workbench, install: Callable[[Workbench, str], None]
) -> None:
    install(workbench, house.server.simple_url)
    assert workbench.installed() == INSTALLED
    assert house.upstream.count("/simple/px-public/") >= 1
    assert house.betrayed() == []


def test_poetry_resolves_to_own_packages(house: House, workbench: Workbench) -> None:
    workbench.poetry_lock(house.server.simple_url, "px-private")
    lock = (workbench.project / "poetry.lock").read_text()
    assert "px_private-1.0-py3-none-any.whl" in lock
    assert "99.0" not in lock
    assert house.betrayed() == []


def test_a_higher_version_upstream_does_not_exist_here(house: House, workbench: Workbench) -> None:
    url = house.server.simple_url
    done = workbench.pip_install(url, "px-private>1", check=False)
    assert "No matching distribution found for px-private>1" in done.stdout
    assert workbench.uv_pip_install(url, "px-buried==99.0", check=False).returncode
    assert house.betrayed() == []


def test_reserved_names_are_unknown_without_asking(house: House, workbench: Workbench) -> None:
    url = house.server.simple_url
    done = workbench.pip_install(url, "acme-core", check=False)
    assert "No matching distribution found for acme-core" in done.stdout
    done = workbench.uv_pip_install(url, "acme-core", check=False)
    assert "acme-core was not found in the package registry" in done.stdout
    done = workbench.pip_install(
        url, f"acme-core @ {url}acme-core/acme_core-99.0-py3-none-any.whl", check=False
    )
    assert "404" in done.stdout
    assert house.betrayed() == []


def test_a_package_dropped_into_the_folder_is_there_at_once(
    house: House, workbench: Workbench, tmp_path: Path
) -> None:
    packages = Path(house.server.args[0])
    assert house.server.get("/simple/px-private/").status == 200
    put_wheel(packages, "px-private", "1.0.post1")
    try:
        workbench.pip_install(house.server.simple_url, "px-private")
        assert workbench.installed() == {"px-private": "1.0.post1"}
    finally:
        (packages / "px_private-1.0.post1-py3-none-any.whl").unlink()
    assert house.betrayed() == []
