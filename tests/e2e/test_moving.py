"""Folders of other servers, as they lie (docs/moving.md): their files are served, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxyindex.disk import signature
from tests.support.accounts import Accounts
from tests.support.builders import make_wheel, metadata, put, put_sdist, put_wheel, wheel_name
from tests.support.clients import Workbench
from tests.support.fixtures import ServerFactory


def pypiserver(home: Path) -> Path:
    """All files flat or in any folders; passwords and notes beside them."""
    put_wheel(home, "Acme_Lib", "1.0")
    put(home, "Acme_Lib-1.0-py3-none-any.whl.asc", b"signed")
    put_sdist(home, "acme-lib", "0.9")
    deeper = home / "team" / "2024"
    deeper.mkdir(parents=True)
    put_wheel(deeper, "acme-app", "2.0", requires_dist=["acme-lib<2"])
    put(home, ".htpasswd", b"alice:x")
    put(home, "README.txt", b"x")
    put(home, "acme_lib-1.1-py3-none-any.whl.tmp", b"half")
    return home


def devpi(home: Path) -> Path:
    """`+files/USER/INDEX/+f/SHA/DIGITS/FILE` (devpi-server 6.20.3, by trial); a database beside."""
    place = home / "+files" / "alice" / "dev" / "+f"
    for part, name, version, needs in (
        ("be9/3dedf881e3059", "Acme_Lib", "1.0", []),
        ("df9/f400967711aba", "acme-app", "2.0", ["acme-lib<2"]),
    ):
        folder = place / part
        folder.mkdir(parents=True)
        put_wheel(folder, name, version, requires_dist=needs)
    folder = place / "0c4" / "0d5ff4e0f7f2a"
    folder.mkdir(parents=True)
    put_sdist(folder, "acme-lib", "0.9")
    put(home, ".sqlite", b"x")
    # what it cached of PyPI lies in another folder, and is not given to us
    mirrored = home / "+files" / "root" / "pypi" / "+f" / "111" / "2222222222222"
    mirrored.mkdir(parents=True)
    put_wheel(mirrored, "public", "1.0")
    return place


def pypi_cloud(home: Path) -> Path:
    """`NAME/VERSION/FILE` with a `.meta` beside each (its own sources)."""
    for name, version, needs in (("acme-lib", "1.0", []), ("acme-app", "2.0", ["acme-lib<2"])):
        folder = home / name / version
        folder.mkdir(parents=True)
        filename = wheel_name(name, version)
        content = make_wheel(
            name, version, core_metadata=metadata(name, version, requires_dist=needs)
        )
        put(folder, filename, content)
        put(folder, filename + ".meta", b'{"summary": "x"}')
    folder = home / "acme-lib" / "0.9"
    folder.mkdir()
    put_sdist(folder, "acme-lib", "0.9")
    put(folder, ".acme_lib-0.9.tar.gz.1a2b3c4d", b"half")
    return home


@pytest.mark.parametrize("layout", [pypiserver, devpi, pypi_cloud])
def test_a_folder_of_another_server_is_served_as_it_lies(
    layout: Callable[[Path], Path], tmp_path: Path, server: ServerFactory, workbench: Workbench
) -> None:
    home = tmp_path / "theirs"
    home.mkdir()
    folder = layout(home)
    before = {path: signature(path) for path in home.rglob("*")}
    running = server(folder)
    listed = running.get("/simple/").text
    assert listed.count("<a ") == 2
    page = running.get("/simple/acme-lib/").text
    assert page.count("<a ") == 2
    workbench.pip_install(running.simple_url, "acme-app")
    workbench.uv_pip_install(running.simple_url, "--reinstall", "acme-app")
    assert sorted(workbench.installed().values()) == ["1.0", "2.0"]
    assert before == {path: signature(path) for path in home.rglob("*")}  # nor is anything added


def test_the_addresses_that_pypiserver_gave_still_lead_to_the_files(
    tmp_path: Path, server: ServerFactory, workbench: Workbench
) -> None:
    home = tmp_path / "theirs"
    home.mkdir()
    pypiserver(home)
    accounts = Accounts(tmp_path)
    accounts.user("alice", "secret")
    running = server(home, "--read", "alice", "--htpasswd", accounts.htpasswd)
    given = running.url.replace("//", "//alice:secret@") + "/packages/team/2024"
    wanted = f"acme-app @ {given}/{wheel_name('acme-app', '2.0')}"
    workbench.pip_install(running.simple_url, "--no-deps", wanted)
    workbench.uv_pip_install(running.simple_url, "--no-deps", "--reinstall", wanted)
    assert workbench.installed() == {"acme-app": "2.0"}
    closed = running.get(f"/packages/{wheel_name('acme-app', '2.0')}")
    there = running.get(closed.header("location") or "")
    assert (closed.status, there.status) == (301, 401)
