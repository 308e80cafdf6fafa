"""Stored files are what their names say, or they are not sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxyindex.errors import StoreError
from proxyindex.store.blobs import Blob, BlobStore
from proxyindex.store.index import Recency
from proxyindex.store.partials import Partials
from proxyindex.store.proofs import Proofs
from tests.support.mirrors import Recorder
from tests.support.stores import sha256

DATA = b"a" * 100_000
SHA = sha256(DATA)


@pytest.fixture
def events() -> Recorder:
    return Recorder()


@pytest.fixture
def blobs(tmp_path: Path, events: Recorder) -> Iterator[BlobStore]:
    recency = Recency(tmp_path / "index")
    store = BlobStore(tmp_path / "blobs", recency, limit=10**9, events=events)
    store.put(SHA, DATA)
    yield store
    recency.close()


def seen(blobs: BlobStore) -> Blob:
    blob = blobs.open(SHA)
    assert blob is not None
    blob.close()
    return blob


def flip(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(50_000)
        stream.write(b"b")


def truncate(path: Path) -> None:
    os.truncate(path, 99_999)


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"c" * len(DATA))


def test_a_file_is_proven_once(blobs: BlobStore) -> None:
    assert not blobs.is_proven(seen(blobs)), "another process may have written it"
    blob = blobs.open_proven(SHA)
    assert blob is not None
    assert os.pread(blob.fd, len(DATA), 0) == DATA
    blob.close()
    assert blobs.is_proven(seen(blobs))


@pytest.mark.parametrize("damage", [flip, truncate, replace])
@pytest.mark.parametrize("is_known", [True, False])
def test_damage_is_noticed_told_and_removed(
    blobs: BlobStore, events: Recorder, damage: Callable[[Path], None], is_known: bool
) -> None:
    if is_known:
        sound = blobs.open_proven(SHA)
        assert sound is not None
        sound.close()
    damage(blobs.path(SHA))
    assert not blobs.is_proven(seen(blobs))
    assert blobs.open_proven(SHA) is None
    assert not blobs.has(SHA)
    assert events.alarms == ["damaged-file"]


def test_a_proof_ends_so_that_damage_without_a_trace_is_noticed() -> None:
    made = Proofs(lifetime=-1.0)
    made.add(SHA, (1, 2, 3, 4))
    assert not made.holds(SHA, (1, 2, 3, 4))


def test_what_replaced_a_damaged_file_meanwhile_stays(blobs: BlobStore, events: Recorder) -> None:
    flip(blobs.path(SHA))
    damaged = blobs.open(SHA)
    assert damaged is not None
    blobs.put(SHA, DATA)
    assert not blobs.prove(damaged)
    damaged.close()
    assert blobs.has(SHA)
    assert events.alarms == []


def test_what_was_hashed_while_it_arrived_is_proven(blobs: BlobStore, tmp_path: Path) -> None:
    partial = Partials(tmp_path / "partials").create("key")
    partial.write(DATA, 0)
    blobs.adopt(partial, SHA)
    partial.close()
    assert blobs.is_proven(seen(blobs))


def test_a_partial_that_another_has_replaced_is_not_adopted(
    blobs: BlobStore, tmp_path: Path
) -> None:
    partials = Partials(tmp_path / "partials")
    mine = partials.create("key")
    mine.path.unlink()
    other = partials.create("key")
    other.write(b"not yet whole", 0)
    with pytest.raises(StoreError):
        blobs.adopt(mine, sha256(b"mine"))
    assert not blobs.has(sha256(b"mine"))
    assert other.is_in_place()
    mine.close()
    other.close()


def test_the_memory_of_proofs_is_bounded() -> None:
    made = Proofs(limit=2)
    for number in range(3):
        made.add(f"{number}", (number, 0, 0, 0))
    held = [made.holds(f"{number}", (number, 0, 0, 0)) for number in range(3)]
    assert held == [False, True, True]
