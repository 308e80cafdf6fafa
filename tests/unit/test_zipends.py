"""An archive with all but a few entries left out of its directory is read as it was before."""

from __future__ import annotations

import io
import struct
import zipfile

from hypothesis import example, given
from hypothesis import strategies as st

from proxyindex.wheel import InvalidArchive, read_metadata
from proxyindex.zipends import directory_start, with_only
from tests.support.builders import make_zip, metadata

SUFFIX = b".dist-info/METADATA"
ENTRY = "demo-1.0.dist-info/METADATA"
WHEEL = "demo-1.0-py3-none-any.whl"
ENTRIES = [("demo/__init__.py", b"x"), (ENTRY, metadata("demo", "1.0")), ("demo/é.py", b"y" * 900)]


def names(archive: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.namelist()


def _with_comment_of_last_entry(comment: bytes) -> bytes:
    """An entry's comment stands where zip64 has a locator."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(ENTRY)
        info.comment = comment
        archive.writestr(info, metadata("demo", "1.0"))
    return buffer.getvalue()


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
        _with_comment_of_last_entry(b"PK\x06\x07" + bytes(16)),  # as zip64 has it there
    ]
    # an entry that begins where there is no room for it
    odd += [b"PK\1\2" + bytes(more) + _end_record(4 + more) for more in (0, 8, 41)]
    for data in odd:
        assert with_only(SUFFIX, data, len(data)) == data


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
