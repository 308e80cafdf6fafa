"""`config check` says beforehand what `serve` would refuse on this machine, and makes nothing."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxyindex.cli import main
from tests.support.certificates import Certificates

UPSTREAM = '[[upstream]]\nname = "corp"\nurl = "https://index.example/simple"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    (tmp_path / "junk").write_text("no certificate")
    return tmp_path


def checked(home: Path, text: str, **environ: str) -> Result:
    config = home / "proxyindex.toml"
    config.write_text(text)
    environ = {"HOME": str(home), **environ}
    return CliRunner().invoke(main, ["config", "check", "--config", str(config)], env=environ)


def test_everything_that_cannot_be_used_is_told_a_line_each(home: Path) -> None:
    made = Certificates.make(home)
    result = checked(
        home,
        f'cache-dir = "junk/cache"\naudit-log = "none/audit.log"\n'
        f'tls-cert = "{made.cert}"\ntls-key = "{made.client_key}"\n'
        f'{UPSTREAM}ca-file = "junk"\nclient-cert = "{made.client_cert}"\n'
        f'client-key = "{made.key}"\n',
        https_proxy="http://[",
    )
    assert result.exit_code == 1
    assert result.stdout == ""
    told = [
        f"Error: The cache folder {home}/junk/cache cannot be written (Not a directory)",
        f"Error: The audit log {home}/none/audit.log cannot be written (No such file",
        "Error: The variable https_proxy (or HTTPS_PROXY) holds no http(s) proxy",
        f"Error: The ca-file {home}/junk of upstream 'corp' cannot be used",
        f"Error: The client-cert {made.client_cert} of upstream 'corp' and its key cannot be used",
        f"Error: The tls-cert {made.cert} and its key cannot be used",
    ]
    lines = result.stderr.splitlines()
    assert len(lines) == len(told)
    assert all(map(str.startswith, lines, told)), result.stderr


def test_an_unusable_proxy_is_told_once_for_all_upstreams(home: Path) -> None:
    text = UPSTREAM + UPSTREAM.replace("corp", "other")
    result = checked(home, text, https_proxy="http://[")
    assert result.exit_code == 1
    assert result.stderr.count("https_proxy") == 1


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_cache_folder_that_is_a_link_to_nothing_is_told(home: Path, below: str) -> None:
    (home / "link").symlink_to("nothing")
    result = checked(home, f'cache-dir = "link{below}"\n')
    assert result.exit_code == 1
    assert f"The cache folder {home}/link{below} cannot be written (No such" in result.stderr


def test_a_socket_whose_folder_is_missing_is_told_as_serve_would(home: Path) -> None:
    result = checked(home, 'folders = ["packages"]\nunix-socket = "nodir/x.sock"\n')
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: Cannot listen on {home}/nodir/x.sock: the folder does not exist; "
        "create it first.\n"
    )
    assert not (home / "nodir").exists()
    sound = checked(home, 'folders = ["packages"]\nunix-socket = "packages/x.sock"\n')
    assert sound.exit_code == 0, sound.stderr
    assert not [*(home / "packages").iterdir()]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"packages/{'x' * 107}", "AF_UNIX path too long"),
        ("junk", "it is a file; choose another path"),
        ("packages", "it is a file; choose another path"),
    ],
)
def test_a_socket_that_could_not_be_made_is_told_and_not_made(
    home: Path, path: str, said: str
) -> None:
    result = checked(home, f'folders = ["packages"]\nunix-socket = "{path}"\n')
    assert result.exit_code == 1
    assert result.stderr == f"Error: Cannot listen on {home}/{path}: {said}.\n"
    assert not [*(home / "packages").iterdir()]


def test_the_socket_of_a_server_that_runs_is_sound(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "packages" / "x.sock"))
        listening.listen()
        listening.setblocking(False)
        result = checked(home, 'folders = ["packages"]\nunix-socket = "packages/x.sock"\n')
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("content", ["", "\n", "one\ntwo\n", "x" * 70_000])
def test_a_password_file_has_one_line(home: Path, content: str) -> None:
    (home / "secret").write_text(content)
    result = checked(home, f'{UPSTREAM}username = "x"\npassword-file = "secret"\n')
    assert result.exit_code == 1
    assert result.stderr.endswith(f"= '{home}/secret': this path is not a file of one line.\n")


@pytest.mark.parametrize(
    "text",
    [
        f'port = 81\npage-ttl = "1m"\n{UPSTREAM}',
        f'{UPSTREAM}[index.dev]\nfolders = ["packages"]\nbases = ["prod"]\n'
        '[index.prod]\nupstreams = ["corp"]\n[groups]\na = ["x"]\nb = ["y"]\n',
        'no-upstream = true\nfolders = ["packages"]\n',
        'upstream = ["https://x:y@index.example/simple"]\nread = ["*"]\n',
    ],
)
def test_the_values_counted_are_those_that_are_shown_as_given(home: Path, text: str) -> None:
    counted = checked(home, text).stdout
    command = ["config", "show", "--config", str(home / "proxyindex.toml")]
    lines = CliRunner().invoke(main, command, env={"HOME": str(home)}).stdout.splitlines()
    sources = [line.rpartition("  # ")[2] for line in lines if "  # " in line]
    given = len([source for source in sources if source != "default"])
    assert given
    assert f" ({given} values given, " in counted


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_folder_that_cannot_be_read_is_told(home: Path) -> None:
    # whether something may be read is asked for the real user
    as_nobody = "import os; os.setresuid(54321, 0, 0); from proxyindex.cli import main; main()"
    (home / "packages").chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-c", as_nobody, "config", "check", "packages", "--cache-dir", "cache"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    told = "Error: The folder packages cannot be read; change its permissions.\n"
    assert done.stderr == told


def test_files_of_accounts_that_let_nobody_in_are_warned_of(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("users", "others"):
        (home / name).write_bytes(b"\xff")
    (home / "more").write_text("alice:in-plain-text\n")
    result = checked(home, 'htpasswd = ["more", "users", "others"]\ntokens = "junk"\n')
    assert result.exit_code == 0
    told = "Warning: htpasswd lets in nobody of this file, nor of those behind it: "
    for name in ("users", "others"):
        assert f"{told}{home}/{name} cannot be used: " in result.stderr
    assert f"Warning: tokens lets nobody in: {home}/junk cannot be used: " in result.stderr
    assert f"line 1 of {home}/more is left out" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cache-size = 10\n", "cache-size is 10B, and hardly anything is so small; a number "),
        ('max-upload-size = "99kB"\n', "max-upload-size is 99kB, and hardly"),
        ('cache-size = "100kB"\n', ""),
        (
            'base-path = "/pypi"\npublic-url = "https://packages.example/"\n',
            "public-url leads to /, and base-path is /pypi: redirects will miss",
        ),
        (
            'public-url = "https://packages.example/pypi"\n',
            "public-url leads to /pypi, and base-path is not set: redirects will miss",
        ),
        ('base-path = "/pypi/"\npublic-url = "https://packages.example/pypi/"\n', ""),
        ('base-path = "/pypi"\n', ""),
    ],
)
def test_what_is_seldom_meant_is_warned_of(home: Path, text: str, told: str) -> None:
    result = checked(home, text)
    assert result.exit_code == 0
    warnings = [line.removeprefix("Warning: ") for line in result.stderr.splitlines()]
    assert len(warnings) == bool(told)
    assert all(warning.startswith(told) for warning in warnings), warnings


def test_nothing_is_made(home: Path) -> None:
    before = {*home.iterdir(), home / "proxyindex.toml"}
    result = checked(home, 'folders = ["packages"]\naudit-log = "a.log"\ncache-dir = "a/b"\n')
    assert result.exit_code == 0, result.stderr
    assert "The configuration is sound" in result.stdout
    assert {*home.iterdir()} == before
    assert not [*(home / "packages").iterdir()]


def test_a_sound_configuration_with_every_file_is_sound(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Certificates.make(home)
    (home / "users").write_text("alice:$2b$04$" + "a" * 53 + "\n")
    (home / "a.log").touch()
    result = checked(
        home,
        f'folders = ["packages"]\nupload = ["alice"]\naudit-log = "a.log"\nhtpasswd = ["users"]\n'
        f'tls-cert = "{made.cert}"\ntls-key = "{made.key}"\n'
        f'{UPSTREAM}ca-file = "{made.authority}"\nclient-cert = "{made.client_cert}"\n'
        f'client-key = "{made.client_key}"\n',
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("cache", "is_apart"),
    [("packages", False), ("packages/cache", False), ("packages/.cache", True), ("cache", True)],
)
def test_a_cache_among_packages_is_a_mistake_unless_hidden(
    home: Path, cache: str, is_apart: bool
) -> None:
    result = checked(home, f'folders = ["packages"]\ncache-dir = "{cache}"\nupstream = []\n')
    assert result.exit_code == (0 if is_apart else 2), result.output
    assert ("would be taken for projects" in result.stderr) is not is_apart


@pytest.mark.parametrize(
    "text",
    [
        f"port = {'1' * 5000}",
        f"port = 0x{'f' * 5000}",
        f"grace = 0b{'1' * 20_000}",
        f"upstream = [0o{'7' * 9000}]",
    ],
    ids=lambda text: text[:10],
)
def test_a_number_that_python_does_not_read_is_a_mistake(home: Path, text: str) -> None:
    result = checked(home, text)
    assert result.exit_code == 2
    assert "too many digits" in result.stderr
