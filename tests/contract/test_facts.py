"""Facts: appended by anybody, first bytes first, broken lines without consequence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from proxyindex.errors import StoreError
from proxyindex.store.facts import NO_METADATA, Fact, Facts
from proxyindex.store.seal import sealed
from tests.support.limits import no_descriptors
from tests.support.stores import child, finish

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return Facts(tmp_path / "facts")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "facts" / "up" / "demo"


def test_what_was_learned_is_read(facts: Facts) -> None:
    fact = Fact("https://files.example/x", A, 7, B, "md5=" + "0" * 32, f"sha256={A}")
    facts.learn("up", "demo", WHEEL, fact)
    assert facts.read("up", "demo") == {WHEEL: fact}
    assert facts.read("up", "other") == facts.read("other", "demo") == {}
    assert facts.upstreams() == ["up"]
    assert facts.projects("up") == ["demo"]


def test_what_cannot_be_read_now_is_not_taken_for_nothing(facts: Facts) -> None:
    fact = Fact("https://files.example/x", A, 7)
    facts.learn("up", "demo", WHEEL, fact)
    with no_descriptors(), pytest.raises(StoreError):
        facts.read("up", "demo")
    assert facts.read("up", "demo") == {WHEEL: fact}


def test_first_bytes_win_and_later_metadata_does(facts: Facts) -> None:
    facts.learn("up", "demo", WHEEL, Fact("https://one.example/", A, 7))
    facts.learn("up", "demo", WHEEL, Fact("https://two.example/", B, 8, C))
    facts.learn("up", "demo", WHEEL, Fact(metadata=NO_METADATA))
    assert facts.read("up", "demo")[WHEEL] == Fact("https://one.example/", A, 7, NO_METADATA)


def test_what_was_told_belongs_to_the_first_bytes(facts: Facts) -> None:
    facts.learn("up", "demo", WHEEL, Fact(metadata=C))
    facts.learn("up", "demo", WHEEL, Fact(sha256=A, told="md5=1"))
    facts.learn("up", "demo", WHEEL, Fact(sha256=B, told="md5=2"))
    facts.learn("up", "demo", SDIST, Fact(sha256=A))
    facts.learn("up", "demo", SDIST, Fact(sha256=B, told="md5=2"))
    read = facts.read("up", "demo")
    assert (read[WHEEL].told, read[SDIST].told) == ("md5=1", None)


def test_the_address_is_that_of_the_first_bytes(facts: Facts) -> None:
    facts.learn("up", "demo", WHEEL, Fact("https://files.example/replaced", metadata=C))
    facts.learn("up", "demo", WHEEL, Fact("https://files.example/kept", A))
    facts.learn("up", "demo", WHEEL, Fact("https://files.example/later", B))
    assert facts.read("up", "demo")[WHEEL].url == "https://files.example/kept"


def test_metadata_is_of_the_wheel_it_was_found_for(facts: Facts) -> None:
    first, second = f"sha256={A}", f"sha256={B}"
    facts.learn("up", "demo", WHEEL, Fact(metadata=NO_METADATA, of=first))
    facts.learn("up", "demo", WHEEL, Fact(metadata=C, of=second), may_wait=True)
    facts.learn("up", "demo", WHEEL, Fact(sha256=B))
    fact = facts.read("up", "demo")[WHEEL]
    assert (fact.metadata, fact.of) == (C, second), "what may wait has the last word here, too"
    assert fact.metadata_for({"sha256": A}) is None
    assert fact.metadata_for({"sha256": B}) == fact.metadata_for({"md5": "0" * 32}) == C


def test_they_are_read_again_only_when_they_have_changed(tmp_path: Path) -> None:
    ahead = [0]  # ns; stamps are the file system's own
    facts = Facts(tmp_path / "facts", clock=lambda: time.time_ns() + ahead[0])
    facts.learn("up", "demo", WHEEL, Fact(sha256=A))
    fresh = facts.read("up", "demo")
    assert facts.read("up", "demo") is not fresh, "the next change might bear the same stamp"
    ahead[0] = 10**10
    settled = facts.read("up", "demo")
    assert facts.read("up", "demo") is settled
    facts.learn("up", "demo", SDIST, Fact(sha256=B), may_wait=True)
    assert set(facts.read("up", "demo")) == {WHEEL, SDIST}
    assert facts.read("up", "other") == {}


def test_nothing_new_writes_nothing(facts: Facts) -> None:
    facts.learn("up", "demo", WHEEL, Fact(sha256=A))
    before = facts.signatures("up", "demo")[0]
    facts.learn("up", "demo", WHEEL, Fact(sha256=A))
    facts.learn("up", "demo", WHEEL, Fact(sha256=B))
    assert facts.signatures("up", "demo")[0] == before
    facts.learn("up", "demo", WHEEL, Fact(size=1))
    assert facts.signatures("up", "demo")[0] != before


def test_what_may_wait_leaves_the_signature_and_is_read_with_the_rest(facts: Facts) -> None:
    facts.learn("up", "demo", WHEEL, Fact(sha256=A))
    before = facts.signatures("up", "demo")
    facts.learn("up", "demo", WHEEL, Fact(metadata=B), may_wait=True)
    facts.learn("up", "new", WHEEL, Fact(metadata=C), may_wait=True)
    now, later = facts.signatures("up", "demo")
    assert now == before[0] == facts.signatures("up", "demo")[0]
    assert later != before[1]
    assert facts.read("up", "demo")[WHEEL] == Fact(sha256=A, metadata=B)
    assert facts.projects("up") == ["demo", "new"]
    facts.learn("up", "demo", WHEEL, Fact(metadata=NO_METADATA))
    assert facts.read("up", "demo")[WHEEL].metadata == NO_METADATA, "the other has the last word"
    facts.forget("up", "demo", [WHEEL])
    assert facts.read("up", "demo") == {}
    assert facts.remove("up", "new")
    assert facts.read("up", "new") == {}


def test_the_mark_of_a_quarantine_is_no_file_and_comes_off_again(facts: Facts) -> None:
    facts.learn("up", "demo", WHEEL, Fact(sha256=A))
    known = facts.read("up", "demo")
    for is_quarantined in (False, True, True, False, True):
        facts.mark("up", "demo", is_quarantined=is_quarantined)
        assert facts.is_quarantined("up", "demo") == is_quarantined
        assert facts.read("up", "demo") == known
        assert facts.broken("up", "demo") == []


def test_removing_forgets_the_pin_of_first_bytes(facts: Facts) -> None:
    facts.learn("up", "demo", WHEEL, Fact(sha256=A))
    assert facts.remove("up", "demo")
    assert not facts.remove("up", "demo")
    assert facts.signatures("up", "demo")[0] is None
    facts.learn("up", "demo", WHEEL, Fact(sha256=B))
    assert facts.read("up", "demo")[WHEEL].sha256 == B


BROKEN = {
    "text": b"hello",
    "binary": b"\x00\xff\xfe",
    "list": b"[1]",
    "number": b"1",
    "deep": b"[" * 100_000,
    "no file": b"{}",
    "file is a number": b'{"file": 1}',
    "digest is a number": b'{"file": "x", "sha256": 1}',
    "digest is a path": b'{"file": "x", "sha256": "../../../etc/passwd"}',
    "digest is too short": b'{"file": "x", "sha256": "abc"}',
    "digest is upper case": json.dumps({"file": "x", "sha256": "A" * 64}).encode(),
    "metadata is a path": b'{"file": "x", "metadata": "../x"}',
    "size is text": b'{"file": "x", "size": "7"}',
    "size is negative": b'{"file": "x", "size": -7}',
    "url is a number": b'{"file": "x", "url": 7}',
}


UNSEALED = {"unsealed": b'{"file": "x"}', "seal of another line": sealed(b"{}")[:-8] + b"00000000"}
BROKEN = {name: sealed(line) for name, line in BROKEN.items()} | UNSEALED


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_skipped_and_can_be_blanked(facts: Facts, path: Path, line: bytes) -> None:
    facts.learn("up", "demo", "one", Fact(sha256=A))
    with path.open("ab") as stream:
        stream.write(b"\n" + line)
    facts.learn("up", "demo", "two", Fact(sha256=B))
    assert list(facts.read("up", "demo")) == ["one", "two"]
    broken = facts.broken("up", "demo")
    assert [found.text for found in broken] == [line]
    facts.learn("up", "demo", "three", Fact(sha256=C))  # meanwhile
    facts.blank(broken)
    assert facts.broken("up", "demo") == []
    assert list(facts.read("up", "demo")) == ["one", "two", "three"]


def test_every_single_flipped_byte_is_found(facts: Facts, path: Path) -> None:
    for name in ("one", "two"):
        facts.learn("up", "demo", name, Fact("https://files.example/x", A, 7, B))
    sound = path.read_bytes()
    for position in range(len(sound)):
        flipped = bytearray(sound)
        flipped[position] ^= 0x01
        path.write_bytes(flipped)
        assert facts.broken("up", "demo"), sound[: position + 1]


def test_a_torn_line_takes_no_other_with_it(facts: Facts, path: Path) -> None:
    facts.learn("up", "demo", "one", Fact(sha256=A))
    facts.learn("up", "demo", "torn", Fact(sha256=B))
    path.write_bytes(path.read_bytes()[:-10])  # killed in the middle of writing
    facts.learn("up", "demo", "three", Fact(sha256=C))
    assert list(facts.read("up", "demo")) == ["one", "three"]


def test_lines_of_several_processes_are_all_kept(facts: Facts, tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from proxyindex.store.facts import Fact, Facts
        facts, me = Facts(Path(sys.argv[1])), sys.argv[2]
        for number in range(60):
            url = f"https://files.example/{me}/" + "x" * 3000
            facts.learn("up", "demo", f"file-{me}-{number}", Fact(url=url, size=number))
            facts.learn("up", "demo", "shared", Fact(sha256=me * 64))
    """
    processes = [child(code, tmp_path / "facts", letter) for letter in "abc"]
    for process in processes:
        finish(process)
    known = facts.read("up", "demo")
    assert len(known) == 3 * 60 + 1
    assert facts.broken("up", "demo") == []
    assert known["shared"].sha256 in {"a" * 64, "b" * 64, "c" * 64}
