"""Who holds a large file closes it in a thread: if it was removed, that takes its time."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxyindex.files.arrival import Arrival
from proxyindex.files.content import Stored
from proxyindex.inquiry import Ground
from proxyindex.lines import AccessLines
from proxyindex.server.sendfile import Sending
from proxyindex.store.blobs import Blob
from proxyindex.store.partials import Partials, Phase, Progress
from proxyindex.web.accesslog import Exchange
from proxyindex.web.openfiles import OpenFile, OpenFiles
from tests.support.hermetic import until

SIZE = 64 * 1024**2


@pytest.fixture
def large(tmp_path: Path) -> int:
    """The descriptor of a file that takes no room."""
    fd = os.open(tmp_path / "large", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, SIZE)
    return fd


@pytest.fixture
def closers(monkeypatch: pytest.MonkeyPatch) -> dict[int, threading.Thread]:
    """Who has closed which descriptor."""
    found: dict[int, threading.Thread] = {}
    really = os.close

    def close(fd: int) -> None:
        really(fd)
        found[fd] = threading.current_thread()

    monkeypatch.setattr(os, "close", close)
    return found


def close_blob(fd: int) -> None:
    Blob("0" * 64, fd, SIZE, None, (0, 0, 0, 0)).close()


def close_stored_arrival(fd: int) -> None:
    arrival = Arrival(SIZE)
    arrival._fd = fd
    arrival._advance(Progress(Phase.DONE, SIZE, SIZE))
    arrival.leave()


def close_open_file(fd: int) -> None:
    files = OpenFiles(AccessLines("text"))
    files._files[b"/f"] = OpenFile(fd, SIZE, b"", Ground(), Exchange(), None, {}, {})
    files.close()


def close_sending(fd: int) -> None:
    with socket.socket() as unused:
        Sending(unused, fd, SIZE, 0, 1, lambda sent: None).set()


@pytest.mark.parametrize(
    "closes", [close_blob, close_stored_arrival, close_open_file, close_sending]
)
async def test_large_files_are_closed_in_a_thread(
    large: int, closers: dict[int, threading.Thread], closes: Callable[[int], None]
) -> None:
    closes(large)
    await until(lambda: large in closers, "it is closed")
    assert closers[large] is not threading.main_thread()


async def test_large_files_that_were_sent_are_closed_in_a_thread(
    large: int, closers: dict[int, threading.Thread]
) -> None:
    await Stored(large, SIZE, sha256=None, modified=None).aclose()
    await until(lambda: large in closers, "it is closed")
    assert closers[large] is not threading.main_thread()


async def test_large_files_that_were_arriving_are_closed_in_a_thread(
    tmp_path: Path, closers: dict[int, threading.Thread]
) -> None:
    partial, arrival = Partials(tmp_path).create("key"), Arrival(SIZE)
    partial.truncate(SIZE)
    arrival._attach(partial)
    arrival.leave()
    await until(lambda: partial.fd in closers, "it is closed")
    assert closers[partial.fd] is not threading.main_thread()


async def test_small_files_are_closed_at_once(
    large: int, closers: dict[int, threading.Thread]
) -> None:
    await Stored(large, 1000, sha256=None, modified=None).aclose()
    assert closers[large] is threading.main_thread()
