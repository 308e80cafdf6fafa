"""`audit-log`: every change by workers and commands is a line of one file, whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.builders import make_wheel, wheel_name
from tests.support.fixtures import ServerFactory
from tests.support.server import ProxyIndex, StartFailedError
from tests.support.uploads import UploadForm, upload_form

OPEN = ("--upload", "*", "--delete", "*", "--yank", "*")


class Site:
    """A server with four workers, an own folder and an audit log, and commands beside it."""

    def __init__(self, server: ServerFactory, home: Path, *more: str) -> None:
        self.own, self.path = home / "own", home / "logs" / "audit.log"
        self.own.mkdir()
        self.path.parent.mkdir()
        log = ("--audit-log", self.path, "--log-format", "json", "--log-level", "error")
        self.server = server(self.own, *OPEN, *log, *more, workers=4)

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "proxyindex", *args],
            env={
                **self.server.env,
                "PROXYINDEX_AUDIT_LOG": str(self.path),
                "PROXYINDEX_LOG_FORMAT": "json",
                "PROXYINDEX_CACHE_DIR": str(self.server.cache_dir),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def lines(self, path: Path | None = None) -> list[dict[str, str]]:
        return [json.loads(line) for line in (path or self.path).read_text().splitlines()]


@pytest.fixture
def site(server: ServerFactory, tmp_path: Path) -> Site:
    return Site(server, tmp_path)


def wheel(name: str) -> UploadForm:
    return upload_form(wheel_name(name), make_wheel(name), name=name)


def upload_all(server: ProxyIndex, names: Sequence[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: wheel(name).post(server).status, names))
    assert set(answers) == {200}


def test_each_change_by_workers_and_commands_is_one_line(site: Site) -> None:
    names = [f"px-audit-{number}" for number in range(40)]
    upload_all(site.server, names)
    yanked, deleted = names[:4], names[4:40]
    with ThreadPoolExecutor(3) as pool:
        by_command = [
            pool.submit(site.run, "yank", f"{one}==1.0", "--folder", str(site.own))
            for one in yanked
        ]
        targets = [f"/api/projects/{one}" for one in deleted]
        answers = [site.server.get(target, method="DELETE").status for target in targets]
        assert [one.result().returncode for one in by_command] == [0] * 4
    assert set(answers) == {200}
    lines = site.lines()
    told = Counter((one["action"], one["files"]) for one in lines)
    expected = [("upload", one) for one in names]
    expected += [("yank", one) for one in yanked] + [("delete", one) for one in deleted]
    assert told == Counter((action, wheel_name(name)) for action, name in expected)
    clients = {"upload": "127.0.0.1", "delete": "127.0.0.1", "yank": "command-line"}
    assert all(one["client"] == clients[one["action"]] for one in lines)
    assert all(one["index"] == "root" and one["level"] == "info" for one in lines)
    assert "proxyindex.audit" not in site.server.logs


def test_it_may_be_rotated_without_a_signal(site: Site) -> None:
    names = [f"px-rotated-{number}" for number in range(12)]
    upload_all(site.server, names[:6])
    old = site.path.rename(site.path.with_suffix(".1"))
    upload_all(site.server, names[6:])
    assert len(site.lines(old)) == len(site.lines()) == 6


def test_refused_log_ins_are_in_it(server: ServerFactory, tmp_path: Path) -> None:
    site = Site(server, tmp_path, "--read", "alice")
    answer = site.server.get("/simple/", {"Authorization": "Basic Ym9iOmd1ZXNz"})
    assert answer.status == 401
    (line,) = site.lines()
    assert (line["action"], line["outcome"], line["user"]) == ("log in", "refused", "bob")


def test_where_it_cannot_be_written_changes_are_made_and_told_in_the_log(site: Site) -> None:
    site.path.unlink()
    site.path.parent.rename(site.path.parent.with_name("away"))
    upload_all(site.server, ["px-untold"])
    done = site.run("delete", "px-untold", "--yes", "--folder", str(site.own))
    assert (done.returncode, done.stdout) == (0, f"Deleted {wheel_name('px-untold')}\n")
    by_server = site.server.logs.splitlines()
    for lines, action in ((by_server, "upload"), (done.stderr.splitlines(), "delete")):
        reason, line = map(json.loads, lines[-2:])
        assert f"the audit log {site.path} cannot be written: No such file" in reason["message"]
        assert (line["action"], line["files"]) == (action, wheel_name("px-untold"))
    site.path.parent.with_name("away").rename(site.path.parent)
    upload_all(site.server, ["px-told"])
    assert [one["files"] for one in site.lines()] == [wheel_name("px-told")]


def test_a_server_does_not_start_without_it(server: ServerFactory, tmp_path: Path) -> None:
    log = tmp_path / "none" / "audit.log"
    (own := tmp_path / "own").mkdir()
    with pytest.raises(StartFailedError, match=f"The audit log {log} cannot be written"):
        server(own, "--audit-log", log)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_stops_no_server(server: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "audit.log").symlink_to("/dev/full")
    (tmp_path / "own").mkdir()
    running = server(tmp_path / "own", *OPEN, "--audit-log", tmp_path / "audit.log")
    assert wheel("px-full").post(running).status == 200
    assert "cannot be written: No space left on device" in running.logs
    assert f"files={wheel_name('px-full')}" in running.logs
