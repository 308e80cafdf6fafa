"""The audit log: one line for each, whole, never forged, in its file or else in the log."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxyindex import audit, logs

pytestmark = pytest.mark.usefixtures("restored_logging")

LINE = "log in refused user=bob client=192.0.2.7"


def note(user: str | None = "bob", **subject: str) -> None:
    audit.note("log in", "refused", user=user, client="192.0.2.7", **subject)


def text_of(line: str) -> str:
    return line.partition(" INFO proxyindex.audit: ")[2]


@pytest.mark.parametrize(
    ("user", "subject", "about"),
    [
        ("bob", {}, "user=bob client=192.0.2.7"),
        (None, {"index": "dev"}, "user=- client=192.0.2.7 index=dev"),
        ("", {"files": ""}, 'user=- client=192.0.2.7 files=""'),
        ("b c", {"files": "one two"}, 'user="b c" client=192.0.2.7 files="one two"'),
        ("x client=1", {}, 'user="x client=1" client=192.0.2.7'),
        ('a"b', {}, 'user="a\\"b" client=192.0.2.7'),
        ("a\nb\x1b", {}, 'user="a\\nb\\u001b" client=192.0.2.7'),
        ("a\x1b\x85b", {}, 'user="a\\u001b\\x85b" client=192.0.2.7'),
        ("ünï", {}, "user=ünï client=192.0.2.7"),
        ("b\udcff", {}, "user=b\\udcff client=192.0.2.7"),
    ],
)
def test_what_was_typed_cannot_look_like_another_value(
    user: str | None, subject: dict[str, str], about: str, tmp_path: Path
) -> None:
    for log_format in ("text", "json"):
        logs.setup(log_format, "info", tmp_path / log_format)  # type: ignore[arg-type]
        note(user, **subject)
    assert text_of((tmp_path / "text").read_text()) == f"log in refused {about}\n"
    told = json.loads((tmp_path / "json").read_text())
    assert (told["user"], told["outcome"]) == (user or "-", "refused")
    assert {key: told[key] for key in subject} == subject


@pytest.mark.parametrize("level", ["debug", "error"])
def test_lines_are_in_the_file_alone_whatever_the_level(
    level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.log"
    logs.setup("text", level, path)
    for _ in range(2):
        note()
    assert [text_of(line) for line in path.read_text().splitlines()] == [LINE, LINE]
    assert capsys.readouterr().err == ""


def test_without_a_file_they_are_in_the_log_whatever_the_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.setup("text", "error")
    note()
    assert text_of(capsys.readouterr().err) == f"{LINE}\n"


def test_a_new_file_is_not_for_everybody_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        logs.setup("text", "info", tmp_path / "new.log")
        note()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.log").stat().st_mode) == 0o640
    (tmp_path / "old.log").write_text("before\n")
    (tmp_path / "old.log").chmod(0o604)
    logs.setup("text", "info", tmp_path / "old.log")
    note()
    assert stat.S_IMODE((tmp_path / "old.log").stat().st_mode) == 0o604
    assert (tmp_path / "old.log").read_text().startswith("before\n2")


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    logs.setup("text", "info", path)
    note("one")
    path.rename(tmp_path / "audit.log.1")
    note("two")
    assert "user=one" in (tmp_path / "audit.log.1").read_text()
    assert re.findall("user=([a-z]+)", path.read_text()) == ["two"]


@pytest.mark.parametrize("trouble", ["full", "folder", "absent", "pipe"])
def test_a_line_that_cannot_be_written_is_in_the_log_with_the_reason(
    trouble: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.log"
    reason = "No space left on device"
    if trouble == "full":
        path.symlink_to("/dev/full")
    elif trouble == "folder":
        path.mkdir()
        reason = "Is a directory"
    elif trouble == "absent":
        path = tmp_path / "none" / "audit.log"
        reason = "No such file or directory"
    else:
        os.mkfifo(path)  # nobody reads it: to wait for somebody would be to stand still
        reason = "No such device or address"
    logs.setup("text", "error", path)
    note()
    told, line = capsys.readouterr().err.splitlines()
    assert told.endswith(f"ERROR proxyindex.logs: the audit log {path} cannot be written: {reason}")
    assert text_of(line) == LINE


WRITER = """
import sys
from pathlib import Path
from proxyindex import audit, logs
logs.setup("text", "info", Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
for number in range(300):
    audit.note("push", "done", user=sys.argv[2], client=str(number), files="x" * 20_000)
"""


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name], **pipes) for name in "abc"]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.close()
    for writer in writers:
        assert writer.stdout
        writer.stdout.close()
        assert writer.wait(60) == 0
    form = re.compile(rf"push done user=([abc]) client=(\d+) files=x{{{20_000}}}")
    lines = [form.fullmatch(text_of(line)) for line in path.read_text().splitlines()]
    seen = {(line[1], int(line[2])) for line in lines if line}
    assert len(lines) == 900
    assert seen == {(name, number) for name in "abc" for number in range(300)}
