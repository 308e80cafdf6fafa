import io
import random
import struct
import zipfile
from contextlib import suppress
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyindex.archives.wheel import (
    MAX_ENTRIES,
    MAX_METADATA,
    CoreMetadata,
    InvalidArchive,
    check_zip,
    parse_headers,
    read_metadata,
)
from proxyindex.names import version_key
from tests.support.builders import make_wheel, make_zip, metadata, noise, wheel_name

NAME = wheel_name()
HOME = "demo-1.0.dist-info"


class Counting(io.BytesIO):
    """Knows how many bytes were read of it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


class Failing(io.BytesIO):
    """A remote source that breaks."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise ConnectionResetError("gone")


def read(content: bytes, filename: str = NAME) -> bytes:
    return read_metadata(io.BytesIO(content), filename)


def flagged(content: bytes, bit: int) -> bytes:
    """The zip with a general purpose flag set in all headers."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            changed[at + offset] |= bit
    return bytes(changed)


def test_metadata_is_byte_exact() -> None:
    core = metadata("demo", "1.0", requires_dist=["left>=1"]) + b"\r\n caf\xe9 \0"
    assert read(make_wheel(core_metadata=core)) == core


def test_only_the_tail_and_the_entry_are_read() -> None:
    source = Counting(make_wheel(payload=1_000_000))
    assert read_metadata(source, NAME)
    assert source.taken < 20_000


def test_stored_entries_are_read() -> None:
    assert read(make_zip([(f"{HOME}/METADATA", b"Name: demo\n")], method=zipfile.ZIP_STORED))


@pytest.mark.parametrize(
    ("filename", "home"),
    [
        ("Demo_Thing-1.0-py3-none-any.whl", "demo.thing-1.0.dist-info"),
        ("demo_thing-1.0-1-py3-none-any.whl", "demo-thing-1.0.dist-info"),
        ("demo_thing-1.0.0-py3-none-any.whl", "demo_thing-1.0.dist-info"),
        ("demo_thing-1.0+cpu-py3-none-any.whl", "demo_thing-1.0_cpu.dist-info"),
    ],
)
def test_directory_matches_the_file_name_after_normalisation(filename: str, home: str) -> None:
    assert read(make_wheel("demo-thing", dist_info=home), filename)


@pytest.mark.parametrize(
    "home",
    [
        "other-1.0.dist-info",
        "demo-2.0.dist-info",
        "demo.dist-info",
        "demo-.dist-info",
        "-1.0.dist-info",
        "démo-1.0.dist-info",
        "demo-legacy_one.dist-info",
    ],
)
def test_metadata_of_another_is_refused(home: str) -> None:
    with pytest.raises(InvalidArchive, match="of another"):
        read(make_wheel(dist_info=home))


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([("demo/__init__.py", b"")], "has 0 dist-info/METADATA"),
        ([(f"x/{HOME}/METADATA", b"")], "has 0 dist-info/METADATA"),
        ([(f"{HOME}/METADATA", b""), ("x-1.dist-info/METADATA", b"")], "has 2 dist-info/METADATA"),
        ([(f"{HOME}/METADATA", b"a"), (f"{HOME}/METADATA", b"b")], "twice"),
        ([(f"{HOME}/METADATA", b""), ("a", b""), ("a", b"")], "twice"),
        ([(f"{HOME}/METADATA", b""), ("../a", b"")], "climbs"),
        ([(f"{HOME}/METADATA", b""), ("a/../../b", b"")], "climbs"),
        ([(f"{HOME}/METADATA", b""), ("/etc/a", b"")], "relative and plain"),
        ([(f"{HOME}/METADATA", b""), ("C:a", b"")], "relative and plain"),
        ([(f"{HOME}/METADATA", b""), ("a\\b", b"")], "relative and plain"),
        ([(f"{HOME}/METADATA", b" " * (MAX_METADATA + 1))], "oversized entry"),
        ([(f"{HOME}/METADATA", b""), ("zeros", bytes(70 * 1024**2))], "unpacks to"),
    ],
)
def test_hostile_archives_are_refused(entries: list[tuple[str, bytes]], problem: str) -> None:
    with pytest.raises(InvalidArchive, match=problem):
        read(make_zip(entries))


def test_a_name_cut_by_a_nul_is_refused() -> None:
    content = make_zip([(f"{HOME}/METADATA_x", b"")]).replace(b"METADATA_x", b"METADATA\0x")
    with pytest.raises(InvalidArchive, match="relative and plain"):
        read(content)


def test_encrypted_entries_are_refused() -> None:
    with pytest.raises(InvalidArchive, match="encrypted"):
        read(flagged(make_wheel(), 1))


def test_unusual_compression_of_the_metadata_is_refused() -> None:
    with pytest.raises(InvalidArchive, match="unusual"):
        read(make_zip([(f"{HOME}/METADATA", b"Name: demo")], method=zipfile.ZIP_LZMA))


def test_a_declared_size_that_lies_is_refused() -> None:
    core = noise(5000, seed="lie")
    content = make_wheel(core_metadata=core)
    for actual, claimed in ((5000, 6000), (5000, 10)):
        lie = content.replace(struct.pack("<L", actual), struct.pack("<L", claimed))
        assert lie != content
        with pytest.raises(InvalidArchive):
            read(lie)


def test_too_many_entries_are_refused() -> None:
    directory = (b"PK\x01\x02" + bytes(42)) * (MAX_ENTRIES + 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)
    with pytest.raises(InvalidArchive, match="more than 100000 entries"):
        read(directory + end)


def test_an_oversized_directory_is_not_read() -> None:
    size = 64 * 1024**2
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)
    with pytest.raises(InvalidArchive, match="oversized directory"):
        read(bytes(size) + end)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all" * 99, bytes(100_000)])
def test_what_is_no_zip_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArchive, match="not a readable zip"):
        read(content)


def test_failures_of_the_source_are_not_blamed_on_the_archive() -> None:
    with pytest.raises(ConnectionResetError):
        read_metadata(Failing(make_wheel()), NAME)


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    def mutate(seed: int, count: int, cut: int) -> bytes:
        rng = random.Random(seed)
        changed = bytearray(content)
        for _ in range(count):
            changed[rng.randrange(len(changed))] = rng.choice(
                (0, 1, 0x7F, 0xFF, rng.randrange(256))
            )
        return bytes(changed[: len(changed) - cut])

    return st.builds(mutate, st.integers(0), st.integers(0, 40), st.sampled_from([0, 0, 0, 1, 60]))


WHEEL = make_wheel()


@settings(max_examples=400)
@given(mutations(WHEEL))
def test_mutated_wheels_raise_nothing_but_invalid_archive(content: bytes) -> None:
    with suppress(InvalidArchive):
        read(content)
    with suppress(InvalidArchive):
        check_zip(io.BytesIO(content), NAME)


def test_whole_zips_pass() -> None:
    buffer = io.BytesIO(make_wheel())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"a comment"
    check_zip(buffer, NAME)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_half_copied_zips_are_found_out(kept: float) -> None:
    content = make_wheel(payload=10_000)
    with pytest.raises(InvalidArchive):
        check_zip(io.BytesIO(content[: int(len(content) * kept)]), NAME)


def test_a_zip_whose_end_was_written_first_is_found_out() -> None:
    content = make_wheel(payload=10_000)
    with pytest.raises(InvalidArchive, match="not complete"):
        check_zip(io.BytesIO(bytes(5000) + content[5000:]), NAME)


def test_a_zip_over_a_longer_older_one_is_found_out() -> None:
    source: BinaryIO = io.BytesIO(make_wheel() + b"rest of what was there before")
    with pytest.raises(InvalidArchive, match="after its end"):
        check_zip(source, NAME)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (metadata("Demo", "1.0", requires_python=">=3.8"), CoreMetadata("Demo", "1.0", ">=3.8")),
        (
            b"Name: a\r\nRequires-Python: >=3,\r\n <4\r\n\r\nVersion: 9",
            CoreMetadata("a", None, ">=3, <4"),
        ),
        (b"Name: caf\xe9\nVersion:\n", CoreMetadata("caf\ufffd", None, None)),
        (b"name: a\nNAME: b", CoreMetadata("a", None, None)),
        (b"", CoreMetadata(None, None, None)),
        (b"\0\xff nonsense", CoreMetadata(None, None, None)),
        (b"Requires-Python: >=" + b"3" * 5000, CoreMetadata(None, None, None)),
        (b"Name: a\0b\nRequires-Python: >=3\x1b[1m\x01\n", CoreMetadata("a b", None, ">=3 [1m")),
    ],
)
def test_headers_are_read_tolerantly(text: bytes, expected: CoreMetadata) -> None:
    assert parse_headers(text) == expected


def test_a_long_description_among_the_headers_hides_nothing() -> None:
    described = b"Name: a\nDescription: long\n" + b"        a line of it\n" * 49_000
    expected = CoreMetadata("a", None, ">=3.8")
    assert parse_headers(described + b"Requires-Python: >=3.8\n\nbody\n") == expected


@pytest.mark.parametrize("body", [b"\n" * 4 * 1024**2, b"a:\n" * 10**6, b"x" * 4 * 1024**2])
def test_a_body_of_any_length_hides_nothing(body: bytes) -> None:
    assert parse_headers(b"Name: a\nVersion: 1\n\n" + body) == CoreMetadata("a", "1", None)


@pytest.mark.parametrize("filler", [b"a:\n" * 50_000, b"a:\r" * 50_000, b" " * 2 * 1024**2])
def test_a_head_out_of_all_bounds_says_nothing(filler: bytes) -> None:
    assert parse_headers(b"Name: a\n" + filler) == CoreMetadata(None, None, None)


@given(st.binary(max_size=300))
def test_headers_never_fail(text: bytes) -> None:
    value = parse_headers(text).requires_python
    assert value is None or ("\n" not in value and "\r" not in value)


def test_a_directory_of_an_endless_version_is_refused_and_not_remembered() -> None:
    version_key.cache_clear()
    with pytest.raises(InvalidArchive, match="of another"):
        read(make_wheel(dist_info=f"demo-{'1' * 60_000}.dist-info"))
    assert version_key.cache_info().currsize <= 1, "that of the file's name"


def test_two_legacy_versions_are_not_the_same() -> None:
    with pytest.raises(InvalidArchive, match="of another"):
        read(make_wheel(dist_info="demo-dev_r1.dist-info"), "demo-dev_r2-py3-none-any.whl")
