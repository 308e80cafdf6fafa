"""What a folder that is written to promises: each step leaves what may be served."""

from __future__ import annotations

import resource
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

from proxyindex.uploads.shelf import DELETED, Shelf, Shelves
from proxyindex.uploads.stage import Stage
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
    stage = Stage(home.parent)
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
