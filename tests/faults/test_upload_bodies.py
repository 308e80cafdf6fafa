"""Bodies of uploads that are large, slow, broken off or hostile: little memory, nothing left."""

from __future__ import annotations

import hashlib
import os
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import http
from tests.support.builders import make_wheel, wheel_name
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import PATIENCE, wait_until
from tests.support.pages import JSON_TYPE
from tests.support.readers import memory
from tests.support.server import ProxyIndex
from tests.support.uploads import BOUNDARY, UploadForm, multipart, upload_form

MIB = 1024**2
LARGE = int(os.environ.get("TEST_LARGE_UPLOAD_MIB", "300")) * MIB  # 2047 was tried by hand
GROWTH = 48 * MIB
OPEN = ("--upload", "*")
STEP = MIB
# half a minute is more than a test can wait for, and two of them pass
HASTY = "from proxyindex.server.protocol import BoundedProtocol as One; One.body_seconds = 2.0\n"
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def large_wheel(path: Path, size: int) -> Path:
    """A wheel with one stored member of this size."""
    block = os.urandom(STEP)
    path.write_bytes(make_wheel("px-large"))
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive,
        archive.open("px_large/blob", "w", force_zip64=True) as member,
    ):
        for _ in range(size // STEP):
            member.write(block)
    return path


def large_form(path: Path) -> tuple[UploadForm, bytes, bytes]:
    """The form of a file on the disk: what comes before its content, and what comes after."""
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    form = upload_form(path.name, b"@@CONTENT@@", name="px-large")
    form = form.with_(sha256_digest=digest, blake2_256_digest=None, md5_digest=None)
    head, _, tail = form.body.partition(b"@@CONTENT@@")
    return form, head, tail


@needs_proc
def test_a_large_wheel_takes_little_memory_and_no_time_at_the_end(
    server: ServerFactory, tmp_path: Path, own: Path
) -> None:
    path = large_wheel(tmp_path / wheel_name("px-large"), LARGE)
    form, head, tail = large_form(path)
    running = server(own, *OPEN)
    assert upload_form(wheel_name("px-small"), make_wheel("px-small")).post(running).status == 200
    before = memory(running.pid, "VmHWM")
    length = {"Content-Length": str(len(head) + path.stat().st_size + len(tail))}
    with running.connect(timeout=120) as connection, path.open("rb") as source:
        began = time.monotonic()
        connection.start("/legacy/", {**form.headers, **length}, method="POST", body=head)
        while piece := source.read(STEP):
            connection.send(piece)
        connection.send(tail)
        sent = time.monotonic()
        answer = connection.answer("POST")
        assert answer.status == 200, answer.text
        ended = time.monotonic()
    grown = memory(running.pid, "VmHWM") - before
    print(f"{LARGE / MIB:.0f} MiB: sent in {sent - began:.1f} s, answered after "
          f"{ended - sent:.1f} s, {grown / MIB:.1f} MiB more memory")  # fmt: skip
    assert grown < GROWTH
    page = running.get("/simple/px-large/", {"Accept": JSON_TYPE}).json()
    assert page["files"][0]["size"] == path.stat().st_size
    assert memory(running.pid, "VmHWM") - before < GROWTH, "nor does the page read it again"


def leftovers(own: Path) -> list[Path]:
    return [path for path in (own / ".incoming").glob("*") if path.is_dir()]


def begun(server: ProxyIndex, own: Path) -> Iterator[http.Connection]:
    form = upload_form(wheel_name("px-left"), make_wheel("px-left", payload=3 * MIB))
    with server.connect(timeout=PATIENCE) as connection:
        headers = {**form.headers, "Content-Length": str(len(form.body))}
        connection.start("/legacy/", headers, method="POST", body=form.body[: 2 * MIB])
        wait_until(lambda: leftovers(own), "the upload to begin")
        yield connection


def test_a_client_that_leaves_leaves_nothing_behind(server: ServerFactory, own: Path) -> None:
    running = server(own, *OPEN)
    for _connection in begun(running, own):
        pass
    wait_until(lambda: not leftovers(own), "its file to go")
    assert running.get("/simple/px-left/").status == 404
    assert "Traceback" not in running.logs


def test_a_client_that_leaves_amid_a_command_is_no_fault_of_the_server(
    server: ServerFactory, own: Path
) -> None:
    running = server(own, *OPEN)
    with running.connect() as connection:
        head = "POST /api/push HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
        connection.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.receive(25) == b"HTTP/1.1 100 Continue\r\n\r\n", "it is being read"
    wait_until(lambda: "POST /api/push 400" in running.logs, "its line")
    assert "Traceback" not in running.logs


def test_a_client_that_dribbles_is_sent_away(
    server: ServerFactory, tmp_path: Path, own: Path
) -> None:
    running = server(own, *OPEN, is_started=False)
    running.hook = tmp_path / "hasty.py"
    running.hook.write_text(HASTY)
    running.start()
    for connection in begun(running, own):  # and sends nothing more
        with suppress(http.NoAnswerError):
            assert connection.answer("POST").status == 408
    wait_until(lambda: not leftovers(own), "its file to go")


@needs_proc
@pytest.mark.parametrize("kind", ["fields", "headers", "texts", "no end"])
def test_a_hostile_form_takes_little_memory(server: ServerFactory, own: Path, kind: str) -> None:
    running = server(own, *OPEN)
    good = upload_form(wheel_name("px-good"), make_wheel("px-good"))
    assert good.post(running).status == 200
    before = memory(running.pid, "VmHWM")
    bodies = {
        "fields": multipart((f"f{number}", b"x", None) for number in range(10_000)),
        "headers": f"--{BOUNDARY}\r\nX: ".encode() + b"a" * (30 * MIB),
        "texts": multipart((f"f{number}", b"x" * 7 * MIB, None) for number in range(15)),
        "no end": good.body[:-20],
    }
    form = UploadForm("", b"", [])
    headers = {**form.headers, "Content-Length": str(len(bodies[kind]))}
    with running.connect() as connection:
        connection.start("/legacy/", headers, method="POST")
        with suppress(OSError):  # refused before all of it was sent
            connection.send(bodies[kind])
        answer = connection.answer("POST")
        assert answer.status in (400, 413)
        assert re.match(r"[A-Z].{10,300}\.\n\Z", answer.text), answer.text
    assert memory(running.pid, "VmHWM") - before < GROWTH
    assert good.post(running).status == 200
    assert not leftovers(own)


@needs_proc
def test_a_boundary_that_cannot_be_used_costs_no_descriptor(
    server: ServerFactory, own: Path
) -> None:
    running = server(own, *OPEN)
    form = upload_form(wheel_name("px-good"), make_wheel("px-good"))
    assert form.post(running).status == 200
    before = len(list(Path(f"/proc/{running.pid}/fd").iterdir()))
    headers = {"Content-Type": f"multipart/form-data; boundary={'b' * 257}"}
    for _ in range(20):
        assert running.get("/legacy/", headers, method="POST", body=form.body).status == 400
    assert len(list(Path(f"/proc/{running.pid}/fd").iterdir())) < before + 10
    assert not leftovers(own)
