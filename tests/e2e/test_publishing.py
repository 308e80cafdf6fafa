"""Published, then installed: by real pip and uv, from static pages and from a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxyindex.simple import MediaType
from tests.support import http
from tests.support.builders import make_wheel, put, put_sdist, put_wheel
from tests.support.clients import ClientFailedError, Done, Workbench
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.ports import HeldPort
from tests.support.sshd import SshServer, answers, ssh_server

INSTALLERS = ["pip", "uv"]


@contextmanager
def static_server(folder: Path, workbench: Workbench) -> Iterator[str]:
    """`python -m http.server` over the folder, as anybody would start it."""
    log = folder.with_name(folder.name + ".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
            cwd=folder,
            env=workbench.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        line = wait_until(lambda: "http://127.0.0.1:" in log.read_text() and log.read_text(), "it")
        yield line.partition("(")[2].partition(")")[0]
    finally:
        process.terminate()
        process.wait()


def install(workbench: Workbench, installer: str, url: str, *wanted: str) -> dict[str, str]:
    if installer == "pip":
        workbench.pip_install(url, *wanted)
    else:
        workbench.uv_pip_install(url, *wanted)
    return workbench.installed()


def publish(workbench: Workbench, *arguments: str | Path, check: bool = True) -> Done:
    return workbench.run(sys.executable, "-m", "proxyindex", "publish", *arguments, check=check)


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """Two projects; the application needs the library, which has a newer version as well."""
    folder = tmp_path / "dist"
    folder.mkdir()
    put_wheel(folder, "Acme-Lib", "1.0+cu.1")
    put_wheel(folder, "acme-app", "2.0", requires_dist=["acme-lib<2"])
    put_sdist(folder, "acme-lib", "0.9")
    return folder


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_folder_with_pages_is_an_index_for_any_web_server(
    installer: str, dist: Path, tmp_path: Path, workbench: Workbench
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    publish(workbench, dist, "--to", public, "--pages")
    newer = tmp_path / "newer"
    newer.mkdir()
    put_wheel(newer, "acme-lib", "3.0")
    publish(workbench, "acme_lib", "3", "--dist", newer, "--to", public, "--pages")
    with static_server(public, workbench) as url:
        found = install(workbench, installer, url, "acme-app")
    assert found == {"acme-app": "2.0", "Acme-Lib": "1.0+cu.1"}
    log = public.with_name("public.log").read_text()
    assert 'acme_app-2.0-py3-none-any.whl.metadata HTTP/1.1" 200' in log
    assert '" 404' not in log


@pytest.mark.parametrize("installer", INSTALLERS)
def test_yanked_versions_are_not_chosen_from_static_pages(
    installer: str, dist: Path, tmp_path: Path, workbench: Workbench
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    put_wheel(dist, "acme-lib", "3.0")
    publish(workbench, dist, "--to", public)
    yank = ("yank", "acme-lib==3.0", "--folder", public, "--cache-dir", tmp_path / "cache")
    workbench.run(sys.executable, "-m", "proxyindex", *yank)
    assert (
        "written: acme-lib/index.html" in publish(workbench, dist, "--to", public, "--pages").stdout
    )
    with static_server(public, workbench) as url:
        assert install(workbench, installer, url, "acme-lib") == {"Acme-Lib": "1.0+cu.1"}


@contextmanager
def nginx(folder: Path, home: Path) -> Iterator[str]:
    """The example configuration, with a port and the folder put in."""
    if (program := shutil.which("nginx", path="/usr/sbin:" + os.environ["PATH"])) is None:
        pytest.skip("nginx is not installed (scripts/debian does, as root)")
    home.mkdir()
    held = HeldPort()
    port = held.number
    given = (Path(__file__).parents[2] / "deploy" / "nginx" / "static.conf").read_text()
    given = given.replace("listen 80;", f"listen 127.0.0.1:{port};")
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{place}_temp_path {home}/{place};\n" for place in places)
    (home / "nginx.conf").write_text(
        f"pid {home}/pid; error_log stderr warn; daemon off; master_process off; events {{}}\n"
        f"http {{ access_log off; {temporary} {given.replace('/srv/packages/', f'{folder}/')} }}\n"
    )
    command = [program, "-p", str(home), "-c", str(home / "nginx.conf")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or answers(port), "nginx")
        yield f"http://127.0.0.1:{port}/simple/"
    finally:
        process.terminate()
        process.wait()
        held.close()


@pytest.mark.parametrize("installer", INSTALLERS)
def test_nginx_serves_both_forms(
    installer: str, dist: Path, tmp_path: Path, workbench: Workbench
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    publish(workbench, dist, "--to", public, "--pages")
    with nginx(public, tmp_path / "nginx") as url:
        assert len(install(workbench, installer, url, "acme-app")) == 2
        root = url.removesuffix("/simple/")
        json = http.request(root, "/simple/acme-app/", [("Accept", f"{MediaType.JSON}, */*;q=0.1")])
        assert json.header("content-type") == MediaType.JSON
        assert json.body == (public / "acme-app" / "index.v1_json").read_bytes()
        html = http.request(root, "/simple/acme-app/", [("Accept", "*/*")])
        assert html.header("content-type") == "text/html"
        assert http.request(root, "/simple/.incoming/locks").status == 404


@pytest.mark.parametrize("installer", INSTALLERS)
def test_digests_on_static_pages_are_checked(
    installer: str, dist: Path, tmp_path: Path, workbench: Workbench
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    publish(workbench, dist, "--to", public, "--pages")
    path = next(public.glob("acme-app/*.whl"))
    path.write_bytes(make_wheel("acme-app", "2.0", requires_dist=["acme-lib<2"], payload=9))
    with (
        static_server(public, workbench) as url,
        pytest.raises(ClientFailedError, match=r"(?i)hash"),
    ):
        install(workbench, installer, url, "acme-app")


@pytest.mark.parametrize("installer", INSTALLERS)
def test_the_same_folder_is_served_by_proxyindex(
    installer: str, dist: Path, tmp_path: Path, workbench: Workbench, server: ServerFactory
) -> None:
    """Published while it runs: there at the next request; pages and sidecars do no harm."""
    packages = tmp_path / "packages"
    packages.mkdir()
    running = server(packages)
    assert running.get("/simple/acme-lib/").status == 404
    publish(workbench, dist, "--to", packages, "--pages")
    assert set(install(workbench, installer, running.simple_url, "acme-app").values()) == {
        "2.0",
        "1.0+cu.1",
    }
    listed = running.get("/simple/").text
    assert listed.count("<a ") == 2
    assert "ignoring" not in running.logs


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "ssh") as running:
        yield running


Publish = Callable[..., Done]


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """The folder over there; its path is none that a shell would leave as it is."""
    folder = tmp_path / "re mote;$(touch pwned)"
    folder.mkdir()
    return folder


@pytest.fixture
def to_remote(ssh: SshServer, remote: Path, workbench: Workbench) -> Publish:
    def run(*arguments: str | Path, check: bool = True) -> Done:
        target = ("--to", f"{ssh.host}:{remote}", "--ssh", ssh.command)
        return publish(workbench, *arguments, *target, check=check)

    return run


def test_another_machine_gets_what_changed_and_pages(
    dist: Path, remote: Path, to_remote: Publish, workbench: Workbench, tmp_path: Path
) -> None:
    by_hand = put_wheel(remote, "acme-lib", "0.5")  # flat, and on no page yet
    other = remote / "other"
    other.mkdir()
    put(other, "other-1.0-py3-none-any.whl", make_wheel("other"))
    assert to_remote(dist, "--pages").stdout.count("published: ") == 3
    before = {path: path.stat().st_mtime_ns for path in remote.rglob("*") if path.is_file()}
    again = to_remote(dist, "--pages").stdout
    assert (again.count("already there: "), again.count("written: ")) == (3, 0), again
    assert before == {path: path.stat().st_mtime_ns for path in remote.rglob("*") if path.is_file()}
    by_hand.unlink()
    to_remote(dist, "--pages")
    page = (remote / "acme-lib" / "index.html").read_text()
    assert "acme_lib-0.5" not in page
    assert page.count("<a ") == 2
    assert not list(remote.rglob(".*"))
    assert not list(tmp_path.rglob("pwned"))
    with static_server(remote, workbench) as url:
        install(workbench, "pip", url, "acme-app")
        install(workbench, "uv", url, "acme-lib")
    assert '" 404' not in remote.with_name(remote.name + ".log").read_text()


def test_another_machine_keeps_its_bytes(dist: Path, remote: Path, to_remote: Publish) -> None:
    to_remote(dist, "--pages")
    wheel = next(dist.glob("acme_app*"))
    there = remote / "acme-app" / wheel.name
    old = there.read_bytes()
    wheel.write_bytes(make_wheel("acme-app", "2.0", requires_python=">=3.9"))
    done = to_remote(dist, "--pages", check=False)
    assert done.returncode == 1
    assert "other bytes" in done.stdout
    assert there.read_bytes() == old
    assert "replaced: " in to_remote(dist, "--pages", "--overwrite").stdout
    assert there.read_bytes() == wheel.read_bytes()
    assert "&gt;=3.9" in (remote / "acme-app" / "index.html").read_text()


def test_another_machine_that_cannot_be_used_is_told(
    dist: Path, remote: Path, to_remote: Publish, ssh: SshServer, workbench: Workbench
) -> None:
    remote.rmdir()
    done = to_remote(dist, check=False)
    assert done.returncode == 1
    assert "make it first" in done.stdout
    closed = ssh.command.replace(" -i ", " -o PubkeyAuthentication=no -i ")
    done = publish(workbench, dist, "--to", f"{ssh.host}:x", "--ssh", closed, check=False)
    assert done.returncode == 1
    assert "Permission denied" in done.stdout


def test_a_dry_run_changes_nothing_on_another_machine(
    dist: Path, remote: Path, to_remote: Publish
) -> None:
    assert to_remote(dist, "--pages", "--dry-run").stdout.count("would be published: ") == 3
    assert list(remote.iterdir()) == []


def test_a_folder_for_temporary_files_may_have_a_long_name(
    dist: Path, to_remote: Publish, workbench: Workbench, tmp_path: Path
) -> None:
    long = tmp_path / ("t" * 100)  # too long for the socket of a shared connection
    long.mkdir()
    workbench.env["TMPDIR"] = str(long)
    assert to_remote(dist, "--dry-run").stdout.count("would be published: ") == 3
