"""`proxyindex token` and `proxyindex user`: what they print, what they keep, how they end."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxyindex.access import Action
from proxyindex.cli import main
from proxyindex.users.hashes import PasswordHashes
from proxyindex.users.htpasswd import Htpasswd
from proxyindex.users.tokens import PREFIX, TokenFile
from tests.support.hermetic import environment

ME = pwd.getpwuid(os.getuid()).pw_name
NOBODY = 54_321  # the number of no account

pytestmark = pytest.mark.usefixtures("restored_logging")  # the audit log is set up by commands


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users.htpasswd"


def test_a_token_is_printed_once_and_alone_on_standard_output(tokens: Path) -> None:
    made = run("token", "create", "--user", "ci", "--tokens", tokens)
    assert made.exit_code == 0
    text = made.stdout.strip()
    assert made.stdout == f"{text}\n"
    found = TokenFile(tokens).find(text, 0.0)
    assert found is not None
    assert found.token.user == "ci"
    listed = run("token", "list", "--tokens", tokens)
    assert text not in listed.output
    assert text[-4:] in listed.output
    in_json = run("token", "list", "--json", "--tokens", tokens)
    assert found.token.digest not in listed.output + in_json.output


def test_a_new_token_comes_with_lines_for_each_client(tokens: Path) -> None:
    public = ("--public-url", "https://index.example/pypi")
    made = run("token", "create", "--user", "ci", "--index", "dev", *public, "--tokens", tokens)
    assert made.stdout.startswith(PREFIX)
    text = f"{PREFIX}…"  # itself only for a terminal: what is captured should not be in a log
    index = f"https://__token__:{text}@index.example/pypi/dev/simple/"
    upload = "https://index.example/pypi/dev/legacy/"
    for line in (
        f"export PIP_INDEX_URL={index}",
        f"export UV_DEFAULT_INDEX={index}",
        f"uv publish --publish-url {upload} --token {text}",
        f"export TWINE_USERNAME=__token__ TWINE_PASSWORD={text}",
        f"twine upload --repository-url {upload} dist/*",
        f"machine index.example login __token__ password {text}",
    ):
        assert f"    {line}\n" in made.stderr
    assert "it does not expire" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_an_address_that_nobody_told_is_called_a_guess(tokens: Path) -> None:
    command = ("token", "create", "--user", "ci", "--tokens", tokens)
    for told, said in (
        (("--port", "81"), "The address http://127.0.0.1:81 is guessed from where the server"),
        (("--public-url", "https://index.example"), ""),
    ):
        done = run(*command, *told)
        assert said in done.stderr
        assert ("guessed" in done.stderr) is bool(said)


def test_lines_for_a_token_over_plain_http_have_pip_trust_the_host(tokens: Path) -> None:
    create = ("token", "create", "--user", "ci", "--tokens", tokens)
    lines = run(*create, "--public-url", "http://HOST:8080").stderr
    assert "    export PIP_TRUSTED_HOST=HOST:8080\n" in lines
    assert "    machine HOST login __token__ password " in lines
    assert "TRUSTED_HOST" not in run(*create, "--public-url", "https://index.example").stderr


def test_the_limits_of_a_token_are_kept_and_shown(tokens: Path) -> None:
    limits = ["--index", "dev*", "--project", "acme-*", "--project", "torch"]
    limits += ["--action", "upload", "--action", "read", "--expires", "90d"]
    run("token", "create", "--user", "ci", *limits, "--tokens", tokens)
    (one,) = TokenFile(tokens).all()
    assert one.scope.indexes == ("dev*",)
    assert one.scope.projects == ("acme-*", "torch")
    assert one.scope.actions == {Action.READ, Action.UPLOAD}
    assert abs(one.scope.expires - time.time() - 90 * 86400) < 60
    (shown,) = json.loads(run("token", "list", "--json", "--tokens", tokens).output)
    assert shown["actions"] == ["read", "upload"]
    assert shown["expires"] == one.expires
    assert "digest" not in shown
    assert "acme-* torch" in run("token", "list", "--tokens", tokens).output


def test_a_token_for_projects_that_cannot_be_is_refused_with_what_to_write(tokens: Path) -> None:
    done = run("token", "create", "--user", "ci", "--project", "acme_", "--tokens", tokens)
    assert "--project" in done.stderr
    told = "this covers no project, because no name ends with a separator: write acme or acme-*."
    assert told in " ".join(done.stderr.split())
    run("token", "create", "--user", "ci", "--project", "Acme.X*", "--tokens", tokens)
    assert TokenFile(tokens).all()[0].projects == ("Acme.X*",), "it is compared normalized"


def test_tokens_are_revoked_by_id(tokens: Path) -> None:
    for _ in range(3):
        run("token", "create", "--user", "ci", "--tokens", tokens)
    first, second, third = (one.id for one in TokenFile(tokens).all())
    done = run("token", "revoke", first, third, "--tokens", tokens)
    assert (done.exit_code, done.output.count("Revoked")) == (0, 2)
    assert [one.id for one in TokenFile(tokens).all()] == [second]
    again = run("token", "revoke", first, second, "--tokens", tokens)
    assert again.exit_code == 1
    assert f"there is no token '{first}'" in again.stderr
    assert TokenFile(tokens).all() == [], "the other one is revoked all the same"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("token", "create"), 2),
        (("token", "create", "--user", "a b"), 1),
        (("token", "create", "--user", "ci", "--expires", "soon"), 2),
        (("token", "create", "--user", "ci", "--expires", "500ms"), 2),
        (("token", "create", "--user", "ci", "--action", "fly"), 2),
        (("token", "create", "--user", "ci", "--project", "a*", "--project", "acme-"), 2),
        (("token", "create", "--user", "ci", "--project", "acme beta"), 2),
        (("token", "revoke"), 2),
        (("token", "revoke", "ffff"), 1),
    ],
    ids=str,
)
def test_mistakes_end_with_a_code_and_change_nothing(
    tokens: Path, arguments: tuple[str, ...], code: int
) -> None:
    done = run(*arguments, "--tokens", tokens)
    assert done.exit_code == code
    assert "Error" in done.stderr
    assert TokenFile(tokens).all() == []


def test_a_broken_file_of_tokens_is_left_alone(tokens: Path) -> None:
    tokens.parent.mkdir()
    tokens.write_text("{")
    for command in (["create", "--user", "ci"], ["list"], ["revoke", "x"]):
        done = run("token", *command, "--tokens", tokens)
        assert done.exit_code == 1
        assert "no list of tokens" in done.stderr
    assert tokens.read_text() == "{"


def verified(users: Path, name: str, password: str) -> bool:
    return Htpasswd([users], PasswordHashes()).verify(name, password)[0]


def test_users_are_added_with_a_password_that_is_asked_for(users: Path) -> None:
    done = run("user", "add", "alice", "--htpasswd", users, stdin="secret\nsecret\n")
    assert done.exit_code == 0
    assert "secret" not in done.output
    assert verified(users, "alice", "secret")
    piped = run("user", "add", "alice", "--htpasswd", users, "--password-stdin", stdin="new\n")
    assert "alice has another password" in piped.output
    assert verified(users, "alice", "new")
    assert not verified(users, "alice", "secret")


def test_users_are_listed_and_removed(users: Path, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        run("user", "add", name, "--htpasswd", users, "--password-stdin", stdin="x")
    config = tmp_path / "proxyindex.toml"
    config.write_text(f'htpasswd = ["{users}"]\n')
    assert run("user", "list", "--config", config).output == "alice\nbob\n"
    assert run("user", "remove", "alice", "--config", config).exit_code == 0
    assert run("user", "list", "--htpasswd", users).output == "bob\n"
    again = run("user", "remove", "alice", "--htpasswd", users)
    assert (again.exit_code, "there is no user 'alice'" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("user", "add", "a:b"), "x"),
        (("user", "add", "@group"), "x"),
        (("user", "add", "alice", "--password-stdin"), ""),
        (("user", "add", "alice", "--password-stdin"), "x" * 73),
    ],
)
def test_users_and_passwords_that_cannot_be_are_refused(
    users: Path, arguments: tuple[str, ...], stdin: str
) -> None:
    done = run(*arguments, "--htpasswd", users, stdin=stdin)
    assert done.exit_code == 2
    assert not users.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "revoke", "ffff", "--tokens"),
        ("token", "list", "--tokens"),
        ("user", "remove", "alice", "--htpasswd"),
        ("user", "list", "--htpasswd"),
    ],
    ids=" ".join,
)
def test_no_folder_is_made_for_what_is_not_there(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments, tmp_path / "none" / "file")
    assert done.exit_code == (0 if "list" in arguments else 1)
    assert not [*tmp_path.iterdir()]


def test_a_file_of_users_may_be_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell knows that in `--htpasswd=~/users`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run("user", "add", "alice", "--password-stdin", "--htpasswd=~/users", stdin="x")
    assert done.exit_code == 0
    assert (tmp_path / "users").exists()


@pytest.mark.parametrize("instant", [-(10**14), 10**14, 10**17, 10**30])
def test_times_that_no_calendar_knows_are_listed(tokens: Path, instant: int) -> None:
    run("token", "create", "--user", "ci", "--expires", "1d", "--tokens", tokens)
    document = json.loads(tokens.read_text())
    document["tokens"][0]["created"] = document["tokens"][0]["expires"] = instant
    tokens.write_text(json.dumps(document))
    done = run("token", "list", "--tokens", tokens)
    assert done.exit_code == 0
    assert done.stdout.count(str(instant)) == 2


def test_without_a_file_of_users_one_is_asked_for() -> None:
    done = run("user", "list")
    assert done.exit_code == 2
    assert "give --htpasswd" in done.stderr


COMMANDS = ["token", "token create", "token list", "token revoke"]
COMMANDS += ["user", "user add", "user remove", "user list"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_helps(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == 0
    assert " " not in command or "Example" in done.output


# the audit log


def test_changes_of_tokens_leave_lines_without_the_token(tokens: Path, tmp_path: Path) -> None:
    log = ("--audit-log", tmp_path / "audit.log", "--tokens", tokens)
    limits = ("--project", "acme-*", "--project", "torch", "--action", "read", "--expires", "1d")
    text = run("token", "create", "--user", "ci", *limits, *log).stdout.strip()
    (one,) = TokenFile(tokens).all()
    assert run("token", "revoke", one.id, "ffff", *log).exit_code == 1
    run("token", "list", "--tokens", tokens)
    created, revoked = (tmp_path / "audit.log").read_text().splitlines()
    who = f"user=os:{ME} client=command-line token={one.id} account=ci file={tokens}"
    assert f" INFO proxyindex.audit: create token done {who} projects=" in created
    assert 'projects="acme-* torch" actions=read expires=' in created
    assert revoked.endswith(f" INFO proxyindex.audit: revoke token done {who}")
    assert text not in created + revoked


def test_changes_of_users_leave_lines_without_the_password(users: Path, tmp_path: Path) -> None:
    log = ("--audit-log", tmp_path / "audit.log", "--htpasswd", users)
    for password in ("sesame", "another"):
        run("user", "add", "alice", "--password-stdin", *log, stdin=password)
    for code in (0, 1):
        assert run("user", "remove", "alice", *log).exit_code == code
    who = f"user=os:{ME} client=command-line account=alice file={users}"
    lines = (tmp_path / "audit.log").read_text().splitlines()
    assert [line.partition(".audit: ")[2] for line in lines] == [
        f"{action} done {who}" for action in ("add user", "change password", "remove user")
    ]


def test_without_an_audit_log_the_line_is_on_standard_error(users: Path, tokens: Path) -> None:
    done = run("user", "add", "a", "--password-stdin", "--htpasswd", users, stdin="x")
    assert done.stderr.count("proxyindex.audit: add user done ") == 1
    assert run("token", "create", "--user", "ci", "--tokens", tokens).stdout.count("\n") == 1


def test_the_audit_log_of_the_configuration_counts_beside_a_file_that_is_named(
    users: Path, tmp_path: Path
) -> None:
    config = tmp_path / "proxyindex.toml"
    config.write_text('audit-log = "audit.log"\nlog-format = "json"\nlog-level = "error"\n')
    where = ("--config", config, "--htpasswd", users)
    run("user", "add", "alice", "--password-stdin", *where, stdin="x")
    (line,) = (tmp_path / "audit.log").read_text().splitlines()
    told = json.loads(line)
    assert (told["logger"], told["action"]) == ("proxyindex.audit", "add user")
    assert (told["user"], told["client"]) == (f"os:{ME}", "command-line")
    assert (told["account"], told["file"]) == ("alice", str(users))


def test_a_change_that_cannot_be_noted_is_made_and_told(users: Path, tmp_path: Path) -> None:
    log = ("--audit-log", tmp_path / "none" / "audit.log", "--htpasswd", users)
    done = run("user", "add", "alice", "--password-stdin", *log, stdin="x")
    assert done.exit_code == 0
    assert Htpasswd([users], PasswordHashes()).verify("alice", "x")[0]
    told, line = done.stderr.splitlines()
    assert f"the audit log {log[1]} cannot be written: No such file or directory" in told
    assert "proxyindex.audit: add user done " in line


def test_whom_sudo_works_for_is_told(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "bob user=eve")
    done = run("user", "add", "a", "--password-stdin", "--htpasswd", users, stdin="x")
    assert done.stderr.rstrip().endswith(' sudo="bob user=eve"')


# our interpreter may lie where nobody else may read: the account is left when all is loaded
AS_NOBODY = f"""
import os, sys
from proxyindex.cli import main, token  # while it may be read
os.chdir(sys.argv[-1])
os.setgid({NOBODY})
os.setuid({NOBODY})
main(["token", "create", "--user", "ci", "--tokens", "tokens.json"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_account_without_a_name_is_told_by_its_number() -> None:
    with pytest.raises(KeyError):
        pwd.getpwuid(NOBODY)
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        os.chown(folder, NOBODY, NOBODY)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, folder],
            env={"LOGNAME": "somebody", "HOME": folder},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert f"create token done user=os:{NOBODY} client=command-line " in done.stderr


def test_the_first_user_is_added_before_the_file_is_there(users: Path, tmp_path: Path) -> None:
    config = tmp_path / "proxyindex.toml"
    config.write_text(f'htpasswd = ["{users}"]\nfolders = ["not-mounted"]\n')
    done = run("user", "add", "alice", "--config", config, "--password-stdin", stdin="x")
    assert done.exit_code == 0, done.output
    assert run("user", "list", "--htpasswd", users).output == "alice\n"
    assert run("user", "list", "--config", tmp_path / "none.toml").exit_code == 2


def test_the_first_user_is_added_to_a_file_that_the_configuration_names_already(
    tmp_path: Path,
) -> None:
    config = tmp_path / "proxyindex.toml"
    config.write_text('folders = ["not-there"]\nhtpasswd = ["users.htpasswd"]\n')
    missing = run("config", "check", "--config", config)
    assert missing.exit_code == 1
    assert "proxyindex user add NAME --htpasswd" in missing.stderr
    added = run("user", "add", "alice", "--password-stdin", "--config", config, stdin="one")
    assert added.exit_code == 0, added.output
    assert run("user", "list", "--config", config).output == "alice\n"
    assert "htpasswd" not in run("config", "check", "--config", config).stderr


def test_the_name_beside_a_token_cannot_be_a_user(users: Path, tokens: Path) -> None:
    added = run("user", "add", "__token__", "--htpasswd", users, "--password-stdin", stdin="one")
    assert added.exit_code == 2
    assert not users.exists()
    assert run("token", "create", "--user", "__token__", "--tokens", tokens).exit_code == 1


def test_a_token_is_for_indexes_that_there_are(tmp_path: Path, tokens: Path) -> None:
    config = tmp_path / "proxyindex.toml"
    config.write_text("[index.dev]\nfolders = ['dev']\n[index.prod]\nfolders = ['prod']\n")
    create = ("token", "create", "--user", "ci", "--tokens", tokens, "--config", config)
    refused = run(*create, "--index", "dev", "--index", "nope")
    assert refused.exit_code == 2
    assert "there is no index 'nope'; there are: dev, prod" in refused.stderr
    assert not tokens.exists()
    assert run(*create, "--index", "d*").exit_code == 0


def test_a_token_comes_with_lines_for_what_it_may_do_only(tokens: Path) -> None:
    create = ("token", "create", "--user", "ci", "--tokens", tokens)
    upload = run(*create, "--action", "upload").stderr
    assert "PIP_INDEX_URL" not in upload
    for line in ("PROXYINDEX_PUBLISH_TOKEN=pxi_", "uv publish", "twine upload", "poetry publish"):
        assert line in upload
    read = run(*create, "--action", "read").stderr
    assert "PIP_INDEX_URL" in read
    assert "publish" not in read
    everything = run(*create, "--action", "admin").stderr
    assert "PIP_INDEX_URL" in everything
    assert "twine upload" in everything


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("kind", ["tokens", "users"])
def test_a_file_that_root_rewrites_keeps_its_owner_in_a_folder_of_root(
    kind: str, tmp_path: Path
) -> None:
    """As in /etc: a server of another user could not read it any more."""
    path = tmp_path / kind

    def change(name: str) -> None:
        if kind == "tokens":
            done = run("token", "create", "--user", name, "--tokens", path)
        else:
            done = run("user", "add", name, "--htpasswd", path, "--password-stdin", stdin="one")
        assert done.exit_code == 0, done.output

    change("alice")
    os.chown(path, NOBODY, NOBODY)
    change("bob")
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)


def test_a_password_of_several_lines_is_none(users: Path) -> None:
    done = run(
        "user", "add", "alice", "--htpasswd", users, "--password-stdin", stdin="x\nuser: y\n"
    )
    assert done.exit_code == 2
    assert "head -n 1" in done.output
    assert not users.exists()


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # as locales have Python read
def test_a_password_that_is_no_text_is_refused(users: Path, errors: str) -> None:
    command = ["-m", "proxyindex", "user", "add", "a", "--password-stdin", "--htpasswd"]
    done = subprocess.run(
        [sys.executable, *command, str(users)],
        env={"PYTHONIOENCODING": f"utf-8:{errors}"},
        input=b"p\xff\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith(b"\nError: expected a password in UTF-8.\n")
    assert not users.exists()


def test_a_password_that_would_be_taken_for_a_token_is_refused(users: Path) -> None:
    word = f"{PREFIX}secret"
    done = run("user", "add", "alice", "--htpasswd", users, "--password-stdin", stdin=word)
    assert done.exit_code == 2
    assert f"what begins with {PREFIX} is taken for a token" in done.output
    assert word not in done.output
    assert not users.exists()


@pytest.mark.parametrize("output", ["/dev/full", None])
def test_a_token_that_nobody_could_read_is_revoked(tmp_path: Path, output: str | None) -> None:
    tokens = tmp_path / "tokens.json"
    command = [sys.executable, "-m", "proxyindex", "token", "create", "--user", "ci"]
    command += ["--tokens", str(tokens)]
    script = f'exec "$@" >{output or "&-"}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command],
        env=environment(tmp_path / "home"),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("standard output cannot be written.\n")
    assert TokenFile(tokens).all() == []
