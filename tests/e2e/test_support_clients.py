"""The workbench drives the real installers, and nothing of this machine leaks into them."""

from __future__ import annotations

import pytest

from tests.support.clients import ClientFailedError, Workbench
from tests.support.pages import sdist_spec, wheel_spec
from tests.support.upstream import FakeUpstream


@pytest.fixture
def offer(upstream: FakeUpstream) -> FakeUpstream:
    upstream.project("px-app", wheel_spec("px-app", requires_dist=["px-lib>=1"]))
    upstream.project("px-lib", wheel_spec("px-lib", "1.5"), sdist_spec("px-lib", "1.4"))
    return upstream


WANTED = {"px-app": "1.0", "px-lib": "1.5"}


def test_pip_installs_into_an_empty_environment(offer: FakeUpstream, workbench: Workbench) -> None:
    assert workbench.installed() == {}
    workbench.pip_install(offer.simple_url, "px-app")
    assert workbench.installed() == WANTED


def test_pip_downloads_wheels_and_builds_nothing(offer: FakeUpstream, workbench: Workbench) -> None:
    workbench.pip_download(offer.simple_url, "px-app")
    assert {path.name.split("-")[0] for path in workbench.downloads.iterdir()} == {
        "px_app",
        "px_lib",
    }


def test_only_the_given_index_is_asked(
    offer: FakeUpstream, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    fresh = Workbench(workbench.folder / "fresh")
    fresh.pip_install(offer.simple_url, "px-lib")
    fresh.uv_pip_install(offer.simple_url, "px-app")
    assert fresh.installed() == WANTED


def test_a_failing_client_shows_its_output(offer: FakeUpstream, workbench: Workbench) -> None:
    with pytest.raises(ClientFailedError, match="No matching distribution found for px-none"):
        workbench.pip_install(offer.simple_url, "px-none")
    assert workbench.uv_pip_install(offer.simple_url, "px-none", check=False).returncode


def test_uv_installs_compiles_locks_and_syncs(offer: FakeUpstream, workbench: Workbench) -> None:
    workbench.uv_pip_install(offer.simple_url, "px-app")
    assert workbench.installed() == WANTED
    assert "px-lib==1.5" in workbench.uv_pip_compile(offer.simple_url, "px-app").stdout
    workbench.uv_lock(offer.simple_url, "px-app")
    assert f"{offer.url}/files/px_lib-1.5" in (workbench.project / "uv.lock").read_text()
    workbench.uv_sync(offer.simple_url)
    assert list(workbench.project.glob(".venv/lib/*/site-packages/px_lib"))


def test_poetry_locks(offer: FakeUpstream, workbench: Workbench) -> None:
    workbench.poetry_lock(offer.simple_url, "px-app")
    assert 'name = "px-lib"' in (workbench.project / "poetry.lock").read_text()


def test_pipenv_locks(offer: FakeUpstream, workbench: Workbench) -> None:
    workbench.pipenv_lock(offer.simple_url, "px-app")
    assert '"px-lib"' in (workbench.project / "Pipfile.lock").read_text()
