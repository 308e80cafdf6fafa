"""Deleting, yanking, pushing and refreshing: by the API, and from the command line in both ways."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.builders import make_sdist, make_wheel, put_wheel, sdist_name, wheel_name
from tests.support.fixtures import ServerFactory, start_server
from tests.support.hermetic import environment, wait_until
from tests.support.pages import JSON_TYPE, wheel_spec
from tests.support.server import ProxyIndex
from tests.support.uploads import UploadForm, two_indexes, upload_form
from tests.support.upstream import FakeUpstream

EMPTY = '[index.empty]\nbases = ["prod"]\nadmin = ["*"]\n'  # has no folder of its own
STRICT = """
[index.strict]
folders = ["strict"]
upload = ["*"]
policy = { deny = ["px-evil", "px-old<2"] }
"""

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("indexes")


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[ProxyIndex]:
    config = two_indexes(home)
    config.write_text(f'audit-log = "audit.log"\n{config.read_text()}{EMPTY}{STRICT}')
    (home / "strict").mkdir()
    with start_server(home / "server", "--config", config, workers=2) as made:
        yield made


@pytest.fixture
def noted(home: Path) -> Callable[[], list[str]]:
    """The lines of the audit log since the test began, without their times."""
    path = home / "audit.log"
    seen = len(path.read_text()) if path.exists() else 0
    return lambda: [
        line.partition(" INFO proxyindex.audit: ")[2]
        for line in path.read_text()[seen:].splitlines()
    ]


@pytest.fixture(params=["on the folders", "by a server"])
def run(request: pytest.FixtureRequest, running: ProxyIndex, home: Path) -> Run:
    """`proxyindex ARGS`, beside the running server or by it: exit code and what was printed."""
    by_server = ["--server", running.simple_url]
    on_folders = ["--config", home / "proxyindex.toml", "--cache-dir", running.cache_dir]
    where = by_server if request.param == "by a server" else on_folders

    def command(*args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "proxyindex", *args, *where],
            env=running.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.strip()

    return command


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A project of the test's own."""
    return "px-" + re.sub(r"[^a-z]+", "-", request.node.name).strip("-")


def wheel(name: str, version: str = "1.0", payload: int = 0) -> UploadForm:
    content = make_wheel(name, version, payload=payload)
    return upload_form(wheel_name(name, version), content, name=name)


def sdist(name: str, version: str = "1.0") -> UploadForm:
    return upload_form(sdist_name(name, version), make_sdist(name, version), name=name)


def entries(server: ProxyIndex, index: str, name: str) -> dict[str, dict[str, object]]:
    page = server.get(f"/{index}/simple/{name}/", {"Accept": JSON_TYPE})
    return {f["filename"]: f for f in page.json()["files"]} if page.status == 200 else {}


def hashes(server: ProxyIndex, index: str, name: str) -> dict[str, object]:
    return {file: entry["hashes"] for file, entry in entries(server, index, name).items()}


def test_a_version_or_a_file_is_deleted_and_nothing_else(
    running: ProxyIndex, run: Run, name: str
) -> None:
    forms = [wheel(name), sdist(name), wheel(name, "2.0"), wheel(name, "3.0")]
    for form in forms:
        assert form.post(running).status == 200
    assert run("delete", f"{name}==1.0.0", "--file", sdist_name(name), "--yes")[0] == 0
    assert set(entries(running, "prod", name)) == {f.filename for f in forms} - {sdist_name(name)}
    code, said = run("delete", f"{name}==2.0", "--yes")
    assert (code, said) == (0, f"Deleted {wheel_name(name, '2.0')}")
    assert set(entries(running, "prod", name)) == {wheel_name(name), wheel_name(name, "3.0")}
    again = wheel(name, "2.0", payload=99).post(running)
    assert again.status == 400
    assert "was deleted" in again.text
    assert run("delete", name, "--yes")[0] == 0
    assert not entries(running, "prod", name)
    assert running.get(f"/simple/{name}/").status == 200, "the name stays taken"


def test_who_does_not_say_yes_is_asked(running: ProxyIndex, run: Run, name: str) -> None:
    assert wheel(name).post(running).status == 200
    code, said = run("delete", name)
    assert code != 0
    assert f"Delete {name}?" in said
    assert entries(running, "prod", name)


def test_a_version_is_yanked_with_a_reason_and_the_yank_taken_back(
    running: ProxyIndex, run: Run, name: str
) -> None:
    for form in (wheel(name), wheel(name, "2.0")):
        assert form.post(running).status == 200
    assert run("yank", f"{name}==1.0", "--reason", "loses <data>") == (
        0,
        f"Yanked {wheel_name(name)}",
    )
    yanked = {file: one["yanked"] for file, one in entries(running, "prod", name).items()}
    assert yanked == {wheel_name(name): "loses <data>", wheel_name(name, "2.0"): False}
    assert run("unyank", f"{name}==1.0")[0] == 0
    assert entries(running, "prod", name)[wheel_name(name)]["yanked"] is False


def test_a_yank_that_changes_nothing_says_so_and_leaves_no_line(
    running: ProxyIndex, run: Run, name: str, noted: Callable[[], list[str]]
) -> None:
    for form in (wheel(name), sdist(name)):
        assert form.post(running).status == 200
    release = f"{name}==1.0"
    assert run("unyank", release) == (0, "None of it is yanked.")
    assert run("yank", release, "--reason", "why", "--file", wheel_name(name))[0] == 0
    assert run("yank", release, "--reason", "why") == (0, f"Yanked {sdist_name(name)}")
    assert run("yank", release, "--reason", "why") == (0, "All of it is yanked so already.")
    assert run("yank", release)[1].count("Yanked") == 2, "for another reason"
    target = f"/api/projects/{name}/1.0/yank"
    assert running.get(target, method="POST").header("x-proxyindex") == "unchanged"
    assert [line.split()[0] for line in noted()[2:]] == ["yank"] * 3


def test_a_release_is_pushed_with_all_that_belongs_to_it(
    running: ProxyIndex, run: Run, name: str
) -> None:
    forms = [wheel(name), sdist(name), wheel(name, "2.0")]
    forms[0].tail = [("gpg_signature", b"-----BEGIN PGP", forms[0].filename + ".asc")]
    for form in forms:
        assert form.post(running, "/dev/legacy/").status == 200
    assert run("yank", f"{name}==1.0", "--reason", "wait", "--index", "dev")[0] == 0
    before = entries(running, "dev", name)
    code, said = run("push", f"{name}==1.0", "dev", "prod")
    assert code == 0, said
    pushed = {forms[0].filename, forms[1].filename}
    assert set(said.splitlines()) == {f"Pushed {filename}" for filename in pushed}
    after = entries(running, "prod", name)
    same = ("hashes", "upload-time", "requires-python", "yanked", "size", "core-metadata")
    assert {file: [one.get(key) for key in same] for file, one in after.items()} == {
        file: [before[file].get(key) for key in same] for file in pushed
    }
    signature = running.get(f"/simple/{name}/{forms[0].filename}.asc")
    assert signature.body == b"-----BEGIN PGP"
    assert run("push", f"{name}==1.0", "dev", "prod") == (0, "All of it is there already.")
    assert run("push", f"{name}==2.0", "dev", "prod")[0] == 0
    assert len(entries(running, "prod", name)) == 3


def test_a_push_over_other_bytes_is_refused_as_a_whole(
    running: ProxyIndex, run: Run, name: str
) -> None:
    assert wheel(name).post(running, "/prod/").status == 200
    held = hashes(running, "prod", name)
    for form in (wheel(name, payload=7), sdist(name)):
        assert form.post(running, "/dev/simple/").status == 200
    code, said = run("push", f"{name}==1.0", "dev", "prod")
    assert code == 1
    assert "File already exists" in said
    assert hashes(running, "prod", name) == held
    assert run("push", f"{name}==1.0", "prod", "dev")[0] == 0, "which may be overwritten"
    assert hashes(running, "dev", name) | held == hashes(running, "dev", name)


def test_what_the_rules_of_an_index_deny_is_not_taken_there(
    running: ProxyIndex, run: Run, name: str
) -> None:
    """Nobody would see it: its page is denied, or does not list it."""
    for denied, version in (("px-evil", "1.0"), ("px-old", "1.9")):
        form = wheel(denied, version)
        answer = form.post(running, "/strict/legacy/")
        assert answer.status == 403
        assert "is denied by rule deny px-" in answer.reason
        assert form.post(running, "/dev/legacy/").status == 200
        code, said = run("push", f"{denied}=={version}", "dev", "strict")
        assert (code, "is denied by rule deny px-" in said) == (1, True)
    assert wheel("px-old", "2.0").post(running, "/strict/legacy/").status == 200
    assert list(entries(running, "strict", "px-old")) == [wheel_name("px-old", "2.0")]


def test_what_the_rules_of_an_index_deny_is_not_taken_from_there(
    running: ProxyIndex, run: Run, home: Path, name: str
) -> None:
    """Its readers could have it by way of another index."""
    for denied, version in (("px-evil", "7.0"), ("px-old", "1.7")):
        put_wheel(home / "strict" / denied, denied, version)
        code, said = run("push", f"{denied}=={version}", "strict", "dev")
        assert (code, "is denied by rule deny px-" in said) == (1, True)
        assert wheel_name(denied, version) not in entries(running, "dev", denied)
    put_wheel(home / "strict" / "px-old", "px-old", "2.7")
    assert run("push", "px-old==2.7", "strict", "dev")[0] == 0


def test_every_change_leaves_the_same_line_whoever_makes_it(
    running: ProxyIndex,
    run: Run,
    name: str,
    noted: Callable[[], list[str]],
    request: pytest.FixtureRequest,
) -> None:
    forms = [wheel(name), sdist(name)]
    for form in forms:
        assert form.post(running, "/dev/legacy/").status == 200
    assert run("yank", f"{name}==1.0", "--index", "dev", "--reason", "why")[0] == 0
    assert run("unyank", f"{name}==1", "--index", "dev", "--file", wheel_name(name))[0] == 0
    for _ in range(2):  # the second one changes nothing
        assert run("push", f"{name}==1.0", "dev", "prod")[0] == 0
    assert run("delete", f"{name}==1.0", "--file", sdist_name(name), "--yes")[0] == 0
    assert run("delete", f"{name}==7.0", "--yes")[0] == 1
    assert run("refresh", name)[0] == 1, "it is in a folder"
    uploads, lines = noted()[:2], noted()[2:]
    assert all(line.startswith("upload done user=- client=127.0.0.1 ") for line in uploads)
    me = pwd.getpwuid(os.getuid()).pw_name
    by_server = "user=- client=127.0.0.1"
    who = by_server if "by a server" in request.node.name else f"user=os:{me} client=command-line"
    both = f'"{wheel_name(name)} {sdist_name(name)}"'
    assert lines == [
        f"yank done {who} index=dev files={both}",
        f"unyank done {who} index=dev files={wheel_name(name)}",
        f"push done {who} index=prod files={both} source=dev",
        f"delete done {who} index=prod files={sdist_name(name)}",
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("delete", "px-nothing", "--yes"),
            "Error: There is no project 'px-nothing' on this index.",
        ),
        (("yank", "px-nothing==1.0"), "Error: There is no project 'px-nothing' on this index."),
        (
            ("push", "px-nothing==1.0", "dev", "prod"),
            "Error: There is no project 'px-nothing' on this index.",
        ),
        (
            ("push", "px-nothing==1.0", "dev", "nowhere"),
            "Error: There is no other index 'nowhere' to push to; there are: prod, strict.",
        ),
        (
            ("push", "px-nothing==1.0", "dev", "dev"),
            "Error: There is no other index 'dev' to push to; there are: prod, strict.",
        ),
        (
            ("push", "px-nothing==1.0", "dev", "empty"),
            "Error: There is no other index 'empty' to push to; there are: prod, strict.",
        ),
        (
            ("push", "px-nothing==1.0", "empty", "dev"),
            "Error: This index has no folder of its own to be changed.",
        ),
        (
            ("delete", "px-nothing", "--yes", "--index", "empty"),
            "Error: This index has no folder of its own to be changed.",
        ),
        (("refresh", "px-nothing"), "px-nothing: missing (nobody has a project of this name)"),
    ],
)
def test_both_ways_say_the_same(run: Run, args: tuple[str, ...], said: str) -> None:
    code, told = run(*args)
    assert (code, told) == (1, said)


@pytest.mark.parametrize("version", ["..", "1.0/yank", "7.7"])
def test_a_version_that_is_none_changes_nothing(
    running: ProxyIndex, run: Run, name: str, version: str
) -> None:
    """Not even where it would make a path of another request of it."""
    assert wheel(name).post(running).status == 200
    assert run("delete", f"{name}=={version}", "--yes")[0] == 1
    assert list(entries(running, "prod", name)) == [wheel_name(name)]
    assert entries(running, "prod", name)[wheel_name(name)]["yanked"] is False


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("yank", "px-nothing"), "say NAME==VERSION."),
        (("delete", "px-nothing==", "--yes"), "say NAME==VERSION."),
        (("refresh", "px-nothing==1.0"), "say NAME, without a version."),
        (("refresh", "bad-"), "bad-"),
        (("yank", "px-nothing==1.0", "--index", "nowhere"), "There is no index 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(run: Run, args: tuple[str, ...], words: str) -> None:
    code, said = run(*args)
    assert code in (1, 2)
    assert words in said
    assert "Traceback" not in said


def test_a_file_in_a_folder_that_is_only_read_is_neither_deleted_nor_yanked(
    server: ServerFactory, tmp_path: Path
) -> None:
    for folder in ("written", "read"):
        (tmp_path / folder).mkdir()
    put_wheel(tmp_path / "read", "px-lent", "1.0")
    open_to_all = ("--delete", "*", "--yank", "*")
    running = server(tmp_path / "written", tmp_path / "read", *open_to_all)
    for method, target in (
        ("DELETE", "/api/projects/px-lent"),
        ("POST", "/api/projects/px-lent/1.0/yank"),
    ):
        answer = running.get(target, method=method)
        assert answer.status == 409
        assert "only reads" in answer.text
    assert running.get("/simple/px-lent/px_lent-1.0-py3-none-any.whl").status == 200


def test_what_is_deleted_is_served_from_nowhere_else_either(
    server: ServerFactory, tmp_path: Path
) -> None:
    written, read = tmp_path / "written", tmp_path / "read"
    read.mkdir()
    for number, folder in enumerate(("a", "b", "c")):
        put_wheel(written / folder, "px-twice", "1.0", payload=number)
    running = server(written, read, "--delete", "*", "--yank", "*")
    put_wheel(read, "px-lent", "1.0")
    put_wheel(written, "px-lent", "1.0", payload=5)
    page, target = "/simple/px-twice/", "/api/projects/px-twice/1.0"
    assert running.get(target, method="DELETE").json()["deleted"] == [wheel_name("px-twice")]
    assert running.get(page, {"Accept": JSON_TYPE}).json()["files"] == []
    assert not list(written.rglob("px_twice*"))
    answer = running.get("/api/projects/px-lent", method="DELETE")
    assert (answer.status, "only reads" in answer.text) == (409, True)
    assert (written / wheel_name("px-lent")).exists()
    assert running.get("/api/projects/px-lent/1.0/yank", method="POST").status == 200


def test_a_deletion_makes_no_folder_in_the_place_of_a_vanished_one(
    server: ServerFactory, tmp_path: Path, upstream: FakeUpstream
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    put_wheel(own, "px-lost", "1.0")
    upstream.project("px-lost", wheel_spec("px-lost", "9.9"))
    running = server(own, "--delete", "*", upstream=upstream)
    running.get("/api/projects/px-other", method="DELETE")
    own.rename(tmp_path / "away")
    assert running.get("/api/projects/px-lost", method="DELETE").status == 503
    assert not own.exists()
    assert running.get("/simple/px-lost/").status == 503


def test_a_refresh_asks_the_upstream_whatever_the_age_of_the_page(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("px-public", wheel_spec("px-public", "1.0"))
    running = server(upstream=upstream)
    target = "/api/projects/px-public/refresh"
    assert running.get("/simple/px-public/").status == 200
    upstream.project("px-public", wheel_spec("px-public", "2.0"))
    assert wheel_name("px-public", "2.0") not in running.get("/simple/px-public/").text
    wait_until(  # an upstream is not asked again before some seconds have passed
        lambda: running.get(target, method="POST").json()["outcome"] == "fetched", "the upstream"
    )
    assert wheel_name("px-public", "2.0") in running.get("/simple/px-public/").text
    missing = running.get("/api/projects/px-missing/refresh", method="POST")
    assert missing.json() == {"project": "px-missing", "outcome": "missing"}


def test_the_push_api_asks_for_the_rights_of_both_sides(
    server: ServerFactory, tmp_path: Path
) -> None:
    config = two_indexes(tmp_path)
    closed = config.read_text().rpartition("upload = ")
    config.write_text(closed[0] + "upload = []\n" + closed[2].partition("\n")[2])
    running = server("--config", config)
    assert wheel("px-shut").post(running, "/dev/legacy/").status == 200
    body = json.dumps({"project": "px-shut", "version": "1.0", "to": "prod"}).encode()
    assert running.get("/dev/api/push", method="POST", body=body).status == 403
    elsewhere = running.get("/dev/api/push", method="POST", body=body.replace(b"prod", b"none"))
    # no name is told of what he may not push to
    assert elsewhere.text.strip() == "There is no other index 'none' to push to."
    assert not entries(running, "prod", "px-shut")


def test_a_refresh_that_brought_nothing_exits_with_1(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    for name in ("px-public", "px-second"):
        upstream.project(name, wheel_spec(name, "1.0"))
    own = tmp_path / "own"
    put_wheel(own, "px-own", "1.0")

    def refresh(*names: str, **variables: str) -> tuple[int, str]:
        env = environment(tmp_path, {"PROXYINDEX_UPSTREAM": upstream.simple_url, **variables})
        command = ["refresh", *names, "--folder", str(own), "--cache-dir", str(tmp_path / "cache")]
        done = subprocess.run(
            [sys.executable, "-m", "proxyindex", *command],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    assert refresh("px-public")[0] == 0
    code, told = refresh("px-missing", "Px.Second")
    assert code == 1
    assert "px-missing: missing" in told
    assert "px-second: fetched" in told, "one that is missing does not stop the others"
    for (code, told), reason in (
        (
            refresh("px-public", PROXYINDEX_OFFLINE="1"),
            "px-public: offline (offline is set, and no upstream is asked; served is what is kept)",
        ),
        (refresh("px-own"), "no upstream is asked"),
        (refresh("px-missing"), "nobody has a project of this name"),
    ):
        assert code == 1
        assert reason in told
        assert "Traceback" not in told


def command(*args: str | Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`proxyindex ARGS`, its outputs apart."""
    return subprocess.run(
        [sys.executable, "-m", "proxyindex", *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_refresh_of_what_was_asked_for_a_moment_ago_is_done(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.project("px-twice", wheel_spec("px-twice", "1.0"))
    running = server(upstream=upstream)
    there = ("--server", running.simple_url)
    alone = ("--cache-dir", tmp_path / "other")
    for where in (there, alone):
        env = running.env | {"PROXYINDEX_UPSTREAM": upstream.simple_url}
        done = command("refresh", "px-twice", "px-twice", *where, env=env)
        assert done.stdout.splitlines() == [
            "px-twice: fetched (served is what the upstream says now)",
            "px-twice: hit (the upstream was asked a moment ago; served is what it said)",
        ]
        assert done.returncode == 0


def test_a_refresh_by_an_offline_server_is_none(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("px-kept", wheel_spec("px-kept", "1.0"))
    running = server(upstream=upstream)
    assert running.get("/simple/px-kept/").status == 200
    running.stop()
    running.args.append("--offline")
    running.start()
    done = command("refresh", "px-kept", "--server", running.simple_url, env=running.env)
    assert done.returncode == 1
    assert done.stdout.startswith("px-kept: offline (offline is set, and no upstream is asked; ")


def test_an_index_that_sends_clients_away_says_that_there_is_nothing_to_refresh(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server("--fallback", "redirect", upstream=upstream)
    here = ("--cache-dir", running.cache_dir)
    folderless = {"PROXYINDEX_UPSTREAM": upstream.simple_url, "PROXYINDEX_FALLBACK": "redirect"}
    for where, more in ((("--server", running.simple_url), {}), (here, folderless)):
        done = command("refresh", "px-public", *where, env=running.env | more)
        assert done.returncode == 1
        assert done.stderr == (
            "Error: This index sends clients on to the upstream for it and keeps no page of it: "
            "there is nothing to refresh.\n"
        )


def test_a_refused_refresh_does_not_keep_others(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    upstream.project("px-fine", wheel_spec("px-fine", "1.0"))
    running = server("--policy-deny", "px-evil", upstream=upstream)
    done = command("refresh", "px-evil", "px-fine", "--server", running.simple_url, env=running.env)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: px-evil: ")
    assert done.stdout.startswith("px-fine: fetched")


def test_an_address_that_is_none_tells_where_indexes_are_and_names_none(
    running: ProxyIndex,
) -> None:
    for target in ("/nosuch/simple/", "/six/", "/six"):
        answer = running.get(target)
        assert answer.status == 404
        assert answer.text == (
            "Nothing is at this address; indexes end in /simple/ and are listed at /.\n"
        )
    wrong = ("refresh", "six", "--index", "nosuch", "--server", running.url)
    told = command(*wrong, env=running.env).stderr
    assert f"There is no index 'nosuch' at {running.url}." in told


def test_a_version_that_is_not_there_is_called_one(
    running: ProxyIndex, run: Run, name: str
) -> None:
    wheel(name).post(running, "/dev/legacy/")
    code, told = run("yank", f"{name}==9", "--index", "dev")
    assert code == 1
    assert f"Project '{name}' has no version '9' on this index." in told


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_what_root_changes_stays_with_the_owner_of_the_folder(tmp_path: Path) -> None:
    """A server that runs as that user would be locked out, and refuse every upload."""
    owner = 54321
    config = two_indexes(tmp_path)
    cache = tmp_path / "cache"
    cache.mkdir()
    for version in ("1.0", "2.0"):
        put_wheel(tmp_path / "dev" / "owned", "owned", version)
    for path in [cache, *(tmp_path / "dev").rglob("*"), tmp_path / "dev", tmp_path / "prod"]:
        os.chown(path, owner, owner)
    where = ["--config", str(config), "--cache-dir", str(cache)]
    for command in (
        ["yank", "owned==1.0", "--index", "dev"],
        ["push", "owned==1.0", "dev", "prod"],
        ["push", "owned==2.0", "dev", "prod"],
        ["delete", "owned==2.0", "--index", "prod", "--yes"],
        ["refresh", "owned"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "proxyindex", *command, *where],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or command[0] == "refresh", done.stdout
    folders = [tmp_path / "dev", tmp_path / "prod", cache]
    made = [path for folder in folders for path in folder.rglob("*")]
    assert {path.name for path in made} >= {".incoming", "locks", ".deleted"}
    assert [path for path in made if path.stat().st_uid != owner] == []
