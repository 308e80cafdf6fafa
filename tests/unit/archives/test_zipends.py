"""An archive with all but a few entries left out of its directory is read as it was before."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxyindex.archives.wheel import InvalidArchive, read_metadata
from proxyindex.archives.zipends import directory_start, with_only
from tests.support.builders import make_zip, metadata

SUFFIX = b".dist-info/METADATA"
ENTRY = "demo-1.0.dist-info/METADATA"
WHEEL = "demo-1.0-py3-none-any.whl"
ENTRIES = [("demo/__init__.py", b"x"), (ENTRY, metadata("demo", "1.0")), ("demo/é.py", b"y" * 900)]


def names(archive: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.namelist()


def _end_record(length: int) -> bytes:
    """The end of an archive that is a directory of one entry."""
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, length, 0, 0)


def found(archive: bytes) -> bytes | None:
    """The metadata of the wheel, if it has any that can be read."""
    try:
        return read_metadata(io.BytesIO(archive), WHEEL)
    except InvalidArchive:
        return None


@given(tail=st.integers(0, 2000))
def test_only_wanted_entries_are_left(tail: int) -> None:
    archive = make_zip(ENTRIES)
    start = max(0, len(archive) - tail)
    left = archive[:start] + with_only(SUFFIX, archive[start:], len(archive))
    begin = directory_start(archive[start:], len(archive))
    is_whole = begin is not None and start <= begin
    assert names(left) == ([ENTRY] if is_whole else names(archive))
    assert found(left) == metadata("demo", "1.0")
    assert len(left) <= len(archive)


def test_entries_of_the_same_ending_stay_for_the_reader_to_judge() -> None:
    archive = make_zip([*ENTRIES, ("other-1.0.dist-info/METADATA", b"Name: other\n"), ENTRIES[1]])
    left = with_only(SUFFIX, archive, len(archive))
    assert names(left) == [ENTRY, "other-1.0.dist-info/METADATA", ENTRY]
    assert found(left) is None


def test_what_is_not_plain_is_left_alone() -> None:
    archive = make_zip(ENTRIES)
    commented = io.BytesIO(archive)
    with zipfile.ZipFile(commented, "a") as opened:
        opened.comment = b"a comment"
    count = archive[-14:-12]
    odd = [
        b"",
        archive[:-1],
        archive + b"x",
        b"x" + archive,
        commented.getvalue(),
        archive[:-14] + b"\xff\xff\xff\xff" + archive[-10:],  # zip64 tells the number elsewhere
        archive[:-14] + b"\x02\0\x02\0" + archive[-10:],
        archive[:-14] + b"\x02\0" + count + archive[-10:],
        archive[:-18] + b"\1\0" + archive[-16:],  # of another disk
        # as zip64 has it there
        bytes(_stored((ENTRY, metadata("demo", "1.0"), b"PK\x06\x07" + bytes(16)))),
    ]
    # an entry that begins where there is no room for it
    odd += [b"PK\1\2" + bytes(more) + _end_record(4 + more) for more in (0, 8, 41)]
    for data in odd:
        assert with_only(SUFFIX, data, len(data)) == data


def _stored(*entries: tuple[str, bytes, bytes]) -> bytearray:
    """A zip of entries, each with a comment in the directory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content, comment in entries:
            info = zipfile.ZipInfo(name)
            info.comment = comment
            archive.writestr(info, content)
    return bytearray(buffer.getvalue())


def _forged(entry: bytes, place: int) -> bytes:
    """A directory of that one entry, which lies at `place`, and the two records of zip64 that lead
    to it."""
    behind = place + len(entry)
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), place)
    return entry + end + struct.pack("<4sLQL", b"PK\6\7", 0, behind, 1)


@pytest.mark.parametrize("is_last", [False, True])
def test_what_stands_before_the_end_only_now_leads_nowhere(is_last: bool) -> None:
    other = metadata("demo", "1.0") + b"Requires-Dist: other\n"
    bare = _stored((ENTRY, other, b""))
    (begin,) = struct.unpack_from("<L", bare, len(bare) - 6)
    local, entry = bytes(bare[:begin]), bytearray(bare[begin:-22])
    room = b"?" * (len(entry) + 76)
    if is_last:  # in the data of the last member: there is no METADATA at all
        archive = _stored(("pad", local, b""), ("demo/data", room, b""))
    else:  # in the comment of an entry that others follow
        ours = (ENTRY, metadata("demo", "1.0"), room)
        archive = _stored(ours, ("pad", local, b""), ("demo-1.0.dist-info/WHEEL", b"x", b""))
    struct.pack_into("<L", entry, 42, archive.index(local))
    place = archive.index(room)
    archive[place : place + len(room)] = _forged(bytes(entry), place)
    whole = found(bytes(archive))
    assert whole == (None if is_last else metadata("demo", "1.0"))
    start = directory_start(bytes(archive), len(archive)) or 0
    for begin in (0, start):  # of the tail
        left = archive[:begin] + with_only(SUFFIX, bytes(archive[begin:]), len(archive))
        assert found(bytes(left)) == whole


@given(
    changes=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 255)), max_size=4),
    suffix=st.sampled_from([SUFFIX, b"", b".py", b"no such"]),
)
@example(changes=[(22 + 46 * 3, 0)], suffix=b"")
def test_a_broken_directory_never_tells_more_than_before(
    changes: list[tuple[int, int]], suffix: bytes
) -> None:
    archive = bytearray(make_zip(ENTRIES))
    for place, value in changes:
        archive[-min(place, len(archive))] = value
    data = bytes(archive)
    left = with_only(suffix, data, len(data))
    before = found(data)
    if suffix in (SUFFIX, b""):
        # where others are broken, ours may be found all the same
        assert found(left) == before or before is None
    else:
        assert found(left) in (None, before)
