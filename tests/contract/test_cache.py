"""A whole cache directory: opened, recovered, trimmed, closed; also where none can be written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxyindex.store.cache import TAG, Cache, instance_id
from tests.support.stores import GIB, HEAD, age, child, finish, keep, kill, line, opened, sha256


def test_the_directory_is_made_and_marked_as_a_cache(tmp_path: Path) -> None:
    with opened(tmp_path / "deep" / "cache") as cache:
        assert (cache.root / "CACHEDIR.TAG").read_bytes() == TAG
    assert TAG.startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")


def test_everything_outlasts_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache, "demo", {"demo-1.0.tar.gz": b"sdist"})
        cache.absent.remember("absent x", b"1")
    with opened(tmp_path) as cache:
        assert cache.blobs.has(sha256(b"sdist"))
        assert cache.blobs.total() == 5
        assert cache.pages.read("up-0123456789ab", "demo") is not None
        assert cache.facts.read("up-0123456789ab", "demo")["demo-1.0.tar.gz"].size == 5
        assert cache.absent.recall("absent x") == b"1"


def test_both_budgets_are_held_each_for_itself(tmp_path: Path) -> None:
    with opened(tmp_path, file_limit=10, page_limit=GIB) as cache:
        keep(cache, "demo", {"a": b"x" * 8, "b": b"y" * 8})
        cache.trim()
        assert cache.blobs.total() == 8
        assert cache.pages.keys("up-0123456789ab") == ["demo"]
    with opened(tmp_path, file_limit=GIB, page_limit=1) as cache:
        cache.trim()
        assert cache.blobs.total() == 8
        assert cache.pages.keys("up-0123456789ab") == []


def test_pinned_projects_stay_with_page_files_and_metadata(tmp_path: Path) -> None:
    with opened(tmp_path, file_limit=0, page_limit=0) as cache:
        keep(cache, "pinned", {"a.whl": b"pinned wheel"}, metadata=b"its metadata")
        keep(cache, "other", {"b.whl": b"other wheel"}, metadata=b"other metadata")
        cache.pins.add("pinned")
        cache.trim()
        kept = {name for name, _, _ in cache.blobs.walk()}
        assert kept == {sha256(b"pinned wheel"), sha256(b"its metadata")}
        assert cache.pages.keys("up-0123456789ab") == ["pinned"]
        assert cache.pins.remove("pinned")
        cache.trim()
        assert list(cache.blobs.walk()) == []
        assert cache.pages.keys("up-0123456789ab") == []


def test_a_pinned_page_stays_also_if_no_file_of_its_upstream_was_ever_taken(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, page_limit=0) as cache:
        for name in ("pinned", "other"):
            cache.pages.write("up-0123456789ab", name, HEAD, b"a page")
        cache.pins.add("pinned")
        for _ in range(2):
            cache.trim()
            assert cache.pages.keys("up-0123456789ab") == ["pinned"]
            # the same once there are facts, but of another upstream
            keep(cache, "else", {"else.whl": b"wheel"}, upstream="else-0123456789ab")


def test_pins_are_listed_and_removed_once(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        assert cache.pins.names() == []
        for name in ("b", "a", "b"):
            cache.pins.add(name)
        assert cache.pins.names() == ["a", "b"]
        assert cache.pins.remove("b")
        assert not cache.pins.remove("b")


def test_closing_evicts_nothing(tmp_path: Path) -> None:
    """A program with another budget than the server's may look without harm."""
    with opened(tmp_path) as cache:
        keep(cache, "demo", {"a": b"x" * 100})
    with opened(tmp_path, file_limit=1, page_limit=1) as cache:
        cache.blobs.total()
    with opened(tmp_path) as cache:
        assert cache.blobs.has(sha256(b"x" * 100))


def test_what_a_killed_process_did_not_note_is_counted_at_the_next_start(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tests.support.stores import keep, opened
        with opened(Path(sys.argv[1])) as cache:
            list(cache.recovering())
            keep(cache, "demo", {"a": b"x" * 1000})
            print("kept", flush=True)
            sys.stdin.readline()
    """
    other = child(code, tmp_path)
    assert line(other) == "kept"
    kill(other)
    with opened(tmp_path) as cache:
        assert cache.blobs.total() == cache.pages.total() == 0
        list(cache.recovering())
        assert cache.blobs.total() == 1000
        assert cache.pages.total() > 0


def test_an_index_lost_while_running_is_counted_at_the_next_trim(tmp_path: Path) -> None:
    with opened(tmp_path, file_limit=150, page_limit=GIB) as cache:
        keep(cache, "demo", {"a": b"x" * 100, "b": b"y" * 100, "c": b"z" * 100})
        cache.blobs.flush()
        shutil.rmtree(tmp_path / "index")
        cache.trim()
        assert cache.blobs.total() == sum(size for _, size, _ in cache.blobs.walk()) == 100
        assert cache.pages.total() > 0


def test_what_another_process_has_evicted_or_purged_is_not_counted(tmp_path: Path) -> None:
    """Though it was used here a moment before, and that is noted only now."""
    with opened(tmp_path, file_limit=10, page_limit=GIB) as one, opened(tmp_path) as other:
        keep(one, "demo", {"a": b"x" * 8, "b": b"y" * 8})
        for content in (b"x" * 8, b"y" * 8):
            blob = other.blobs.open(sha256(content))
            assert blob is not None
            blob.close()
        other.pages.used("up-0123456789ab", "demo", 100)
        one.trim()
        one.pages.remove("up-0123456789ab", "demo")
        other.trim()
        assert other.blobs.total() == 8
        assert other.pages.total() == 0


def test_recovering_sweeps_what_nobody_will_finish(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        keep(cache, "demo", {"a": b"x"})
        for key in ("old", "busy", "young"):
            cache.partials.create(key).close()
        unfinished = tmp_path / "pages" / "up-0123456789ab" / ".new-old"
        unfinished.write_bytes(b"half")
        for path in (unfinished, *(tmp_path / "partials").iterdir()):
            if not path.name.startswith("young"):
                age(path, 7200)
        assert cache.locks.try_acquire("file busy")
        list(cache.recovering())
        left = sorted(path.name for path in (tmp_path / "partials").iterdir())
        assert left == ["busy", "busy.state", "young", "young.state"]
        assert not unfinished.exists()
        assert cache.locks.try_acquire("file old"), "a sweep keeps no lock"


def test_all_workers_draw_the_same_name(tmp_path: Path) -> None:
    name = instance_id(tmp_path / "cache")
    assert name == instance_id(tmp_path / "cache")
    assert len(name) == 16
    assert name != instance_id(tmp_path / "other")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["instance"]


def test_workers_that_start_together_draw_the_same_name(tmp_path: Path) -> None:
    for number in range(20):
        with ThreadPoolExecutor(8) as threads:
            drawn = list(threads.map(instance_id, [tmp_path / str(number)] * 8))
        assert len(set(drawn)) == 1


@pytest.mark.parametrize("left", ["", "\n", "\0" * 16, "é" * 16])
def test_a_name_that_a_killed_writer_left_unfinished_is_drawn_anew(
    tmp_path: Path, left: str
) -> None:
    (tmp_path / "instance").write_text(left)
    name = instance_id(tmp_path)
    assert (len(name), name.isalnum()) == (16, True)
    assert name == instance_id(tmp_path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may reach, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="proxyindex-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def forbid_writing(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_a_cache_that_cannot_be_written_is_still_read(open_folder: Path) -> None:
    with opened(open_folder / "cache") as cache:
        keep(cache, "demo", {"a": b"x" * 100})
        cache.absent.remember("note", b"1")
    forbid_writing(open_folder)
    code = """
        import os, sys
        from pathlib import Path
        from proxyindex.errors import StoreError
        from tests.support.stores import HEAD, opened, sha256
        if os.geteuid() == 0:  # which may write anywhere
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        with opened(Path(sys.argv[1]), file_limit=1, page_limit=1) as cache:
            list(cache.recovering())
            blob = cache.blobs.open(sha256(b"x" * 100))
            print(blob.size)
            blob.close()
            print(cache.pages.read("up-0123456789ab", "demo").body.decode())
            print(len(cache.facts.read("up-0123456789ab", "demo")))
            cache.absent.remember("other", b"1")
            print(cache.locks.try_acquire("a"), cache.locks.try_acquire("a"))
            cache.trim()
            for write in (
                lambda: cache.pages.write("up", "new", HEAD, b"x"),
                lambda: cache.blobs.put(sha256(b"y"), b"y"),
                lambda: cache.partials.create("key"),
                lambda: cache.pins.add("demo"),
            ):
                try:
                    write()
                except StoreError as problem:
                    print(str(problem).partition("could not ")[2].partition(":")[0])
            print(cache.blobs.has(sha256(b"x" * 100)))
    """
    reader = child(code, open_folder / "cache")
    assert finish(reader).splitlines() == [
        *("100", "page of demo", "1", "True False"),
        *("keep a page", "keep core metadata", "begin a file", "pin a project"),
        "True",
    ]


def test_a_cache_that_cannot_be_made_is_a_cache_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with opened(tmp_path / "file") as cache:
        assert isinstance(cache, Cache)
        list(cache.recovering())
        cache.trim()
        assert cache.blobs.open(sha256(b"x")) is None
        assert cache.pages.read("up", "demo") is None
        assert cache.absent.recall("x") is None
        assert cache.sweep() == 0


def test_a_removed_cache_is_made_again_for_its_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "cache"
    with opened(root) as cache:
        shutil.rmtree(tmp_path / "deep")
        keep(cache, "demo", {"a": b"a file"})
        cache.trim()
        assert (root / "CACHEDIR.TAG").read_bytes() == TAG
        assert cache.blobs.total() == 6
    for folder in (root.parent, root, root / "blobs", root / "pages"):
        assert folder.stat().st_mode & 0o777 == 0o700
