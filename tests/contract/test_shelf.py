"""What a folder that is written to promises: each step leaves what may be served."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from packaging.utils import canonicalize_name

from proxyindex.uploads.rejection import FolderRefused
from proxyindex.uploads.shelf import DELETED, Shelf, Shelves
from proxyindex.uploads.stage import INCOMING, LOCKS, is_changeable, make_incoming
from tests.support.hermetic import wait_until

DEMO = canonicalize_name("demo")
FILE = "demo-1.0.tar.gz"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of the project, with a file and all that belongs to it."""
    home = tmp_path / DEMO
    home.mkdir()
    for suffix in ("", ".json", ".asc", ".provenance"):
        (home / (FILE + suffix)).write_text(f"theirs{suffix}")
    return home


def test_a_name_that_is_taken_costs_nobody_his_sidecars(home: Path) -> None:
    stage = Shelf(home.parent).stage()
    (stage.path / FILE).write_text("ours")
    stage.put(FILE + ".json", b"ours.json")
    with pytest.raises(FileExistsError):
        Shelf(home.parent).add(stage, DEMO, FILE)
    found = {path.name: path.read_text() for path in home.iterdir()}
    assert found == {FILE + s: f"theirs{s}" for s in ("", ".json", ".asc", ".provenance")}
    # and ours are still there for who may overwrite it
    Shelf(home.parent).replace(stage, DEMO, {FILE: home / FILE})
    assert (home / FILE).read_text() == "ours"
    assert (home / (FILE + ".json")).read_text() == "ours.json"
    stage.discard()


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: a write that would is cut short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_deleted_name_that_could_not_be_noted_is_not_deleted(home: Path) -> None:
    shelf = Shelf(home.parent)
    (home / DELETED).write_bytes(b"\nother-1.0.tar.gz")
    with room_for((home / DELETED).stat().st_size + 5), pytest.raises(OSError, match="large"):
        shelf.remove(DEMO, [home / FILE])
    assert (home / FILE).exists()
    shelf.remove(DEMO, [home / FILE])
    assert {"other-1.0.tar.gz", FILE} <= shelf.deleted(DEMO)


def test_what_static_pages_had_of_a_file_goes_with_it(home: Path) -> None:
    (home / f"{FILE}.metadata").write_text("theirs")
    Shelf(home.parent).remove(DEMO, [home / FILE])
    assert [path.name for path in home.iterdir()] == [DELETED]


def test_a_deletion_that_cannot_be_done_notes_nothing(home: Path) -> None:
    shelf = Shelf(home.parent)
    (home / f"{FILE}.json").unlink()
    (home / f"{FILE}.json").mkdir()
    with pytest.raises(IsADirectoryError):
        shelf.remove(DEMO, [home / FILE])
    assert (home / FILE).exists()
    assert FILE not in shelf.deleted(DEMO)
    (home / f"{FILE}.json").rmdir()
    shelf.remove(DEMO, [home / FILE])
    assert not (home / FILE).exists()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [("pipe", "regular"), ("link", "links"), ("folder", "directory"), ("large", "large")],
)
def test_names_of_deleted_files_are_read_from_a_file_or_not_at_all(
    home: Path, kind: str, problem: str
) -> None:
    place, shelf = home / DELETED, Shelf(home.parent)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(FILE)
    elif kind == "folder":
        place.mkdir()
    else:
        place.touch()
        os.truncate(place, 32 * 1024**2 + 1)
    with pytest.raises(OSError, match=problem):
        shelf.deleted(DEMO)
    with pytest.raises(OSError, match=problem):
        shelf.remove(DEMO, [home / FILE])
    assert (home / FILE).read_text() == "theirs"


async def test_a_folder_under_two_paths_has_one_lock(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home.parent)
    shelves = Shelves()
    one, other = shelves.at(home.parent), shelves.at(tmp_path / "link")
    assert shelves.at(home.parent) is one
    assert other.home(DEMO) == tmp_path / "link" / DEMO
    async with one.locked(DEMO):
        with anyio.move_on_after(0.1) as waiting:
            async with other.locked(DEMO):
                pass
        assert waiting.cancelled_caught
    async with other.locked(DEMO):
        pass


@contextmanager
def acts_below(folder: Path) -> Iterator[Counter[tuple[str, int]]]:
    """What opens files below the folder, or locks any, and in which threads."""
    seen: Counter[tuple[str, int]] = Counter()
    watched = [True]  # the hook itself stays for as long as the process

    def note(event: str, args: tuple[object, ...]) -> None:
        if watched and (
            event == "fcntl.lockf" or (event == "open" and str(args[0]).startswith(f"{folder}/"))
        ):
            seen[event, threading.get_ident()] += 1

    sys.addaudithook(note)
    try:
        yield seen
    finally:
        watched.clear()


async def test_the_event_loop_waits_for_no_file_of_locks(home: Path) -> None:
    shelf = Shelf(home.parent)
    with acts_below(home.parent) as seen:
        async with shelf.locked(DEMO):
            with anyio.move_on_after(0.1):
                async with shelf.locked(DEMO):
                    pytest.fail("it is held")
        async with shelf.writing_pages():
            pass
    assert {event for event, _ in seen} == {"open", "fcntl.lockf"}
    assert threading.get_ident() not in {thread for _, thread in seen}


async def test_a_folder_that_hangs_takes_no_threads_of_others(home: Path) -> None:
    shelf, answers, hanging = Shelf(home.parent), threading.Event(), Counter[None]()

    def look() -> None:
        hanging[None] += 1
        answers.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(60):
            tasks.start_soon(shelf.run, look)
        try:
            with anyio.fail_after(20):
                await Shelf(home).run(wait_until, lambda: hanging[None] > 10, "threads that hang")
                await anyio.to_thread.run_sync(lambda: None)
        finally:
            answers.set()


async def test_a_lock_that_is_left_while_it_is_taken_is_released(home: Path) -> None:
    shelf = Shelf(home.parent)

    async def take() -> None:
        async with shelf.locked(DEMO):
            await anyio.sleep_forever()

    for turns in range(0, 200, 5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    with anyio.fail_after(20):
        async with shelf.locked(DEMO):
            pass


async def test_without_locks_between_processes_nothing_is_changed(home: Path) -> None:
    (home.parent / INCOMING / LOCKS).mkdir(parents=True)  # root can open all others
    shelf = Shelf(home.parent)
    with pytest.raises(FolderRefused):
        async with shelf.locked(DEMO):
            pytest.fail("alone, and cannot know it")
    with pytest.raises(OSError, match="directory"):
        shelf.stage()


async def test_a_file_system_without_locks_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(FolderRefused, match="No locks available"):
        async with Shelf(home.parent).locked(DEMO):
            pytest.fail("alone, and cannot know it")


@pytest.mark.parametrize("lost", [".incoming/locks", ".incoming"])
async def test_locks_that_were_lost_are_shared_again(home: Path, lost: str) -> None:
    root = home.parent
    root.chmod(0o2775)
    shelf = Shelf(root)
    async with shelf.locked(DEMO):
        pass
    path = root / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    async with shelf.locked(DEMO):
        assert stat.S_IMODE((root / INCOMING / LOCKS).stat().st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any file")
def test_locks_of_somebody_else_are_told(home: Path) -> None:
    (make_incoming(home.parent) / LOCKS).chmod(0o400)
    assert not is_changeable(home.parent)
