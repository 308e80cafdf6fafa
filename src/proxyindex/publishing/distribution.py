"""One wheel or sdist that is to be published, found sound by the checks an index would make."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from proxyindex.errors import ProxyindexError
from proxyindex.model import SIGNATURE_SUFFIX
from proxyindex.names import InvalidName, is_safe_filename, normalize, parse_filename
from proxyindex.sdist import read_pkg_info
from proxyindex.wheel import InvalidArchive, check_zip, open_zip, parse_headers, read_metadata

SUFFIXES = (".whl", ".tar.gz", ".zip")  # what PyPI takes: wheels and sdists
PIECE = 256 * 1024
_MAX_SIGNATURE = 64 * 1024
_MEMBERS = ("WHEEL", "RECORD")  # of a wheel, beside METADATA
_DIST_INFO = re.compile(r"[^/]+\.dist-info/([A-Z]+)\Z")


class Unpublishable(ProxyindexError):
    """A file that no index would take; the sentence says why."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} cannot be published: {problem}.")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Distribution:
    """Digests are lower-case hex, `size` is in bytes, `version` the text in the file name.

    `metadata` are the bytes of METADATA or PKG-INFO, `signature` those of `<file>.asc`.
    """

    path: Path
    filename: str
    project: NormalizedName
    version: str
    kind: Literal["wheel", "sdist"]
    size: int
    sha256: str
    blake2b: str
    metadata: bytes = field(repr=False)
    signature: bytes | None = field(default=None, repr=False)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, read as they are needed, and proven by the end to be those that were checked.

        Raises `Unpublishable` before the last piece where they are not, so that nobody gets a
        whole file of them.
        """
        digest, left = hashlib.sha256(), self.size
        try:
            with self.path.open("rb") as source:
                while left and (piece := source.read(min(PIECE, left))):
                    digest.update(piece)
                    left -= len(piece)
                    if not left and (digest.hexdigest() != self.sha256 or source.read(1)):
                        break
                    yield piece
                else:
                    if not left:
                        return
        except OSError as problem:
            raise Unpublishable(self.path, (problem.strerror or str(problem)).lower()) from problem
        raise Unpublishable(self.path, "it changes while it is read")


def read(path: Path) -> Distribution:
    """Read and check one file, all of it. Raises `Unpublishable`.

    The checks are those of the upload API: a safe name of a wheel or sdist that tells project and
    version, an archive that is whole and no bomb, and metadata that says the same.
    """
    project, version, kind = _named(path)
    try:
        with path.open("rb") as source:
            metadata = _metadata(source, path, kind)
            size, sha256, blake2b = _digests(source)
        signature = _signature(path)
    except InvalidArchive as problem:
        raise Unpublishable(path, f"it {problem.problem}") from problem
    except OSError as problem:
        raise Unpublishable(path, (problem.strerror or str(problem)).lower()) from problem
    _check_agreement(path, project, version, metadata)
    return Distribution(
        path, path.name, project, version, kind, size, sha256, blake2b, metadata, signature
    )


def _named(path: Path) -> tuple[NormalizedName, str, Literal["wheel", "sdist"]]:
    if not path.name.endswith(SUFFIXES):
        raise Unpublishable(path, f"it is none of {', '.join(SUFFIXES)}")
    named = parse_filename(path.name)
    if not is_safe_filename(path.name) or named.project is None or named.version is None:
        raise Unpublishable(path, "its name is not that of a wheel or sdist")
    if named.kind == "other":
        raise Unpublishable(path, "it is a binary archive that is no wheel")
    _parsed(path, named.version, "its name")
    return named.project, named.version, named.kind


def _metadata(source: BinaryIO, path: Path, kind: str) -> bytes:
    if kind == "wheel":
        check_zip(source, path.name)
        metadata = read_metadata(source, path.name)
        with open_zip(source, path.name) as archive:
            found = {match[1] for name in archive.namelist() if (match := _DIST_INFO.match(name))}
        if missing := [member for member in _MEMBERS if member not in found]:
            raise Unpublishable(path, f"it has no dist-info/{missing[0]}")
        return metadata
    if (pkg_info := read_pkg_info(source, path.name)) is None:
        raise Unpublishable(path, "it has no PKG-INFO in its one top directory")
    return pkg_info


def _digests(source: BinaryIO) -> tuple[int, str, str]:
    """Size, sha256, and blake2b of 256 bits, which PyPI calls blake2_256."""
    source.seek(0)
    size, sha256, blake2b = 0, hashlib.sha256(), hashlib.blake2b(digest_size=32)
    while piece := source.read(PIECE):
        size += len(piece)
        sha256.update(piece)
        blake2b.update(piece)
    return size, sha256.hexdigest(), blake2b.hexdigest()


def _signature(path: Path) -> bytes | None:
    beside = path.with_name(path.name + SIGNATURE_SUFFIX)
    if not beside.is_file():
        return None
    with beside.open("rb") as source:
        content = source.read(_MAX_SIGNATURE + 1)
    if len(content) > _MAX_SIGNATURE:
        raise Unpublishable(beside, f"a signature has at most {_MAX_SIGNATURE} bytes")
    return content


def _check_agreement(path: Path, project: NormalizedName, version: str, metadata: bytes) -> None:
    inside = parse_headers(metadata)
    try:
        same_project = normalize(inside.name or "") == project
    except InvalidName:
        same_project = False
    if not same_project:
        raise Unpublishable(path, f"its metadata is of project {inside.name!r}")
    if _parsed(path, inside.version or "", "its metadata") != _parsed(path, version, "its name"):
        raise Unpublishable(path, f"its metadata is of version {inside.version!r}")


def _parsed(path: Path, version: str, place: str) -> Version:
    try:
        # file names may have `_` where a local version has `+` or `-`
        return Version(version.replace("_", "-") if "+" in version else version.replace("_", "+"))
    except InvalidVersion as problem:
        raise Unpublishable(path, f"{place} says {version!r}, which is no version") from problem
