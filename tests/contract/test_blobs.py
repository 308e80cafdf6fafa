"""The blob store: immutable files by digest, evicted exactly, read to the end."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyindex import disk
from proxyindex.errors import StoreError
from proxyindex.events import SILENT
from proxyindex.store.blobs import BlobStore
from proxyindex.store.index import Recency
from proxyindex.store.partials import Partials
from tests.support.stores import age, child, kill, line, sha256

Made = Callable[..., BlobStore]


def data(letter: str, size: int) -> bytes:
    return letter.encode() * size


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Made]:
    recency = Recency(tmp_path / "index")

    def made(limit: int = 10**9, pinned: frozenset[str] = frozenset()) -> BlobStore:
        return BlobStore(
            tmp_path / "blobs", recency, limit=limit, pinned=lambda: pinned, events=SILENT
        )

    yield made
    recency.close()


def read(blobs: BlobStore, sha: str, size: int | None = None) -> bytes | None:
    blob = blobs.open(sha, size)
    if blob is None:
        return None
    with open(blob.fd, "rb") as stream:
        return stream.read()


def test_what_was_put_is_read(make: Made) -> None:
    blobs, content = make(), data("a", 100)
    assert read(blobs, sha256(content)) is None
    blobs.put(sha256(content), content)
    assert blobs.has(sha256(content))
    assert read(blobs, sha256(content), 100) == content


def test_a_partial_is_adopted_without_a_copy(make: Made, tmp_path: Path) -> None:
    blobs, content = make(), data("a", 100)
    partial = Partials(tmp_path / "partials").create("key")
    partial.write(content, 0)
    inode = os.fstat(partial.fd).st_ino
    age(partial.path, 10_000)
    blobs.adopt(partial, sha256(content))
    partial.close()
    blob = blobs.open(sha256(content))
    assert blob is not None
    assert os.fstat(blob.fd).st_ino == inode
    assert blob.modified.timestamp() > partial.path.parent.stat().st_mtime - 100
    blob.close()
    assert not partial.path.exists()
    blobs.flush()
    assert blobs.total() == 100


def test_a_partial_that_was_removed_cannot_be_adopted(make: Made, tmp_path: Path) -> None:
    partial = Partials(tmp_path / "partials").create("key")
    partial.path.unlink()
    with pytest.raises(StoreError):
        make().adopt(partial, sha256(b""))
    partial.close()


def test_a_blob_of_another_size_than_wanted_is_a_miss_and_stays(make: Made) -> None:
    blobs, content = make(), data("a", 100)
    blobs.put(sha256(content), content)
    assert blobs.open(sha256(content), 99) is None
    assert read(blobs, sha256(content), 100) == content


def test_a_link_is_never_followed(make: Made, tmp_path: Path) -> None:
    blobs, secret = make(), tmp_path / "secret"
    secret.write_bytes(b"secret")
    path = blobs.path(sha256(b"secret"))
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)
    assert blobs.open(sha256(b"secret")) is None


def test_an_evicted_file_is_read_to_the_end(make: Made) -> None:
    blobs, content = make(limit=0), data("a", 100_000)
    blobs.put(sha256(content), content)
    blob = blobs.open(sha256(content))
    assert blob is not None
    with open(blob.fd, "rb", buffering=0) as stream:
        first = stream.read(1000)
        assert blobs.trim() == 100_000
        assert not blobs.has(sha256(content))
        assert first + stream.read() == content


def test_least_recently_opened_files_go_first(make: Made) -> None:
    blobs = make(limit=250)
    contents = [data(letter, 100) for letter in "abc"]
    for content in contents:
        blobs.put(sha256(content), content)
    assert read(blobs, sha256(contents[0]))
    # noted in batches: what was put and opened since the last flush keeps the order of putting
    blobs.flush()
    assert read(blobs, sha256(contents[0]))
    assert blobs.trim() == 100
    assert [blobs.has(sha256(content)) for content in contents] == [True, False, True]


def test_pinned_files_stay(make: Made) -> None:
    content, other = data("a", 100), data("b", 100)
    blobs = make(limit=0, pinned=frozenset({sha256(content)}))
    blobs.put(sha256(content), content)
    blobs.put(sha256(other), other)
    assert blobs.trim() == 100
    assert blobs.has(sha256(content))
    assert blobs.trim() == 0


def test_a_lost_index_is_counted_again_oldest_first(make: Made, tmp_path: Path) -> None:
    contents = [data(letter, 100) for letter in "abc"]
    blobs = make()
    for seconds, content in zip((20, 30, 10), contents, strict=True):
        blobs.put(sha256(content), content)
        age(blobs.path(sha256(content)), seconds)
    blobs.flush()
    shutil.rmtree(tmp_path / "index")
    tight = make(limit=200)
    assert tight.trim() == 100
    assert [tight.has(sha256(content)) for content in contents] == [True, False, True]
    assert tight.total() == 200


def test_without_any_index_the_oldest_go_first_but_none_that_is_pinned(
    make: Made, tmp_path: Path
) -> None:
    (tmp_path / "index").touch()  # no database can be opened there
    contents = [data(letter, 100) for letter in "abcd"]
    blobs = make(limit=200, pinned=frozenset({sha256(contents[1])}))
    for seconds, content in zip((20, 40, 30, 10), contents, strict=True):
        blobs.put(sha256(content), content)
        age(blobs.path(sha256(content)), seconds)
    assert (blobs.total(), blobs.excess()) == (400, 200)
    assert blobs.trim() == 200
    assert [blobs.has(sha256(content)) for content in contents] == [False, True, False, True]
    assert (blobs.trim(), blobs.total(), blobs.last_total, blobs.excess()) == (0, 200, 200, 0)
    (tmp_path / "index").unlink()
    assert make(limit=100).trim() == 100, "an index is made as soon as that is possible"
    assert [blobs.has(sha256(content)) for content in contents] == [False, False, False, True]


def test_unfinished_writes_are_no_blobs(make: Made, tmp_path: Path) -> None:
    blobs = make()
    blobs.put(sha256(b"a"), b"a")
    (blobs.path(sha256(b"a")).parent / ".new-left").write_bytes(b"half")
    assert [name for name, _, _ in blobs.walk()] == [sha256(b"a")]


def test_unfinished_writes_are_swept_when_they_are_old(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    for name in (".new-old", ".new-young", "whole"):
        (tmp_path / "aa" / name).write_bytes(b"half")
    for name in (".new-old", "whole"):
        age(tmp_path / "aa" / name, 100)
    young = (tmp_path / "aa" / ".new-young").stat().st_mtime
    assert disk.sweep(tmp_path, young) == 1
    assert sorted(path.name for path in (tmp_path / "aa").iterdir()) == [".new-young", "whole"]


def test_room_is_made_only_where_it_is_needed(make: Made) -> None:
    blobs, content = make(), data("a", 100)
    blobs.put(sha256(content), content)
    blobs.make_room(1)
    assert blobs.has(sha256(content))
    with pytest.raises(StoreError, match="do not fit"):
        blobs.make_room(2**62)
    assert blobs.has(sha256(content)), "what cannot fit anyway is no reason to evict"


def test_a_small_blob_is_read_only_if_it_is_small_and_sound(make: Made) -> None:
    blobs, content = make(), data("a", 100)
    blobs.put(sha256(content), content)
    assert blobs.read(sha256(content), 100) == content
    assert blobs.read(sha256(content), 99) is None
    blobs.path(sha256(content)).write_bytes(content[:-1])
    assert blobs.read(sha256(content), 100) is None


def test_accesses_wait_while_the_index_is_busy(make: Made, tmp_path: Path) -> None:
    blobs, content, other = make(), data("a", 100), data("b", 50)
    blobs.put(sha256(content), content)
    blobs.flush()
    blobs.put(sha256(other), other)
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as database:
        database.execute("BEGIN IMMEDIATE")
        blobs.flush()
        assert read(blobs, sha256(other)) == other
        assert blobs.total() == 100
    blobs.flush()
    assert blobs.total() == 150


blob_names = st.sampled_from("abcdef")


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from(["put", "open", "trim"]), blob_names), max_size=20),
    st.integers(0, 60),
)
def test_the_store_is_exactly_an_lru_of_bytes(steps: list[tuple[str, str]], limit: int) -> None:
    contents = {name: data(name, 5 + 7 * number) for number, name in enumerate("abcdef")}
    model: OrderedDict[str, int] = OrderedDict()
    with tempfile.TemporaryDirectory() as folder:
        recency = Recency(Path(folder) / "index")
        blobs = BlobStore(Path(folder) / "blobs", recency, limit=limit, events=SILENT)
        for what, name in steps:
            content = contents[name]
            if what == "put":
                blobs.put(sha256(content), content)
            elif what == "open":
                assert read(blobs, sha256(content)) == (content if name in model else None)
            blobs.flush()
            if what == "put" or (what == "open" and name in model):
                model.pop(name, None)
                model[name] = len(content)
            if what == "trim":
                blobs.trim()
                while sum(model.values()) > limit:
                    model.popitem(last=False)
            assert {name for name in contents if blobs.has(sha256(contents[name]))} == set(model)
            assert blobs.total() == sum(model.values())
        recency.close()


def test_a_killed_writer_leaves_whole_files_only(make: Made, tmp_path: Path) -> None:
    code = """
        import hashlib, sys
        from pathlib import Path
        from proxyindex.events import SILENT
        from proxyindex.store.blobs import BlobStore
        from proxyindex.store.index import Recency
        root = Path(sys.argv[1])
        blobs = BlobStore(root / "blobs", Recency(root / "index"), limit=10**9, events=SILENT)
        print("writing", flush=True)
        number = 0
        while True:
            data = str(number).encode() * 50_000
            blobs.put(hashlib.sha256(data).hexdigest(), data)
            number += 1
            if number == 5:
                print("some", flush=True)
    """
    blobs = make()
    for _ in range(2):
        writer = child(code, tmp_path)
        assert line(writer) == "writing"
        assert line(writer) == "some"
        kill(writer)
        names = [name for name, _, _ in blobs.walk()]
        assert len(names) >= 5
        assert all(sha256(blobs.path(name).read_bytes()) == name for name in names)
    blobs.recount()
    assert blobs.total() == sum(size for _, size, _ in blobs.walk())


def test_counting_again_goes_piece_by_piece_and_forgets_nothing_new(
    make: Made, tmp_path: Path
) -> None:
    blobs = make()
    bodies = [data(letter, 10 + number) for number, letter in enumerate("abcdefghijklmnopqrst")]
    for body in bodies:
        blobs.put(sha256(body), body)
    blobs.flush()
    gone, unknown = bodies[:6], bodies[6:12]
    for body in gone:  # their rows stay
        blobs.unlink(sha256(body))
    Recency(tmp_path / "index").forget([sha256(body) for body in unknown])
    late = [data(letter, 100) for letter in "uvwxyz"]
    pieces = 0
    for _ in blobs.recounting(5):  # both before and behind where it is
        if late:
            body = late.pop()
            blobs.put(sha256(body), body)
            blobs.flush()
        pieces += 1
    assert pieces > 2
    assert blobs.total() == sum(size for _, size, _ in blobs.walk())
    assert blobs.total() == sum(map(len, bodies[6:])) + 100 * pieces
