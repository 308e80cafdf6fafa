"""The long command, run short: its figures come out, and its checkers find what they look for."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.soak import catalogue, faults
from tests.soak.catalogue import Catalogue
from tests.soak.lab import ROOT, Run

SEED = 7


def test_short_run_prints_a_table_of_figures_that_are_all_reached(tmp_path: Path) -> None:
    options = ["--scale", "0.0005", "--workers", "1", "--seed", str(SEED)]
    command = [sys.executable, "-m", "tests.soak", "faults", "damage", *options]
    done = subprocess.run(
        [*command, "--scratch", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {SEED}" in done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "faults, 1 workers",
        "damage: verify",
        "damage: repair",
        "damage: after repair",
    ]
    assert all(line.endswith("| yes |") for line in lines[2:])
    assert "0 wrong" in lines[2]
    assert not list(tmp_path.iterdir())


def test_wrong_file_delivered_whole_is_noticed(tmp_path: Path) -> None:
    offered = catalogue.make(tmp_path / "files", projects=2, files=3, large=0, seed=SEED)
    run = Run(tmp_path, Progress(console=Console(quiet=True)), seed=SEED)
    with stand_in(offered, is_honest=False) as url:
        found = faults.drive(run, url, str(offered.path), 60, lambda _: None)
    assert found.counts["wrong file"] > 0
    assert found.wrong == found.counts["wrong file"] + found.counts["wrong page"]
    assert found.counts["right part"] > 0
    assert found.counts["right metadata"] > 0
    assert any("other bytes" in example for example in found.examples)
    assert not faults.row("faults", 60, found).is_ok


def test_nothing_wrong_is_seen_in_an_honest_server(tmp_path: Path) -> None:
    offered = catalogue.make(tmp_path / "files", projects=2, files=3, large=0, seed=SEED)
    run = Run(tmp_path, Progress(console=Console(quiet=True)), seed=SEED)
    with stand_in(offered, is_honest=True) as url:
        found = faults.drive(run, url, str(offered.path), 60, lambda _: None)
    assert found.failed == 0
    assert faults.row("faults", 60, found).is_ok


@pytest.mark.parametrize("chosen", [["nonsense"], ["faults", "--scale", "0"]])
def test_mistaken_command_line_is_refused(chosen: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Usage:" in done.stderr


class Handler(BaseHTTPRequestHandler):
    """Right parts, metadata and pages, but whole files with a wrong bit."""

    protocol_version = "HTTP/1.1"
    server: "StandIn"

    def do_GET(self) -> None:
        name, offered = self.path.rpartition("/")[2], self.server.offered
        if not name:
            self.answer(200, offered.page(self.path.split("/")[2]))
        elif name.endswith(".metadata"):
            item = self.server.items[name.removesuffix(".metadata")]
            self.answer(200, bytes(offered.metadata(item)))
        else:
            self.file(bytearray(offered.file(self.server.items[name])))

    def do_HEAD(self) -> None:
        self.do_GET()

    def file(self, body: bytearray) -> None:
        if span := self.headers["Range"]:
            first, _, last = span.removeprefix("bytes=").partition("-")
            told = f"bytes {first}-{last}/{len(body)}"
            self.answer(206, bytes(body[int(first) : int(last) + 1]), told)
            return
        body[len(body) // 2] ^= not self.server.is_honest
        self.answer(200, bytes(body))

    def answer(self, status: int, body: bytes, span: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class StandIn(ThreadingHTTPServer):
    """In place of proxyindex."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, offered: Catalogue, *, is_honest: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.offered = offered
        self.is_honest = is_honest
        self.items = {item.filename: item for item in offered.items}

    def handle_error(self, *_: object) -> None: ...  # clients leave as they like


@contextmanager
def stand_in(offered: Catalogue, *, is_honest: bool) -> Iterator[str]:
    with StandIn(offered, is_honest=is_honest) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
