"""Users, tokens and rights over the wire: docs/conformance.md, 129 to 131, and several workers."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import http
from tests.support.accounts import Accounts, basic
from tests.support.builders import make_wheel, put
from tests.support.fixtures import ServerFactory, start_server
from tests.support.hermetic import environment, wait_until
from tests.support.pages import JSON_TYPE, FileSpec, wheel_spec
from tests.support.upstream import FakeUpstream

JSON = {"Accept": JSON_TYPE}
ALICE, BOB = basic("alice", "wonderland"), basic("bob", "pässwörd")
WRONG = basic("alice", "not-wonderland")
FILE = "/mirror/simple/demo/" + wheel_spec("demo", payload=200_000).filename
CONFIG = """
{accounts}
default-index = "prod"
[groups]
staff = ["alice"]
[index.prod]
folders = ["packages"]
upstreams = ["up"]
read = ["@users"]
fetch = ["@users"]
[index.dev]
folders = ["dev"]
read = ["@staff", "ci acme-*"]
[index.mirror]
upstreams = ["up"]
read = ["@users"]
fetch = ["@users"]
[index.public]
folders = ["public"]
[[upstream]]
name = "up"
url = "{upstream}"
"""


class Place:
    """A server with four indexes; alice is staff, bob and ci are not. Only `mirror` has no folder
    that was written just now, so that its answers are remembered."""

    def __init__(self, home: Path, upstream: FakeUpstream, *args: str, workers: int = 1) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.accounts = Accounts(home)
        self.accounts.user("alice", "wonderland")
        self.accounts.user("bob", "pässwörd")
        self.upstream = upstream
        self.wheel: FileSpec = wheel_spec("demo", payload=200_000)  # too large for memory
        upstream.project("demo", self.wheel)
        for folder, project in (("packages", "mine"), ("dev", "acme-lib"), ("public", "free")):
            (home / folder).mkdir()
            name = project.replace("-", "_")
            put(home / folder, f"{name}-1.0-py3-none-any.whl", make_wheel(project, "1.0"))
        put(home / "dev", "other-1.0-py3-none-any.whl", make_wheel("other", "1.0"))
        config = home / "proxyindex.toml"
        text = CONFIG.format(accounts=self.accounts.toml, upstream=upstream.simple_url)
        config.write_text(text)
        self.home = home
        self.server = start_server(home / "server", "--config", config, *args, workers=workers)
        self.server.args.remove("--no-upstream")

    def status(self, target: str, headers: http.Headers = ()) -> int:
        """Of a request on a connection that might be kept: only such get remembered answers."""
        with self.server.connect() as connection:
            answer = connection.request(target, headers)
            answer.read()
            return answer.status


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with FakeUpstream() as upstream:
        made = Place(tmp_path_factory.mktemp("place") / "home", upstream)
        with made.server:
            yield made


@pytest.fixture
def crowd(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Place]:
    """As `place`, with four workers, and of the test's own."""
    made = Place(tmp_path / "home", upstream, workers=4)
    with made.server:
        yield made


TARGETS = [
    "/simple/",
    "/simple/mine/",
    "/simple/mine/mine-1.0-py3-none-any.whl",
    "/simple/mine/mine-1.0-py3-none-any.whl.metadata",
    "/simple/mine/mine-1.0-py3-none-any.whl.asc",
    "/simple/mine/mine-2.0-py3-none-any.whl",
    "/simple/demo/",
    "/simple/absent/",
    "/simple/absent/absent-1.0.tar.gz",
    "/simple/Mine/",
    "/simple/mine",
    "/simple/_/",
]


def raw(place: Place, target: str, headers: http.Headers, method: str) -> tuple[int, str, str]:
    """Status, all but the date, and body of one answer."""
    with place.server.connect() as connection:
        answer = connection.request(target, headers, method=method)
        answer.read()
    fields = [f"{name}: {value}" for name, value in answer.headers if name.lower() != "date"]
    return answer.status, "\n".join([answer.reason, *fields]), answer.body.decode()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("prefix", ["", "/prod", "/dev"])
@pytest.mark.parametrize("headers", [{}, basic("alice", "")], ids=["none", "empty"])
def test_130_whoever_is_not_let_in_learns_nothing(
    place: Place, headers: dict[str, str], prefix: str, method: str
) -> None:
    for target in TARGETS:
        for user in (ALICE, BOB):
            place.server.get(prefix + target, user)
    learns_nothing(place, prefix, headers, method)


@pytest.mark.parametrize(("method", "user"), [("GET", "alice"), ("HEAD", "bob")])
def test_130_nor_does_whoever_guesses(place: Place, method: str, user: str) -> None:
    for headers in (ALICE, BOB):  # who is known here guesses for himself: he is not slowed yet
        place.server.get("/simple/mine/", headers)
    learns_nothing(place, "", basic(user, "no password of his"), method)


def learns_nothing(place: Place, prefix: str, headers: dict[str, str], method: str) -> None:
    count = place.upstream.count()
    answers = {raw(place, prefix + target, headers, method) for target in TARGETS}
    ((status, fields, body),) = answers
    assert status == 401
    assert 'www-authenticate: Basic realm="proxyindex", charset="UTF-8"' in fields
    assert method == "HEAD" or body.endswith("a user and password, or __token__ and a token.\n")
    assert place.upstream.count() == count


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_130_whoever_may_read_some_names_learns_nothing_of_the_others(
    place: Place, method: str
) -> None:
    ci = basic("__token__", place.accounts.token("ci"))
    targets = ["/simple/other/", "/simple/absent/", "/simple/other/other-1.0-py3-none-any.whl"]
    targets += ["/simple/other", "/simple/Other/", "/simple/_/", "/simple/absent/absent-1.tar.gz"]
    ((status, _, _),) = {raw(place, "/dev" + target, ci, method) for target in targets}
    assert status == 403
    assert place.status("/dev/simple/acme-lib/", ci) == 200
    listed = place.server.get("/dev/simple/", {**ci, **JSON}).json()["projects"]
    assert [one["name"] for one in listed] == ["acme-lib"]


def test_130_nor_does_it_matter_whether_the_folder_can_be_read(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    made = Place(tmp_path / "home", upstream)
    with made.server:
        before = raw(made, "/dev/simple/acme-lib/", {}, "GET")
        os.rename(made.home / "dev", made.home / "gone")
        assert made.status("/dev/simple/acme-lib/", ALICE) == 503
        assert raw(made, "/dev/simple/acme-lib/", {}, "GET") == before


@pytest.mark.parametrize(
    ("target", "of_alice", "of_bob", "of_nobody"),
    [
        ("/simple/mine/", 200, 200, 401),
        ("/prod/simple/mine/", 200, 200, 401),
        ("/mirror/simple/demo/", 200, 200, 401),
        ("/mirror/simple/demo/demo-1.0-py3-none-any.whl", 200, 200, 401),
        ("/mirror/simple/demo/demo-1.0-py3-none-any.whl.metadata", 200, 200, 401),
        ("/dev/simple/acme-lib/", 200, 403, 401),
        ("/dev/simple/", 200, 403, 401),
        ("/dev/simple/absent/", 404, 403, 401),
        ("/public/simple/free/", 200, 200, 200),
        ("/public/simple/", 200, 200, 200),
        ("/", 200, 200, 200),
        ("/health", 200, 200, 200),
    ],
)
def test_each_index_has_rights_of_its_own(
    place: Place, target: str, of_alice: int, of_bob: int, of_nobody: int
) -> None:
    for _ in range(4):  # the plain way, and the remembered answer
        statuses = [place.status(target, headers) for headers in (ALICE, BOB, {})]
        assert statuses == [of_alice, of_bob, of_nobody]


def test_a_token_for_one_index_is_none_for_another(place: Place) -> None:
    token = basic("__token__", place.accounts.token("alice", indexes=("dev",)))
    assert place.status("/dev/simple/acme-lib/", token) == 200
    assert place.status("/prod/simple/mine/", token) == 403


def test_129_a_log_in_is_for_us_alone(place: Place) -> None:
    token = place.accounts.token("ci")
    name = "px-129"
    spec = wheel_spec(name)
    place.upstream.project(name, spec)
    for headers in (ALICE, basic("__token__", token), {"Authorization": f"Bearer {token}"}):
        target = f"/simple/{name}/{spec.filename}"
        for one in (f"/simple/{name}/", target, target + ".metadata"):
            assert place.status(one, headers) == 200
    for seen in place.upstream.requests():
        told = [seen.target, *(f"{field}: {value}" for field, value in seen.headers)]
        assert seen.header("authorization") is None
        assert token not in " ".join(told)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_131_the_log_names_users_and_nothing_secret(
    tmp_path: Path, upstream: FakeUpstream, log_format: str
) -> None:
    made = Place(tmp_path / "home", upstream, "--log-format", log_format, "--log-level", "debug")
    token = made.accounts.token("ci")
    target = "/simple/mine/mine-1.0-py3-none-any.whl"
    with made.server as server:
        for headers in (ALICE, BOB, basic("__token__", token), WRONG, basic("eve", "guess-9")):
            for _ in range(3):
                server.get(target, headers)
        server.get(target, {"Authorization": f"Bearer {token}"})
        server.get(f"/simple/mine/?token={token}", {"Authorization": f"Digest {token}"})
        text = server.stop().output
    shown = [headers["authorization"].partition(" ")[2] for headers in (ALICE, BOB, WRONG)]
    secrets = ["wonderland", "pässwörd", "p\\u00e4ss", "guess-9", token, token[5:20], *shown]
    assert [secret for secret in secrets if secret in text] == []
    if log_format == "json":
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        users = [line["user"] for line in lines if line["logger"] == "proxyindex.access"]
        refused = [line["user"] for line in lines if line["logger"] == "proxyindex.audit"]
    else:
        access = [line.split() for line in text.splitlines() if "proxyindex.access: " in line]
        users = [line[4] for line in access]
        refused = [
            line.partition("user=")[2].split()[0]
            for line in text.splitlines()
            if ".audit: " in line
        ]
    assert [users.count(user) for user in ("alice", "bob", "ci")] == [3, 3, 4]
    assert refused == ["alice"] * 3 + ["eve"] * 3


def test_revoked_and_changed_at_once_in_every_worker(crowd: Place) -> None:
    accounts, target = crowd.accounts, "/mirror/simple/demo/"

    def statuses(headers: dict[str, str], count: int = 40) -> set[int]:
        """Of connections that, sooner or later, come to every worker, on both ways."""
        return {crowd.status(target, {**headers, **JSON}) for _ in range(count)}

    for number in range(2):
        accounts.user("alice", f"password-{number}")
        token = basic("__token__", accounts.token("ci"))
        alice = basic("alice", f"password-{number}")
        assert statuses(token) == {200}
        assert statuses(alice) == {200}
        accounts.revoke_all()
        assert statuses(token) == {401}
        accounts.user("alice", "another")
        assert statuses(alice, 9) == {401}
        assert statuses(basic("alice", "another")) == {200}


@pytest.mark.parametrize("target", ["/mirror/simple/demo/", FILE])
def test_connections_that_are_kept_are_no_exception(crowd: Place, target: str) -> None:
    token = basic("__token__", crowd.accounts.token("ci"))
    connections = [crowd.server.connect() for _ in range(12)]
    ends = itertools.count(9)
    try:

        def statuses() -> set[int]:
            answers = [
                one.request(target, {**token, **JSON, "Range": f"bytes=5-{next(ends)}"})
                for one in connections
            ]
            return {answer.status for answer in answers if answer.body is not None}

        for _ in range(5):
            assert statuses() == {206 if target == FILE else 200}
        crowd.accounts.revoke_all()
        assert statuses() == {401}
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("count", [1, 4])
def test_whatever_is_asked_after_a_revocation_is_refused_however_busy_the_server(
    tmp_path: Path, upstream: FakeUpstream, count: int
) -> None:
    made = Place(tmp_path / "home", upstream, workers=count)
    headers = {**basic("__token__", made.accounts.token("ci")), **JSON}
    begun: list[tuple[float, int]] = []
    is_over = threading.Event()

    def ask() -> None:
        with made.server.connect() as connection:
            while not is_over.is_set():
                at = time.monotonic()
                answer = connection.request("/mirror/simple/demo/", headers)
                answer.read()
                begun.append((at, answer.status))

    with made.server, ThreadPoolExecutor(16) as pool:
        crowd = [pool.submit(ask) for _ in range(16)]
        try:
            wait_until(lambda: len(begun) > 2000, "a busy server")
            made.accounts.revoke_all()
            revoked, seen = time.monotonic(), len(begun)
            wait_until(lambda: len(begun) > seen + 1000, "as many refusals")
        finally:
            is_over.set()
        for one in crowd:
            one.result()
    assert {status for at, status in begun if at > revoked} == {401}
    assert {status for at, status in begun[:2000]} == {200}


@pytest.mark.parametrize("count", [1, 4])
def test_groups_and_rights_are_read_again_at_sighup(
    tmp_path: Path, upstream: FakeUpstream, count: int
) -> None:
    made = Place(tmp_path / "home", upstream, workers=count)
    config = made.home / "proxyindex.toml"
    with made.server as server:

        def statuses() -> tuple[int, int]:
            return made.status("/dev/simple/", BOB), made.status("/dev/simple/")

        assert statuses() == (403, 401)
        text = config.read_text().replace('staff = ["alice"]', 'staff = ["bob"]')
        config.write_text(text)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: statuses() == (200, 401), "bob on the staff")
        config.write_text(text.replace('read = ["@staff", "ci acme-*"]', 'read = ["*"]'))
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: statuses() == (200, 200), "an index for all")


def test_whoever_left_a_group_is_refused_on_the_connection_he_kept(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    made = Place(tmp_path / "home", upstream)
    config = made.home / "proxyindex.toml"
    staff = config.read_text().replace('read = ["@users"]', 'read = ["@staff"]')
    config.write_text(staff.replace('staff = ["alice"]', 'staff = ["alice", "bob"]'))
    wait_until(made.accounts.is_settled, "log-ins that are remembered")
    with made.server as server, server.connect() as kept:

        def status() -> int:
            answer = kept.request("/mirror/simple/demo/", BOB)
            answer.read()
            return answer.status

        assert [status() for _ in range(4)] == [200] * 4, "known by the connection"
        config.write_text(staff)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in server.logs, "a reload")
        for _ in range(3):  # what alice is given is remembered
            assert made.status("/mirror/simple/demo/", ALICE) == 200
        assert [status() for _ in range(2)] == [403] * 2


FRONT = """
remote-user-header = "Remote-User"
remote-user-from = [{peers}]
read = ["alice"]
"""


def fronted(home: Path, peers: str) -> Path:
    """A configuration that believes a front."""
    folder = home / "packages"
    folder.mkdir(parents=True)
    put(folder, "mine-1.0-py3-none-any.whl", make_wheel("mine", "1.0"))
    config = home / "proxyindex.toml"
    config.write_text(FRONT.format(peers=peers) + f'folders = ["{folder}"]\n')
    return config


@pytest.mark.parametrize("forwarded", ["", "192.0.2.1", "10.9.9.9", "127.0.0.1, 192.0.2.1"])
def test_a_front_is_known_by_its_socket_not_by_what_is_forwarded(
    server: ServerFactory, tmp_path: Path, forwarded: str
) -> None:
    headers = {"Remote-User": "alice"} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    for folder, peers, status in (("here", '"127.0.0.1"', 200), ("there", '"192.0.2.0/24"', 401)):
        running = server("--config", fronted(tmp_path / folder, peers))
        assert {running.get("/simple/mine/", headers).status for _ in range(3)} == {status}
        assert running.get("/simple/mine/").status == 401


@pytest.mark.parametrize(("peers", "status"), [('"unix"', 200), ('"127.0.0.1"', 401)])
def test_whoever_may_open_our_unix_socket_is_a_front_only_where_configured(
    tmp_path: Path, peers: str, status: int
) -> None:
    path, config = tmp_path / "proxyindex.sock", fronted(tmp_path / "home", peers)
    command = [sys.executable, "-m", "proxyindex", "serve", "--no-upstream"]
    command += ["--config", str(config), "--unix-socket", str(path)]
    with subprocess.Popen(
        command, env=environment(tmp_path / "own"), stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: path.exists() and _connects(path), "the socket", timeout=30.0)
            assert [_asked(path, one) for one in ("Remote-User", "X-Other")] == [status, 401]
        finally:
            process.terminate()


def _asked(path: Path, header: str) -> int:
    """The status of one answer by the Unix socket, alice being named in this header."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        lines = ["GET /simple/mine/ HTTP/1.1", "Host: x", "Connection: close", f"{header}: alice"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split()[1])


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def test_guesses_over_the_wire_are_slowed(tmp_path: Path, upstream: FakeUpstream) -> None:
    made = Place(tmp_path / "home", upstream)
    with made.server as server:
        assert made.status("/simple/mine/", ALICE) == 200
        began = time.monotonic()
        answers = [server.get("/simple/mine/", basic("bob", f"{n}")) for n in range(40)]
        allowed = 20 + (time.monotonic() - began) / 5  # one more in five seconds
        refused = [one for one in answers if one.status == 429]
        assert {one.status for one in answers} == {401, 429}
        assert len(answers) - len(refused) <= allowed
        assert 1 <= int(refused[-1].header("retry-after") or "0") <= 5
        assert made.status("/simple/mine/", ALICE) == 200
        token = basic("__token__", made.accounts.token("ci"))
        assert made.status("/simple/mine/", token) == 200
