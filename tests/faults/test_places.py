"""Changes by a server's API: as whom, to whom, and what is told where it goes wrong."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxyindex.cli import main
from tests.support.builders import put_wheel, wheel_name
from tests.support.certificates import Certificates
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import with_keyring
from tests.support.upload_server import CUT, Answer, Upload, UploadServer, refuses

Manage = Callable[..., Result]

SECRET = "pxi_sesame"
TOKEN = {"PROXYINDEX_PUBLISH_TOKEN": SECRET}
DELETE = ("delete", "demo==1.0", "--yes")
CHANGES = [
    DELETE,
    ("yank", "demo==1.0"),
    ("unyank", "demo==1.0"),
    ("push", "demo==1.0", "dev", "prod"),
    ("refresh", "demo"),
]
each_change = pytest.mark.parametrize("args", CHANGES, ids=lambda args: args[0])


@pytest.fixture
def index() -> Iterator[UploadServer]:
    with UploadServer() as made:
        yield made


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    """`manage(*arguments, **variables)`; the user has no credentials but those given."""
    path = with_keyring(tmp_path / "bin")
    alone = {"HOME": str(tmp_path), "NETRC": None, "NO_PROXY": "127.0.0.1", "PATH": path}

    def run(*arguments: str | Path, **variables: str) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments)], env=alone | variables)

    return run


def says(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def login_of(request: Upload) -> str | None:
    shown = request.headers.get("authorization")
    return base64.b64decode(shown.removeprefix("Basic ")).decode() if shown else None


# what is sent, and as whom


@pytest.mark.parametrize(
    ("args", "method", "target", "document", "said"),
    [
        (DELETE, "DELETE", "/api/projects/demo/1.0", None, "Deleted a\nDeleted b\n"),
        (
            ("delete", "De_mo==1!0", "--file", "ü#?.whl", "--yes", "--index", "dev"),
            *("DELETE", "/dev/api/projects/de-mo/1!0/%C3%BC%23%3F.whl", None),
            "Deleted a\nDeleted b\n",
        ),
        (
            ("yank", "demo==1.0+x", "--reason", "<ü>"),
            *("POST", "/api/projects/demo/1.0+x/yank", {"filename": None, "reason": "<ü>"}),
            "Yanked a\nYanked b\n",
        ),
        (
            ("unyank", "demo==1.0", "--file", "f"),
            *("DELETE", "/api/projects/demo/1.0/yank", {"filename": "f"}),
            "Unyanked a\nUnyanked b\n",
        ),
        (
            ("push", "demo==1.0", "dev", "prod"),
            *("POST", "/dev/api/push", {"project": "demo", "version": "1.0", "to": "prod"}),
            "Pushed a\nPushed b\n",
        ),
        (
            ("refresh", "demo"),
            *("POST", "/api/projects/demo/refresh", None),
            "demo: fetched (served is what the upstream says now)\n",
        ),
    ],
)
@pytest.mark.parametrize("path", ["", "/", "/simple", "/simple/", "/legacy/", "/py/simple/"])
def test_each_change_is_one_request_wherever_the_url_leads(
    args: tuple[str, ...],
    method: str,
    target: str,
    document: object,
    said: str,
    path: str,
    index: UploadServer,
    manage: Manage,
) -> None:
    keys = ("deleted", "yanked", "unyanked", "pushed")
    index.answer(says({key: ["a", "b"] for key in keys} | {"outcome": "fetched"}))
    done = manage(*args, "--server", index.url + path, **TOKEN)
    assert (done.exit_code, done.stdout) == (0, said)
    (request,) = index.uploads
    assert (request.method, request.target) == (method, "/py" * path.startswith("/py") + target)
    assert (json.loads(request.body) if request.body else None) == document
    assert login_of(request) == f"__token__:{SECRET}"


@pytest.mark.parametrize(
    ("variables", "netrc", "keyring", "login"),
    [
        (TOKEN, "n", "k", f"__token__:{SECRET}"),
        (TOKEN | {"PROXYINDEX_PUBLISH_USERNAME": "ci"}, "n", "k", f"ci:{SECRET}"),
        (
            {"PROXYINDEX_PUBLISH_USERNAME": "u", "PROXYINDEX_PUBLISH_PASSWORD": "pä"},
            *("n", "k", "u:pä"),
        ),
        ({}, "n", "k", "n:m"),
        ({}, "", "k", "__token__:k"),
        ({}, "", "", None),
    ],
)
def test_credentials_are_those_of_publishing(
    variables: dict[str, str],
    netrc: str,
    keyring: str,
    login: str | None,
    index: UploadServer,
    manage: Manage,
    tmp_path: Path,
) -> None:
    if netrc:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login n password m")
    if keyring:
        # the very words with which publishing to the same URL asks it
        with_keyring(tmp_path / "bin", f'[ "$*" = "get {index.url}/legacy/ __token__" ] && echo k')
    index.answer(says({"deleted": []}))
    assert manage(*DELETE, "--server", f"{index.url}/simple/", **variables).exit_code == 0
    assert login_of(index.uploads[0]) == login


def test_credentials_are_looked_for_once_however_many_projects_are_named(
    index: UploadServer, manage: Manage, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    with_keyring(tmp_path / "bin", f'echo "$*" >> {asked}; [ "$1" = get ] && echo k')
    index.answer(says({"outcome": "fetched"}), says({"outcome": "fetched"}))
    assert manage("refresh", "one", "two", "--server", index.url).exit_code == 0
    assert [login_of(request) for request in index.uploads] == ["__token__:k"] * 2
    assert len([line for line in asked.read_text().splitlines() if line.startswith("get")]) == 1


@each_change
@pytest.mark.parametrize("status", [302, 308])
def test_no_redirect_is_followed_and_none_gets_credentials(
    args: tuple[str, ...], status: int, index: UploadServer, manage: Manage
) -> None:
    with UploadServer() as other:
        there = other.url
        location = there.replace("//", "//u:sesame@") + "/x?token=sesame"
        index.answer(refuses(status, {"Location": location}))
        done = manage(*args, "--server", index.url, **TOKEN)
        assert (other.uploads, other.looks) == ([], [])
    assert done.exit_code == 1
    assert f"{index.url} redirects ({status}) to '{there}/x': say that after --s" in done.stderr
    assert "sesame" not in done.output


def test_of_a_redirect_the_address_to_use_instead_is_told(
    index: UploadServer, manage: Manage
) -> None:
    location = "https://index.example/py/api/projects/demo/1.0"
    index.answer(refuses(308, {"Location": location}))
    told = manage(*DELETE, "--server", index.url).stderr
    assert " to 'https://index.example/py': say that after --server" in told


def test_a_private_authority_is_believed_where_it_is_named(
    server: ServerFactory, tmp_path: Path, manage: Manage
) -> None:
    certificates = Certificates.make(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    put_wheel(own, "px-safe", "1.0")
    tls = ("--tls-cert", certificates.cert, "--tls-key", certificates.key)
    running = server(own, *tls, "--delete", "*")
    change = ("delete", "px-safe", "--yes", "--server", running.url)
    distrusted = manage(*change)
    assert distrusted.exit_code == 1
    assert distrusted.stderr.startswith("Error: The server's certificate is not trusted (")
    assert distrusted.stderr.endswith("authority that signed it with --ca-file.\n")
    assert "again" not in distrusted.stderr
    done = manage(*change, "--ca-file", certificates.authority)
    assert (done.exit_code, done.stdout) == (0, f"Deleted {wheel_name('px-safe', '1.0')}\n")
    trusting = ssl.create_default_context(cafile=certificates.authority)
    assert wheel_name("px-safe", "1.0") not in running.get("/simple/px-safe/", tls=trusting).text


def test_another_authority_is_no_remedy_for_the_name_of_another_server(
    server: ServerFactory, tmp_path: Path, manage: Manage
) -> None:
    certificates = Certificates.make(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    running = server(own, "--tls-cert", certificates.cert, "--tls-key", certificates.key)
    url = running.url.replace("127.0.0.1", "127.0.0.2")
    told = manage(
        *("refresh", "demo", "--server", url, "--ca-file", certificates.authority), NO_PROXY="*"
    ).stderr
    assert "cannot be reached" in told
    assert "--ca-file" not in told


def test_whoever_publishes_is_told_of_it_as_well(
    server: ServerFactory, tmp_path: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: another attempt would not help."""
    monkeypatch.setattr("proxyindex.publishing.server._PAUSES", (1000.0,))
    certificates = Certificates.make(tmp_path)
    own, dist = tmp_path / "own", tmp_path / "dist"
    own.mkdir()
    put_wheel(dist, "px-safe", "1.0")
    running = server(own, "--tls-cert", certificates.cert, "--tls-key", certificates.key)
    for check in ((), ("--check", running.simple_url)):
        told = manage("publish", dist, "--to", running.simple_url, *check).stderr
        assert told.startswith("Error: The server's certificate is not trusted (")
        assert told.endswith("authority that signed it with --ca-file.\n")


def test_a_file_without_certificates_is_told(
    index: UploadServer, manage: Manage, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("none")
    done = manage(*DELETE, "--server", index.url, "--ca-file", tmp_path / "ca.pem")
    assert done.exit_code == 1
    assert "ca.pem holds no certificates" in done.stderr


# what goes wrong

HTML = {"Content-Type": "text/html"}
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
LOG_IN = "This needs a log-in: a user and password, or __token__ and a token."


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        # what ours says is told as it is
        (refuses(404, PLAIN, b"There is no file.\n"), "Error: There is no file.\n"),
        (refuses(403, PLAIN, b"On this index, nobody may."), "Error: On this index, nobody may.\n"),
        (
            refuses(401, PLAIN, LOG_IN.encode()),
            f"{LOG_IN} The credentials of '__token__' were not accepted.",
        ),
        (refuses(503, PLAIN, f"No.\x1b[2J {SECRET} is odd.".encode()), "No.[2J *** is odd."),
        # what others say is told as theirs
        (refuses(401, HTML, b"<h1>Who are you?</h1>"), " answers 401 Who are you?. The cred"),
        (refuses(502, HTML, b"<html>Bad\n<b>Gateway"), " answers 502 Bad Gateway."),
        (refuses(500, body=b""), " answers 500 Said."),
        # who is no proxyindex
        (refuses(404, PLAIN, b"Not Found"), "There is no proxyindex at "),
        (refuses(404, HTML, b"<p>Nothing is here."), "There is no proxyindex at "),
        (refuses(405, body=b"Method Not Allowed\n"), "There is no proxyindex at "),
        (Answer(200, b"<html>", HTML), "There is no proxyindex at "),
        (Answer(200, b"[" * 100_000), "There is no proxyindex at "),
        (says(["deleted"]), "There is no proxyindex at "),
        (says({"deleted": "x"}), "There is no proxyindex at "),
        (says({"deleted": ["\x1b[2J"]}), "There is no proxyindex at "),
        (Answer(204, b""), " answers 204 Said."),
        # who is not there
        (CUT, "then say the same again."),
    ],
)
def test_what_goes_wrong_is_told_with_what_to_do(
    answer: Answer, said: str, index: UploadServer, manage: Manage
) -> None:
    index.answer(answer)
    done = manage(*DELETE, "--server", f"{index.url}/simple/", **TOKEN)
    assert done.exit_code == 1
    assert said in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.output
    assert "\x1b" not in done.output
    assert len(index.uploads) == 1


def test_without_credentials_a_401_says_how_to_give_them(
    index: UploadServer, manage: Manage
) -> None:
    index.answer(refuses(401, PLAIN, LOG_IN.encode()))
    told = manage(*DELETE, "--server", index.url).stderr
    assert f"{LOG_IN} No credentials were found: set PROXYINDEX_PUBLISH_TOKEN, or " in told


def test_an_index_that_is_not_there_is_told(index: UploadServer, manage: Manage) -> None:
    index.answer(refuses(404, body=b"Not Found"))
    told = manage(*DELETE, "--index", "dve", "--server", index.url).stderr
    assert f"There is no index 'dve' at {index.url}. " in told


def test_a_server_that_is_not_there_is_told(manage: Manage) -> None:
    with UploadServer() as gone:
        url = gone.url
    told = manage(*DELETE, "--server", url).stderr
    assert told.startswith(f"Error: {url.removeprefix('http://')} cannot be reached")
    assert "See whether it runs" in told


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--server", "https://alice:sesame@index.example"), 1, "set PROXYINDEX_PUBLISH_TOKEN"),
        (("--server", "index.example"), 1, "no http or https URL"),
        (("--server", "http://x:y/"), 1, "The URL cannot be used"),
        (("--server", "http://127.0.0.1:1", "--folder", "own"), 2, "--folder means nothing with"),
        (("--server", "http://127.0.0.1:1", "--config", "x"), 2, "--config means nothing with"),
        (("--ca-file", "ca.pem"), 2, "--ca-file means nothing without --server"),
        (("--server", "http://127.0.0.1:1", "--file", "a/b"), 1, "'a/b' is not the name of"),
        (("--server", "http://127.0.0.1:1", "--file", "a\udcff"), 1, "'a\\udcff' is not the name"),
        (("--server", "http://127.0.0.1:1", "--index", ".."), 1, "'..' is not the name of"),
        ((), 2, "say --folder FOLDER or --config FILE, as told to serve, or --server URL"),
    ],
)
def test_what_makes_no_sense_is_told(
    args: tuple[str, ...], code: int, said: str, manage: Manage
) -> None:
    done = manage(*DELETE, *args)
    assert done.exit_code == code
    assert said in done.stderr
    assert "sesame" not in done.output


def test_a_push_is_told_of_no_option_that_it_has_not(manage: Manage) -> None:
    told = manage("push", "demo==1.0", "dev", "prod").stderr
    assert "say --config FILE, as told to serve, or --server URL" in told
    assert "--folder" not in told


@pytest.mark.parametrize("where", [("--server", "http://127.0.0.1:1"), ("--folder", ".")])
def test_one_file_is_deleted_of_a_version_only(where: tuple[str, str], manage: Manage) -> None:
    done = manage("delete", "demo", "--file", "demo-1.0.tar.gz", "--yes", *where)
    assert done.exit_code == 2
    assert "say NAME==VERSION" in done.stderr


@pytest.mark.parametrize(("host", "count"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
def test_over_plain_http_to_other_machines_a_warning_is_given(
    host: str, count: int, index: UploadServer, manage: Manage
) -> None:
    index.answer(says({"deleted": []}))
    done = manage(*DELETE, "--server", index.url.replace("127.0.0.1", host), **TOKEN)
    assert done.exit_code == 0
    assert done.stderr.count("Warning: over plain http") == count


@each_change
def test_help_helps(args: tuple[str, ...], manage: Manage) -> None:
    told = manage(args[0], "--help").stdout
    assert "Example" in told
    for option in ("--server URL", "--ca-file FILE", "--config PATH"):
        assert option in told
    assert ("--folder" in told, "--index" in told) == ((args[0] != "push"),) * 2
