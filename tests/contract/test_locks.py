"""Locks between processes: exclusive, without files to leave behind, released by death."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from proxyindex.store.locks import Locks
from tests.support.hermetic import wait_until
from tests.support.stores import child, finish, kill, line

HOLDER = """
    import sys
    from pathlib import Path
    from proxyindex.store.locks import Locks
    locks = Locks(Path(sys.argv[1]))
    print(locks.try_acquire(sys.argv[2]), flush=True)
    sys.stdin.readline()
    locks.release(sys.argv[2])
    print("released", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[Locks]:
    made = Locks(tmp_path / "locks")
    yield made
    made.close()


def test_a_lock_excludes_within_the_process(locks: Locks) -> None:
    assert locks.try_acquire("a")
    assert not locks.try_acquire("a")
    assert locks.try_acquire("b")
    locks.release("a")
    assert locks.try_acquire("a")


def test_threads_exclude_each_other(locks: Locks) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            taken = pool.map(lambda _, key=f"{number}": locks.try_acquire(key), range(8))
            assert sum(taken) == 1


def test_a_lock_excludes_other_processes(locks: Locks, tmp_path: Path) -> None:
    assert locks.try_acquire("mine")
    other = child(HOLDER, tmp_path / "locks", "mine")
    assert line(other) == "False"
    kill(other)
    other = child(HOLDER, tmp_path / "locks", "theirs")
    assert line(other) == "True"
    assert not locks.try_acquire("theirs")
    assert other.stdin
    other.stdin.write("\n")
    other.stdin.flush()
    assert line(other) == "released"
    assert locks.try_acquire("theirs")
    finish(other, "\n")


def test_asking_in_vain_releases_nothing(locks: Locks, tmp_path: Path) -> None:
    assert locks.try_acquire("a")
    assert not locks.try_acquire("a")
    other = child(HOLDER, tmp_path / "locks", "a")
    assert line(other) == "False"
    kill(other)


def test_the_dead_hold_nothing(locks: Locks, tmp_path: Path) -> None:
    other = child(HOLDER, tmp_path / "locks", "a")
    assert line(other) == "True"
    assert not locks.try_acquire("a")
    kill(other)
    assert wait_until(lambda: locks.try_acquire("a"), "the lock of the dead")


async def test_who_waits_comes_after_who_was_there(locks: Locks) -> None:
    order: list[str] = []

    async def second() -> None:
        async with locks.hold("a"):
            order.append("second")

    async with anyio.create_task_group() as tasks, locks.hold("a"):
        order.append("first")
        tasks.start_soon(second)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        order.append("first done")
    assert order == ["first", "first done", "second"]


async def test_a_lock_is_released_by_errors_and_cancellation(locks: Locks) -> None:
    with pytest.raises(KeyError):
        async with locks.hold("a"):
            raise KeyError
    with anyio.CancelScope() as scope:
        async with locks.hold("a"):
            scope.cancel()
            await anyio.sleep_forever()
    assert locks.try_acquire("a")


def test_without_a_file_locks_hold_within_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    locks = Locks(tmp_path / "file" / "locks")
    assert locks.try_acquire("a")
    assert "no locks between processes" in caplog.text
    assert not locks.try_acquire("a")
    locks.release("a")
    assert locks.try_acquire("a")
    locks.close()


def test_a_removed_file_parts_nobody(locks: Locks, tmp_path: Path) -> None:
    assert locks.try_acquire("old")
    (tmp_path / "locks").unlink()
    assert not locks.try_acquire("old"), "what this process holds it goes on holding"
    assert locks.try_acquire("new")
    other = child(HOLDER, tmp_path / "locks", "new")
    assert line(other) == "False", "both have the file that is there now"
    kill(other)
    locks.release("old")
    assert locks.try_acquire("old")


def test_a_file_that_can_be_had_at_last_is_used(tmp_path: Path) -> None:
    (tmp_path / "place").touch()
    locks = Locks(tmp_path / "place" / "locks")
    assert locks.try_acquire("alone")
    (tmp_path / "place").unlink()
    assert locks.try_acquire("shared")
    other = child(HOLDER, tmp_path / "place" / "locks", "shared")
    assert line(other) == "False"
    kill(other)
    locks.release("shared")
    locks.release("alone")
    locks.close()


def test_where_the_file_system_has_no_locks_they_hold_within_the_process(
    locks: Locks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    for name in ("a", "b"):
        assert locks.try_acquire(name)
        assert not locks.try_acquire(name)
    locks.release("a")
    assert locks.try_acquire("a")
    assert caplog.text.count("no locks between processes") == 1
