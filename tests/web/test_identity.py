"""Who asks, what he gets, and what nobody learns: the application in this process."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from proxyindex.settings import IndexSettings, PolicySettings
from proxyindex.web.given import Asker
from tests.support.accounts import Accounts, basic
from tests.support.builders import make_wheel, put
from tests.support.hermetic import until
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.quick import quick_answer
from tests.web.conftest import House

LOCAL = "mine-1.0-py3-none-any.whl"
JSON = {"accept": "application/vnd.pypi.simple.v1+json"}


@dataclass
class Home:
    """A house with users alice (of @staff) and bob, tokens, an own project and one upstream."""

    house: House
    accounts: Accounts
    wheel: FileSpec

    async def client(self, **settings: Any) -> httpx.AsyncClient:
        usual = {
            "htpasswd": (self.accounts.htpasswd,),
            "tokens": self.accounts.tokens.path,
            "groups": (("staff", ("alice",)),),
        }
        return await self.house.client(**{**usual, **settings})

    def given(self, target: str, headers: dict[str, str], peer: str = "-") -> tuple[int, str]:
        """What the express way answers, 0 for nothing, and whose answer it is."""
        fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        asker = Asker(peer)
        answer = quick_answer(self.house.express, target.encode(), fields, asker)
        return (answer.status if answer else 0), asker.user


@pytest.fixture
async def home(house: House, tmp_path: Path) -> Home:
    accounts = Accounts(tmp_path)
    accounts.user("alice", "wonderland")
    accounts.user("bob", "pässwörd")
    put(house.folder, LOCAL, make_wheel("mine", "1.0"))
    wheel = wheel_spec("demo", payload=5000)
    house.project("demo", wheel, sdist_spec("demo", "0.9"))
    house.serves("/simple/absent/", status=404)
    return Home(house, accounts, wheel)


NO_FOLDER = {"folders": ()}  # what was written just now is not relied on
NO_SDISTS = PolicySettings(deny=("demo<1",))
CLOSED = {"read": ("@users",), "fetch": ("@users",)}
TARGETS = [
    "/simple/",
    "/simple/mine/",
    f"/simple/mine/{LOCAL}",
    f"/simple/mine/{LOCAL}.metadata",
    f"/simple/mine/{LOCAL}.asc",
    "/simple/demo/",
    "/simple/absent/",
    "/simple/absent/absent-1.0.tar.gz",
    "/simple/Mine/",
    "/simple/mine",
    "/simple/-no-name-/",
    "/simple/mine/other-1.0.tar.gz",
    "/pypi/mine/json",
    "/pypi/absent/1.0/json",
    "/demo/json",
]


def everything(response: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    return response.status_code, response.headers.raw, response.content


@pytest.mark.parametrize("headers", [{}, basic("alice", ""), basic("alice", "wrong")], ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_whoever_is_not_let_in_gets_the_same_bytes_whatever_there_is(
    home: Home, headers: dict[str, str], method: str
) -> None:
    client = await home.client(**CLOSED)
    for target in TARGETS:  # so that some of it is in every memory there is
        await client.get(target, headers=basic("alice", "wonderland"))
    count = len(home.house.router.calls)
    answers = [everything(await client.request(method, one, headers=headers)) for one in TARGETS]
    assert all(answer == answers[0] for answer in answers)
    status, fields, _ = answers[0]
    assert status == 401
    assert (b"WWW-Authenticate", b'Basic realm="proxyindex", charset="UTF-8"') in [
        (b"WWW-Authenticate", value) for name, value in fields if name == b"www-authenticate"
    ]
    assert len(home.house.router.calls) == count, "nobody was asked"


LOG_INS: dict[str, tuple[dict[str, str], str | None]] = {
    "password": (basic("alice", "wonderland"), "alice"),
    "utf-8": (basic("bob", "pässwörd"), "bob"),
    "latin-1": (basic("bob", "pässwörd", "latin-1"), "bob"),
    "scheme in capitals": (
        {"authorization": basic("alice", "wonderland")["authorization"].replace("Basic", "BASIC")},
        "alice",
    ),
    "wrong": (basic("alice", "wonder"), None),
    "of another": (basic("alice", "pässwörd"), None),
    "nobody": (basic("nobody", "wonderland"), None),
    "empty": (basic("alice", ""), None),
    "no colon": ({"authorization": "Basic " + "YWxpY2U="}, None),
    "no base64": ({"authorization": "Basic !!!"}, None),
    "too long": ({"authorization": "Basic " + "A" * 8000}, None),
    "digest": ({"authorization": 'Digest username="alice"'}, None),
    "bearer password": ({"authorization": "Bearer wonderland"}, None),
    "nothing": ({"authorization": ""}, None),
}


@pytest.mark.parametrize("name", LOG_INS)
async def test_log_ins(home: Home, name: str) -> None:
    headers, user = LOG_INS[name]
    client = await home.client(**CLOSED)
    response = await client.get("/simple/mine/", headers=headers)
    assert response.status_code == (200 if user else 401)


@pytest.mark.parametrize("user", ["__token__", "", "ci", "alice", "anything"])
async def test_a_token_is_what_counts_whatever_the_user_beside_it(home: Home, user: str) -> None:
    client = await home.client(read=("ci",), fetch=("ci",))
    token = home.accounts.token("ci")
    for headers in (basic(user, token), {"authorization": f"Bearer {token}"}):
        assert (await client.get("/simple/mine/", headers=headers)).status_code == 200
    wrong = basic(user, token[:-1] + ("A" if token[-1] != "A" else "B"))
    assert (await client.get("/simple/mine/", headers=wrong)).status_code == 401


async def test_a_token_reaches_no_further_than_its_scope(home: Home) -> None:
    client = await home.client(read=("ci",), fetch=("ci",))
    scopes: list[tuple[dict[str, Any], int]] = [
        ({"indexes": ("ro*",)}, 200),
        ({"indexes": ("other",)}, 403),
        ({"projects": ("mi*",)}, 200),
        ({"projects": ("demo",)}, 403),
        ({"actions": frozenset({"upload"})}, 403),
        ({"actions": frozenset({"read"})}, 200),
        ({"expires": 1000.0}, 401),
    ]
    for scope, status in scopes:
        headers = basic("__token__", home.accounts.token("ci", **scope))
        for _ in range(2):
            assert (await client.get("/simple/mine/", headers=headers)).status_code == status, scope


async def test_who_has_an_expired_token_is_told_and_who_guesses_is_not(home: Home) -> None:
    client = await home.client(**CLOSED)
    token = home.accounts.token("ci", expires=1000.0)
    wrong = await client.get("/simple/mine/", headers=basic("__token__", token[:-1] + "!"))
    assert wrong.text == "The log-in is wrong: a user and password, or __token__ and a token.\n"
    for _ in range(2):
        answer = await client.get("/simple/mine/", headers=basic("__token__", token))
        told = "The token expired on 1970-01-01 00:16 UTC"
        assert answer.text == f"{told}: a user and password, or __token__ and a token.\n"
        assert answer.status_code == wrong.status_code == 401
        assert answer.headers["www-authenticate"] == wrong.headers["www-authenticate"]


async def test_a_refusal_blames_the_token_only_where_it_is_the_tokens(home: Home) -> None:
    client = await home.client(read=("ci mi*",), fetch=("ci",))
    scoped = basic("__token__", home.accounts.token("ci", projects=("demo", "mine")))
    beyond = basic("__token__", home.accounts.token("ci", indexes=("other",)))
    answer = await client.get("/simple/demo/", headers=scoped)
    assert answer.text == "On this index, ci may not read this project.\n"
    for target, headers in (("/simple/absent/", scoped), ("/simple/mine/", beyond)):
        answer = await client.get(target, headers=headers)
        assert answer.status_code == 403
        told = "On this index, this token may not read this project, whatever ci may.\n"
        assert answer.text == told


async def test_who_is_known_and_not_allowed_is_told_so_in_the_status_line(home: Home) -> None:
    client = await home.client(read=("@staff",), fetch=("@staff",))
    answers = [await client.get(one, headers=basic("bob", "pässwörd")) for one in TARGETS]
    assert all(everything(answer) == everything(answers[0]) for answer in answers)
    assert answers[0].status_code == 403
    assert answers[0].headers["x-proxyindex-reason"].endswith("bob may not read this project.")
    assert "www-authenticate" not in answers[0].headers
    assert (await client.get("/simple/mine/", headers=basic("alice", "wonderland"))).is_success


async def test_where_logging_in_would_not_help_nobody_is_asked_to(home: Home) -> None:
    client = await home.client(read=("* open-*",))
    assert (await client.get("/simple/mine/")).status_code == 403


async def test_where_everybody_may_nobody_is_asked_who_he_is(home: Home) -> None:
    client = await home.client(read=("*",), fetch=("*",))
    for headers in (basic("alice", "wrong"), {"authorization": "nonsense"}, {}):
        assert (await client.get("/simple/mine/", headers=headers)).status_code == 200


async def test_the_list_shows_what_one_may_read_and_no_more(home: Home) -> None:
    put(home.house.folder, "other-1.0-py3-none-any.whl", make_wheel("other", "1.0"))
    client = await home.client(read=("* oth*", "alice mi*", "bob", "ci"), fetch=("*",))
    token = basic("__token__", home.accounts.token("ci", projects=("mine",)))

    async def listed(headers: dict[str, str]) -> list[str]:
        document = (await client.get("/simple/", headers=headers | JSON)).json()
        return [one["name"] for one in document["projects"]]

    assert await listed({}) == ["other"]
    assert await listed(basic("alice", "wonderland")) == ["mine", "other"]
    assert await listed(basic("bob", "pässwörd")) == ["mine", "other"]
    assert await listed(token) == ["mine", "other"]
    assert (await client.get("/simple/", headers=basic("alice", "x"))).status_code == 401


async def test_what_only_some_may_have_is_not_for_shared_caches(home: Home) -> None:
    client = await home.client(read=("* demo", "alice"), fetch=("*",))
    for target in ("/simple/", "/simple/mine/", f"/simple/mine/{LOCAL}"):
        answer = await client.get(target, headers=basic("alice", "wonderland"))
        assert answer.headers["cache-control"].startswith("private, "), target
        assert "public" not in answer.headers["cache-control"]
    for target in ("/simple/demo/", f"/simple/demo/{home.wheel.filename}"):
        assert "private" not in (await client.get(target)).headers["cache-control"]


# Causing fetches


async def test_who_may_not_cause_a_fetch_sees_what_is_stored(home: Home) -> None:
    client = await home.client(read=("*",), fetch=("alice",))
    page, file = "/simple/demo/", f"/simple/demo/{home.wheel.filename}"
    alice, bob = basic("alice", "wonderland"), basic("bob", "pässwörd")
    for target in (page, file, file + ".metadata", "/simple/absent/"):
        assert (await client.get(target)).status_code == 401, "logging in would help"
        assert (await client.get(target, headers=bob)).status_code == 404
    assert not home.house.router.calls
    assert (await client.get(page, headers=alice)).status_code == 200
    assert (await client.get("/simple/absent/", headers=alice)).status_code == 404
    seen = await client.get(page, headers=bob | JSON)
    assert seen.json()["files"] == []
    assert (await client.get(file, headers=bob)).status_code == 404
    for suffix in ("", ".metadata"):
        assert (await client.get(file + suffix, headers=alice)).status_code == 200
    count = len(home.house.router.calls)
    seen = await client.get(page, headers=JSON)
    assert [one["filename"] for one in seen.json()["files"]] == [home.wheel.filename]
    assert (await client.get(file)).content == home.wheel.body
    assert (await client.get(file + ".metadata")).status_code == 200
    assert (await client.get("/simple/absent/")).status_code == 404, "that much is known"
    assert len((await client.get(page, headers=alice | JSON)).json()["files"]) == 2
    assert len(home.house.router.calls) == count


async def test_own_packages_are_not_fetched(home: Home) -> None:
    client = await home.client(read=("*",), fetch=())
    assert (await client.get(f"/simple/mine/{LOCAL}")).status_code == 200
    assert (await client.get("/simple/demo/")).status_code == 404


# The express way


async def remembered(home: Home, client: httpx.AsyncClient, headers: dict[str, str]) -> list[str]:
    """Targets whose answers are remembered once they were asked for with these headers."""
    page = "/simple/demo/"
    targets = [page, page + home.wheel.filename, f"{page}{home.wheel.filename}.metadata"]
    await until(home.accounts.is_settled, "writes that can be told from the next", every=0.01)
    for target in targets * 3:  # pages tell what is learned of files
        assert (await client.get(target, headers=headers)).status_code == 200
    return targets


def asked(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    plain = {"accept": client.headers["accept"]}
    return plain | {"accept-encoding": client.headers["accept-encoding"]} | headers


async def test_remembered_answers_are_for_whom_they_may_be_for(home: Home) -> None:
    client = await home.client(**NO_FOLDER, read=("@staff", "ci"), fetch=("@staff", "ci"))
    alice, bob = basic("alice", "wonderland"), basic("bob", "pässwörd")
    ci = basic("__token__", home.accounts.token("ci", projects=("demo",)))
    elsewhere = basic("__token__", home.accounts.token("ci", projects=("mine",)))
    for target in await remembered(home, client, alice):
        for headers, status in ((bob, 403), (ci, 200), (elsewhere, 403), ({}, 401)):
            assert (await client.get(target, headers=headers)).status_code == status
        given = [home.given(target, asked(client, one)) for one in (alice, ci, bob, elsewhere, {})]
        assert given == [(200, "alice"), (200, "ci"), (0, "-"), (0, "-"), (0, "-")]
        wrong = basic("alice", "wrong")
        assert home.given(target, asked(client, wrong)) == (0, "-")


async def test_remembered_answers_fall_with_the_password_and_the_token(home: Home) -> None:
    client = await home.client(**NO_FOLDER, **CLOSED)
    alice, text = basic("alice", "wonderland"), home.accounts.token("ci")
    ci = basic("__token__", text)
    targets = await remembered(home, client, ci)
    await remembered(home, client, alice)
    for target in targets:
        assert home.given(target, asked(client, ci)) == (200, "ci")
        assert home.given(target, asked(client, alice)) == (200, "alice")
    home.accounts.revoke_all()
    home.accounts.user("alice", "looking-glass")
    for target in targets:
        for headers in (ci, alice):
            assert home.given(target, asked(client, headers)) == (0, "-")
            assert (await client.get(target, headers=headers)).status_code == 401
        changed = basic("alice", "looking-glass")
        assert (await client.get(target, headers=changed)).status_code == 200


async def test_answers_to_who_may_not_fetch_are_not_given_to_who_may(home: Home) -> None:
    client = await home.client(read=("*",), fetch=("alice",))
    alice, page = basic("alice", "wonderland"), "/simple/demo/"
    await client.get(page, headers=alice | JSON)
    for _ in range(2):
        assert (await client.get(page, headers=JSON)).json()["files"] == []
    assert home.given(page, asked(client, JSON | alice)) in ((0, "-"), (200, "alice"))
    assert len((await client.get(page, headers=alice | JSON)).json()["files"]) == 2
    assert home.given(page, asked(client, JSON)) == (0, "-")


async def test_own_answers_are_also_given_to_who_may_not_have_anything_fetched(home: Home) -> None:
    client = await home.client(read=("@staff", "ci"), fetch=("ci",))
    alice, bob = basic("alice", "wonderland"), basic("bob", "pässwörd")
    targets = ["/simple/mine/", f"/simple/mine/{LOCAL}", f"/simple/mine/{LOCAL}.metadata"]
    for target in targets:

        async def is_remembered(target: str = target) -> bool:
            assert (await client.get(target, headers=alice)).status_code == 200
            return home.given(target, asked(client, alice)) == (200, "alice")

        await until(is_remembered, "what was written just now has settled", every=0.05)
        for headers, status in ((bob, 403), ({}, 401)):
            assert home.given(target, asked(client, headers)) == (0, "-")
            assert (await client.get(target, headers=headers)).status_code == status


async def test_own_answers_that_are_merged_are_for_who_may_have_it_fetched(home: Home) -> None:
    home.house.project("mine", wheel_spec("mine", "2.0"))
    client = await home.client(read=("alice", "ci"), fetch=("ci",), merge=("mine",))
    alice, page = basic("alice", "wonderland"), "/simple/mine/"
    ci = basic("__token__", home.accounts.token("ci"))

    async def is_remembered() -> bool:
        assert len((await client.get(page, headers=JSON | ci)).json()["files"]) == 2
        return home.given(page, asked(client, JSON | ci)) == (200, "ci")

    await until(is_remembered, "what was written just now has settled", every=0.05)
    assert (await client.get(page, headers=JSON | alice)).status_code == 200
    assert home.given(page, asked(client, JSON | alice)) == (0, "-")
    (file,) = (await client.get(page, headers=JSON | alice)).json()["files"]
    assert file["filename"] == LOCAL


async def test_public_answers_are_given_whoever_asks(home: Home) -> None:
    client = await home.client(**NO_FOLDER)
    for target in await remembered(home, client, {}):
        for headers in ({}, basic("alice", "wrong"), {"authorization": "nonsense"}):
            assert home.given(target, asked(client, headers)) == (200, "-")


async def test_where_the_user_name_selects_the_index_no_answer_is_given_for_another(
    home: Home,
) -> None:
    upstreams = ("up",)
    closed = IndexSettings(
        name="closed", upstreams=upstreams, read=("ci",), fetch=("ci",), policy=NO_SDISTS
    )
    tables = (IndexSettings(name="open", upstreams=upstreams), closed)
    client = await home.client(**NO_FOLDER, index_tables=tables, select_by_user=True)
    page, token = "/simple/demo/", home.accounts.token("ci")

    async def count(headers: dict[str, str], target: str = page) -> int:
        answer = await client.get(target, headers=headers | JSON)
        return len(answer.json()["files"]) if answer.is_success else answer.status_code

    for _ in range(4):
        assert await count({}) == 2
        assert await count(basic("closed", token)) == 1
        assert await count(basic("closed", "wrong")) == 401
        assert await count(basic("closed", "")) == 401
        assert await count(basic("open", token)) == 2
        assert await count(basic("__token__", token)) == 2
        assert await count(basic("__token__", token), "/closed/simple/demo/") == 1
        assert await count({}, "/closed/simple/demo/") == 401
    assert home.given(page, asked(client, JSON)) == (200, "-")
    for headers in (basic("closed", token), basic("open", token)):
        assert home.given(page, asked(client, headers | JSON)) == (0, "-")


# A front that has logged its users in

FRONT = {
    "remote_user_header": "Remote-User",
    "remote_user_from": ("192.0.2.0/24", "unix"),
    "read": ("@staff",),
    "fetch": ("@staff",),
}


@pytest.mark.parametrize(
    ("peer", "fields", "status"),
    [
        ("192.0.2.7", [("remote-user", "alice")], 200),
        ("unix", [("Remote-User", "alice")], 200),
        ("192.0.2.7", [("remote-user", "bob")], 403),
        ("192.0.2.7", [("remote-user", "")], 401),
        ("192.0.2.7", [("remote-user", ""), ("remote-user", "alice")], 401),
        ("192.0.2.7", [("remote-user", "a b")], 401),
        ("192.0.2.7", [("remote-user", "alice"), ("remote-user", "alice")], 401),
        ("192.0.2.7", [("remote_user", "alice")], 401),
        ("192.0.2.7", [], 401),
        ("198.51.100.1", [("remote-user", "alice")], 401),
        ("127.0.0.1", [("remote-user", "alice")], 401),
        ("-", [("remote-user", "alice")], 401),
        ("198.51.100.1", [("remote-user", "alice"), ("x-forwarded-for", "192.0.2.7")], 401),
    ],
)
async def test_a_front_is_believed_by_where_its_connection_comes_from(
    home: Home, peer: str, fields: list[tuple[str, str]], status: int
) -> None:
    client = await home.client(**NO_FOLDER, **FRONT)
    home.house.peer = peer
    for _ in range(2):
        assert (await client.get("/simple/demo/", headers=fields)).status_code == status
    known = home.given("/simple/demo/", asked(client, dict(fields)), peer)
    assert known == ((200, "alice") if status == 200 else (0, "-"))


async def test_the_front_s_word_goes_before_a_log_in_it_passed_on(home: Home) -> None:
    client = await home.client(**FRONT)
    home.house.peer = "unix"
    headers = {"remote-user": "alice", **basic("someone", "of the front's own")}
    assert (await client.get("/simple/mine/", headers=headers)).status_code == 200
    own = basic("alice", "wonderland")
    assert (await client.get("/simple/mine/", headers=own)).status_code == 200


async def test_a_front_that_names_nobody_leaves_it_to_the_log_in_it_passed_on(home: Home) -> None:
    """Some send an empty field then, which shut out whoever had a token."""
    client = await home.client(**NO_FOLDER, **FRONT)
    home.house.peer = "unix"
    nobody = {"remote-user": ""}
    token = nobody | basic("__token__", home.accounts.token("alice"))

    async def is_remembered() -> bool:
        assert (await client.get("/simple/demo/", headers=token)).status_code == 200
        return home.given("/simple/demo/", asked(client, token), "unix") == (200, "alice")

    await until(is_remembered, "what was written just now has settled", every=0.05)
    for headers in (nobody, nobody | basic("alice", "wrong")):
        assert (await client.get("/simple/demo/", headers=headers)).status_code == 401
        assert home.given("/simple/demo/", asked(client, headers), "unix") == (0, "-")


async def test_without_being_configured_a_unix_socket_names_nobody(home: Home) -> None:
    client = await home.client(**FRONT | {"remote_user_from": ("192.0.2.0/24",)})
    home.house.peer = "unix"
    headers = {"remote-user": "alice"}
    assert (await client.get("/simple/mine/", headers=headers)).status_code == 401


# Guessing


async def test_guesses_are_slowed_and_who_knows_goes_on(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = await home.client(**CLOSED)
    token = basic("__token__", home.accounts.token("ci"))
    assert (await client.get("/simple/mine/", headers=basic("alice", "wonderland"))).is_success
    statuses = []
    for number in range(30):
        answer = await client.get("/simple/mine/", headers=basic("bob", f"guess{number}"))
        statuses.append(answer.status_code)
    assert statuses == [401] * 20 + [429] * 10
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert (await client.get("/simple/mine/", headers=basic("bob", "pässwörd"))).status_code == 429
    for headers in (token, basic("alice", "wonderland")):
        assert (await client.get("/simple/mine/", headers=headers)).is_success
    refused = [one.getMessage() for one in caplog.records if one.name == "proxyindex.audit"]
    assert refused[0] == "log in refused user=bob client=127.0.0.1"
    assert not [one for one in caplog.messages if "guess" in one or "wonderland" in one]


async def test_a_herd_with_one_log_in_is_one_attempt(home: Home) -> None:
    client = await home.client(**CLOSED)
    statuses: list[int] = []

    async def ask(password: str) -> None:
        answer = await client.get("/simple/mine/", headers=basic("bob", password))
        statuses.append(answer.status_code)

    for password, status in (("pässwörd", 200), ("wrong", 401)):
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(ask, password)
        assert set(statuses) == {status}
        statuses.clear()


async def test_the_access_line_has_the_user(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = await home.client(**CLOSED)
    await client.get("/simple/mine/", headers=basic("alice", "wonderland"))
    await client.get("/simple/mine/", headers=basic("alice", "wrong"))
    await client.get("/simple/mine/", headers=basic("__token__", home.accounts.token("ci")))
    lines = [one for one in caplog.records if one.name == "proxyindex.access"]
    users = [one.__dict__["fields"]["user"] for one in lines]
    assert users == ["alice", "-", "ci"]
    assert lines[0].getMessage().startswith("127.0.0.1 alice GET /simple/mine/ 200 ")
