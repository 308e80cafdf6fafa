"""Who may upload, delete and yank: check 120 of docs/conformance.md, and the rights behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxyindex.access import Action
from tests.support.accounts import Accounts, basic
from tests.support.builders import make_wheel, wheel_name
from tests.support.fixtures import start_server
from tests.support.http import Response
from tests.support.server import ProxyIndex
from tests.support.uploads import BOUNDARY, upload_form

CONFIG = """
[groups]
release = ["alice"]
[index.root]
folders = ["{home}/own"]
upload = ["@release", "ci px-ci-*"]
delete = ["alice"]
"""
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("rights")
    (home / "own").mkdir()
    return home


@pytest.fixture(scope="module")
def accounts(home: Path) -> Accounts:
    made = Accounts(home)
    for user in ("alice", "bob", "ci"):
        made.user(user, f"{user}'s")
    return made


@pytest.fixture(scope="module")
def running(home: Path, accounts: Accounts) -> Iterator[ProxyIndex]:
    config = home / "proxyindex.toml"
    config.write_text(accounts.toml + CONFIG.format(home=home))
    with start_server(home / "server", "--config", config) as made:
        yield made


def post(server: ProxyIndex, name: str, login: dict[str, str]) -> Response:
    form = upload_form(wheel_name(name), make_wheel(name), name=name)
    headers = {"Content-Type": FORM, **login}
    return server.get("/legacy/", headers, method="POST", body=form.body)


@pytest.mark.parametrize("login", [{}, basic("alice", "guessed"), {"authorization": "Basic !"}])
def test_120_without_a_login_that_holds_nothing_of_the_body_is_read(
    running: ProxyIndex, login: dict[str, str]
) -> None:
    size = 100_000_000
    headers = {"Content-Type": FORM, "Content-Length": str(size), "Expect": "100-continue", **login}
    with running.connect() as connection:  # the answer comes, though no body does
        connection.start("/legacy/", headers, method="POST")
        answer = connection.answer()
        assert answer.status == 401
        assert (answer.header("www-authenticate") or "").startswith("Basic ")
    assert not list((running.workdir.parent / "own").glob(".incoming/*/*"))


def test_120_who_is_known_but_may_not_is_told_so(running: ProxyIndex) -> None:
    for user, project in (("bob", "px-bobs"), ("ci", "px-other")):
        answer = post(running, project, basic(user, f"{user}'s"))
        assert answer.status == 403
        assert running.get(f"/simple/{project}/").status == 404


def test_120_grants_hold_for_users_groups_globs_and_tokens(
    running: ProxyIndex, accounts: Accounts, home: Path
) -> None:
    assert post(running, "px-alices", basic("alice", "alice's")).status == 200
    assert post(running, "px-ci-tool", basic("ci", "ci's")).status == 200
    token = accounts.token(
        "alice", projects=("px-one-*",), actions=frozenset({Action.UPLOAD, Action.READ})
    )
    assert post(running, "px-one-a", basic("__token__", token)).status == 200
    assert post(running, "px-two-a", basic("__token__", token)).status == 403
    target = "/api/projects/px-one-a"
    assert running.get(target, basic("__token__", token), method="DELETE").status == 403
    assert running.get(target, method="DELETE").status == 401
    record = home / "own" / "px-one-a" / (wheel_name("px-one-a") + ".json")
    assert json.loads(record.read_text())["uploader"] == "alice"
    assert running.get(target, basic("alice", "alice's"), method="DELETE").status == 200


def test_nobody_learns_from_a_refusal_whether_there_is_a_project(running: ProxyIndex) -> None:
    assert post(running, "px-there", basic("alice", "alice's")).status == 200
    for login in ({}, basic("bob", "bob's")):
        answers = [
            running.get(f"/api/projects/{name}", login, method="DELETE")
            for name in ("px-there", "px-nowhere")
        ]
        assert len({(answer.status, answer.body) for answer in answers}) == 1
