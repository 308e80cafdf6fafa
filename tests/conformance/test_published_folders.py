"""`proxyindex publish` into the very folder of a running server: one set of steps and sentences."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from proxyindex import records
from tests.support.builders import make_wheel, put, put_wheel
from tests.support.clients import Done, Workbench
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import JSON_TYPE
from tests.support.server import ProxyIndex
from tests.support.stores import sha256
from tests.support.uploads import attestation_of, upload_form

OPEN = ("--upload", "*", "--delete", "*", "--yank", "*")
WHEEL = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    return folder


def publish(workbench: Workbench, *arguments: str | Path) -> Done:
    return workbench.run(sys.executable, "-m", "proxyindex", "publish", *arguments, check=False)


def files(running: ProxyIndex) -> dict[str, dict[str, object]]:
    page = running.get("/simple/demo/", {"Accept": JSON_TYPE})
    assert page.status == 200, page.text
    return {file["filename"]: file for file in page.json()["files"]}


def test_what_is_published_is_on_the_page_as_an_upload_is(
    server: ServerFactory, workbench: Workbench, own: Path, dist: Path, workers: int
) -> None:
    running = server(own, *OPEN, workers=workers)
    assert running.get("/simple/demo/").status == 404
    before = datetime.now(UTC)
    path = put_wheel(dist, requires_python=">=3.9")
    assert publish(workbench, dist, "--to", own).returncode == 0
    entry = files(running)[WHEEL]
    record = records.read(own / "demo" / f"{WHEEL}.json")
    assert record
    assert record.uploader
    assert before <= record.upload_time
    assert datetime.fromisoformat(str(entry["upload-time"])) == record.upload_time
    assert entry["requires-python"] == ">=3.9"
    # the same bytes by the other way are the same file, and change nothing
    assert upload_form(WHEEL, path.read_bytes()).post(running).status == 200
    assert records.read(own / "demo" / f"{WHEEL}.json") == record
    assert "already there" in publish(workbench, dist, "--to", own).stdout


def test_a_name_that_the_server_deleted_is_refused_in_its_words(
    server: ServerFactory, workbench: Workbench, own: Path, dist: Path
) -> None:
    running = server(own, *OPEN)
    path = put_wheel(dist)
    publish(workbench, dist, "--to", own)
    assert running.get(f"/api/projects/demo/1.0/{WHEEL}", method="DELETE").status == 200
    put_wheel(dist, version="0.1")  # would be taken, but comes with one that is not
    done = publish(workbench, dist, "--to", own)
    said = upload_form(WHEEL, path.read_bytes()).post(running)
    assert said.status == 400
    assert said.text.strip() in done.stdout
    assert done.returncode == 1
    assert files(running) == {}
    path.unlink()
    assert publish(workbench, dist, "--to", own).returncode == 0
    assert set(files(running)) == {"demo-0.1-py3-none-any.whl"}


def test_of_two_ways_in_at_once_one_wins_with_its_own_record(
    server: ServerFactory, workbench: Workbench, own: Path, dist: Path
) -> None:
    running = server(own, *OPEN, workers=2)
    put_wheel(dist, payload=100)
    theirs = upload_form(WHEEL, make_wheel(payload=200))
    for _ in range(4):
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(publish, workbench, dist, "--to", own)
            wait_until(partial(is_under_way, own, sending), "its beginning")
            status, done = theirs.post(running).status, sending.result()
        assert (status == 200) is (done.returncode != 0)
        served = running.get(f"/simple/demo/{WHEEL}").body
        assert (served == theirs.content) is (status == 200)
        record = records.read(own / "demo" / f"{WHEEL}.json")
        assert record
        assert record.sha256 == sha256(served)
        for path in (own / "demo").iterdir():
            path.unlink()


def is_under_way(own: Path, sending: Future[Done]) -> bool:
    return sending.done() or any(own.glob(".incoming/*/.content"))


def test_yanks_are_on_the_pages_for_web_servers(
    server: ServerFactory, workbench: Workbench, own: Path, dist: Path
) -> None:
    running = server(own, *OPEN)
    put_wheel(dist)
    publish(workbench, dist, "--to", own)
    body = json.dumps({"reason": "loses data"}).encode()
    assert running.get("/api/projects/demo/1.0/yank", method="POST", body=body).status == 200
    assert publish(workbench, dist, "--to", own, "--pages").returncode == 0
    (listed,) = json.loads((own / "demo" / "index.v1_json").read_text())["files"]
    (served,) = files(running).values()
    assert listed["yanked"] == served["yanked"] == "loses data"
    assert listed["upload-time"] == served["upload-time"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_signatures_and_attestations_go_along(
    server: ServerFactory, workbench: Workbench, own: Path, dist: Path, is_folder: bool
) -> None:
    running = server(own, *OPEN, "--public-url", "https://packages.example")
    path = put_wheel(dist)
    attestation = attestation_of(path.name, path.read_bytes())
    put(dist, f"{WHEEL}.publish.attestation", json.dumps(attestation, indent=1).encode())
    put(dist, f"{WHEEL}.asc", b"-----BEGIN PGP")
    done = publish(workbench, *dist.iterdir(), "--to", own if is_folder else running.simple_url)
    assert done.returncode == 0, done.stdout
    assert running.get(f"/simple/demo/{WHEEL}.asc").body == b"-----BEGIN PGP"
    assert files(running)[WHEEL]["provenance"]
    (bundle,) = running.get(f"/simple/demo/{WHEEL}.provenance").json()["attestation_bundles"]
    assert bundle["attestations"] == [attestation]
