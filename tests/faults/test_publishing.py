"""Uploads to servers that refuse, break, redirect and lag; folders whose publishers are killed."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxyindex.cli import main
from proxyindex.publishing import distribution, server
from proxyindex.publishing.client import Client, origin
from proxyindex.publishing.credentials import Credentials
from proxyindex.publishing.distribution import Distribution
from proxyindex.publishing.target import Outcome, PublishError
from tests.support.accounts import Accounts
from tests.support.broken import Front
from tests.support.builders import (
    make_wheel,
    make_zip,
    metadata,
    put,
    put_sdist,
    put_wheel,
    wheel_name,
)
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import environment, wait_until, with_keyring
from tests.support.pages import wheel_spec
from tests.support.upload_server import ACCEPTS, CUT, Answer, UploadServer, page, refuses
from tests.support.upstream import FakeUpstream

WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"
UNVERSIONED = b"Name: other\nVersion: 1.0\n"
SECRET = "pxi_sesame"
TOKEN = {"PROXYINDEX_PUBLISH_TOKEN": SECRET}


@pytest.fixture
def index() -> Iterator[UploadServer]:
    with UploadServer() as made:
        yield made


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    put_wheel(folder, payload=200_000)
    put_sdist(folder)
    return folder


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Result]:
    """`publish(*arguments, **variables)`; the user has no credentials but those given."""
    path = with_keyring(tmp_path / "bin")
    alone = {"HOME": str(tmp_path), "NETRC": None, "NO_PROXY": "127.0.0.1", "PATH": path}

    def run(*arguments: str | Path, **variables: str) -> Result:
        return CliRunner().invoke(main, ["publish", *map(str, arguments)], env=alone | variables)

    return run


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# what is sent


def test_files_arrive_with_their_form(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    put(dist, SDIST + ".asc", b"signed")
    done = publish(dist, "--to", f"{index.url}/legacy/", **TOKEN)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        f"published: {WHEEL}",
        f"published: {SDIST}",
    ]
    for upload, name in zip(index.uploads, (WHEEL, SDIST), strict=True):
        assert upload.target == "/legacy/"
        assert upload.content == (name, (dist / name).read_bytes())
        assert upload.field("sha256_digest") == [sha256(dist / name)]
        assert len(upload.body) == int(upload.headers["content-length"])
        assert upload.headers["authorization"] == basic("__token__", SECRET)
        assert upload.headers["user-agent"].startswith("proxyindex/")
    signatures = [(name, body) for key, name, body in index.uploads[1].parts if "gpg" in key]
    assert signatures == [(SDIST + ".asc", b"signed")]
    assert SECRET not in done.output


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def test_pages_of_an_index_lead_to_its_uploads(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    assert publish(dist, "--to", f"{index.url}/dev/simple/", **TOKEN).exit_code == 0
    assert {upload.target for upload in index.uploads} == {"/dev/legacy/"}
    assert {target for target, _ in index.looks} == {"/dev/simple/demo/"}
    assert index.looks[0][1]["authorization"] == basic("__token__", SECRET)


def test_credentials_come_from_netrc(
    index: UploadServer, dist: Path, tmp_path: Path, publish: Callable[..., Result]
) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login alice password {SECRET}")
    assert publish(dist, "--to", f"{index.url}/legacy/").exit_code == 0
    assert index.uploads[0].headers["authorization"] == basic("alice", SECRET)


def test_memory_stays_flat(tmp_path: Path, index: UploadServer) -> None:
    """150 MB are published by a process that may not have as much for all that it does."""
    folder = tmp_path / "dist"
    folder.mkdir()
    home = "demo-1.0.dist-info"
    entries = [(f"{home}/{name}", b"") for name in ("WHEEL", "RECORD")]
    large = os.urandom(1_000_000) * 150
    entries += [(f"{home}/METADATA", metadata()), ("demo/large.bin", large)]
    put(folder, WHEEL, make_zip(entries, method=zipfile.ZIP_STORED))
    limited = (
        f"ulimit -v 250000; exec {sys.executable} -m proxyindex publish {folder} --to {index.url}"
    )
    done = subprocess.run(
        ["sh", "-c", limited], env=environment(tmp_path / "home"), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(index.uploads[0].body) > len(large)


# what is not sent


def test_same_bytes_are_not_sent_again(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    index.pages["/simple/demo/"] = page("demo", {WHEEL: sha256(dist / WHEEL)})
    done = publish(dist, "--to", f"{index.url}/simple/")
    assert done.exit_code == 0
    assert f"already there: {WHEEL}" in done.stdout
    assert f"published: {SDIST}" in done.stdout
    assert [upload.content[0] for upload in index.uploads] == [SDIST]


@dataclass(frozen=True, slots=True)
class Taking:
    """How to start an index that takes uploads of a project that its upstream may have."""

    server: ServerFactory
    upstream: FakeUpstream
    own: Path
    wheel: Path

    def start(self, *options: str) -> str:
        """The address of its pages."""
        running = self.server(self.own, "--upload", "*", *options, upstream=self.upstream)
        return f"{running.url}/simple/"

    def upstream_has(self, body: bytes | None = None) -> None:
        """These bytes, or ours, and another version."""
        ours = self.wheel.read_bytes() if body is None else body
        self.upstream.project("demo", wheel_spec("demo", body=ours), wheel_spec("demo", "2.0"))

    @property
    def taken(self) -> list[Path]:
        return list(self.own.rglob("*.whl"))


@pytest.fixture
def taking(server: ServerFactory, upstream: FakeUpstream, tmp_path: Path, dist: Path) -> Taking:
    (tmp_path / "own").mkdir()
    return Taking(server, upstream, tmp_path / "own", dist / WHEEL)


def test_what_only_an_upstream_has_is_sent_to_be_ours(
    taking: Taking, publish: Callable[..., Result]
) -> None:
    taking.upstream_has()
    to = taking.start("--claim", "demo")
    assert f"published: {WHEEL}" in publish(taking.wheel, "--to", to).stdout
    assert [path.read_bytes() for path in taking.taken] == [taking.wheel.read_bytes()]
    assert f"already there: {WHEEL}" in publish(taking.wheel, "--to", to).stdout


def test_of_what_is_merged_the_index_tells_whether_it_was_there(
    taking: Taking, publish: Callable[..., Result]
) -> None:
    """The page does not: it is the upstream's as well."""
    taking.upstream.project("demo", wheel_spec("demo", "2.0"))
    to = taking.start("--claim", "demo", "--merge", "demo", "--overwrite")
    assert f"published: {WHEEL}" in publish(taking.wheel, "--to", to).stdout
    for more in ((), ("--overwrite",)):
        assert f"already there: {WHEEL}" in publish(taking.wheel, "--to", to, *more).stdout


def test_what_only_an_upstream_has_is_there_for_whom_named_pages_count(
    taking: Taking, publish: Callable[..., Result]
) -> None:
    taking.upstream_has()
    to = taking.start("--claim", "demo")
    done = publish(taking.wheel, "--to", to, "--check", to)
    assert f"already there: {WHEEL}" in done.stdout
    assert taking.taken == []


def test_other_bytes_than_an_upstream_has_are_refused(
    taking: Taking, publish: Callable[..., Result]
) -> None:
    taking.upstream_has(wheel_spec("demo", payload=7).body)
    done = publish(taking.wheel, "--to", taking.start("--claim", "demo"))
    assert (done.exit_code, taking.taken) == (1, [])
    assert "already with other bytes" in done.stderr


def test_what_an_upstream_has_and_nobody_claims_is_refused(
    taking: Taking, publish: Callable[..., Result]
) -> None:
    """The upstream had the bytes all along: that is not somebody who was faster."""
    taking.upstream_has()
    done = publish(taking.wheel, "--to", taking.start())
    assert (done.exit_code, done.stdout, taking.taken) == (1, "", [])
    assert "403 Take another name, or have it put into" in done.stderr


@pytest.mark.parametrize("where", ["simple", "dev/simple"], ids=["upstream", "base"])
@pytest.mark.parametrize(("token", "status"), [("wrong", 401), ("reader", 403)])
def test_who_may_not_upload_is_told_though_an_upstream_has_the_bytes(
    where: str, token: str, status: int, taking: Taking, publish: Callable[..., Result]
) -> None:
    home = taking.own.parent
    accounts = Accounts(home)
    accounts.user("alice", "sesame")
    tokens = {"wrong": "pxi_wrong", "reader": accounts.token("alice", actions=frozenset({"read"}))}
    (home / "dev").mkdir()
    config = home / "proxyindex.toml"
    terms = 'upload = ["alice"]\nclaim = ["demo"]\n'
    config.write_text(
        f'default-index = "prod"\n{accounts.toml}'
        f'[[upstream]]\nname = "up"\nurl = "{taking.upstream.simple_url}"\n'
        f'[index.prod]\nfolders = ["{taking.own}"]\nupstreams = ["up"]\n{terms}'
        f'[index.dev]\nfolders = ["{home / "dev"}"]\nbases = ["prod"]\n{terms}'
    )
    taking.upstream_has()
    running = taking.server("--config", config, is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    to = f"{running.url}/{where}/"
    done = publish(taking.wheel, "--to", to, PROXYINDEX_PUBLISH_TOKEN=tokens[token])
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"refused {WHEEL}: {status} " in done.stderr


def test_other_bytes_are_refused_before_anything_is_sent(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    index.pages["/simple/demo/"] = page("demo", {SDIST: "0" * 64})
    done = publish(dist, "--to", f"{index.url}/simple/")
    assert done.exit_code == 1
    assert sha256(dist / SDIST) in done.stderr
    assert "0" * 64 in done.stderr
    assert index.uploads == []
    done = publish(dist, "--to", f"{index.url}/simple/", "--overwrite")
    assert done.exit_code == 0
    assert f"replaced: {SDIST}" in done.stdout
    assert f"published: {WHEEL}" in done.stdout


def test_an_index_that_lets_nothing_be_replaced_is_told_how_it_would(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    index.pages["/simple/demo/"] = page("demo", {SDIST: "0" * 64})
    index.answer(ACCEPTS, refuses(409, body=b"File already exists."))
    done = publish(dist, "--to", f"{index.url}/simple/", "--overwrite")
    assert done.exit_code == 1
    assert "409 File already exists. Whether files may be replaced" in done.stderr
    assert "`overwrite = true`" in done.stderr


def test_one_unsound_file_keeps_all_back(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    put(dist, "broken-1.0-py3-none-any.whl", b"no zip")
    put(dist, "other-1.0.tar.gz", (dist / SDIST).read_bytes())
    done = publish(dist, "--to", f"{index.url}/legacy/")
    assert done.exit_code == 1
    assert "broken-1.0-py3-none-any.whl cannot be published" in done.stderr
    assert "The PKG-INFO in 'other-1.0.tar.gz' is of project 'demo'." in done.stderr
    assert done.stderr.endswith("Nothing was published.\n")
    assert (index.uploads, index.looks) == ([], [])


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]])
def test_metadata_is_checked_before_the_first_file_is_sent(
    arguments: list[str], index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    put(dist, "other-1.0-py3-none-any.whl", make_wheel("other", core_metadata=UNVERSIONED))
    done = publish(dist, "--to", f"{index.url}/legacy/", *arguments)
    assert done.exit_code == 1
    assert "its metadata has no single 'metadata_version'.\nNothing was published." in done.stderr
    assert (index.uploads, index.looks) == ([], [])


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]])
def test_a_signature_that_comes_too_late_is_told(
    arguments: list[str], dist: Path, publish: Callable[..., Result], tmp_path: Path
) -> None:
    (own := tmp_path / "own").mkdir()
    assert "nor sent" not in publish(dist, "--to", own).stderr
    put(dist, f"{SDIST}.asc", b"signed")
    done = publish(dist, "--to", own, *arguments)
    assert done.exit_code == 0
    assert f"those of {SDIST} are neither compared nor sent.\n" in done.stderr
    assert not (own / "demo" / f"{SDIST}.asc").exists()


def test_a_dry_run_looks_and_sends_nothing(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    index.pages["/simple/demo/"] = page("demo", {WHEEL: sha256(dist / WHEEL)})
    done = publish(dist, "--to", f"{index.url}/simple/", "--dry-run")
    assert done.exit_code == 0
    assert f"already there: {WHEEL}" in done.stdout
    assert f"would be published: {SDIST}" in done.stdout
    assert index.uploads == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["none/*.whl", "--to", "http://127.0.0.1:9/"], 1),
        (["--to", "http://127.0.0.1:9/"], 2),
        (["demo", "--dist", ".", "--to", "x"], 2),
        (["demo==", "--dist", ".", "--to", "x"], 2),
        (["demo==1==2", "--dist", ".", "--to", "x"], 2),
        (["demo==1", "1", "--dist", ".", "--to", "x"], 1),
        (["x", "--to", "http://127.0.0.1:9/", "--pages"], 2),
        (["x", "--to", "folder", "--check", "http://127.0.0.1:9/"], 2),
        (["x", "--to", "folder", "--ssh", "ssh"], 2),
    ],
)
def test_nothing_to_do_and_nonsense_are_failures(
    arguments: Sequence[str], code: int, publish: Callable[..., Result], dist: Path
) -> None:
    done = publish(*(str(dist) if one == "x" else one for one in arguments))
    assert done.exit_code == code, done.output


def test_secrets_on_the_command_line_are_refused(
    dist: Path, publish: Callable[..., Result], index: UploadServer
) -> None:
    done = publish(dist, "--to", index.url.replace("//", f"//alice:{SECRET}@"))
    assert done.exit_code == 1
    assert "PROXYINDEX_PUBLISH_TOKEN" in done.stderr
    assert SECRET not in done.output
    assert index.uploads == []


@pytest.mark.parametrize("name", ["USERNAME", "PASSWORD", "TOKEN", "TO"])
def test_variables_of_publishing_mean_nothing_to_the_server(name: str) -> None:
    given = {f"PROXYINDEX_PUBLISH_{name}": SECRET}
    done = CliRunner().invoke(main, ["config", "check"], env=given)
    assert done.exit_code == 0, done.output


# what servers say


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"who?", "401 who?. The credentials of '__token__' were not accepted."),
        (403, b"not\nyours\x1b[2J", "403 not yours[2J."),
        (409, b"File already exists (demo).", "409 File already exists (demo)."),
        (413, b"", "413 Said."),
        (500, f"you said {SECRET}".encode(), "500 you said ***."),
        (503, b"later", "503 later."),
        (400, b"x" * 100_000, "400 " + "x" * 500),
    ],
)
@pytest.mark.parametrize("after", [None, 5_000])
def test_a_refusal_is_told_with_what_the_index_says(
    status: int,
    body: bytes,
    said: str,
    after: int | None,
    index: UploadServer,
    dist: Path,
    publish: Callable[..., Result],
) -> None:
    """Also where it is told before the body has been read."""
    index.answer(Answer(status, body, after=after))
    done = publish(dist, "--to", f"{index.url}/legacy/", **TOKEN)
    assert done.exit_code == 1
    assert f"refused {WHEEL}: {said}" in done.stderr
    assert len(index.uploads) == 1  # not again, and nothing after it
    assert SECRET not in done.output
    assert "\x1b" not in done.output


def test_of_a_page_the_words_are_told(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    body = b"<html><title>No</title>\n<p class=x>not <b>here</b></p>"
    index.answer(refuses(404, {"Content-Type": "text/html; charset=utf-8"}, body))
    assert f"refused {WHEEL}: 404 No not here." in publish(dist, "--to", index.url).stderr


def test_without_credentials_a_401_says_how_to_give_them(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    index.answer(refuses(401))
    assert "set PROXYINDEX_PUBLISH_TOKEN" in publish(dist, "--to", index.url).stderr


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["http://u:sesame@127.0.0.1:{}/x/?token=sesame", "//[", None])
def test_redirects_are_not_followed(
    status: int,
    location: str | None,
    index: UploadServer,
    dist: Path,
    publish: Callable[..., Result],
) -> None:
    with UploadServer() as other:
        port = other.url.rpartition(":")[2]
        headers = {"Location": location.format(port)} if location else {}
        index.answer(refuses(status, headers))
        done = publish(dist, "--to", f"{index.url}/legacy/", **TOKEN)
        assert (other.uploads, other.looks) == ([], [])
    assert done.exit_code == 1
    assert f": {status} no. It redirects to " in done.stderr
    assert "sesame" not in done.output
    if location and "@" in location:
        assert f"http://127.0.0.1:{port}/x/" in done.stderr


# what breaks


class Sending:
    """A `Server` in this process, whose pauses are noted instead of waited for."""

    def __init__(self, url: str, check: str | None = None) -> None:
        self.pauses: list[float] = []
        self.sent: list[int] = []
        where = server.address(url, check)
        known = Credentials("alice", SECRET)
        client = Client({origin(url): known})
        self.target = server.Server(where, client, known, pause=self.pauses.append)

    def __call__(self, *wanted: Distribution, **options: Any) -> list[Outcome]:
        options = {"overwrite": False, "advance": self.sent.append} | options
        with self.target as target:
            return [outcome for _, outcome in target.send(wanted, **options)]


@pytest.fixture
def wheel(dist: Path) -> Distribution:
    return distribution.read(dist / WHEEL)


@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        ([CUT], [1.0]),
        ([CUT, Answer(cut=True), CUT], [1.0, 3.0, 9.0]),
        ([refuses(503, {"Retry-After": "7"})], [7.0]),
        ([refuses(503, {"Retry-After": "0"}), CUT], [0.0, 3.0]),
    ],
)
def test_what_can_be_sent_again_is(
    answers: list[Answer], pauses: list[float], index: UploadServer, wheel: Distribution
) -> None:
    index.answer(*answers)
    sending = Sending(f"{index.url}/legacy/")
    assert sending(wheel) == [Outcome.PUBLISHED]
    assert sending.pauses == pauses
    assert len(index.uploads) == len(answers) + 1
    assert index.uploads[-1].content[1] == wheel.path.read_bytes()
    assert sum(sending.sent) == wheel.size  # what had to go again was taken back


@pytest.mark.parametrize(
    "asked", [None, "Wed, 21 Oct 2026 07:28:00 GMT", "99999", "-1", "9" * 5000]
)
def test_a_503_that_does_not_say_when_is_final(
    asked: str | None, index: UploadServer, wheel: Distribution
) -> None:
    index.answer(refuses(503, {"Retry-After": asked} if asked else {}))
    with pytest.raises(PublishError, match="503 no"):
        Sending(index.url)(wheel)
    assert len(index.uploads) == 1


def test_a_server_that_goes_on_breaking_is_given_up(
    index: UploadServer, wheel: Distribution
) -> None:
    index.answer(*[CUT] * 4)
    with pytest.raises(PublishError, match=f"{WHEEL} was not published: .* broke the connection"):
        Sending(index.url)(wheel)
    assert len(index.uploads) == 4


def test_a_server_that_is_not_there_is_told(wheel: Distribution) -> None:
    with Front(9) as front:
        front.refuse()
        with pytest.raises(PublishError, match="cannot be reached"):
            Sending(front.simple_url)(wheel)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PROXY", f"foo://{SECRET}:1"),
        ("HTTPS_PROXY", f"http://{SECRET}@[::1"),
        ("ALL_PROXY", "http://a..example:3128"),
        ("NO_PROXY", "[::1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_value(
    variable: str, value: str, dist: Path, publish: Callable[..., Result]
) -> None:
    done = publish(dist, "--to", "http://index.example/legacy/", **{variable: value})
    assert done.exit_code == 1
    assert "proxy" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert SECRET not in done.output


def test_an_upload_that_arrived_but_was_not_answered_is_found_out(
    index: UploadServer, wheel: Distribution
) -> None:
    """The first attempt was stored, its answer lost; a server that takes no file twice says 409."""

    def store() -> None:
        index.pages["/simple/demo/"] = page("demo", {WHEEL: wheel.sha256})

    index.answer(Answer(cut=True, then=store), refuses(409))
    assert Sending(f"{index.url}/simple/")(wheel) == [Outcome.THERE]


@pytest.mark.parametrize("status", [400, 403, 409])
def test_a_raced_upload_of_the_same_bytes_is_no_failure(
    status: int, index: UploadServer, wheel: Distribution
) -> None:
    def other_wins() -> None:
        index.pages["/simple/demo/"] = page("demo", {WHEEL: wheel.sha256})

    index.answer(Answer(status, b"File already exists", then=other_wins))
    assert Sending(index.url, f"{index.url}/simple/")(wheel) == [Outcome.THERE]


def test_who_was_not_let_in_has_lost_no_race(index: UploadServer, wheel: Distribution) -> None:
    def other_wins() -> None:
        index.pages["/simple/demo/"] = page("demo", {WHEEL: wheel.sha256})

    index.answer(Answer(401, b"who?", then=other_wins))
    with pytest.raises(PublishError, match="401 who"):
        Sending(index.url, f"{index.url}/simple/")(wheel)


def test_a_raced_upload_of_other_bytes_is_one(index: UploadServer, wheel: Distribution) -> None:
    def other_wins() -> None:
        index.pages["/simple/demo/"] = page("demo", {WHEEL: "0" * 64})

    index.answer(Answer(409, b"File already exists", then=other_wins))
    with pytest.raises(PublishError, match="409 File already exists"):
        Sending(index.url, f"{index.url}/simple/")(wheel)


def test_with_check_the_page_must_show_what_was_sent(
    index: UploadServer, wheel: Distribution
) -> None:
    sending = Sending(index.url, f"{index.url}/simple/")
    with pytest.raises(PublishError, match="does not list it"):
        sending(wheel)
    assert len(sending.pauses) == 3

    index.pages["/simple/demo/"] = page("demo", {WHEEL: "0" * 64})
    with pytest.raises(PublishError, match=r"0{64} there"):
        Sending(index.url, f"{index.url}/simple/")(wheel)

    index.pages["/simple/demo/"] = page("demo", {WHEEL: wheel.sha256})
    assert Sending(index.url, f"{index.url}/simple/")(wheel) == [Outcome.PUBLISHED]


def test_with_check_pages_must_answer(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    index.pages["/simple/demo/"] = b"a portal's notice"
    done = publish(dist, "--to", index.url, "--check", f"{index.url}/simple/")
    assert done.exit_code == 1
    assert "cannot be compared with" in done.stderr
    assert index.uploads == []
    # found by convention, they are only a help
    assert publish(dist, "--to", index.url).exit_code == 0


def test_credentials_go_to_their_own_origin_only(
    index: UploadServer, dist: Path, publish: Callable[..., Result]
) -> None:
    with UploadServer() as pages:
        pages.pages["/simple/demo/"] = page("demo", {n: sha256(dist / n) for n in (WHEEL, SDIST)})
        done = publish(dist, "--to", index.url, "--check", f"{pages.url}/simple", **TOKEN)
        assert done.exit_code == 0
        assert [target for target, _ in pages.looks] == ["/simple/demo/"]
        assert "authorization" not in pages.looks[0][1]


# folders


def _has_begun(process: subprocess.Popen[bytes], folder: Path) -> bool:
    return process.poll() is not None or any(folder.glob(".incoming/*/.content"))


def test_a_killed_publisher_leaves_the_whole_file_or_none(tmp_path: Path) -> None:
    source, target = tmp_path / "dist", tmp_path / "packages"
    source.mkdir()
    target.mkdir()
    content = make_wheel(payload=60_000_000)
    path = put(source, WHEEL, content)
    command = [sys.executable, "-m", "proxyindex", "publish", source, "--to", target, "--pages"]
    place = target / "demo" / WHEEL
    env = environment(tmp_path / "home")
    for _ in range(3):
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        wait_until(partial(_has_begun, process, target), "a start")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not place.exists() or place.read_bytes() == content
        assert not list(target.glob("**/index.*"))
        place.unlink(missing_ok=True)
    assert subprocess.run(command, env=env, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert place.read_bytes() == path.read_bytes()
    assert {entry.name for entry in (target / ".incoming").iterdir()} == {"locks", "reserve"}
    assert sorted(entry.name for entry in place.parent.iterdir()) == [
        WHEEL,
        WHEEL + ".json",
        WHEEL + ".metadata",
        "index.html",
        "index.v1_json",
    ]


def test_pages_left_out_by_a_kill_are_made_by_the_next_run(
    dist: Path, tmp_path: Path, publish: Callable[..., Result]
) -> None:
    target = tmp_path / "packages"
    target.mkdir()
    assert publish(dist, "--to", target).exit_code == 0
    done = publish(dist, "--to", target, "--pages")
    assert done.stdout.count("already there") == 2
    assert "written: demo/index.html" in done.stdout
    assert WHEEL in (target / "demo" / "index.html").read_text()


def test_pages_alone_are_brought_up_to_date(
    tmp_path: Path, dist: Path, publish: Callable[..., Result]
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    publish(dist, "--to", there, "--pages")
    (there / "demo" / WHEEL).unlink()
    pages = "written: demo/index.html\nwritten: demo/index.v1_json\n"
    for said in (pages, "All pages are up to date.\n"):
        done = publish("--to", there, "--pages")
        assert (done.exit_code, done.stdout) == (0, said)


def test_pages_that_a_change_leaves_old_are_told(
    tmp_path: Path, dist: Path, publish: Callable[..., Result]
) -> None:
    """By each command that changes the folder, and not where there are none, or nothing changed."""
    there, command = tmp_path / "the re", CliRunner()
    there.mkdir()
    told = f"The static pages of demo are old now; renew them: proxyindex publish --to '{there}' "

    def says(done: Result, *, old: bool = True) -> bool:
        assert done.exit_code == 0, done.output
        return done.stderr.startswith(told + "--pages\n") if old else told not in done.output

    assert says(publish(put_wheel(tmp_path, version="2.0"), "--to", there), old=False)
    assert says(publish(dist, "--to", there, "--pages"), old=False)
    assert says(publish(dist, "--to", there), old=False)
    assert says(publish(put_wheel(tmp_path, version="3.0"), "--to", there, "--dry-run"), old=False)
    assert says(publish(put_wheel(tmp_path, version="3.0"), "--to", there))
    log = tmp_path / "audit"
    for change in (["yank", "demo==3.0"], ["unyank", "demo==3.0"], ["delete", "demo", "--yes"]):
        more = ["--folder", str(there), "--audit-log", str(log), "--cache-dir", str(tmp_path / "c")]
        assert says(command.invoke(main, [*change, *more]))


@pytest.mark.parametrize("release", [("De_mo==1.0.0",), ("de-mo", "1"), (" de.mo == 1.0 ",)])
def test_a_release_is_named_as_elsewhere_or_in_two_words(
    release: tuple[str, ...], tmp_path: Path, publish: Callable[..., Result]
) -> None:
    put_wheel(tmp_path, "de-mo"), put_wheel(tmp_path, "de-mo", version="2.0")
    done = publish(*release, "--dist", tmp_path, "--to", tmp_path, "--dry-run")
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1), done.output
    assert wheel_name("de_mo") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", ".", "--pages", "--dry-run"), "--dry-run and --overwrite mean nothing"),
        (("--to", ".", "--pages", "--overwrite"), "--dry-run and --overwrite mean nothing"),
        (("--to", "host:there", "--pages"), "only a folder here"),
        (("--to", "https://index.example/", "--pages"), "--pages means nothing"),
        (("--to", "."), "Name the files to publish"),
        (("--to", "nowhere", "--pages"), "There is no folder nowhere"),
    ],
)
def test_pages_alone_are_made_of_a_folder_only(
    arguments: tuple[str, ...], said: str, publish: Callable[..., Result]
) -> None:
    done = publish(*arguments)
    assert done.exit_code != 0
    assert said in done.stderr


def test_publishers_to_one_folder_take_turns(tmp_path: Path) -> None:
    target = tmp_path / "packages"
    target.mkdir()
    env = environment(tmp_path / "home")
    running = []
    for version in range(6):
        source = tmp_path / f"dist-{version}"
        source.mkdir()
        put_wheel(source, version=f"1.{version}", payload=100_000)
        command = [sys.executable, "-m", "proxyindex", "publish", source, "--to", target, "--pages"]
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
    assert [process.wait() for process in running] == [0] * 6
    page_text = (target / "demo" / "index.html").read_text()
    assert [f"demo-1.{version}-py3" in page_text for version in range(6)] == [True] * 6


def test_a_folder_that_refuses_is_told(
    dist: Path, tmp_path: Path, publish: Callable[..., Result]
) -> None:
    target = tmp_path / "packages"
    target.mkdir()
    put(target, "demo", b"in the way")
    done = publish(dist, "--to", target)
    assert done.exit_code == 1
    there = target / "demo" / WHEEL
    assert f"{there}.json cannot be written: Not a directory." in done.stderr


def test_a_folder_that_is_not_there_is_not_made(
    dist: Path, tmp_path: Path, publish: Callable[..., Result]
) -> None:
    done = publish(dist, "--to", tmp_path / "unmounted")
    assert done.exit_code == 1
    assert "make it first" in done.stderr
    assert not (tmp_path / "unmounted").exists()
