"""The page store: whole answers or none, within a budget of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxyindex.events import SILENT
from proxyindex.store.index import Recency
from proxyindex.store.pages import PageStore
from proxyindex.store.seal import sealed, unsealed
from tests.support.stores import HEAD, age, child, kill, line

Made = Callable[..., PageStore]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Made]:
    recency = Recency(tmp_path / "index")

    def made(limit: int = 10**9, pinned: frozenset[str] = frozenset()) -> PageStore:
        return PageStore(
            tmp_path / "pages", recency, limit=limit, pinned=lambda: pinned, events=SILENT
        )

    yield made
    recency.close()


def test_a_page_is_read_as_it_was_written(make: Made) -> None:
    head = replace(HEAD, etag='"x"', serial=7, lifetime=60.0, last_modified="yesterday")
    written = make().write("up", "demo", head, b"body\nwith lines\n")
    assert make().read("up", "demo") == written
    assert written.body == b"body\nwith lines\n"
    assert (written.head.etag, written.head.serial, written.head.length) == ('"x"', 7, 16)
    assert make().read_head("up", "demo") == written.head


def test_an_unknown_page_is_a_miss(make: Made) -> None:
    assert make().read("up", "demo") is None
    assert make().read_head("up", "demo") is None
    assert make().signature("up", "demo") is None
    assert not make().remove("up", "demo")


def test_every_write_changes_the_signature(make: Made) -> None:
    pages = make()
    seen = set()
    for body in (b"one", b"two", b"two"):
        pages.write("up", "demo", HEAD, body)
        seen.add(pages.signature("up", "demo"))
    assert len(seen) == 3


def cut_body(stored: bytes) -> bytes:
    return stored[:-1]


def longer_body(stored: bytes) -> bytes:
    return stored + b"x"


def other_body(stored: bytes) -> bytes:
    return stored[:-1] + b"X"


def with_head(**fields: object) -> Callable[[bytes], bytes]:
    def change(stored: bytes) -> bytes:
        head, _, body = stored.partition(b"\n")
        return sealed(json.dumps({**json.loads(unsealed(head)), **fields}).encode()) + b"\n" + body

    return change


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": cut_body,
    "longer": longer_body,
    "other bytes": other_body,
    "empty": lambda stored: b"",
    "no head": lambda stored: b"\x00\xff" * 50,
    "deep head": lambda stored: b"[" * 16_000 + b"\n",
    "long head": lambda stored: b'{"url": "' + b"x" * 100_000 + stored[9:],
    "list head": lambda stored: b"[]\n" + stored,
    "unknown key": with_head(evil=1),
    "time is text": with_head(validated_at="soon"),
    "lifetime is a list": with_head(lifetime=[1]),
    "lifetime is an empty list": with_head(lifetime=[]),
    "etag is an empty list": with_head(etag=[]),
    "url is a number": with_head(url=1),
    "etag is a number": with_head(etag=1),
    "time is not a number": with_head(validated_at=float("nan")),
    "time is endless": with_head(fetched_at=float("inf")),
    "time is beyond all floats": with_head(validated_at=10**400),
    "serial is text": with_head(serial="7"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_page_is_a_miss(
    make: Made, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    pages = make()
    pages.write("up", "demo", HEAD, b"the body")
    path = tmp_path / "pages" / "up" / "demo"
    path.write_bytes(damage(path.read_bytes()))
    assert pages.read("up", "demo") is None
    pages.write("up", "demo", HEAD, b"again")
    stored = pages.read("up", "demo")
    assert stored is not None
    assert stored.body == b"again"


def test_every_single_flipped_byte_is_found(make: Made, tmp_path: Path) -> None:
    pages = make()
    pages.write("up", "demo", HEAD, b"the body")
    path = tmp_path / "pages" / "up" / "demo"
    sound = path.read_bytes()
    for position in range(len(sound)):
        flipped = bytearray(sound)
        flipped[position] ^= 0x01
        path.write_bytes(flipped)
        assert pages.read("up", "demo") is None, sound[: position + 1]


def test_least_recently_used_pages_go_first(make: Made) -> None:
    pages = make()
    for name in ("a", "b", "c"):
        pages.write("up", name, HEAD, b"x" * 1000)
        pages.flush()
    size = (pages.signature("up", "a") or (0, 0, 0))[2]
    assert pages.total() == 3 * size
    pages.used("up", "a", size)
    tight = make(limit=2 * size)
    pages.flush()
    assert tight.trim() == size
    assert tight.keys("up") == ["a", "c"]
    assert tight.total() == 2 * size
    assert tight.trim() == 0


def test_pinned_pages_stay(make: Made) -> None:
    pages = make(limit=0, pinned=frozenset({"up/a"}))
    for name in ("a", "b"):
        pages.write("up", name, HEAD, b"x")
    pages.trim()
    assert pages.keys("up") == ["a"]


def test_a_lost_index_is_counted_again_oldest_first(make: Made, tmp_path: Path) -> None:
    pages = make()
    for seconds, name in ((10, "old"), (30, "oldest"), (0, "new")):
        pages.write("up", name, HEAD, b"x" * 100)
        age(tmp_path / "pages" / "up" / name, seconds)
    pages.flush()
    for path in (tmp_path / "index").iterdir():
        path.unlink()
    fresh = Recency(tmp_path / "index")
    size = (tmp_path / "pages" / "up" / "new").stat().st_size
    tight = PageStore(tmp_path / "pages", fresh, limit=2 * size, events=SILENT)
    assert tight.trim() == size
    assert tight.keys("up") == ["new", "old"]
    assert tight.total() == 2 * size
    fresh.close()


def test_a_page_lost_behind_the_back_is_not_counted(make: Made, tmp_path: Path) -> None:
    pages = make()
    for name in ("a", "b"):
        pages.write("up", name, HEAD, b"x")
    pages.flush()
    (tmp_path / "pages" / "up" / "a").unlink()
    pages.recount()
    assert pages.total() == (pages.signature("up", "b") or (0, 0, 0))[2]


def test_a_killed_writer_leaves_the_old_page_or_the_new_one(make: Made, tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from proxyindex.events import SILENT
        from proxyindex.store.index import Recency
        from proxyindex.store.pages import PageStore
        from tests.support.stores import HEAD
        root = Path(sys.argv[1])
        pages = PageStore(root / "pages", Recency(root / "index"), limit=10**9, events=SILENT)
        print("writing", flush=True)
        while True:
            for letter in b"abc":
                pages.write("up", "demo", HEAD, bytes([letter]) * 200_000)
    """
    pages = make()
    pages.write("up", "demo", HEAD, b"a" * 200_000)
    for _ in range(3):
        writer = child(code, tmp_path)
        assert line(writer) == "writing"
        seen = set()
        while len(seen) < 10:
            stored = pages.read("up", "demo")
            assert stored is not None, "a reader saw half a page"
            seen.add(pages.signature("up", "demo"))
        kill(writer)
        stored = pages.read("up", "demo")
        assert stored is not None
        assert stored.body in {letter * 200_000 for letter in (b"a", b"b", b"c")}
        assert pages.keys("up") == ["demo"]
