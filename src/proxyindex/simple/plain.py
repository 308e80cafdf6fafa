"""Entries of the kind that nearly all are, read in bulk: the quick way beside `entries`.

Whatever is not of that kind in every respect is left to `entries.build_file`, which judges; here is
only recognised what it would take as it is (`tests/unit/simple/test_plain.py` compares). Types are
checked while decoding, in C, and alphabets once for many entries, by deleting all good characters
of their joined texts and seeing that nothing is left. Of 12,000 files on a page each takes 2 µs
instead of 11, decoding included. See decision 0023.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from packaging.utils import NormalizedName

from proxyindex.model import PROVENANCE_ORIGIN, File, Sha256, UpstreamOrigin
from proxyindex.names import FileName, is_safe_filename, parse_filename
from proxyindex.simple.entries import (
    MAX_SIZE,
    MAX_TIME,
    MAX_URL,
    OFFERED,
    ORIGIN,
    Source,
    read_specifier,
    read_yanked,
)

T = TypeVar("T")

AT_ONCE = 128  # entries; one that is not plain sends all of them the long way

# what msgspec raises for what it cannot decode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_IN_URL = _LETTERS + b"-._~:/@!$&'()*+,;="  # no escape, no query, no fragment
_IN_FILENAME = _LETTERS + b"._+!~@=-"
_IN_DIGEST = b"0123456789abcdef"
_ORIGIN = re.compile(ORIGIN)
_NO_START = " "  # of no name in that alphabet
# what stands behind the project's name, where it cannot be the name of a platform
_SDIST = re.compile(r"([0-9][0-9.]*(?:(?:a|b|rc|\.dev|\.post)[0-9]+)*)\.(?:tar\.gz|zip)")
_DIGEST_LENGTHS = {64}


class NotPlain(ValueError):
    """At least one of the entries has to be judged with care."""


class PlainEntry(msgspec.Struct, rename="kebab", gc=False):
    """`entries.Entry` with the types that its fields should have."""

    url: str
    filename: str
    hashes: Sha256
    size: Annotated[int, msgspec.Meta(ge=0, lt=MAX_SIZE)] | None = None
    upload_time: str | None = None
    requires_python: str | None = None
    yanked: bool | str | None = None
    core_metadata: Sha256 | bool | None = None
    dist_info_metadata: Sha256 | bool | None = None
    data_dist_info_metadata: Sha256 | bool | None = None
    provenance: str | None = None
    gpg_sig: bool | None = None


def read_files(
    entries: Sequence[T],
    source: Source,
    plainly: Callable[[T], PlainEntry],
    carefully: Callable[[T], File | None],
) -> Iterator[File | None]:
    """The file of each entry, many at once where they are plain, else one by one.

    `plainly` makes the entry plain or raises `NotPlain` or what msgspec raises; `carefully` judges
    it, and is all that is needed.
    """
    for start in range(0, len(entries), AT_ONCE):
        some = entries[start : start + AT_ONCE]
        try:
            yield from read_plainly([plainly(entry) for entry in some], source)
        except (NotPlain, *UNREADABLE):
            yield from map(carefully, some)


def read_plainly(entries: Sequence[PlainEntry], source: Source) -> list[File]:
    """The file of each entry, exactly as `build_file` makes it. Raises `NotPlain`."""
    filenames = [entry.filename for entry in entries]
    urls = _urls(entries, filenames, source.base_url)
    metadata = [
        _older_metadata(entry) if entry.core_metadata is None else entry.core_metadata
        for entry in entries
    ]
    unsaid = OFFERED if source.offers_metadata else None
    _check_urls(urls)
    if provenances := [entry.provenance for entry in entries if entry.provenance is not None]:
        _check_urls(provenances)
        if not provenances[0].startswith(PROVENANCE_ORIGIN):  # nor are the others, then
            raise NotPlain
    digests = [entry.hashes.sha256 for entry in entries]
    _check_digests(digests + [told.sha256 for told in metadata if isinstance(told, Sha256)])
    specifiers = {
        text: read_specifier(text) for text in {entry.requires_python for entry in entries}
    }
    return [
        File(
            filename,
            UpstreamOrigin(source.upstream, url, source.project),
            entry.hashes,
            version,
            entry.size,
            time,
            specifiers[entry.requires_python],
            None if entry.yanked is False else read_yanked(entry.yanked),
            (told if isinstance(told, Sha256) else OFFERED if told else unsaid)
            if filename.endswith(".whl")
            else None,
            entry.provenance,
            entry.gpg_sig is True,
        )
        for entry, filename, url, version, time, told in zip(
            entries,
            filenames,
            urls,
            _versions(filenames, source.project),
            _times(entries),
            metadata,
            strict=True,
        )
    ]


def _urls(entries: Sequence[PlainEntry], filenames: Sequence[str], base_url: str) -> list[str]:
    """Absolute URLs that end in their file names."""
    urls = [entry.url for entry in entries]
    if urls == filenames and base_url.endswith("/"):  # as on pages of our own
        return [base_url + url for url in urls]
    if not all(map(str.endswith, urls, [f"/{name}" for name in filenames])):
        raise NotPlain
    return urls


def _check_urls(urls: Sequence[str]) -> None:
    """Raises `NotPlain` unless `resolve` would take all of them unchanged, from one server."""
    joined = _check_alphabet(urls, _IN_URL)
    origin = _ORIGIN.match(joined)
    if origin is None or max(map(len, urls)) > MAX_URL:
        raise NotPlain
    if f"\n{joined}".count(f"\n{origin[0]}/") != len(urls):
        raise NotPlain


def _check_digests(digests: Sequence[str]) -> None:
    if set(map(len, digests)) != _DIGEST_LENGTHS:
        raise NotPlain
    _check_alphabet(digests, _IN_DIGEST)


def _check_alphabet(texts: Sequence[str], alphabet: bytes) -> str:
    """The texts as lines. Raises `NotPlain` if any has another character than those."""
    joined = "\n".join(texts)
    # the line ends are the only strangers, one between two texts
    if not joined.isascii() or len(joined.encode().translate(None, alphabet)) != len(texts) - 1:
        raise NotPlain
    return joined


def _versions(filenames: Sequence[str], project: NormalizedName) -> Iterator[str | None]:
    """The version that each file name tells. Raises `NotPlain` for what must not be listed.

    Of a file that begins as another, which was judged to be ours, only the version is read.
    """
    if ".." in _check_alphabet(filenames, _IN_FILENAME) or max(map(len, filenames)) > 255:
        raise NotPlain
    wheels = release = sdists = _NO_START  # what ours begin with, and wheels of the same release
    released: str | None = None  # the version of that
    for filename in filenames:
        if filename.endswith(".whl") and filename.count("-") == 4:
            if not filename.startswith(release):
                if not filename.startswith(wheels):
                    is_ours = _judged(filename, project).project == project
                    wheels = filename[: filename.index("-") + 1] if is_ours else _NO_START
                text = filename.split("-", 2)[1]
                released = sys.intern(text) or None
                release = f"{wheels}{text}-"
            yield released
        elif filename.startswith(sdists) and (told := _SDIST.fullmatch(filename, len(sdists))):
            yield sys.intern(told[1])
        else:
            parsed = _judged(filename, project)
            version = sys.intern(parsed.version) if parsed.version else None
            if parsed.kind == "sdist" and parsed.project == project:
                sdists = filename[: filename.rindex(f"-{version}.") + 1]
            yield version


def _judged(filename: str, project: NormalizedName) -> FileName:
    parsed = parse_filename(filename, project)
    if not is_safe_filename(filename) or parsed.is_foreign_to(project):
        raise NotPlain
    return parsed


def _times(entries: Iterable[PlainEntry]) -> list[datetime | None]:
    texts = [entry.upload_time for entry in entries]
    read = datetime.fromisoformat
    try:
        times = [None if text is None or len(text) > MAX_TIME else read(text) for text in texts]
    except ValueError as problem:
        raise NotPlain from problem
    if not all([time is None or time.tzinfo is UTC for time in times]):
        raise NotPlain
    return times


def _older_metadata(entry: PlainEntry) -> Sha256 | bool | None:
    told = entry.dist_info_metadata
    return entry.data_dist_info_metadata if told is None else told
