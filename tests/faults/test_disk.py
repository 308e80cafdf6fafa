"""A disk that is full, read-only, gone or damaged, and a clock that jumps: serving goes on.

On a real file system of a few MB (`small_disk`). Files that arrive on a disk that refuses them are
looked at closely in `test_pass_through.py`, bytes damaged while a server runs in `test_damage.py`.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builders import make_wheel, noise, wheel_name
from tests.support.clients import Workbench
from tests.support.crowd import attempt
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import JSON_TYPE, FileSpec, wheel_spec
from tests.support.reply import sha256_of
from tests.support.server import ProxyIndex
from tests.support.small_disk import MIB, NotPossibleError, SmallDisk
from tests.support.uploads import upload_form
from tests.support.upstream import FakeUpstream

BIG = 1_000_000  # bytes of a file that is held in the middle
HOLD_AT = 200_000
STORE_LINE = "Serving on without keeping"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        made = SmallDisk(tmp_path / "disk")
    except NotPossibleError as problem:
        pytest.skip(f"cannot mount a small disk: {problem}")
    with made:
        yield made


@pytest.fixture
def full(server: ServerFactory, upstream: FakeUpstream, disk: SmallDisk) -> Iterator[ProxyIndex]:
    """A server with its cache on the small disk, which is not full yet."""
    running = disk.carry(server(upstream=upstream, is_started=False)).start()
    yield running
    assert "Traceback" not in running.logs
    running.stop()  # before the disk goes away


_numbers = itertools.count()


def offer(upstream: FakeUpstream, *, payload: int = 20_000) -> FileSpec:
    """A new project of one wheel; its name is `project(spec)`."""
    spec = wheel_spec(f"cargo{next(_numbers)}", payload=payload)
    upstream.project(project(spec), spec)
    return spec


def project(spec: FileSpec) -> str:
    return spec.filename.partition("-")[0]


def target(spec: FileSpec) -> str:
    return f"/simple/{project(spec)}/{spec.filename}"


def serves(server: ProxyIndex, spec: FileSpec) -> None:
    """Page, file and core metadata are right to the byte."""
    page = server.get(f"/simple/{project(spec)}/")
    assert (page.status, spec.filename in page.text) == (200, True)
    answer = server.get(target(spec))
    assert (answer.status, answer.body) == (200, spec.body)
    assert server.get(target(spec) + ".metadata").body == spec.metadata


def blob(server: ProxyIndex, spec: FileSpec) -> Path:
    digest = sha256_of(spec.body)
    return server.cache_dir / "blobs" / digest[:2] / digest


def is_kept(server: ProxyIndex, upstream: FakeUpstream, spec: FileSpec) -> bool:
    """Page and file are on disk, and upstream is not asked again."""
    seen = upstream.count()
    serves(server, spec)
    return blob(server, spec).is_file() and upstream.count() == seen


def unfinished(server: ProxyIndex) -> list[Path]:
    """What is neither a stored thing nor of any use."""
    new = [path for path in server.cache_dir.rglob(".new-*") if path.is_file()]
    return new + [path for path in (server.cache_dir / "partials").glob("*") if path.is_file()]


def verify(server: ProxyIndex, *more: str) -> tuple[int, str]:
    """`proxyindex cache verify`: exit status and output."""
    return cache(server, "verify", *more)


def cache(server: ProxyIndex, *command: str) -> tuple[int, str]:
    """`proxyindex cache …`: exit status and output."""
    args = dict(itertools.pairwise(server.args))
    done = subprocess.run(
        [
            *(*server.wrapper, sys.executable, "-m", "proxyindex", "cache", *command),
            *("--cache-dir", args.get("--cache-dir", str(server.cache_dir))),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def heals(server: ProxyIndex, upstream: FakeUpstream, *specs: FileSpec) -> None:
    """With room again, what is asked for is kept again, and nothing lies about."""
    for spec in [*specs, offer(upstream)]:
        serves(server, spec)
        wait_until(lambda spec=spec: is_kept(server, upstream, spec), f"{spec.filename} kept")  # type: ignore[misc]
    assert unfinished(server) == []
    assert verify(server) == (0, "The cache is sound.\n")


def told_once(server: ProxyIndex) -> None:
    """The operator reads of the refusing disk in one line, and in one per table of the index."""
    warnings = [line for line in server.logs.splitlines() if "WARNING" in line or "ERROR" in line]
    assert sum(STORE_LINE in line for line in warnings) == 1, warnings
    rest = [line for line in warnings if STORE_LINE not in line]
    tables = [line.split("index ")[1].split()[0] for line in rest if "going on without it" in line]
    assert len(tables) == len(set(tables)) == len(rest), warnings
    assert b'proxyindex_alarms_total{kind="store-failed"}' in server.get("/metrics").body


# full


def test_whatever_room_is_left_everything_is_served(
    full: ProxyIndex, upstream: FakeUpstream, disk: SmallDisk
) -> None:
    serves(full, offer(upstream))
    specs = []
    for leave in (60 * MIB, 100_000, 24_576, 12_288, 4096, 0):
        disk.fill(leave)
        specs.append(offer(upstream))
        serves(full, specs[-1])
        serves(full, specs[-1])
        assert full.get(f"/simple/nobody-{leave}/").status == 404
    told_once(full)
    disk.clear()
    heals(full, upstream, *specs)


def test_where_no_file_can_be_made_everything_is_served(
    full: ProxyIndex, upstream: FakeUpstream, disk: SmallDisk
) -> None:
    """There is room for the bytes: so the page, the partial file, the metadata are refused."""
    first, begun, new = offer(upstream), offer(upstream), offer(upstream)
    serves(full, first)
    assert full.get(f"/simple/{project(begun)}/").status == 200
    disk.fill_names()
    for spec in (first, begun, new):
        serves(full, spec)
    told_once(full)
    disk.clear()
    heals(full, upstream, begun, new)


def test_a_disk_that_gets_full_under_a_download_costs_nobody_a_byte(
    full: ProxyIndex, upstream: FakeUpstream, disk: SmallDisk
) -> None:
    for leave in (0, 4096, 100_000, 500_000, 780_000):
        spec = offer(upstream, payload=BIG)
        upstream.file(spec, hold_at=HOLD_AT, gate=spec.filename)
        with full.connect() as one, full.connect() as other:
            one.start(target(spec))
            upstream.wait_held(spec.filename)
            other.start(target(spec), [("Range", "bytes=100000-899999")])
            answers = [one.answer(), other.answer()]
            disk.fill(leave)
            upstream.release(spec.filename)
            assert answers[0].body == spec.body
            assert answers[1].body == spec.body[100_000:900_000]
        disk.clear()
        wait_until(lambda spec=spec: is_kept(full, upstream, spec), "kept")  # type: ignore[misc]
    told_once(full)
    heals(full, upstream)


def test_a_download_whose_end_cannot_be_stored_arrives(
    full: ProxyIndex, upstream: FakeUpstream, disk: SmallDisk
) -> None:
    """All its bytes are on disk: the folder to adopt it into is refused, or the note of it."""
    specs = [offer(upstream, payload=BIG) for _ in range(4)]
    for leave, spec in enumerate(specs):
        upstream.file(spec, hold_at=HOLD_AT, gate=spec.filename)
        with full.connect() as connection:
            connection.start(target(spec))
            upstream.wait_held(spec.filename)
            disk.fill_names(leave)
            upstream.release(spec.filename)
            assert connection.answer().body == spec.body
        disk.clear()
        shutil.rmtree(full.cache_dir / "blobs", ignore_errors=True)
    told_once(full)
    heals(full, upstream, *specs)


def test_on_a_full_disk_a_new_process_holds_the_budget(
    full: ProxyIndex, upstream: FakeUpstream, disk: SmallDisk
) -> None:
    """Though there is no room to open the index, which would tell what was used last."""
    specs = [offer(upstream, payload=BIG) for _ in range(4)]
    for spec in specs:
        wait_until(lambda spec=spec: is_kept(full, upstream, spec), "kept")  # type: ignore[misc]
    full.stop()
    disk.fill()
    code, said = cache(full, "clean", "--cache-size", "3MB")
    assert (code, "Evicted 0 bytes" in said) == (0, False), said
    assert [blob(full, spec).is_file() for spec in specs] == [False, False, True, True]
    disk.fill()
    full.args += ["--cache-size", "2MB"]
    full.start()
    wait_until(lambda: not blob(full, specs[2]).exists(), "evicted")
    assert blob(full, specs[3]).is_file()


def test_a_full_disk_is_told_at_the_start_and_by_ready(full: ProxyIndex, disk: SmallDisk) -> None:
    assert full.get("/ready").body == b"ready\n"
    disk.fill()
    answer = full.get("/ready")
    assert (answer.status, answer.text) == (
        200,
        "ready\nThe cache cannot be written: No space left on device.\n",
    )
    full.restart()
    assert "cannot be written: No space left on device" in full.logs
    disk.clear()
    assert full.get("/ready").body == b"ready\n"


def test_pip_installs_from_a_full_disk(
    full: ProxyIndex, upstream: FakeUpstream, disk: SmallDisk, workbench: Workbench
) -> None:
    needed = offer(upstream)
    asked = wheel_spec("on-a-full-disk", requires_dist=[project(needed)], payload=50_000)
    upstream.project("on-a-full-disk", asked)
    disk.fill()
    workbench.pip_install(full.simple_url, "on-a-full-disk")
    assert workbench.installed() == {"on-a-full-disk": "1.0", project(needed): "1.0"}
    told_once(full)


# read-only and gone


def test_a_disk_that_becomes_read_only_is_served_from_and_written_again(
    full: ProxyIndex, upstream: FakeUpstream, disk: SmallDisk
) -> None:
    stored, new = offer(upstream), offer(upstream)
    wait_until(lambda: is_kept(full, upstream, stored), "kept")
    with disk.read_only():
        assert is_kept(full, upstream, stored)
        serves(full, new)
        assert full.get("/simple/nobody/").status == 404
        told_once(full)
    heals(full, upstream, new)


def test_a_cache_directory_that_is_removed_is_begun_anew(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    running = server(upstream=upstream, workers=2)
    stored, arriving = offer(upstream), offer(upstream, payload=BIG)
    serves(running, stored)
    upstream.file(arriving, hold_at=HOLD_AT)
    with running.connect() as connection:
        connection.start(target(arriving))
        upstream.wait_held()
        shutil.rmtree(running.cache_dir)
        serves(running, stored)
        upstream.release()
        assert connection.answer().body == arriving.body
    serves(running, arriving)
    assert blob(running, stored).is_file()
    assert blob(running, arriving).is_file()
    # the tag and the index are made again when the house is kept, every five seconds
    wait_until((running.cache_dir / "CACHEDIR.TAG").exists, "its tag")
    assert verify(running) == (0, "The cache is sound.\n")
    assert "Traceback" not in running.logs


# damaged


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = random.Random(path.name).randrange(len(data))
    data[place] ^= 1 << place % 8
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("store", ["blobs", "pages", "facts"])
def test_stored_things_may_be_damaged_while_a_server_runs(
    server: ServerFactory, upstream: FakeUpstream, store: str
) -> None:
    running = server(upstream=upstream)
    specs = [offer(upstream) for _ in range(3)]
    for spec in specs:
        serves(running, spec)
    for damage in (shorten, flip, empty, Path.unlink):
        hurt = [path for path in (running.cache_dir / store).rglob("*") if path.is_file()]
        assert len(hurt) >= (0 if store == "facts" else 3), "facts are learned but once"
        for path in hurt:
            damage(path)
        for spec in specs:
            serves(running, spec)
    verify(running)
    assert verify(running) == (0, "The cache is sound.\n")
    running.restart()
    for spec in specs:
        serves(running, spec)
    assert "Traceback" not in running.logs


@pytest.mark.parametrize("damage", [shorten, flip])
def test_verify_finds_all_planted_damage_and_mends_it(
    server: ServerFactory, upstream: FakeUpstream, damage: Callable[[Path], None]
) -> None:
    running = server(upstream=upstream)
    specs = [offer(upstream, payload=2000) for _ in range(12)]
    for spec in specs:
        serves(running, spec)
    running.stop()
    hurt = [
        path
        for store in ("blobs", "pages", "facts")
        for path in (running.cache_dir / store).rglob("*")
        if path.is_file()
    ]
    assert len(hurt) == 4 * len(specs), "file, metadata, page and facts of each"
    for path in hurt:
        damage(path)
    code, said = verify(running, "--dry-run")
    assert (code, said.splitlines()[-1]) == (1, f"{len(hurt)} damaged, left.")
    assert [path for path in hurt if path.name.removesuffix(".later") not in said] == []
    assert verify(running)[1].splitlines()[-1] == f"{len(hurt)} damaged, removed."
    assert verify(running) == (0, "The cache is sound.\n")
    running.start()
    for spec in specs:
        serves(running, spec)


@pytest.mark.parametrize("damage", [shorten, flip, empty, Path.unlink])
@pytest.mark.parametrize("part", ["bytes", "state"])
def test_what_a_killed_server_left_may_be_damaged(
    server: ServerFactory, upstream: FakeUpstream, part: str, damage: Callable[[Path], None]
) -> None:
    spec = offer(upstream, payload=BIG)
    upstream.file(spec, hold_at=HOLD_AT)
    running = server(upstream=upstream)
    with running.connect() as connection:
        connection.start(target(spec))
        assert connection.answer().read(HOLD_AT // 2)
        running.kill()
    upstream.file(spec)
    left = {path.suffix: path for path in (running.cache_dir / "partials").iterdir()}
    damage(left[".state" if part == "state" else ""])
    running.start()
    # where the beginning is wrong, the first client is not given the end, and all is thrown away
    tries = [attempt(running.url, target(spec)) for _ in range(2)]
    assert tries in ([spec.body, spec.body], [None, spec.body])
    serves(running, spec)
    assert unfinished(running) == []


def test_a_damaged_index_stops_nobody(server: ServerFactory, upstream: FakeUpstream) -> None:
    running = server(upstream=upstream)
    spec = offer(upstream)
    serves(running, spec)
    assert running.get("/simple/nobody/").status == 404
    for name in ("cache.db", "cache.db-journal"):
        for content in (b"", noise(20_000, seed="garbage")):
            for database in (running.cache_dir / "index").rglob(name):
                database.write_bytes(content)
            for _ in range(3):
                assert running.get("/simple/nobody/").status == 404
                serves(running, spec)
                serves(running, offer(upstream))
    assert not list((running.cache_dir / "index").rglob("*-shm"))
    running.restart()
    assert is_kept(running, upstream, spec)
    assert "Traceback" not in running.logs


def test_on_a_full_disk_own_files_can_be_deleted_and_yanked(
    server: ServerFactory, disk: SmallDisk
) -> None:
    own = disk.path / "own"
    own.mkdir()
    rights = ("--upload", "*", "--delete", "*", "--yank", "*")
    running = server(disk.inside / "own", *rights, is_started=False)
    running.wrapper = disk.command
    running.start()
    for version in ("1.0", "2.0"):
        content = make_wheel("px-full", version)
        assert upload_form(wheel_name("px-full", version), content).post(running).status == 200
    disk.fill()
    third = upload_form(wheel_name("px-full", "3.0"), make_wheel("px-full", "3.0"))
    assert third.post(running).status == 503
    target = "/api/projects/px-full/{}"
    for _ in range(2):  # the room is there for the next one, too
        assert running.get(target.format("2.0/yank"), method="POST").status == 200
        disk.fill()
    assert running.get(target.format("1.0"), method="DELETE").status == 200
    page = running.get("/simple/px-full/", {"Accept": JSON_TYPE}).json()
    assert [(file["filename"], file["yanked"]) for file in page["files"]] == [
        (wheel_name("px-full", "2.0"), True)
    ]
    assert wheel_name("px-full") in (own / "px-full" / ".deleted").read_text()
    assert {path.name for path in (own / ".incoming").iterdir()} == {"locks", "reserve"}
    running.stop()  # before the disk goes away


# bytes that are left when the two workers start, and how many of them find no room
@pytest.mark.parametrize(("left", "without"), [(None, 0), (2_600_000, 1), (100_000, 2)])
def test_workers_outlive_a_full_folder_for_temporary_files(
    server: ServerFactory, upstream: FakeUpstream, disk: SmallDisk, left: int | None, without: int
) -> None:
    """Of it they have the room for what they count, or else each counts for itself."""
    running = server(upstream=upstream, workers=2, is_started=False)
    running.wrapper = disk.command
    running.env["TMPDIR"] = str(disk.inside)
    if left is not None:
        disk.fill(leave=left)
    running.start()
    disk.fill()
    for spec in [offer(upstream) for _ in range(4)]:
        serves(running, spec)
        assert running.get(f"/simple/{project(spec)}/absent-1.0.tar.gz").status == 404
        assert {running.get("/metrics").status for _ in range(9)} == {200}
    told = "worker [0-9]+ counts for itself"
    assert len(re.findall(told, running.logs)) == without
    assert "ended with status" not in running.logs
    disk.clear()
    running.stop()
