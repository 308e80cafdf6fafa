"""Local against real folders: what lies there is what the next request sees."""

import hashlib
import io
import logging
import os
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from packaging.utils import NormalizedName

from proxyindex.archives.wheel import read_metadata
from proxyindex.errors import ProjectNotFound
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.model import LocalOrigin, ProjectPage
from proxyindex.records import Record, encode, record_path
from proxyindex.repository.base import Repository
from proxyindex.repository.examine import Examiner, FileChanging, derive, sight
from proxyindex.repository.local import Local
from proxyindex.repository.priority import Joined
from proxyindex.repository.recorded import Records
from proxyindex.repository.scan import FolderUnavailable, Scanner
from proxyindex.store.derived import DerivedNotes
from proxyindex.store.index import Notes
from proxyindex.store.worker import Worker
from tests.support.builders import (
    make_sdist,
    make_wheel,
    make_zip,
    put,
    put_sdist,
    put_wheel,
    sdist_name,
    wheel_name,
)
from tests.support.limits import no_descriptors

HOUR = 3600 * 10**9


class Notebook:
    """Remembers in memory and counts."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.recalled: Counter[str] = Counter()
        self.remembered: Counter[str] = Counter()

    async def recall(self, key: str) -> bytes | None:
        self.recalled[key] += 1
        return self.values.get(key)

    async def remember(self, key: str, value: bytes) -> None:
        self.remembered[key] += 1
        self.values[key] = value


def later() -> int:
    """A clock on which everything on disk has settled."""
    return time.time_ns() + HOUR


def local(*folders: Path, clock: Callable[[], int] = time.time_ns) -> Local:
    return Local(folders, Notebook(), clock=clock)


async def page(repository: Repository, name: str = "demo") -> ProjectPage:
    return await repository.project(NormalizedName(name), Inquiry())


async def files(repository: Repository, name: str = "demo") -> list[str]:
    return [file.filename for file in (await page(repository, name)).files]


async def names(repository: Repository) -> list[str]:
    return list((await repository.projects(Inquiry())).names)


def mark(folder: Path) -> None:
    """Gives all directories a new mtime: tests change them twice within a tick of the clock."""
    now = time.monotonic_ns()
    for directory in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        os.utime(directory, ns=(now, now))


@pytest.fixture(params=["just written", "settled"])
def clock(request: pytest.FixtureRequest) -> Callable[[], int]:
    """Both states of the caches: nothing trusted yet, everything trusted."""
    return later if request.param == "settled" else time.time_ns


async def test_a_wheel_is_described_completely(tmp_path: Path) -> None:
    path = put_wheel(tmp_path, requires_python=">=3.8")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    put(tmp_path, path.name + ".asc", b"signature")
    inquiry = Inquiry()
    found = await local(tmp_path).project(NormalizedName("demo"), inquiry)
    core = read_metadata(io.BytesIO(path.read_bytes()), path.name)
    assert inquiry.outcome is Outcome.LOCAL
    assert found.name == "demo"
    assert found.versions == ("1.0",)
    (file,) = found.files
    assert file.filename == path.name
    assert file.origin == LocalOrigin(str(path), is_volatile=True)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.size == path.stat().st_size
    assert file.upload_time == datetime.fromtimestamp(1_700_000_000, UTC)
    assert file.requires_python == ">=3.8"
    assert file.core_metadata == {"sha256": hashlib.sha256(core).hexdigest()}
    assert file.version == "1.0"
    assert file.has_signature
    assert file.yanked is None


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
async def test_an_sdist_tells_requires_python_but_offers_no_metadata(
    tmp_path: Path, suffix: str
) -> None:
    put_sdist(tmp_path, requires_python=">=3.9", suffix=suffix)
    (file,) = (await page(local(tmp_path))).files
    assert file.requires_python == ">=3.9"
    assert file.core_metadata is None
    assert not file.has_signature


async def test_files_are_ordered_by_version(tmp_path: Path) -> None:
    for version in ("1.10", "1.9", "1.9rc1"):
        put_wheel(tmp_path, version=version)
    put_sdist(tmp_path, version="1.9")
    found = await page(local(tmp_path))
    assert found.versions == ("1.9rc1", "1.9", "1.10")
    assert [file.filename for file in found.files] == [
        wheel_name(version="1.9rc1"),
        wheel_name(version="1.9"),
        sdist_name(version="1.9"),
        wheel_name(version="1.10"),
    ]


@pytest.mark.parametrize(
    "place",
    [
        "",
        "demo-thing",
        "Demo_Thing",
        "demo.thing",
        "2024/demo-thing",
        "für alle!",
        "a/b/c/d/e/f/g/h",
    ],
)
async def test_files_may_lie_flat_by_project_or_deeper(tmp_path: Path, place: str) -> None:
    put_wheel(tmp_path / place, "demo-thing")
    put_sdist(tmp_path / place, "demo-thing")
    assert len(await files(local(tmp_path), "demo-thing")) == 2
    assert await names(local(tmp_path)) == ["demo-thing"]


async def test_what_lies_too_deep_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_wheel(tmp_path / "a/b/c/d/e/f/g/h/i")
    repository = local(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert await names(repository) == []
        assert await names(repository) == []
    assert len(caplog.records) == 1


async def test_a_legacy_name_is_split_as_its_directory_says(tmp_path: Path) -> None:
    put(tmp_path / "demo", "demo-1.0-1.tar.gz", make_sdist())
    put(tmp_path / "demo", "other-1.0.win32.exe", b"MZ")
    repository = local(tmp_path, clock=later)
    assert await files(repository) == ["demo-1.0-1.tar.gz"]


async def test_the_file_name_decides_not_the_directory(tmp_path: Path) -> None:
    put_wheel(tmp_path / "other", "demo")
    repository = local(tmp_path)
    assert await files(repository, "demo") == [wheel_name("demo")]
    with pytest.raises(ProjectNotFound):
        await page(repository, "other")


async def test_files_of_several_folders_are_joined_and_the_first_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    mine = put_wheel(first, version="1.0")
    shadowed = (str(put_wheel(second, version="1.0", payload=100)),)
    put_wheel(second / "demo", version="2.0")
    put_wheel(second, "only-here")
    repository = local(first, second)
    found = await page(repository)
    assert found.versions == ("1.0", "2.0")
    origin = LocalOrigin(str(mine), is_volatile=True, shadowed=shadowed)
    assert found.file(mine.name).origin == origin
    assert await names(repository) == ["demo", "only-here"]


async def test_added_replaced_and_removed_files_show_at_once(
    tmp_path: Path, clock: Callable[[], int]
) -> None:
    repository = local(tmp_path, clock=clock)
    with pytest.raises(ProjectNotFound):
        await page(repository)
    for place in (tmp_path, tmp_path / "demo", tmp_path / "deep" / "er"):
        path = put_wheel(place)
        mark(tmp_path)
        before = await page(repository)
        put(place, path.name, make_wheel(payload=500))
        after = await page(repository)
        assert before.files[0].sha256 != after.files[0].sha256
        assert after.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        path.unlink()
        if place != tmp_path:
            shutil.rmtree(place)
        mark(tmp_path)
        with pytest.raises(ProjectNotFound):
            await page(repository)


async def test_a_signature_added_later_shows(tmp_path: Path, clock: Callable[[], int]) -> None:
    path = put_wheel(tmp_path)
    repository = local(tmp_path, clock=clock)
    assert not (await page(repository)).files[0].has_signature
    put(tmp_path, path.name + ".asc", b"signature")
    mark(tmp_path)
    assert (await page(repository)).files[0].has_signature


async def test_a_change_within_the_clock_tick_of_the_file_system_shows(tmp_path: Path) -> None:
    entries = [("demo-1.0.dist-info/METADATA", b"Name: demo"), ("demo.py", b"AAAA")]
    content = make_zip(entries, method=zipfile.ZIP_STORED)
    path = put(tmp_path, wheel_name(), content)
    stamp = path.stat()
    repository = local(tmp_path)
    before = await page(repository)
    with path.open("r+b") as target:
        target.write(content.replace(b"AAAA", b"BBBB"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_ino == stamp.st_ino
    after = await page(repository)
    assert after.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert after.files[0].sha256 != before.files[0].sha256


@pytest.mark.parametrize("clock", [time.time_ns, later])
@pytest.mark.parametrize(
    ("filename", "content"),
    [(wheel_name(), make_wheel(payload=5000)), (sdist_name(), make_sdist(payload=5000))],
)
async def test_a_half_copied_file_is_not_listed_until_it_is_whole(
    tmp_path: Path, clock: Callable[[], int], filename: str, content: bytes
) -> None:
    repository = local(tmp_path, clock=clock)
    put(tmp_path, filename, content[: len(content) // 2])
    assert await files(repository) == []  # but the project exists: nobody else is asked
    put(tmp_path, filename, content)
    assert await files(repository) == [filename]


async def test_a_format_that_cannot_be_checked_waits_until_it_settled(tmp_path: Path) -> None:
    put(tmp_path / "demo", "demo-1.0.win32.exe", b"MZ")
    now = time.time_ns()
    repository = local(tmp_path, clock=lambda: now)
    assert await files(repository) == []
    now += HOUR
    assert await files(repository) == ["demo-1.0.win32.exe"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip",
        make_zip([("demo/__init__.py", b"")]),
        make_wheel(dist_info="other-1.0.dist-info"),
        make_wheel(extra={"../climbs": b""}),
        make_wheel(extra={"zeros": bytes(70 * 1024**2)}),
    ],
    ids=["empty", "no-zip", "no-metadata", "foreign", "climbing", "bomb"],
)
async def test_a_broken_file_is_skipped_with_one_line(
    tmp_path: Path, content: bytes, clock: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, wheel_name(), content)
    put_wheel(tmp_path, version="2.0")
    repository = local(tmp_path, clock=clock)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert await files(repository) == [wheel_name(version="2.0")]
    assert len(caplog.records) == 1
    assert wheel_name() in caplog.text


async def test_foreign_and_temporary_names_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wheel = put_wheel(tmp_path)
    for name in (".hidden.whl", "-dash.whl", wheel.name + ".part", wheel.name + ".tmp"):
        put(tmp_path, name, wheel.read_bytes())
    with caplog.at_level(logging.INFO):
        repository = local(tmp_path)
        assert await names(repository) == ["demo"]
        assert not caplog.records
        for name in ("README.md", "demo.whl", "naïve-1.0.whl", "a b-1.0.tar.gz", "x\ny-1.0.zip"):
            put(tmp_path, name, b"?")
        for _ in range(3):
            assert await names(repository) == ["demo"]
    assert len(caplog.records) == 1
    assert "ignoring 5 names" in caplog.text
    assert "x\ny" not in caplog.text


async def test_a_hidden_directory_is_not_entered(tmp_path: Path) -> None:
    put_wheel(tmp_path / ".trash")
    assert await names(local(tmp_path)) == []


async def test_an_empty_directory_keeps_its_name_reserved(tmp_path: Path) -> None:
    (tmp_path / "Acme_Core").mkdir()
    put(tmp_path / "acme-tools", wheel_name("acme-tools") + ".part", b"coming")
    (tmp_path / "acme-docs" / "1.0").mkdir(parents=True)
    repository = local(tmp_path)
    for name in ("acme-core", "acme-tools", "acme-docs"):
        assert await files(repository, name) == []
    (tmp_path / "Acme_Core").rmdir()
    with pytest.raises(ProjectNotFound):
        await page(repository, "acme-core")


async def test_an_empty_directory_reserves_each_name_it_has(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("acme", "zeta"):
        (tmp_path / name).symlink_to(tmp_path / "empty")
    assert await names(local(tmp_path)) == ["acme", "empty", "zeta"]
    assert await names(local(tmp_path / "empty", tmp_path)) == ["acme", "empty", "zeta"]


async def test_an_empty_folder_does_not_reserve_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    assert await names(local(tmp_path / "requests")) == []


async def test_a_vanished_folder_fails_closed_and_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, other = tmp_path / "mount", tmp_path / "other"
    put_wheel(folder)
    put_wheel(other, "second")
    repository = local(folder, other, clock=later)
    assert await files(repository) == [wheel_name()]
    folder.rename(tmp_path / "away")
    for name in ("demo", "second", "unknown"):
        with pytest.raises(FolderUnavailable) as caught:
            await page(repository, name)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(FolderUnavailable):
        await repository.projects(Inquiry())
    assert len(caplog.records) == 1
    assert str(folder) in caplog.text
    (tmp_path / "away").rename(folder)
    assert await files(repository) == [wheel_name()]


async def test_that_all_folders_can_be_read_is_believed_for_a_while_and_no_failure_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[Scanner] = []
    scan = Scanner.scan
    monkeypatch.setattr(Scanner, "scan", lambda self: scans.append(self) or scan(self))
    put_wheel(tmp_path)
    repository = local(tmp_path)
    for seconds, scanned in ((3600, 1), (3600, 1), (0, 2)):
        await repository.look_through(seconds)
        assert len(scans) == scanned
    (tmp_path / "mount").symlink_to("vanished")
    await repository.look_through(3600)
    for name in ("demo", "unknown"):
        with pytest.raises(FolderUnavailable):
            await page(repository, name)
        with pytest.raises(FolderUnavailable):
            await repository.look_through(3600)
    (tmp_path / "mount").unlink()
    await page(repository)
    looked = len(scans)
    await repository.look_through(3600)  # the page has told
    assert len(scans) == looked


async def test_a_file_in_place_of_a_folder_fails_closed(tmp_path: Path) -> None:
    with pytest.raises(FolderUnavailable):
        await page(local(put(tmp_path, "packages", b"")))


async def test_a_directory_link_whose_target_vanished_fails_closed(
    tmp_path: Path, clock: Callable[[], int]
) -> None:
    put_wheel(tmp_path / "mount")
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "private").symlink_to(tmp_path / "mount")
    repository = local(tmp_path / "packages", clock=clock)
    assert await files(repository) == [wheel_name()]
    (tmp_path / "mount").rename(tmp_path / "away")
    for reader in (repository, local(tmp_path / "packages", clock=clock)):
        with pytest.raises(FolderUnavailable):
            await page(reader)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_a_directory_that_may_not_be_read_fails_closed(tmp_path: Path) -> None:
    put_wheel(tmp_path / "closed", "secret")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(FolderUnavailable):
        await page(local(tmp_path), "anything")
    (tmp_path / "closed").chmod(0o700)


async def test_linked_files_and_directories_are_followed_without_loops(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "packages"
    folder.mkdir()
    (folder / wheel_name()).symlink_to(put_wheel(store))
    put_wheel(tmp_path / "elsewhere", "linked")
    (folder / "there").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (tmp_path / "elsewhere" / "up").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / wheel_name(version="2.0")).symlink_to(tmp_path / "nowhere")
    repository = local(folder)
    assert await names(repository) == ["demo", "linked"]
    assert await files(repository) == [wheel_name()]


async def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / wheel_name())
    (tmp_path / wheel_name(version="2.0")).mkdir()
    assert await files(local(tmp_path)) == []


async def test_a_digest_is_computed_once_and_survives_a_restart(tmp_path: Path) -> None:
    put_wheel(tmp_path)
    put_sdist(tmp_path)
    notebook = Notebook()
    repository = Local([tmp_path], notebook, clock=later)
    first = await page(repository)
    assert await page(repository) == first
    assert sorted(notebook.remembered.values()) == [1, 1]
    assert sorted(notebook.recalled.values()) == [1, 1]
    restarted = Local([tmp_path], notebook, clock=later)
    assert await page(restarted) == first
    assert sorted(notebook.remembered.values()) == [1, 1]


async def test_requests_at_the_same_time_share_the_work(tmp_path: Path) -> None:
    put_wheel(tmp_path, payload=3_000_000)
    notebook = Notebook()
    repository = Local([tmp_path], notebook, clock=later)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(page, repository)
    assert list(notebook.remembered.values()) == [1]


async def test_a_cancelled_request_leaves_the_work_to_the_next(tmp_path: Path) -> None:
    put_wheel(tmp_path)

    class Stuck(Notebook):
        asked = anyio.Event()

        async def recall(self, key: str) -> bytes | None:
            if not self.asked.is_set():
                self.asked.set()
                await anyio.sleep_forever()
            return await super().recall(key)

    notebook = Stuck()
    repository = Local([tmp_path], notebook, clock=later)
    answers: list[list[str]] = []

    async def wait_for_it() -> None:
        answers.append(await files(repository))

    async with anyio.create_task_group() as tasks, anyio.create_task_group() as first:
        first.start_soon(page, repository)
        await notebook.asked.wait()
        tasks.start_soon(wait_for_it)
        await anyio.wait_all_tasks_blocked()
        first.cancel_scope.cancel()
    assert answers == [[wheel_name()]]


async def test_a_file_just_written_is_not_remembered(tmp_path: Path) -> None:
    put_wheel(tmp_path)
    notebook = Notebook()
    assert await files(Local([tmp_path], notebook)) == [wheel_name()]
    assert not notebook.values


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"sha256":"00"}',
        b'{"sha256":null}',
        b'{"sha256":"%s","requires_python":7}' % (b"0" * 64),
        b'{"sha256":"%s","metadata_sha256":"x"}' % (b"0" * 64),
        b'{"sha256":"%s","unknown":1}' % (b"0" * 64),
    ],
)
async def test_a_foreign_remembered_value_is_ignored(tmp_path: Path, value: bytes) -> None:
    path = put_wheel(tmp_path)
    notebook = Notebook()
    await page(Local([tmp_path], notebook, clock=later))
    notebook.values = dict.fromkeys(notebook.values, value)
    (file,) = (await page(Local([tmp_path], notebook, clock=later))).files
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_broken_memory_costs_no_answer(tmp_path: Path) -> None:
    put_wheel(tmp_path)
    (tmp_path / "no-folder").touch()
    worker = Worker()
    notes = DerivedNotes(Notes(tmp_path / "no-folder" / "derived"), worker)
    assert await files(Local([tmp_path], notes, clock=later)) == [wheel_name()]
    worker.close()


async def test_a_file_that_cannot_be_read_now_is_tried_again(tmp_path: Path) -> None:
    path = put_wheel(tmp_path)
    (sighting,) = sight(Scanner([tmp_path]).scan().projects[NormalizedName("demo")])
    path.rename(tmp_path / "away")
    examiner = Examiner(Notebook(), clock=later)
    assert await examiner.examine([sighting]) == [None]
    assert not examiner.knows(sighting)
    (tmp_path / "away").rename(path)
    assert await examiner.examine([sighting]) != [None]
    assert examiner.knows(sighting)


async def test_a_file_that_changes_while_it_is_read_is_tried_again(tmp_path: Path) -> None:
    path = put_wheel(tmp_path)
    (sighting,) = sight(Scanner([tmp_path]).scan().projects[NormalizedName("demo")])
    path.write_bytes(make_wheel(payload=10))
    examiner = Examiner(Notebook(), clock=later)
    assert await examiner.examine([sighting]) == [None]
    assert not examiner.knows(sighting)
    with pytest.raises(FileChanging):
        derive(sighting, is_settled=True)


async def test_an_unchanged_page_is_the_same_object(tmp_path: Path) -> None:
    put_wheel(tmp_path)
    repository = local(tmp_path, clock=later)
    assert await page(repository) is await page(repository)


@pytest.mark.parametrize("place", ["flat", "by project"])
async def test_twelve_thousand_files_are_fine(tmp_path: Path, place: str) -> None:
    content = make_wheel("big")
    for number in range(11_990):
        name = f"p{number % 3000}"
        folder = tmp_path if place == "flat" else tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / wheel_name(name, f"1.{number}")).touch()
    for number in range(10):
        put(tmp_path, wheel_name("big", f"1.0-{number}"), content)
    repository = local(tmp_path)
    assert len(await names(repository)) == 3001
    assert len(await files(repository, "big")) == 10
    assert await files(repository, "p7") == []


async def test_pages_of_many_projects_are_remembered(tmp_path: Path) -> None:
    projects = [f"demo{number}" for number in range(300)]
    for project in projects:
        put(tmp_path, f"{project}-1.0.tar.bz2", b"x")
    repository = local(tmp_path, clock=later)
    first = [await page(repository, project) for project in projects]
    again = [await page(repository, project) for project in projects]
    assert list(map(id, again)) == list(map(id, first))


async def test_a_time_that_no_calendar_knows_is_left_out(tmp_path: Path) -> None:
    path = put_wheel(tmp_path)
    try:
        os.utime(path, (0, 10**12))
    except OSError:
        pytest.skip("this file system has no such times")
    if path.stat().st_mtime < 10**12:
        pytest.skip("this file system has no such times")
    (file,) = (await page(local(tmp_path))).files
    assert file.upload_time is None


async def test_names_of_requests_never_become_paths(tmp_path: Path) -> None:
    put_wheel(tmp_path / "inside")
    put_wheel(tmp_path / "secret")
    repository = local(tmp_path / "inside")
    for name in ("../secret", "/etc", "..", ".", "", "demo/../../secret"):
        with pytest.raises(ProjectNotFound):
            await page(repository, name)


def test_a_record_that_cannot_be_read_now_is_not_taken_for_none(tmp_path: Path) -> None:
    wheel = put_wheel(tmp_path, "demo")
    now = datetime.now(UTC)
    record = Record(sha256="0" * 64, size=1, upload_time=now, yanked="it deletes files")
    record_path(wheel).write_bytes(encode(record))
    seen = sight(Scanner([tmp_path]).scan().projects[NormalizedName("demo")])
    records = Records(clock=later)
    with no_descriptors(), pytest.raises(FolderUnavailable):
        records.read(seen)
    assert records.read(seen) == [record]


def test_what_is_moved_while_folders_are_looked_at_is_not_missed(tmp_path: Path) -> None:
    """Else its name would be asked of upstreams for a moment."""
    early, late = tmp_path / "a", tmp_path / "z"
    early.mkdir()
    wheel = put_wheel(late, "moved")
    looks = 0

    def clock() -> int:  # asked before each directory is read: of the root, `a`, then `z`
        nonlocal looks
        looks += 1
        if looks == 3:
            wheel.rename(early / wheel.name)
        return time.time_ns()

    (found,) = Scanner([tmp_path], clock=clock).scan().projects[NormalizedName("moved")]
    assert found.path == str(early / wheel.name)
    assert looks > 3


async def test_what_is_moved_from_a_base_meanwhile_is_not_missed(tmp_path: Path) -> None:
    wheel = put_wheel(tmp_path / "base", "moved")
    (tmp_path / "own").mkdir()
    own, base = local(tmp_path / "own"), local(tmp_path / "base")

    class Moving:
        """The base, from which the file goes to our own folder before it is asked."""

        projects = base.projects

        async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
            if wheel.exists():
                wheel.rename(tmp_path / "own" / wheel.name)
            return await base.project(name, inquiry)

    joined = Joined([(own, own), (base, Moving())])
    (file,) = (await joined.project(NormalizedName("moved"), Inquiry())).files
    assert file.filename == wheel.name
    with pytest.raises(ProjectNotFound):
        await joined.project(NormalizedName("other"), Inquiry())
