"""The derived index stops nobody: not when its files are cut off, nor when somebody locks them."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import diskcache
import pytest

from proxyindex.store.index import Notes, Recency, SizedDisk
from tests.support.stores import child, finish, line

USER = """
    import sys
    from pathlib import Path
    from proxyindex.store.index import Recency
    recency = Recency(Path(sys.argv[1]))
    recency.touch((f"key {number}", 1) for number in range(3000))
    print([line for line in open("/proc/self/maps") if sys.argv[1] in line], flush=True)
    sys.stdin.readline()
    for _ in range(3):
        list(recency.in_order())
        recency.touch([("new", 5)])
    print("new" in recency.in_order())
"""


@contextmanager
def locked(directory: Path, how: str) -> Iterator[None]:
    """The database is in use by somebody who does not let go."""
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as other:
        other.execute(how)
        other.execute("SELECT * FROM Cache").fetchall()
        yield


def log_of_old(directory: Path) -> diskcache.Cache:
    """An index as we used to keep it, open."""
    old = diskcache.Cache(str(directory), disk=SizedDisk, eviction_policy="none")
    assert (directory / "cache.db-shm").exists()
    return old


@pytest.mark.parametrize("length", [0, 10_000])
def test_cutting_off_any_file_of_an_index_stops_no_process(tmp_path: Path, length: int) -> None:
    user = child(USER, tmp_path / "index")
    assert line(user) == "[]", "nothing is mapped"
    for path in (tmp_path / "index").iterdir():
        os.truncate(path, length)
    assert finish(user, "\n") == "True\n"


@pytest.mark.parametrize("how", ["BEGIN EXCLUSIVE", "BEGIN"])
def test_a_lock_that_is_never_released_costs_a_moment_once(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    recency = Recency(tmp_path / "index")
    recency.touch([("a", 1)])
    with locked(tmp_path / "index", how):
        for _ in range(30):
            assert not recency.touch([("b", 2)])
            recency.total()
            assert recency._table._patience < 0.1, "who has waited in vain does not wait again"
    assert recency.touch([("c", 3)])
    assert recency.total() == 4
    assert [record.getMessage() for record in caplog.records] == [
        "index index failed (database is locked); going on without it"
    ]
    recency.close()


def test_a_locked_index_is_opened_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes(tmp_path / "index")
    notes.remember("a", b"1")
    notes.close()
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a clock that was set back
    with locked(tmp_path / "index", "BEGIN EXCLUSIVE"):
        for _ in range(10):  # by its own clock, diskcache would wait for a minute or for ever
            assert notes.recall("a") is None
    assert notes.recall("a") == b"1"
    notes.close()


def test_a_write_ahead_log_is_taken_over(tmp_path: Path) -> None:
    old = log_of_old(tmp_path / "index")
    for number in range(100):
        old.set(f"key {number}", 7)
    old.close()
    recency = Recency(tmp_path / "index")
    assert recency.total() == 700
    assert recency.touch([("new", 1)])
    assert "new" in recency.in_order()
    assert not list((tmp_path / "index").glob("*-shm"))
    assert not list((tmp_path / "index").glob("*-wal"))
    recency.close()


def test_a_write_ahead_log_in_use_is_taken_over_later(tmp_path: Path) -> None:
    old = log_of_old(tmp_path / "index")
    old.set("a", 7)
    recency = Recency(tmp_path / "index")
    assert recency.total() is None, "off, as long as the older program runs"
    old.close()
    assert recency.total() == 7
    recency.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO Cache (key, raw, size, mode, value) VALUES (CAST(X'FF' AS TEXT), 1, 3, 1, 3)",
        "DROP TABLE Cache",
        "ALTER TABLE Cache DROP COLUMN tag",
    ],
    ids=["no UTF-8", "no table", "no column"],
)
def test_a_sound_database_of_nonsense_is_begun_anew(tmp_path: Path, statement: str) -> None:
    recency = Recency(tmp_path / "index")
    recency.touch([("a", 1)])
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as other, other:
        other.execute(statement)
    for _ in range(3):
        recency.touch([("b", 2)])
        list(recency.in_order())
    recency.touch([("b", 2)])
    assert list(recency.in_order()) == ["b"]
    recency.close()


def test_a_removed_database_is_no_ghost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    recency = Recency(tmp_path / "index")
    recency.touch([("a", 1)])
    (tmp_path / "index" / "cache.db").unlink()
    recency.touch([("b", 2)])
    recency.touch([("c", 3)])
    other = Recency(tmp_path / "index")
    assert (other.total() or 0) >= 3
    assert "c" in other.in_order()
    assert len(caplog.records) == 1
    other.close()
    recency.close()


def test_a_note_does_not_outlive_its_lifetime_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(tmp_path / "index")
    for now, expected in ((1e9, b"1"), (1e9 + 59, b"1"), (1e9 + 61, None), (1e9 - 61, None)):
        monkeypatch.setattr(time, "time", lambda: 1e9)
        notes.remember("set_back", b"1", 60)
        notes.remember("for ever", b"2")
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert notes.recall("set_back") == expected
        assert notes.recall("for ever") == b"2"
    notes.close()
