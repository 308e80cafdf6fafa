"""The JSON form of project pages and lists: wire bytes to values and back.

Source: PEP 691, with PEP 700, 714, 740 and 792. What an entry may say is judged in `entries`.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from packaging.utils import NormalizedName

from proxyindex.model import File, Hashes, ProjectPage, Sha256, Status
from proxyindex.names import InvalidName, normalize
from proxyindex.simple.entries import (
    API_VERSION,
    MAX_FILES,
    Entry,
    InvalidPage,
    Source,
    build_file,
    build_page,
    check_api_version,
    read_status,
    source_of_links,
)
from proxyindex.simple.plain import AT_ONCE, UNREADABLE, PlainEntry, read_files

# commas and brackets, of which each value costs one: bounds the memory that a body can turn into
# (20 times its size otherwise); PyPI's project list has 4 million, its largest page 0.3
MAX_PARTS = 10_000_000

_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
# half a surrogate pair: legal JSON, but no text; msgspec refuses the whole document for it
_HALF_PAIR = re.compile(
    rb"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})"
    rb"|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}",
    re.IGNORECASE,
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _Page(msgspec.Struct, rename="kebab"):
    files: list[msgspec.Raw]  # decoded one by one, so that a broken one breaks nothing else
    meta: object = None
    versions: object = None
    project_status: object = None


class _List(msgspec.Struct):
    projects: list[msgspec.Raw]
    meta: object = None


class _Name(msgspec.Struct, gc=False):
    name: str


class _FileOut(msgspec.Struct, rename="kebab", omit_defaults=True, gc=False):
    filename: str
    url: str
    hashes: Sha256 | dict[str, str]
    core_metadata: Sha256 | bool
    yanked: str | bool
    requires_python: str | None = None
    size: int | None = None
    upload_time: datetime | None = None
    provenance: str | None = None
    gpg_sig: bool | None = None


def parse_project(body: bytes, source: Source) -> ProjectPage:
    """The page an upstream sent; links are relative to the source's `base_url`.

    Unacceptable entries are left out. Raises `InvalidPage` for what is no such page, has more than
    `MAX_FILES` files, or speaks version 2 or later of the API.
    """
    page = _decode(body, _Page)
    meta = _fields(page.meta)
    check_api_version(meta.get("api-version"))
    if len(page.files) > MAX_FILES:
        raise InvalidPage(f"it lists more than {MAX_FILES} files")
    # the specification's example has it under `meta`, its text and PyPI at the top
    status = _fields(page.project_status or meta.get("project-status"))
    return build_page(
        _files(page.files, source_of_links(source)),
        source,
        versions=page.versions,
        status=read_status(status.get("status"), status.get("reason")),
    )


def _files(raws: Sequence[msgspec.Raw], source: Source) -> Iterator[File | None]:
    plainly = msgspec.json.Decoder(PlainEntry).decode
    decode = msgspec.json.Decoder(Entry).decode

    def carefully(raw: msgspec.Raw) -> File | None:
        try:
            return build_file(decode(raw), source)
        except UNREADABLE:
            return None

    return read_files(raws, source, plainly, carefully)


def render_project(page: ProjectPage, href: Callable[[File], str]) -> Iterator[bytes]:
    """The page as ASCII JSON, in pieces, with `href(file)` as the URL of each file.

    Says version 1.0 unless every file has a size: 1.1 makes sizes mandatory (PEP 700).
    """
    files = page.files if page.status.status != "quarantined" else ()
    is_sized = all(file.size is not None for file in files)
    document: dict[str, object] = {
        "meta": {"api-version": API_VERSION if is_sized else "1.0"},
        "name": page.name,
        "versions": page.versions,
    }
    if page.status.status != "active":
        document["project-status"] = _status_out(page.status)
    rest = _encode(document)
    yield rest[:-1] + b',"files":['
    # what is made for a piece fits the processor's cache, which saves a third of the time for
    # 12,000 files, and nobody waits for the GIL until all are encoded
    for start in range(0, len(files), AT_ONCE):
        some = _encode([_file_out(file, href(file)) for file in files[start : start + AT_ONCE]])
        yield (b"," if start else b"") + some[1:-1]
    yield b"]}"


def parse_list(body: bytes) -> list[NormalizedName]:
    """The projects of an upstream's list, each once, in its order. Raises `InvalidPage`."""
    listing = _decode(body, _List)
    check_api_version(_fields(listing.meta).get("api-version"))
    decode = msgspec.json.Decoder(_Name).decode
    names: dict[NormalizedName, None] = {}
    for raw in listing.projects:
        try:
            names[normalize(decode(raw).name)] = None
        except (InvalidName, *UNREADABLE):
            continue
    return list(names)


def render_list(names: Iterable[NormalizedName]) -> bytes:
    """The project list as ASCII JSON."""
    projects = [_Name(name) for name in names]
    return _encode({"meta": {"api-version": API_VERSION}, "projects": projects})


_Shape = TypeVar("_Shape", bound=msgspec.Struct)


def _decode(body: bytes, shape: type[_Shape]) -> _Shape:
    # counting takes 7 ms for 8 MB, and what is shorter cannot have more
    if len(body) > MAX_PARTS and sum(map(body.count, (b",", b"[", b"{"))) > MAX_PARTS:
        raise InvalidPage(f"it has more than {MAX_PARTS} parts")
    try:
        return msgspec.json.decode(body.removeprefix(_BYTE_ORDER_MARK), type=shape)
    except UNREADABLE as exc:
        whole = _HALF_PAIR.sub(rb"\\ufffd", body)
        if whole != body:
            return _decode(whole, shape)
        raise InvalidPage(f"it is not the JSON it should be: {exc}") from exc


def _encode(document: object) -> bytes:
    body = msgspec.json.encode(document)
    if body.isascii():
        return body
    # only inside strings can there be anything to escape
    return _NON_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], body.decode()).encode()


def _fields(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _status_out(status: Status) -> dict[str, str]:
    if status.reason is None:
        return {"status": status.status}
    return {"status": status.status, "reason": status.reason}


def _file_out(file: File, url: str) -> _FileOut:
    hashes = file.hashes
    metadata: Sha256 | bool = False
    if file.core_metadata is not None and file.is_wheel:
        metadata = _metadata_out(file.core_metadata)
    # by place: names would take a fifteenth of the time of a page
    return _FileOut(
        file.filename,
        url,
        hashes if isinstance(hashes, Sha256) else dict(hashes),
        # nothing under the old name `dist-info-metadata`: pip 22.3 to 23.0 (Debian 12's) crashes on
        # a dict there, which is why PEP 714 renamed it
        metadata,
        # an empty text is yanked for uv and not yanked for pip
        False if file.yanked is None else file.yanked or True,
        file.requires_python,
        file.size,
        file.upload_time,
        file.provenance,
        file.has_signature or None,
    )


def _metadata_out(hashes: Hashes) -> Sha256 | bool:
    if isinstance(hashes, Sha256):
        return hashes
    digest = hashes.get("sha256")
    return Sha256(digest) if digest else True  # pip takes `{}` for "there is one"
