"""What an upload must be to be published: small checks, in order, of the form and of the file.

Each raises `UploadRejected` with a sentence that names the field or the part of the archive. They
judge what arrives here, and what the command `publish` is about to send anywhere.
Source: PyPI's checks, trimmed for a private index; wheel and sdist specifications.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import (
    NormalizedName,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from proxyindex.archives.sdist import check_sdist
from proxyindex.archives.strictzip import check_wheel
from proxyindex.archives.wheel import InvalidArchive, parse_headers
from proxyindex.model import SIDECARS
from proxyindex.names import (
    MAX_FILENAME,
    InvalidName,
    is_safe_filename,
    normalize,
    parse_filename,
)
from proxyindex.uploads.attestations import provenance
from proxyindex.uploads.form import Form
from proxyindex.uploads.rejection import UploadRejected, bad
from proxyindex.uploads.stage import Digests

SUFFIXES = {"bdist_wheel": (".whl",), "sdist": (".tar.gz", ".zip")}  # by filetype
_DIGESTS = {"sha256_digest": "sha256", "blake2_256_digest": "blake2_256", "md5_digest": "md5"}
_GONE = frozenset({"submit", "submit_pkg_info", "doc_upload", "verify"})
_HEX = re.compile(r"[0-9a-f]+\Z")
_MAX_VERSION = 255
# what belongs to a file lies beside it, its name being the file's and more
_MAX_FILENAME = MAX_FILENAME - max(map(len, SIDECARS))


@dataclass(frozen=True, slots=True)
class Upload:
    """A form that says what it should, of a file whose bytes are those it says."""

    project: NormalizedName
    version: Version
    filename: str
    sha256: str
    signature: bytes | None
    provenance: bytes | None

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")


@dataclass(frozen=True, slots=True)
class Inside:
    """What only the archive tells: fields of its METADATA or PKG-INFO, and its bytes.

    `core_metadata` is the sha256 of a wheel's.
    """

    metadata: bytes = field(repr=False)
    requires_python: str | None
    core_metadata: str | None


def read_form(form: Form, digests: Digests) -> Upload:
    """The upload this form describes, if its file has these digests."""
    check_action(form)
    filetype = read_filetype(form)
    project, version = read_name(form), read_version(form)
    check_digests(form, digests)
    filename = check_filename(form.filename, filetype)
    check_belonging(filename, project, version)
    attested = provenance(form.texts.get("attestations", ""), filename, digests.sha256)
    return Upload(project, version, filename, digests.sha256, form.signature, attested)


def check_action(form: Form) -> None:
    """The one action there is, in the one version of the protocol."""
    if (version := form.texts.get("protocol_version", "1")) != "1":
        raise bad(f"The form's protocol_version is {version[:20]!r}, not '1'.")
    action = form.texts.get(":action", "")
    if action in _GONE:
        raise UploadRejected(410, f"The action {action!r} is gone; files are only uploaded here.")
    if action != "file_upload":
        raise bad(f"The form's :action is {action[:40]!r}, not 'file_upload'.")


def read_filetype(form: Form) -> str:
    """`bdist_wheel` or `sdist`: nothing else is taken, as at PyPI."""
    filetype = form.texts.get("filetype", "")
    if filetype not in SUFFIXES:
        raise bad(f"The form's filetype is {filetype[:40]!r}, neither 'bdist_wheel' nor 'sdist'.")
    return filetype


def read_name(form: Form) -> NormalizedName:
    """The project, normalized; clients send it as its author spells it."""
    try:
        return normalize(form.texts.get("name", ""))
    except InvalidName as problem:
        raise bad(f"The form's name: {problem}.") from None


def read_version(form: Form) -> Version:
    """The version. Source: PEP 440."""
    text = form.texts.get("version", "")
    try:
        if len(text) <= _MAX_VERSION and text == text.strip():  # which `Version` would allow
            return Version(text)
    except ValueError:  # InvalidVersion, and int() refusing thousands of digits
        pass
    raise bad(f"The form's version {text[:80]!r} is not valid (PEP 440).")


def check_digests(form: Form, digests: Digests) -> None:
    """At least one is given, and each is that of the bytes that arrived."""
    given = {name: form.texts[name].lower() for name in _DIGESTS if form.texts.get(name)}
    if not given:
        raise bad("The form has none of " + ", ".join(_DIGESTS) + ".")
    for name, digest in given.items():
        actual = getattr(digests, _DIGESTS[name])
        if digest != actual:
            shown = digest if _HEX.match(digest) else digest[:80]
            raise bad(f"The form's {name} is {shown[:128]!r}, but the file's is {actual!r}.")


def check_filename(filename: str | None, filetype: str) -> str:
    """A name that is safe anywhere, and of the kind the form says."""
    if filename is None:
        raise bad("The form has no file in its field 'content'.")
    if not is_safe_filename(filename):
        raise bad(f"The file name {filename[:200]!r} is not one of a distribution file.")
    if len(filename) > _MAX_FILENAME:
        raise bad(f"The file name {filename!r} is longer than {_MAX_FILENAME} characters.")
    if not filename.endswith(SUFFIXES[filetype]):
        ends = " or ".join(SUFFIXES[filetype])
        raise bad(f"The file name {filename!r} does not end in {ends}, as a {filetype} must.")
    return filename


def check_belonging(filename: str, project: NormalizedName, version: Version) -> None:
    """The file name speaks of the form's project and version, in any spelling of them."""
    named, told = read_filename(filename)
    if named != project:
        raise bad(f"The file name {filename!r} is of project {named!r}, the form of {project!r}.")
    if told != version:
        raise bad(f"The file name {filename!r} is of version {told}, the form of {version}.")


def read_filename(filename: str) -> tuple[NormalizedName, Version]:
    """The project and version that the name of a wheel or sdist tells.

    Folders are read by another parser, which knows more forms of names than may be published: what
    it would list elsewhere got round the rights to that project, or hid an upstream's.
    """
    try:
        if filename.endswith(".whl"):
            project, version = parse_wheel_filename(filename)[:2]
        else:
            project, version = parse_sdist_filename(filename)
    except ValueError as problem:  # also those of packaging
        raise bad(f"The file name {filename!r} cannot be read: {problem}.") from None
    for hint in (project, None):
        listed = parse_filename(filename, hint)
        is_same = listed.project == project and _is_version(listed.version or "", version)
        if not is_same or listed.kind == "other":
            told = f"{listed.project} {listed.version}" if listed.project else "of none"
            raise bad(f"The file name {filename!r} may be read as {told}; it needs another one.")
    return project, version


def check_archive(upload: Upload, path: Path) -> Inside:
    """The file is whole, harmless, and holds the metadata of the very same. Blocks."""
    check = check_wheel if upload.is_wheel else check_sdist
    with open(path, "rb") as source:
        try:
            metadata = check(source, upload.filename)
        except InvalidArchive as problem:
            raise bad(str(problem)) from None
    fields = parse_headers(metadata)
    where = "METADATA" if upload.is_wheel else "PKG-INFO"
    if fields.name is None or fields.version is None:
        raise bad(f"The {where} in {upload.filename!r} has no (readable) Name and Version.")
    if canonicalize_name(fields.name) != upload.project:
        raise bad(f"The {where} in {upload.filename!r} is of project {fields.name!r}.")
    if not _is_version(fields.version, upload.version):
        raise bad(f"The {where} in {upload.filename!r} is of version {fields.version!r}.")
    digest = hashlib.sha256(metadata).hexdigest() if upload.is_wheel else None
    return Inside(metadata, fields.requires_python, digest)


def _is_version(text: str, version: Version) -> bool:
    try:
        return Version(text) == version
    except ValueError:
        return False
