"""Real installers through the real server: docs/conformance.md, check 132."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.builders import put_wheel
from tests.support.clients import Workbench
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import sdist_spec, wheel_spec
from tests.support.reply import sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

pytestmark = pytest.mark.e2e

WANTED = {"px-app": "1.0", "px-lib": "1.5", "px-own": "1.0"}
APP = wheel_spec("px-app", requires_dist=["px-lib>=1", "px-own"], payload=100_000)
LIB = wheel_spec("px-lib", "1.5", payload=20_000)
OTHERS = (sdist_spec("px-lib", "1.4"), wheel_spec("px-lib", "1.6", yanked="broken"))


@pytest.fixture
def running(server: ServerFactory, upstream: FakeUpstream, tmp_path: Path) -> ProxyIndex:
    """`px-app` and `px-lib` are upstream's, `px-own` is ours and upstream's in a higher version."""
    upstream.project("px-app", APP)
    upstream.project("px-lib", LIB, *OTHERS)
    upstream.project("px-own", wheel_spec("px-own", "9.9"))
    put_wheel(tmp_path / "packages", "px-own", "1.0")
    return server(tmp_path / "packages", upstream=upstream)


def purge(running: ProxyIndex) -> None:
    """The operator deletes the whole cache; clients keep what they wrote down."""
    running.stop()
    shutil.rmtree(running.cache_dir)
    running.start()


def test_132_pip_installs_from_both_and_again_from_the_cache_alone(
    running: ProxyIndex, upstream: FakeUpstream, workbench: Workbench
) -> None:
    workbench.pip_install(running.simple_url, "px-app")
    assert workbench.installed() == WANTED
    assert upstream.count(LIB.path) == 1
    upstream.down()
    again = Workbench(workbench.folder / "again")
    again.pip_install(running.simple_url, "px-app")
    assert again.installed() == WANTED


def test_132_pip_downloads_with_required_hashes(running: ProxyIndex, workbench: Workbench) -> None:
    own = running.get("/simple/px-own/", {"Accept": "application/vnd.pypi.simple.v1+json"}).json()
    digests = {
        "px-app==1.0": sha256_of(APP.body),
        "px-lib==1.5": sha256_of(LIB.body),
        "px-own==1.0": own["files"][0]["hashes"]["sha256"],
    }
    locked = workbench.folder / "requirements.txt"
    lines = [f"{what} --hash=sha256:{digest}" for what, digest in digests.items()]
    locked.write_text("\n".join(lines) + "\n")
    workbench.pip_download(running.simple_url, args=["--require-hashes", "-r", str(locked)])
    assert len(list(workbench.downloads.iterdir())) == 3


def test_132_pip_fast_deps_reads_wheels_by_ranges(
    server: ServerFactory, upstream: FakeUpstream, workbench: Workbench, tmp_path: Path
) -> None:
    app = wheel_spec("px-app", requires_dist=["px-lib"], metadata=None, payload=100_000)
    lib = wheel_spec("px-lib", metadata=None, payload=50_000)
    upstream.project("px-app", app)
    upstream.project("px-lib", lib)
    config = tmp_path / "proxyindex.toml"  # fast-deps works only without advertised metadata
    config.write_text(f'[[upstream]]\nurl = "{upstream.simple_url}"\nmetadata = false\n')
    running = server("--config", config, is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    workbench.pip_install(running.simple_url, "px-app", args=["--use-feature=fast-deps"])
    assert workbench.installed() == {"px-app": "1.0", "px-lib": "1.0"}
    path = f"/simple/px-lib/{lib.filename}"
    wait_until(lambda: f"GET {path} 206" in running.logs, "the last line")
    assert f"HEAD {path} 200" in running.logs


def test_132_uv_installs(running: ProxyIndex, workbench: Workbench) -> None:
    workbench.uv_pip_install(running.simple_url, "px-app")
    assert workbench.installed() == WANTED


def test_132_a_uv_lock_is_good_after_the_cache_was_purged(
    running: ProxyIndex, upstream: FakeUpstream, workbench: Workbench
) -> None:
    workbench.uv_lock(running.simple_url, "px-app")
    lock = (workbench.project / "uv.lock").read_text()
    assert f"{running.url}/simple/px-lib/{LIB.filename}" in lock
    assert upstream.url not in lock
    purge(running)
    workbench.uv_sync(running.simple_url, args=["--no-cache"])
    installed = {path.name for path in workbench.project.glob(".venv/lib/*/site-packages/px_*")}
    assert {"px_app", "px_lib", "px_own"} <= installed


def test_132_poetry_locks_with_the_hashes_of_upstream(
    running: ProxyIndex, workbench: Workbench
) -> None:
    workbench.poetry_lock(running.simple_url, "px-app")
    lock = (workbench.project / "poetry.lock").read_text()
    for digest in (sha256_of(APP.body), sha256_of(LIB.body)):
        assert f"sha256:{digest}" in lock
    assert "9.9" not in lock


def test_132_pipenv_locks_with_the_hashes_of_upstream(
    running: ProxyIndex, workbench: Workbench
) -> None:
    workbench.pipenv_lock(running.simple_url, "px-app")
    lock = json.loads((workbench.project / "Pipfile.lock").read_text())["default"]
    assert {name: entry["version"] for name, entry in lock.items()} == {
        name: f"=={version}" for name, version in WANTED.items()
    }
    assert lock["px-lib"]["hashes"] == [f"sha256:{sha256_of(LIB.body)}"]
