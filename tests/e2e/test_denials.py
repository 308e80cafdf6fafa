"""A refusal by policy reaches the person at the installer, with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Workbench
from tests.support.fixtures import ServerFactory, start_server
from tests.support.pages import wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

RULES = ("--policy-deny", "px-lib<1.5", "--policy-deny", "px-evil")
REASON = "1.4 is not allowed here"


def offer(upstream: FakeUpstream) -> None:
    upstream.project("px-app", wheel_spec("px-app", requires_dist=["px-lib"]))
    upstream.project("px-lib", wheel_spec("px-lib", "1.4"), wheel_spec("px-lib", "1.5"))
    upstream.project("px-evil", wheel_spec("px-evil"))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyIndex]:
    """A server that refuses one project and the old versions of another."""
    home = tmp_path_factory.mktemp("strict")
    with FakeUpstream() as upstream:
        offer(upstream)
        with start_server(home, *RULES, upstream=upstream) as server:
            yield server


def refused_file(server: ProxyIndex) -> str:
    return f"{server.simple_url}px-lib/px_lib-1.4-py3-none-any.whl"


def test_pip_shows_why_a_file_is_refused(strict: ProxyIndex, workbench: Workbench) -> None:
    done = workbench.pip_download(strict.simple_url, refused_file(strict), check=False)
    assert done.returncode
    assert "403" in done.stdout
    assert REASON in done.stdout


def test_pip_shows_why_a_direct_requirement_is_refused(
    strict: ProxyIndex, workbench: Workbench
) -> None:
    wanted = f"px-lib @ {refused_file(strict)}"
    done = workbench.pip_install(strict.simple_url, wanted, check=False)
    assert done.returncode
    assert REASON in done.stdout


def test_uv_shows_that_a_file_is_refused(strict: ProxyIndex, workbench: Workbench) -> None:
    wanted = f"px-lib @ {refused_file(strict)}"
    done = workbench.uv_pip_install(strict.simple_url, wanted, check=False)
    assert done.returncode
    assert "403" in done.stdout


@pytest.mark.parametrize("pin", ["px-lib==1.4", "px-lib<1.5"])
def test_a_refused_version_is_no_candidate(
    strict: ProxyIndex, workbench: Workbench, pin: str
) -> None:
    done = workbench.pip_install(strict.simple_url, pin, check=False)
    assert f"No matching distribution found for {pin}" in done.stdout
    assert workbench.uv_pip_install(strict.simple_url, pin, check=False).returncode


def test_installers_take_the_allowed_version(strict: ProxyIndex, workbench: Workbench) -> None:
    workbench.pip_install(strict.simple_url, "px-app")
    assert workbench.installed() == {"px-app": "1.0", "px-lib": "1.5"}


def test_a_refused_project_is_not_installed(strict: ProxyIndex, workbench: Workbench) -> None:
    done = workbench.pip_install(strict.simple_url, "px-evil", "-vv", check=False)
    assert "No matching distribution found for px-evil" in done.stdout
    assert "px-evil is not allowed here" in done.stdout, "pip's log tells why the page was skipped"
    done = workbench.uv_pip_install(strict.simple_url, "px-evil", check=False)
    assert done.returncode
    assert "403" in done.stdout


def test_a_refused_project_is_not_taken_from_the_next_index(
    strict: ProxyIndex, workbench: Workbench, upstream: FakeUpstream
) -> None:
    upstream.project("px-evil", wheel_spec("px-evil", "6.6"))
    done = workbench.uv_pip_install(
        upstream.simple_url, "px-evil", args=["--index", strict.simple_url], check=False
    )
    assert done.returncode, "uv stops at the 403 of the first index"
    assert upstream.count("/simple/px-evil/") == 0


def test_a_lock_made_before_the_rule_does_not_get_around_it(
    upstream: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    offer(upstream)
    running = server(upstream=upstream)
    workbench.uv_lock(running.simple_url, "px-app", "px-lib<1.5")
    workbench.uv_sync(running.simple_url)
    lock = workbench.folder / "pins.txt"
    lock.write_text(f"px-lib @ {refused_file(running)}\n")
    again = Workbench(workbench.folder / "again")
    again.write_project(["px-app", "px-lib<1.5"])
    (again.project / "uv.lock").write_bytes((workbench.project / "uv.lock").read_bytes())

    running.restart("--policy-deny", "px-lib<1.5")  # the file is in the cache, and stays there
    done = again.uv_sync(running.simple_url, check=False)
    assert done.returncode
    assert "403" in done.stdout
    done = again.pip_install(running.simple_url, "-r", str(lock), check=False)
    assert REASON in done.stdout
    assert "denied" in running.logs
    assert not list(Path(again.project).glob(".venv/lib/*/site-packages/px_lib"))
