import gzip
import io
import random
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyindex.archives.sdist import check_sdist, check_whole, read_pkg_info
from proxyindex.archives.wheel import InvalidArchive
from tests.support.builders import (
    make_sdist,
    make_tar,
    make_wheel,
    make_zip,
    metadata,
    noise,
    sdist_name,
)

NAME = sdist_name()
FORMATS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]


def read(content: bytes, filename: str = NAME) -> bytes | None:
    return read_pkg_info(io.BytesIO(content), filename)


def tar_gz(*entries: tuple[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    return gzip.compress(make_tar(entries, tar_format=tar_format))


@pytest.mark.parametrize("tar_format", FORMATS)
def test_pkg_info_of_a_tar_is_byte_exact(tar_format: int) -> None:
    content = make_sdist(requires_python=">=3.9", tar_format=tar_format)
    assert read(content) == metadata(requires_python=">=3.9")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_pkg_info_is_read_from_each_format(suffix: str) -> None:
    assert read(make_sdist(suffix=suffix), sdist_name(suffix=suffix)) == metadata()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_without_pkg_info_has_none(suffix: str) -> None:
    deep = {"demo-1.0/demo.egg-info/PKG-INFO": b"other", "PKG-INFO": b"another"}
    content = make_sdist(suffix=suffix, pkg_info=False, extra=deep)
    assert read(content, sdist_name(suffix=suffix)) is None


@pytest.mark.parametrize("tar_format", FORMATS[:2])
def test_long_names_are_understood(tar_format: int) -> None:
    top = "d" * 150
    entries = (f"{top}/a/{'x' * 200}", b"?"), (f"{top}/PKG-INFO", b"Name: d")
    assert read(tar_gz(*entries, tar_format=tar_format)) == b"Name: d"


def test_a_long_name_covers_one_member_only() -> None:
    # cut to 100 characters the next member's own name must count again
    content = tar_gz(("y" * 300, b"1"), ("d/PKG-INFO", b"2"), tar_format=tarfile.GNU_FORMAT)
    assert read(content) == b"2"


def test_a_leading_dot_slash_does_not_matter() -> None:
    assert read(tar_gz(("./demo-1.0/PKG-INFO", b"Name: demo"))) == b"Name: demo"


def test_links_and_directories_carry_no_data() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo("demo-1.0/PKG-INFO" if kind != tarfile.DIRTYPE else "demo-1.0")
            member.type, member.linkname, member.size = kind, "/etc/passwd", 0
            archive.addfile(member)
        member = tarfile.TarInfo("demo-1.0/PKG-INFO")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"real"))
    assert read(buffer.getvalue()) == b"real"


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.7, 0.99])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_half_copied_archives_are_found_out(kept: float, suffix: str) -> None:
    content = make_sdist(suffix=suffix, payload=10_000)
    with pytest.raises(InvalidArchive):
        read(content[: int(len(content) * kept)], sdist_name(suffix=suffix))


@pytest.mark.parametrize("lost", [1, 4, 8])
def test_a_missing_checksum_is_found_out(lost: int) -> None:
    with pytest.raises(InvalidArchive, match="not a whole gzip stream"):
        read(make_sdist()[:-lost])


def test_a_wrong_checksum_is_found_out() -> None:
    content = bytearray(make_sdist())
    content[-8] ^= 1
    with pytest.raises(InvalidArchive, match="not a whole gzip stream"):
        read(bytes(content))


def test_garbage_after_the_stream_is_found_out() -> None:
    with pytest.raises(InvalidArchive, match="not a whole gzip stream"):
        read(make_sdist() + b"rest of what was there before")


def test_a_tar_without_its_end_is_found_out() -> None:
    tar = make_tar([("demo-1.0/PKG-INFO", b"Name: demo")])
    with pytest.raises(InvalidArchive, match="in the middle"):
        read(gzip.compress(tar[:1024]))


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(noise(2000, seed="no tar"))])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArchive):
        read(content)


def test_a_bomb_is_refused() -> None:
    with pytest.raises(InvalidArchive, match="unpacks to more than"):
        read(tar_gz(("demo-1.0/zeros", bytes(80 * 1024**2))))


def test_the_name_in_a_gzip_head_is_not_read_byte_by_byte() -> None:
    packed = make_sdist()
    named = bytes([*packed[:3], packed[3] | 8]) + packed[4:10] + b"x" * 10**6 + b"\0" + packed[10:]
    assert not packed[3]
    assert read(named) == metadata()

    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    counted = Counted(named)
    check_whole(counted, NAME)
    assert counted.reads < 100


def test_an_oversized_pkg_info_is_refused() -> None:
    with pytest.raises(InvalidArchive, match="member of"):
        read(tar_gz(("demo-1.0/PKG-INFO", noise(11 * 1024**2, seed="big"))))


def test_too_many_members_are_refused() -> None:
    member = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(InvalidArchive, match="more than 100000 members"):
        read(gzip.compress(member * 100_001, 1))


def test_a_member_longer_than_the_archive_is_found_out() -> None:
    member = tarfile.TarInfo("x")
    member.size = 10_000
    with pytest.raises(InvalidArchive, match="in the middle"):
        read(gzip.compress(member.tobuf() + bytes(512)))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_an_oversized_long_name_is_not_held(kind: bytes) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, 8 * 1024**3 - 1
    with pytest.raises(InvalidArchive, match="member of"):
        read(gzip.compress(member.tobuf(tarfile.GNU_FORMAT)))


def test_a_negative_size_is_refused() -> None:
    member = tarfile.TarInfo("x")
    member.size = -512
    with pytest.raises(InvalidArchive, match="negative"):
        read(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


@pytest.mark.parametrize("record", [b"nonsense", b"0 path=a\n", b"99 path=a\n", b" path=a\n", b"9"])
def test_broken_pax_records_are_passed_over(record: bytes) -> None:
    assert (
        read(gzip.compress(extension(record) + make_tar([("demo-1.0/PKG-INFO", b"ok")]))) == b"ok"
    )


def extension(data: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A tar header that tells of the next member (or of all), with its data."""
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, len(data)
    return member.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def test_pax_records_without_end_are_refused_in_time() -> None:
    many = extension(b"5 a=\n" * (1024**2 // 5))
    with pytest.raises(InvalidArchive, match="more than 400000 pax records"):
        read(gzip.compress(many * 40, 1))


def test_too_many_bytes_of_extensions_are_refused() -> None:
    long = extension(b"y" * 1024**2, tarfile.GNUTYPE_LONGNAME)
    with pytest.raises(InvalidArchive, match="bytes of tar extensions"):
        read(gzip.compress(long * 33, 1))


@pytest.mark.parametrize("record", [b"4 a\n", b"3 \n", b"1 "])
def test_records_too_short_to_be_any_end_a_pax_header_at_once(record: bytes) -> None:
    many = extension(record * (1024**2 // len(record)))
    assert read(gzip.compress(many * 3 + make_tar([("demo-1.0/PKG-INFO", b"ok")]), 1)) == b"ok"


def pax(**records: str) -> bytes:
    """Records of a pax header."""
    made = b""
    for key, value in records.items():
        rest = f" {key.replace('_', '.')}={value}\n".encode()
        length = next(n for n in range(5, 9999) if len(f"{n}") + len(rest) == n)
        made += b"%d%s" % (length, rest)
    return made


def sdist_behind(*extensions: bytes) -> bytes:
    """A sdist whose second member has these in front."""
    first = make_tar([("demo-1.0/PKG-INFO", metadata())]).rstrip(b"\0")
    first += bytes(-len(first) % 512)
    return gzip.compress(first + b"".join(extensions) + make_tar([("demo-1.0/x", b"y")]))


LONG_NAME = extension(b"demo-1.0/other\0", tarfile.GNUTYPE_LONGNAME)
PATH = pax(path="demo-1.0/other")


@pytest.mark.parametrize(
    ("extensions", "problem"),
    [
        ([extension(PATH + pax(path="../up"))], "climbs"),
        ([extension(pax(size="1"))], "pax record 'size'"),
        ([extension(pax(size="1"), tarfile.XGLTYPE)], "pax record 'size'"),
        ([extension(pax(size="1"), tarfile.SOLARIS_XHDTYPE)], "pax record 'size'"),
        ([extension(pax(GNU_sparse_name="../up"))], "pax record 'GNU.sparse.name'"),
        ([extension(PATH, tarfile.XGLTYPE)], "one path for all"),
        ([extension(PATH), LONG_NAME], "twice"),
        ([extension(PATH), extension(PATH)], "twice"),
        ([LONG_NAME, LONG_NAME], "twice"),
        ([extension(PATH + b"3 a")], "broken pax record"),
        ([extension(PATH + b"nonsense")], "broken pax record"),
        ([extension(PATH + b"8 =none\n")], "broken pax record"),
        ([extension(PATH[:-1])], "broken pax record"),
        ([extension(PATH[:-1] + b"x")], "broken pax record"),
    ],
)
def test_what_readers_of_tar_understand_differently_is_refused_of_uploads(
    extensions: list[bytes], problem: str
) -> None:
    content = sdist_behind(*extensions)
    with pytest.raises(InvalidArchive, match=problem):
        check_sdist(io.BytesIO(content), NAME)
    assert read(content) == metadata()


@pytest.mark.parametrize(
    "extensions",
    [
        [extension(pax(mtime="1700000000.25", path="demo-1.0/other", uname="ü", LIBARCHIVE_x="y"))],
        [extension(pax(comment="0" * 40), tarfile.XGLTYPE), extension(PATH)],
        [extension(PATH), extension(pax(comment="0" * 40), tarfile.XGLTYPE)],
        [extension(b"demo-1.0/" + b"l" * 200 + b"\0", tarfile.GNUTYPE_LONGLINK), LONG_NAME],
        [extension(PATH + bytes(100))],
    ],
)
def test_what_builders_of_sdists_write_is_no_objection(extensions: list[bytes]) -> None:
    content = sdist_behind(*extensions)
    assert check_sdist(io.BytesIO(content), NAME) == metadata()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["demo-1.0/PKG-INFO", "demo-1.0/other"]


@pytest.mark.parametrize("tar_format", FORMATS)
def test_sdists_of_each_tar_format_pass(tar_format: int) -> None:
    content = make_sdist(tar_format=tar_format, extra={f"demo-1.0/{'x' * 90}/ü": b""})
    assert check_sdist(io.BytesIO(content), NAME) == metadata()


@pytest.mark.parametrize("extensions", [[extension(PATH), LONG_NAME], [LONG_NAME, LONG_NAME]])
def test_of_two_names_the_first_counts(extensions: list[bytes]) -> None:
    second = extension(b"demo-1.0/PKG-INFO", tarfile.GNUTYPE_LONGNAME)
    content = gzip.compress(b"".join(extensions) + second + make_tar([("a", b"1"), ("b", b"2")]))
    assert read(content) is None
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["demo-1.0/other", "b"]


TAR = make_tar([("demo-1.0/PKG-INFO", metadata()), ("z" * 200, b"long")])


@settings(max_examples=300)
@given(st.integers(0), st.integers(0, 30), st.booleans())
def test_mutated_archives_raise_nothing_but_invalid_archive(
    seed: int, count: int, outside: bool
) -> None:
    rng = random.Random(seed)
    changed = bytearray(gzip.compress(TAR, mtime=0) if outside else TAR)
    for _ in range(count):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    with suppress(InvalidArchive):
        read(bytes(changed) if outside else gzip.compress(changed))


@pytest.mark.parametrize(
    ("filename", "content", "proven"),
    [
        ("demo-1.0-py3-none-any.whl", make_wheel(), True),
        ("demo-1.0-py3.8.egg", make_zip([("EGG-INFO/PKG-INFO", b"")]), True),
        ("demo-1.0.zip", make_sdist(suffix=".zip"), True),
        ("demo-1.0.tar.gz", make_sdist(), True),
        ("demo-1.0.tgz", make_sdist(), True),
        ("demo-1.0.tar.bz2", b"anything", False),
        ("demo-1.0.exe", b"MZ", False),
    ],
)
def test_wholeness_is_proven_where_the_format_allows(
    filename: str, content: bytes, proven: bool
) -> None:
    assert check_whole(io.BytesIO(content), filename) is proven


@pytest.mark.parametrize("suffix", [".whl", ".egg", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".exe"])
def test_an_empty_file_is_never_whole(suffix: str) -> None:
    with pytest.raises(InvalidArchive):
        check_whole(io.BytesIO(), "demo-1.0" + suffix)
