"""The command line: exit codes, sentences instead of tracebacks, helpful texts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from proxyindex.cli import main
from proxyindex.cli.group import Commands
from proxyindex.config import OPTIONS
from proxyindex.errors import StoreError
from proxyindex.version import __version__
from tests.support.builders import put_wheel
from tests.support.hermetic import environment


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


def test_version_is_told() -> None:
    assert run("--version").output == f"proxyindex, version {__version__}\n"


def test_an_interrupt_while_all_is_imported_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ended = subprocess.run(
        # also where the tests run in the background, and Ctrl-C is ignored
        ["env", "--default-signal=INT", sys.executable, "-m", "proxyindex", "serve"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("command", [("serve",), ("config", "show"), ("config", "check")])
def test_help_tells_every_flag_and_an_example(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    for option in (one for one in OPTIONS if one.is_text):
        assert option.key == "folders" or option.flag in result.output


def test_the_base_path_is_not_promised_to_be_the_only_way() -> None:
    """Fronts may take it off, so what is asked for without it is answered, too."""
    told = " ".join(run("serve", "--help").output.split())
    assert "such as /pypi; without it, too, for fronts that take it off." in told


def test_show_prints_values_with_sources(tmp_path: Path) -> None:
    result = run("config", "show", str(tmp_path), "--offline", PROXYINDEX_PAGE_TTL="1m")
    assert result.exit_code == 0
    assert "offline = true  # flag --offline\n" in result.output
    assert 'page-ttl = "1m"  # env PROXYINDEX_PAGE_TTL\n' in result.output
    assert f'folders = ["{tmp_path}"]  # flag FOLDER\n' in result.output


def test_negative_flag_overrides_the_environment() -> None:
    result = run("config", "show", "--no-offline", PROXYINDEX_OFFLINE="1")
    assert "offline = false  # flag --no-offline\n" not in result.output
    assert "offline = false  # flag --offline\n" in result.output


def test_repeatable_flags_keep_their_order() -> None:
    urls = ["https://one.example/simple", "https://two.example/simple"]
    result = run("config", "show", "--json", "--upstream", urls[0], "--upstream", urls[1])
    document = json.loads(result.output)
    assert [upstream["url"]["value"] for upstream in document["upstreams"]] == urls


def test_check_of_a_sound_configuration_exits_with_0() -> None:
    result = run("config", "check", "--port", "81", "--page-ttl", "1m")
    assert result.exit_code == 0
    assert "2 values given" in result.output


_WHEELS = """[[upstream]]
name = "wheels"
url = "https://wheels.example/simple"
policy.allow = ["torch"]
"""
_REST = """[[upstream]]
name = "rest"
url = "https://rest.example/simple"
"""


@pytest.mark.parametrize(
    ("text", "is_warned"),
    [
        (_WHEELS + _REST, True),
        (_REST + _WHEELS, False),
        (_WHEELS, False),
        ("fallback = 'none'\nfolders = ['.']\n" + _WHEELS + _REST, False),
        ("routes = [{match = 'torch', to = 'wheels'}]\n" + _WHEELS + _REST, False),
        (_WHEELS + _REST + "[index.one]\nupstreams = ['rest', 'wheels']", False),
        (
            _WHEELS + _REST + "[index.one]\nbases = ['wheels', 'two']\n"
            "[index.two]\nupstreams = ['rest']",
            True,
        ),
        (
            _WHEELS + _REST + "[index.one]\nbases = ['two']\nupstreams = ['rest']\n"
            "[index.two]\nupstreams = ['wheels']",
            True,
        ),
    ],
)
def test_check_warns_of_an_allow_list_that_shuts_other_upstreams_off(
    tmp_path: Path, text: str, is_warned: bool
) -> None:
    config = tmp_path / "proxyindex.toml"
    config.write_text(text)
    result = run("config", "check", "--config", str(config))
    assert result.exit_code == 0, result.output
    assert "The configuration is sound" in result.stdout
    warning = "Warning: upstream.wheels.policy.allow refuses everything else with 403"
    assert (warning in result.stderr) is is_warned
    assert result.stderr.count("Warning") == is_warned


@pytest.mark.parametrize("command", [("serve",), ("config", "show"), ("config", "check")])
def test_mistakes_exit_with_2_one_line_each_on_stderr(command: tuple[str, ...]) -> None:
    result = run(*command, "--port", "x", PROXYINDEX_WORKERS="0")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert any(line.startswith("Error: command line: --port = 'x': expected") for line in lines)
    assert any("PROXYINDEX_WORKERS = '0': expected" in line for line in lines)


def test_missing_folder_is_one_sentence_and_exits_with_1() -> None:
    result = run("serve", "no-such-folder")
    assert result.exit_code == 1
    expected = "Error: command line: FOLDER = 'no-such-folder': this path does not exist; "
    assert result.stderr == f"{expected}make it first: mkdir no-such-folder.\n"


def test_unknown_flag_exits_with_2() -> None:
    result = run("serve", "--prot", "81")
    assert result.exit_code == 2
    assert "--port" in result.stderr


def test_error_of_any_command_is_one_sentence() -> None:
    @click.group(cls=Commands)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise StoreError("write", "the disk is full")

    @group.command()
    def refused() -> None:
        Path("/dev/null/x").stat()

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == 1
    assert result.stderr == "Error: The cache could not write: the disk is full.\n"
    result = CliRunner().invoke(group, ["refused"])
    assert (result.exit_code, result.stderr) == (1, "Error: Not a directory (/dev/null/x).\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "dist", "--to", ""],
        ["publish", "", "--to", "own"],
        ["publish", "x==1", "--dist", "", "--to", "own"],
        ["publish", "x", "--to", "host:path", "--ssh", ""],
        ["delete", "x==1", "--file", "", "--folder", ".", "--yes"],
        ["yank", "x==1", "--index", "", "--folder", "."],
        ["unyank", "x==1", "--file", "", "--folder", "."],
        ["push", "x==1", "", "prod", "--config", "x.toml"],
        ["refresh", "x", "--index", ""],
        ["cache", "accept", "x", ""],
        ["token", "create", "--user", "ci", "--index", ""],
    ],
)
def test_an_empty_argument_means_neither_all_there_is_nor_the_folder_one_is_in(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "is empty" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("publish dist --to own", 0),
        ("user add alice --htpasswd users --password-stdin", 2),
        ("user add alice --htpasswd users", 1),
        ("delete demo==1.0 --folder dist", 1),
        ("config check", 0),
    ],
)
def test_closed_streams_change_no_outcome(
    tmp_path: Path, arguments: str, code: int, closed: str
) -> None:
    (tmp_path / "own").mkdir()
    put_wheel(tmp_path / "dist")
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m proxyindex {arguments} {closed}', sys.executable],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "own").rglob("*.whl"))) == (code == 0 and "publish" in arguments)


@pytest.mark.parametrize("arguments", ["--version", "--help", "config show"])
def test_a_full_disk_behind_the_output_is_one_sentence(tmp_path: Path, arguments: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m proxyindex {arguments} >/dev/full', sys.executable],
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device.\n")


def test_port_in_use_is_one_sentence_and_exits_with_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "proxyindex", "serve", str(tmp_path), "--no-upstream"),
                *("--port", str(port), "--cache-dir", str(tmp_path / ".cache")),
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("Error: ")
    assert str(port) in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_without_a_home_a_sentence_says_what_to_set(tmp_path: Path) -> None:
    # somebody of whom the system knows nothing, who may read this interpreter all the same
    as_nobody = "import os; os.setresuid(54321, 0, 0); from proxyindex.cli import main; main()"

    def told(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", as_nobody, *arguments]
        return subprocess.run(
            command, env={}, cwd=tmp_path, text=True, capture_output=True, check=False
        )

    refused = told("config", "check")
    assert (refused.returncode, refused.stderr) == (
        1,
        "Error: cache-dir: this user has no home to keep a cache in; "
        "say where, with --cache-dir or PROXYINDEX_CACHE_DIR.\n",
    )
    assert told("config", "check", "--cache-dir", "cache").returncode == 0
    lost = told("token", "create", "--user", "ci")
    assert lost.returncode == 2
    assert "with --tokens" in lost.stderr
    assert "Traceback" not in lost.stderr
    assert told("token", "create", "--user", "ci", "--tokens", "tokens.json").returncode == 0


def test_a_key_that_is_nothing_like_another_gets_no_guess(tmp_path: Path) -> None:
    config = tmp_path / "proxyindex.toml"
    config.write_text("[serve]\nport = 81\n")
    result = run("config", "check", "--config", str(config))
    assert "serve: unknown key; known are admin," in result.stderr
    config.write_text("page-tl = '1m'\n")
    assert "did you mean 'page-ttl'?" in run("config", "check", "--config", str(config)).stderr


def _groups(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _groups(command, *path, name)


@pytest.mark.parametrize("path", [*_groups(main)], ids=" ".join)
def test_lists_of_commands_have_whole_sentences(path: tuple[str, ...]) -> None:
    listed = run(*path, "--help").output.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def test_a_command_without_folders_says_what_to_give() -> None:
    for command in (("yank", "a==1"), ("delete", "a==1", "--yes"), ("push", "a==1", "b", "c")):
        result = run(*command)
        assert result.exit_code == 2
        for way in ("--config", "--server"):
            assert way in result.stderr
        assert ("--folder" in result.stderr) == (command[0] != "push"), "it has no such option"


def test_variables_are_told_where_they_count() -> None:
    assert "PROXYINDEX_PUBLISH_TO;" in run("publish", "--help").output
    for command in ("delete", "yank", "unyank", "push", "refresh"):
        assert "PROXYINDEX_PUBLISH_TOKEN" in run(command, "--help").output
