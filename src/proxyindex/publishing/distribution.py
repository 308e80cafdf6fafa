"""One wheel or sdist that is to be published, found sound by the checks an index makes."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import NormalizedName

from proxyindex.errors import ProxyindexError
from proxyindex.model import SIGNATURE_SUFFIX
from proxyindex.uploads.attestations import provenance
from proxyindex.uploads.checks import SUFFIXES, Upload, check_archive, check_filename, read_filename
from proxyindex.uploads.form import MAX_ATTESTED, MAX_SIGNATURE
from proxyindex.uploads.rejection import UploadRejected, bad

ENDINGS = tuple(ending for endings in SUFFIXES.values() for ending in endings)
ATTESTATION_SUFFIX = ".attestation"
BESIDE = (SIGNATURE_SUFFIX, ATTESTATION_SUFFIX)  # what goes along with the file it is named after
_PIECE = 256 * 1024


class Unpublishable(ProxyindexError):
    """A file that no index would take; the sentence says why, in the words of the index."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} cannot be published: {problem.removesuffix('.')}.")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Digests are lower-case hex, `size` is in bytes, `filetype` is a key of `SUFFIXES`.

    `metadata` are the bytes of METADATA or PKG-INFO, `signature` those of `<file>.asc`.
    `attestations` is the JSON list of those beside the file, or empty; `provenance` is made of it.
    """

    path: Path
    project: NormalizedName
    filetype: str
    size: int
    sha256: str
    blake2b: str
    metadata: bytes = field(repr=False)
    signature: bytes | None = field(default=None, repr=False)
    attestations: str = field(default="", repr=False)
    provenance: bytes | None = field(default=None, repr=False)

    @property
    def filename(self) -> str:
        return self.path.name

    def pieces(self) -> Iterator[bytes]:
        """The bytes, read as they are needed, and proven by the end to be those that were checked.

        Raises `Unpublishable` before the last piece where they are not, so that nobody gets a
        whole file of them.
        """
        digest, left = hashlib.sha256(), self.size
        try:
            with self.path.open("rb") as source:
                while left:
                    piece = source.read(min(_PIECE, left))
                    digest.update(piece)
                    left -= len(piece)
                    is_other = not left and (digest.hexdigest() != self.sha256 or source.read(1))
                    if is_other or not piece:
                        raise Unpublishable(self.path, "it changes while it is read")
                    yield piece
        except OSError as problem:
            raise Unpublishable(self.path, (problem.strerror or str(problem)).lower()) from problem


def read(path: Path) -> Distribution:
    """Read and check one file, all of it, as an index does. Raises `Unpublishable`."""
    try:
        return _read(path)
    except UploadRejected as problem:
        raise Unpublishable(path, str(problem)) from problem
    except OSError as problem:
        raise Unpublishable(path, (problem.strerror or str(problem)).lower()) from problem


def _read(path: Path) -> Distribution:
    filetype = next((key for key in SUFFIXES if path.name.endswith(SUFFIXES[key])), "sdist")
    filename = check_filename(path.name, filetype)
    project, version = read_filename(filename)
    size, sha256, blake2b = _digests(path)
    attestations = _attestations(path)
    attested = provenance(attestations, filename, sha256)
    signature = _signature(path)
    upload = Upload(project, version, filename, sha256, signature, attested)
    metadata = check_archive(upload, path).metadata
    return Distribution(
        path, project, filetype, size, sha256, blake2b, metadata, signature, attestations, attested
    )


def _digests(path: Path) -> tuple[int, str, str]:
    """Size, sha256, and blake2b of 256 bits, which PyPI calls blake2_256."""
    size, sha256, blake2b = 0, hashlib.sha256(), hashlib.blake2b(digest_size=32)
    with path.open("rb") as source:
        while piece := source.read(_PIECE):
            size += len(piece)
            sha256.update(piece)
            blake2b.update(piece)
    return size, sha256.hexdigest(), blake2b.hexdigest()


def _signature(path: Path) -> bytes | None:
    beside = path.with_name(path.name + SIGNATURE_SUFFIX)
    return _small(beside, MAX_SIGNATURE) if beside.is_file() else None


def _attestations(path: Path) -> str:
    """What lies in `<file>.<any word>.attestation`, where twine and uv look for it (PEP 740)."""
    found = path.parent.glob(f"{glob.escape(path.name)}.*{ATTESTATION_SUFFIX}")
    beside = sorted(each for each in found if each.is_file())
    try:
        text = ",".join(_small(each, MAX_ATTESTED).decode() for each in beside)
    except UnicodeDecodeError:
        raise bad("The form's field 'attestations' is not UTF-8.") from None
    if len(text) > MAX_ATTESTED - 2:
        raise bad(f"The form's field 'attestations' is over {MAX_ATTESTED} bytes.")
    return f"[{text}]" if beside else ""


def _small(path: Path, limit: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(limit + 1)
    if len(content) > limit:
        raise bad(f"The file {path.name!r} beside it is over {limit} bytes.")
    return content
