"""Only archives that all programs read alike are taken: by their directory, or from the start."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyindex.archives.strictzip import strict_zip
from proxyindex.archives.wheel import InvalidArchive
from tests.support.builders import make_wheel, make_zip

NAME = "demo-1.0.zip"
_LATER, _UTF8 = 0x8, 0x800


@dataclass(frozen=True)
class Entry:
    """As it lies in an archive; `local` are fields of its header that differ from the directory's,
    `behind` is what lies behind it."""

    name: bytes = b"a"
    content: bytes = b"content" * 9
    method: int = 8
    flags: int = 0
    local: dict[str, int] = field(default_factory=dict)
    local_name: bytes | None = None
    packed: bytes | None = None
    crc: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    behind: bytes = b""

    @property
    def data(self) -> bytes:
        deflate = zlib.compressobj(wbits=-15)
        deflated = deflate.compress(self.content) + deflate.flush()
        return (deflated if self.method == 8 else self.content) if not self.packed else self.packed

    @property
    def fields(self) -> dict[str, int]:
        return {
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.content) if self.crc is None else self.crc,
            "packed": len(self.data),
            "size": len(self.content),
        }

    def whole(self) -> bytes:
        """With its header."""
        told, name = self.fields | self.local, self.local_name or self.name
        head = struct.pack("<4sHHHLLLL", b"PK\3\4", 20, told["flags"], told["method"], 0,
                           told["crc"], told["packed"], told["size"])  # fmt: skip
        lengths = struct.pack("<HH", len(name), len(self.local_extra))
        return head + lengths + name + self.local_extra + self.data + self.behind

    def listed(self, offset: int) -> bytes:
        """Its entry in the directory."""
        told = self.fields
        head = struct.pack("<4sHHHHLLLL", b"PK\1\2", 20, 20, told["flags"], told["method"], 0,
                           told["crc"], told["packed"], told["size"])  # fmt: skip
        rest = struct.pack("<HHHHHLL", len(self.name), len(self.extra), 0, 0, 0, 0, offset)
        return head + rest + self.name + self.extra


def built(*entries: Entry, count: int | None = None, first: int = 0) -> bytes:
    """An archive; its directory begins with this one, and claims to have so many."""
    body, directory = b"", b""
    for number, entry in enumerate(entries):
        directory += entry.listed(len(body)) if number >= first else b""
        body += entry.whole()
    number = len(entries) - first if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), len(body), 0)
    return body + directory + end


def unicode_path(name: bytes, other: bytes) -> bytes:
    return struct.pack("<HHBL", 0x7075, 5 + len(other), 1, zlib.crc32(name)) + other


def large(size: int, packed: int) -> bytes:
    return struct.pack("<HHQQ", 1, 16, size, packed)


def descriptor(entry: Entry, form: str = "<4sLLL") -> bytes:
    told = entry.fields
    return struct.pack(form, b"PK\7\x08", told["crc"], told["packed"], told["size"])


def checked(content: bytes) -> dict[str, bytes]:
    """What is in it by its directory. Raises `InvalidArchive`."""
    with strict_zip(io.BytesIO(content), NAME) as archive:
        return {entry.orig_filename: archive.read(entry) for entry in archive.infolist()}


def from_the_start(content: bytes) -> dict[str, bytes]:
    """What somebody finds who goes by headers alone, as far as there are any."""
    found, at = {}, 0
    while content[at : at + 4] == b"PK\3\4":
        _, flags, method, _, _, packed, _, name, extra = struct.unpack_from(
            "<3HLL2L2H", content, at + 4
        )
        at += 30
        coding = "utf-8" if flags & _UTF8 else "cp437"
        called = content[at : at + name].decode(coding)
        at += name + extra
        if method == 8:
            inflate = zlib.decompressobj(-15)
            found[called] = inflate.decompress(content[at:])
            at = len(content) - len(inflate.unused_data)
        else:
            found[called] = content[at : at + packed]
            at += packed
        if flags & _LATER:
            at = min(place for mark in (b"PK\3\4", b"PK\1\2")
                     if (place := content.find(mark, at)) >= 0)  # fmt: skip
    return found


A, B = Entry(), Entry(b"b", b"other", 0)
LATER = replace(A, flags=_LATER, local={"crc": 0, "packed": 0, "size": 0})
UNKNOWN = {"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF}

SOUND: dict[str, bytes] = {
    "two entries": built(A, B),
    "nothing in it": built(Entry(b"a/", b"", 0), Entry(b"a/b", b""), B),
    "no bytes of what is empty": built(replace(A, content=b"", packed=b""), B),
    "a name in UTF-8": built(replace(A, name="é".encode(), flags=_UTF8), B),
    "the same name twice": built(replace(A, local_extra=unicode_path(b"a", b"a")), B),
    "later": built(replace(LATER, behind=descriptor(A)), B),
    "later, without a mark": built(B, replace(LATER, behind=descriptor(A)[4:])),
    "later, in zip64": built(
        replace(
            LATER,
            local={"crc": 0, **UNKNOWN},
            local_extra=large(0, 0),
            behind=descriptor(A, "<4sLQQ"),
        ),
        B,
    ),
    "sizes in zip64": built(
        replace(A, local=UNKNOWN, local_extra=large(len(A.content), len(A.data))), B
    ),
    "sizes in zip64, too": built(replace(A, local_extra=large(len(A.content), len(A.data))), B),
}


@pytest.mark.parametrize("content", SOUND.values(), ids=SOUND)
def test_what_all_read_alike_passes(content: bytes) -> None:
    found = checked(content)
    assert found == from_the_start(content)
    assert len(found) >= 2


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_end_in_zip64_passes(method: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # so that three need one
    content = make_zip([("a", b"1"), ("b", b"2" * 999), ("c", b"")], method=method)
    assert b"PK\6\6" in content
    assert checked(content) == from_the_start(content)


def test_what_was_added_to_an_archive_passes() -> None:
    buffer = io.BytesIO(make_wheel())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("more", b"more")
        archive.comment = b"with a comment"
    assert checked(buffer.getvalue())["more"] == b"more"


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "an entry in between": (lambda: built(replace(A, behind=B.whole()), B), "does not list"),
    "an entry at the end": (lambda: built(A, replace(B, behind=A.whole())), "does not list"),
    "an entry at the beginning": (lambda: built(B, A, first=1), "begin with its first"),
    "an entry before the archive": (lambda: B.whole() + built(A), "does not fit its directory"),
    "a blank in between": (lambda: built(replace(A, behind=b" "), B), "does not list"),
    "another method": (lambda: built(replace(A, local={"method": 0}), B), "another method"),
    "another checksum": (lambda: built(replace(A, local={"crc": 1}), B), "another checksum"),
    "no checksum": (lambda: built(replace(A, local={"crc": 0}), B), "another checksum"),
    "another size": (lambda: built(replace(A, local={"size": 1}), B), "another size"),
    "another packed size": (lambda: built(replace(A, local={"packed": 1}), B), "packed size"),
    "another flag": (lambda: built(replace(A, local={"flags": _LATER}), B), "set of flags"),
    "another name": (lambda: built(replace(A, local_name=b"x"), B), "another name"),
    "another size in zip64": (lambda: built(replace(A, local_extra=large(1, 2)), B), "size"),
    "sizes nowhere": (lambda: built(replace(A, local=UNKNOWN), B), "another size"),
    "sizes in zip64, twice": (
        lambda: built(replace(A, local_extra=large(len(A.content), len(A.data)) * 2), B),
        "broken extra fields",
    ),
    "an endless extra field": (
        lambda: built(replace(A, local_extra=b"\0\0\xff\xff"), B),
        "broken extra fields",
    ),
    "a name in Unicode": (
        lambda: built(replace(A, local_extra=unicode_path(b"a", b"x")), B),
        "two names",
    ),
    "a name in Unicode, listed": (
        lambda: built(replace(A, extra=unicode_path(b"a", b"x")), B),
        "two names",
    ),
    "a wrong checksum": (lambda: built(replace(A, crc=1), B), "lies about the content"),
    "a wrong checksum, stored": (lambda: built(A, replace(B, crc=1)), "lies about the content"),
    "more than the size": (
        lambda: built(replace(A, packed=Entry(content=A.content * 99).data), B),
        "lies about the content",
    ),
    "less than the size": (
        lambda: built(replace(A, packed=Entry(content=b"").data), B),
        "lies about the content",
    ),
    "bytes behind the stream": (lambda: built(replace(A, packed=A.data + B.whole()), B), "end"),
    "half a stream": (lambda: built(replace(A, packed=A.data[:-3]), B), "end where"),
    "later, and stored": (
        lambda: built(replace(B, flags=_LATER, local=LATER.local, behind=descriptor(B)), A),
        "tells too late",
    ),
    "later, and something else": (
        lambda: built(replace(LATER, behind=descriptor(replace(A, content=b"x"))), B),
        "does not list",
    ),
    "later, and more": (
        lambda: built(replace(LATER, behind=descriptor(A) + b" "), B),
        "does not list",
    ),
    "more entries than it says": (lambda: built(A, B, count=1), "does not fit its directory"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_some_read_in_another_way_is_refused(kind: str) -> None:
    make, problem = HOSTILE[kind]
    with pytest.raises(InvalidArchive, match=problem):
        checked(make())


def test_a_second_end_that_zip64_points_at_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    content = bytearray(make_zip([("a", b"1"), ("b", b"2"), ("c", b"3")]))
    at = content.rindex(b"PK\6\7")
    assert checked(bytes(content))
    content[at + 8] ^= 1  # where the end of zip64 is
    with pytest.raises(InvalidArchive):
        checked(bytes(content))


def test_many_small_extra_fields_take_no_time() -> None:
    entry = replace(A, local_extra=b"\1\1\0\0" * 16_000)
    assert checked(built(*(replace(entry, name=b"%d" % n) for n in range(20))))


@settings(max_examples=300)
@given(
    st.sampled_from(list(SOUND.values())),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
)
def test_whatever_passes_is_read_alike_by_all(
    content: bytes, changes: list[tuple[int, int]]
) -> None:
    changed = bytearray(content)
    for place, byte in changes:
        changed[place % len(changed)] = byte
    with suppress(InvalidArchive):
        assert checked(bytes(changed)) == from_the_start(bytes(changed))
