"""The derived index: exact, shared, never unpickling, and well again after any damage."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import diskcache
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyindex.store.index import MAX_VALUE_SIZE, Notes, Recency
from tests.support.stores import child, finish


@pytest.fixture
def recency(tmp_path: Path) -> Iterator[Recency]:
    made = Recency(tmp_path / "index")
    yield made
    made.close()


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    made = Notes(tmp_path / "index", limit=5)
    yield made
    made.close()


def plant(directory: Path, **row: object) -> None:
    """Write a row behind the program's back."""
    usual: dict[str, object] = {"raw": 1, "store_time": 0.0, "access_time": 0.0, "size": 3}
    values = {**usual, **row}
    marks = ", ".join("?" * len(values))
    with closing(sqlite3.connect(directory / "cache.db")) as database, database:
        statement = f"INSERT INTO Cache ({', '.join(values)}) VALUES ({marks})"
        database.execute(statement, list(values.values()))


def pickled_touch(marker: Path) -> bytes:
    """A pickle that runs a program when it is loaded."""
    return f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()


def planted_rows(marker: Path) -> dict[str, dict[str, object]]:
    program = pickled_touch(marker)
    return {
        "value": {"key": "k", "mode": 4, "value": program},
        "key": {"key": program, "raw": 0, "mode": 1, "value": 3},
        "file": {"key": "k", "mode": 4, "filename": "planted.val"},
        "text file": {"key": "k", "mode": 3, "filename": "../../secret"},
        "odd value": {"key": "k", "mode": 1, "value": None},
    }


KINDS = sorted(planted_rows(Path()))


@pytest.mark.parametrize("value", [["list"], {"a": 1}, {1}], ids=repr)
def test_nothing_but_plain_values_is_written(notes: Notes, value: object) -> None:
    with pytest.raises(TypeError):
        notes.remember("key", value)  # type: ignore[arg-type]


def test_nothing_but_text_is_a_key(notes: Notes, recency: Recency) -> None:
    with pytest.raises(TypeError):
        notes.remember(("a", 1), b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        recency.touch([(("a", 1), 1)])  # type: ignore[list-item]


def test_a_planted_pickle_would_run_without_our_fence(tmp_path: Path) -> None:
    """The control: the rows planted below are real."""
    marker = tmp_path / "ran"
    with diskcache.Cache(str(tmp_path / "index")) as cache:
        plant(tmp_path / "index", **planted_rows(marker)["value"])
        cache.get("k")
    assert marker.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_row_never_runs_and_the_sizes_heal(
    tmp_path: Path, recency: Recency, kind: str
) -> None:
    marker = tmp_path / "ran"
    recency.touch([("old", 1)])
    (tmp_path / "index" / "planted.val").write_bytes(pickled_touch(marker))
    plant(tmp_path / "index", **planted_rows(marker)[kind])
    list(recency.in_order())
    recency.shed(0, (), lambda key: None)
    recency.touch([("k", 7), ("new", 5)])
    recency.forget(["old"])
    assert not marker.exists()
    assert recency.total() == 12
    assert set(recency.in_order()) == {"k", "new"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_row_never_runs_and_the_notes_heal(
    tmp_path: Path, notes: Notes, kind: str
) -> None:
    marker = tmp_path / "ran"
    notes.remember("other", b"1")
    (tmp_path / "index" / "planted.val").write_bytes(pickled_touch(marker))
    plant(tmp_path / "index", **planted_rows(marker)[kind])
    assert notes.recall("k") is None
    for number in range(10):  # enough to go through all rows for the oldest
        notes.remember(f"note {number}", b"2")
    notes.remember("k", b"3")
    assert notes.recall("k") == b"3"
    assert not marker.exists()


def test_planted_settings_are_no_obstacle(tmp_path: Path) -> None:
    first = Recency(tmp_path / "index")
    first.touch([("a", 1)])
    first.close()
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as database, database:
        database.execute("INSERT INTO Settings VALUES ('disk_evil', 1)")
    second = Recency(tmp_path / "index")
    assert second.total() is None
    assert second.touch([("b", 2)])
    assert second.total() == 2
    second.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 4000)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


@pytest.mark.parametrize("damage", [garbage, nothing, half])
def test_a_database_found_broken_is_begun_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    recency = Recency(tmp_path / "index")
    recency.touch((f"key {number}", 1) for number in range(3000))
    recency.counted()
    recency.close()
    for path in (tmp_path / "index").iterdir():
        damage(path)
    for _ in range(3):  # the first uses may fail; none may raise
        recency.touch([("new", 5)])
        list(recency.in_order())
        recency.shed(10**9, (), lambda key: None)
    assert recency.is_new()
    recency.forget(list(recency.in_order()))
    recency.touch([("new", 5)])
    assert recency.total() == 5
    recency.close()


@pytest.mark.parametrize("damage", [garbage, nothing, half])
def test_a_database_that_breaks_while_open_goes_on_or_is_begun_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """SQLite may have read enough not to notice; then whoever opens it next does."""
    recency = Recency(tmp_path / "index")
    recency.touch((f"key {number}", 1) for number in range(3000))
    recency.counted()
    for path in (tmp_path / "index").iterdir():
        damage(path)
    for _ in range(3):
        recency.touch([("new", 5)])
        list(recency.in_order())
    recency.touch([("new", 5)])
    assert {"new"} <= set(recency.in_order())
    recency.close()
    for _ in range(3):
        recency.touch([("newer", 6)])
        list(recency.in_order())
    recency.touch([("newer", 6)])
    assert {"newer"} <= set(recency.in_order())
    recency.close()


def test_a_healed_database_is_shared_again(tmp_path: Path) -> None:
    one, other = Recency(tmp_path / "index"), Recency(tmp_path / "index")
    one.touch([("a", 1)])
    assert other.total() == 1
    shutil.rmtree(tmp_path / "index")
    one.touch([("b", 2)])
    other.touch([("c", 3)])  # and not to the ghost that it had open
    assert one.total() == other.total() == 5
    assert list(one.in_order()) == ["b", "c"]
    one.close()
    other.close()


def test_the_one_who_heals_late_spares_the_healed(tmp_path: Path) -> None:
    one, other = Recency(tmp_path / "index"), Recency(tmp_path / "index")
    one.touch([("a", 1)])
    other.touch([("b", 1)])
    for path in (tmp_path / "index").iterdir():
        garbage(path)
    for table, key in ((one, "c"), (one, "c"), (other, "d"), (other, "d")):
        table.touch([(key, 1)])
    assert list(one.in_order()) == list(other.in_order()) == ["c", "d"]
    one.close()
    other.close()


def test_a_table_is_new_until_it_was_counted(tmp_path: Path, recency: Recency) -> None:
    assert recency.is_new()
    recency.touch([("a", 1)])
    assert recency.is_new()
    recency.counted()
    again = Recency(tmp_path / "index")
    assert not again.is_new()
    assert list(again.in_order()) == ["a"]
    assert again.total() == 1
    again.close()


def test_a_busy_index_says_so_and_loses_nothing(tmp_path: Path, recency: Recency) -> None:
    recency.touch([("a", 1)])
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as database:
        database.execute("BEGIN IMMEDIATE")
        assert not recency.touch([("b", 2)])
        assert recency.total() == 1
    assert recency.touch([("b", 2)])
    assert list(recency.in_order()) == ["a", "b"]


names = st.sampled_from("abcdefgh")
operations = st.lists(
    st.one_of(
        st.tuples(st.just("touch"), names, st.integers(0, 40)),
        st.tuples(st.just("forget"), names, st.just(0)),
        st.tuples(st.just("shed"), names, st.integers(0, 120)),  # the name is pinned
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(operations)
def test_trimming_is_exactly_least_recently_used(steps: list[tuple[str, str, int]]) -> None:
    model: OrderedDict[str, int] = OrderedDict()
    with tempfile.TemporaryDirectory() as folder:
        recency = Recency(Path(folder) / "index")
        for what, name, number in steps:
            if what == "touch":
                recency.touch([(name, number)])
                model.pop(name, None)
                model[name] = number
            elif what == "forget":
                recency.forget([name])
                model.pop(name, None)
            else:
                gone: list[str] = []
                freed = recency.shed(number, {name}, gone.append)
                expected = _shed(model, number, name)
                assert gone == list(expected)
                assert freed == sum(expected.values())
            assert list(recency.in_order()) == sorted(model)
            assert recency.total() == sum(model.values())
        gone = []
        recency.shed(-1, (), gone.append)
        assert gone == list(model)
        recency.close()


def _shed(model: OrderedDict[str, int], limit: int, pinned: str) -> dict[str, int]:
    gone: dict[str, int] = {}
    for name in [name for name in model if name != pinned]:
        if sum(model.values()) <= limit:
            break
        gone[name] = model.pop(name)
    return gone


def test_totals_are_exact_across_processes(tmp_path: Path, recency: Recency) -> None:
    code = """
        import sys
        from pathlib import Path
        from proxyindex.store.index import Recency
        recency, me = Recency(Path(sys.argv[1])), sys.argv[2]
        for round in range(20):
            for number in range(10):
                while not recency.touch([(f"own {me} {number}", 7), (f"all {number}", round)]):
                    pass
            recency.forget([f"own {me} {round % 10}"])
        recency.close()
    """
    recency.touch([("here", 100)])
    processes = [child(code, tmp_path / "index", number) for number in range(3)]
    for process in processes:
        finish(process)
    assert recency.total() == 100 + 3 * 9 * 7 + 10 * 19
    assert len(list(recency.in_order())) == 1 + 3 * 9 + 10


def test_notes_are_recalled_until_they_end(notes: Notes) -> None:
    notes.remember("lasting", b"1")
    notes.remember("ended", b"2", -1.0)
    notes.remember("forgotten", b"3")
    notes.forget("forgotten")
    assert notes.recall("lasting") == b"1"
    assert notes.recall("ended") is None
    assert notes.recall("forgotten") is None


def test_the_oldest_notes_make_room(notes: Notes) -> None:
    for number in range(8):
        notes.remember(f"{number}", b"x")
    kept = [number for number in range(8) if notes.recall(f"{number}")]
    assert kept == [3, 4, 5, 6, 7]


def test_a_large_value_is_not_kept(notes: Notes) -> None:
    notes.remember("at most", b"x" * MAX_VALUE_SIZE)
    notes.remember("too much", b"x" * (MAX_VALUE_SIZE + 1))
    assert notes.recall("at most")
    assert notes.recall("too much") is None


def test_notes_can_be_cleared(notes: Notes) -> None:
    notes.remember("a", b"1")
    notes.clear()
    assert notes.recall("a") is None
