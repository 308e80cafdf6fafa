"""Files that are arriving: followed by their published progress, swept when nobody cares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from proxyindex.errors import StoreError
from proxyindex.store.partials import Partial, Partials, Phase, Progress
from tests.support.stores import age, child, kill, line


@pytest.fixture
def partials(tmp_path: Path) -> Partials:
    return Partials(tmp_path / "partials")


@pytest.fixture
def partial(partials: Partials) -> Iterator[Partial]:
    made = partials.create("key")
    yield made
    made.close()


def free(key: str) -> AbstractContextManager[bool]:
    return nullcontext(True)


def test_nothing_is_followed_before_it_is_begun(partials: Partials) -> None:
    assert partials.follow("key") is None


def test_a_follower_reads_what_the_writer_wrote(partials: Partials, partial: Partial) -> None:
    partial.write(b"01234", 0)
    partial.write(b"56789", 5)
    follower = partials.follow("key")
    assert follower is not None
    assert b"".join(follower.read_all(8)) == b"01234567"
    assert b"".join(follower.read_all(100)) == b"0123456789"
    assert follower.length() == 10
    follower.close()


@pytest.mark.parametrize(
    "progress",
    [
        Progress(),
        Progress(Phase.FLOWING, 5, 10),
        Progress(Phase.FLOWING, 5, None),
        Progress(Phase.DONE, 2**40, 2**40),
        Progress(Phase.FAILED),
        Progress(Phase.ABSENT),
        Progress(Phase.INVALID),
    ],
    ids=str,
)
def test_progress_arrives(partials: Partials, partial: Partial, progress: Progress) -> None:
    follower = partials.follow("key")
    assert follower is not None
    partial.publish(progress)
    assert follower.progress() == progress
    follower.close()


@pytest.mark.parametrize("position", range(28))
def test_progress_with_a_wrong_bit_is_none(partial: Partial, position: int) -> None:
    partial.publish(Progress(Phase.FLOWING, 5, 10))
    state = partial.path.with_name("key.state")
    raw = bytearray(state.read_bytes())
    assert len(raw) == 28
    raw[position] ^= 1
    state.write_bytes(raw)
    assert partial.progress() is None


def test_progress_half_written_is_none(partial: Partial) -> None:
    partial.publish(Progress(Phase.FLOWING, 5, 10))
    os.truncate(partial.path.with_name("key.state"), 20)
    assert partial.progress() is None


def test_the_file_in_place_is_told_from_another(partials: Partials, partial: Partial) -> None:
    assert partial.is_in_place()
    partial.discard()
    assert not partial.is_in_place()
    other = partials.create("key")
    assert not partial.is_in_place()
    assert other.is_in_place()
    other.close()


def test_what_a_dead_writer_left_is_kept(partials: Partials, partial: Partial) -> None:
    partial.write(b"begun", 0)
    again = partials.create("key")
    assert again.length() == 5
    again.truncate(2)
    assert b"".join(again.read_all(9)) == b"be"
    again.close()


def test_what_a_dead_writer_said_is_not_kept(partials: Partials, partial: Partial) -> None:
    partial.publish(Progress(Phase.FAILED))
    again = partials.create("key")
    assert partial.progress() == again.progress() == Progress()
    again.close()


def test_what_is_read_elsewhere_is_never_written_anew(partials: Partials, partial: Partial) -> None:
    partial.write(b"begun", 0)
    partials.remove("key")
    again = partials.create("key")
    again.write(b"other", 0)
    assert b"".join(partial.read_all(9)) == b"begun"
    partial.discard()
    assert again.is_in_place(), "another one's is not removed"
    follower = partials.follow("key")
    assert follower is not None
    assert b"".join(follower.read_all(9)) == b"other"
    follower.close()
    again.close()


def test_a_disk_that_fails_is_a_store_error(partial: Partial) -> None:
    partial.write(b"begun", 0)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        failing = Partial(partial.path, os.open(partial.path, flags), os.dup(partial.fd))
        with pytest.raises(StoreError):
            failing.truncate(0) if flags == os.O_RDONLY else list(failing.read_all(5))
        failing.close()


def test_a_link_is_never_written_through(partials: Partials, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "partials").mkdir()
    (tmp_path / "partials" / "key").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError):
        partials.create("key")
    assert partials.follow("key") is None


def test_a_full_disk_is_a_store_error(partials: Partials) -> None:
    partial = partials.create("key")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, partial.fd)
    os.close(full)
    with pytest.raises(StoreError, match="No space"):
        partial.write(b"x", 0)
    partial.close()


def test_a_sweep_takes_only_what_is_old_and_free(partials: Partials, tmp_path: Path) -> None:
    for key in ("old", "busy", "young"):
        partials.create(key).close()
    folder = tmp_path / "partials"
    for name in ("old", "old.state", "busy", "busy.state"):
        age(folder / name, 100)
    now = (folder / "young").stat().st_mtime
    asked: list[str] = []

    def claim(key: str) -> AbstractContextManager[bool]:
        asked.append(key)
        return nullcontext(key != "busy")

    assert partials.sweep(now - 50, claim) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        *("busy", "busy.state", "young", "young.state")
    ]
    assert sorted(asked) == ["busy", "busy", "old", "old"]


def test_a_sweep_of_nothing_is_quiet(partials: Partials) -> None:
    assert partials.sweep(2**40, free) == 0


def test_a_sweep_minds_no_file_that_vanishes(partials: Partials, tmp_path: Path) -> None:
    for number in range(3):
        partials.create(f"{number}").close()

    def vanish(key: str) -> AbstractContextManager[bool]:
        for path in (tmp_path / "partials").iterdir():
            path.unlink()
        return nullcontext(True)

    assert partials.sweep(2**40, vanish) == 0


def test_two_processes_may_sweep_at_once(tmp_path: Path, partials: Partials) -> None:
    code = """
        import sys
        from contextlib import nullcontext
        from pathlib import Path
        from proxyindex.store.partials import Partials
        partials = Partials(Path(sys.argv[1]))
        print("sweeping", flush=True)
        while True:
            partials.sweep(2**40, lambda key: nullcontext(True))
    """
    other = child(code, tmp_path / "partials")
    assert line(other) == "sweeping"
    for number in range(300):
        partials.create(f"{number % 7}").close()
        partials.sweep(2**40, free)
    assert other.poll() is None
    kill(other)


def test_progress_is_read_while_it_is_written(tmp_path: Path, partials: Partials) -> None:
    code = """
        import sys
        from pathlib import Path
        from proxyindex.store.partials import Partials, Phase, Progress
        partial = Partials(Path(sys.argv[1])).create("key")
        partial.publish(Progress(Phase.FLOWING, 0, 0))
        print("begun", flush=True)
        number = 0
        while True:
            number += 1
            partial.publish(Progress(Phase.FLOWING, number, 2 * number))
    """
    writer = child(code, tmp_path / "partials")
    assert line(writer) == "begun"
    follower = partials.follow("key")
    assert follower is not None
    seen = set()
    while len(seen) < 500:
        progress = follower.progress()
        if progress is not None:
            assert progress.size == 2 * progress.readable, "numbers of two moments"
            seen.add(progress.readable)
    kill(writer)
    assert follower.progress() is not None
    follower.close()
