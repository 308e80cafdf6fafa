"""pip, uv and poetry install from an index that is only for users, wherever they keep log-ins."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.support.accounts import Accounts
from tests.support.builders import make_wheel, put
from tests.support.clients import ClientFailedError, Workbench, tool
from tests.support.fixtures import ServerFactory
from tests.support.pages import sdist_spec, wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

PASSWORD = "pässwörd/ß"
CONFIG = """
{accounts}
folders = ["{folder}"]
read = ["@users"]
fetch = ["@users"]
"""
INSTALLED = {"px-members": "1.0", "px-needed": "2.0", "px-built": "3.0"}

Install = Callable[[Workbench, str], None]


@dataclass
class Members:
    server: ProxyIndex
    accounts: Accounts
    upstream: FakeUpstream

    def url(self, userinfo: str = "") -> str:
        parts = urlsplit(self.server.simple_url)
        return parts._replace(netloc=f"{userinfo}{'@' * bool(userinfo)}{parts.netloc}").geturl()

    @property
    def host(self) -> str:
        return urlsplit(self.server.simple_url).hostname or ""


@pytest.fixture(params=[1, 4])
def members(
    request: pytest.FixtureRequest, server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> Iterator[Members]:
    """A server for alice and holders of tokens: an own package that needs two of the upstream."""
    upstream.project("px-needed", wheel_spec("px-needed", "2.0"))
    upstream.project("px-built", sdist_spec("px-built", "3.0"))
    folder = tmp_path / "packages"
    folder.mkdir()
    needs = ["px-needed", "px-built"]
    wheel = make_wheel("px-members", "1.0", requires_dist=needs)
    put(folder, "px_members-1.0-py3-none-any.whl", wheel)
    accounts = Accounts(tmp_path)
    accounts.user("alice", PASSWORD)
    config = tmp_path / "proxyindex.toml"
    config.write_text(CONFIG.format(accounts=accounts.toml, folder=folder))
    running = server("--config", config, upstream=upstream, workers=request.param)
    yield Members(running, accounts, upstream)
    for seen in upstream.requests():
        assert seen.header("authorization") is None


BACKEND = """
import json
from pathlib import Path
from keyring.backend import KeyringBackend

HERE = Path(__file__).parent

class FileKeyring(KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        (HERE / "asked").touch()
        held = json.loads((HERE / "held.json").read_text())
        for host, user, password in held:
            if host in service and username in (None, user):
                return password
        return None

    def set_password(self, service, username, password):
        raise NotImplementedError
"""


@dataclass
class Keyring:
    """The real `keyring` command on the PATH, with a backend that keeps all in a file."""

    folder: Path

    @classmethod
    def of(cls, folder: Path) -> Keyring:
        folder.mkdir()
        (folder / "px_keyring.py").write_text(BACKEND)
        command = folder / "keyring"
        backend = "px_keyring.FileKeyring"
        lines = ["#!/bin/sh", f'export PYTHONPATH="{folder}" PYTHON_KEYRING_BACKEND={backend}']
        command.write_text("\n".join([*lines, f'exec "{tool("keyring")}" "$@"\n']))
        command.chmod(0o755)
        return cls(folder)

    def put(self, host: str, user: str, password: str) -> None:
        (self.folder / "held.json").write_text(json.dumps([[host, user, password]]))

    def was_asked(self) -> bool:
        return (self.folder / "asked").exists()


def with_pip(bench: Workbench, url: str) -> None:
    bench.pip_install(url, "px-members", args=ASKING_KEYRING)


def with_uv(bench: Workbench, url: str) -> None:
    bench.uv_pip_install(url, "px-members", args=ASKING_KEYRING)


ASKING_KEYRING = ("--keyring-provider", "subprocess")
CLIENTS = pytest.mark.parametrize("install", [with_pip, with_uv], ids=["pip", "uv"])


@CLIENTS
def test_with_a_password_in_the_address(members: Members, tmp_path: Path, install: Install) -> None:
    bench = Workbench(tmp_path / "url")
    install(bench, members.url(f"alice:{quote(PASSWORD, safe='')}"))
    assert INSTALLED.items() <= bench.installed().items()


@CLIENTS
def test_with_a_token_in_the_netrc(members: Members, tmp_path: Path, install: Install) -> None:
    bench = Workbench(tmp_path / "netrc")
    token = members.accounts.token("ci", actions=frozenset({"read"}))
    netrc = Path(bench.env["HOME"]) / ".netrc"
    netrc.write_text(f"machine {members.host} login __token__ password {token}\n")
    netrc.chmod(0o600)
    install(bench, members.url())
    assert INSTALLED.items() <= bench.installed().items()


@CLIENTS
def test_with_a_token_in_the_keyring(members: Members, tmp_path: Path, install: Install) -> None:
    bench = Workbench(tmp_path / "keyring")
    shelf = Keyring.of(tmp_path / "shelf")
    shelf.put(members.host, "__token__", members.accounts.token("ci"))
    bench.env["PATH"] = os.pathsep.join([str(shelf.folder), bench.env["PATH"]])
    install(bench, members.url("__token__"))
    assert INSTALLED.items() <= bench.installed().items()
    assert shelf.was_asked()


def test_poetry_with_a_password_in_the_environment(members: Members, tmp_path: Path) -> None:
    bench = Workbench(tmp_path / "poetry")
    bench.env["POETRY_HTTP_BASIC_PROXYINDEX_USERNAME"] = "alice"
    bench.env["POETRY_HTTP_BASIC_PROXYINDEX_PASSWORD"] = PASSWORD
    bench.poetry_lock(members.url(), "px-members")
    bench.env["VIRTUAL_ENV"] = str(bench.python.parent.parent)
    bench.run(tool("poetry"), "install", "--no-interaction", cwd=bench.project)
    assert INSTALLED.items() <= bench.installed().items()


@CLIENTS
def test_nobody_else_installs_anything(members: Members, tmp_path: Path, install: Install) -> None:
    revoked = members.accounts.token("ci")
    members.accounts.revoke_all()
    for number, userinfo in enumerate(("", "alice:wrong", f"__token__:{revoked}")):
        bench = Workbench(tmp_path / f"bench-{number}")
        with pytest.raises(ClientFailedError, match="px-members"):
            install(bench, members.url(userinfo))
    assert members.upstream.count() == 0
