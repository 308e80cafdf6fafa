"""What the fake upstream has: projects made of their names alone, the same in every process.

| project       | has |
|---------------|-----|
| `small-<any>` | 4 files of 10 KB |
| `mid-<any>`   | 300 files |
| `huge-<any>`  | 12,000 files |
| `big-<any>`   | one file of 200 MB |
| `tree-<any>`  | one wheel that requires others: `tree.py` |

Any number of each, so that something cold is always left. The bytes of mid and huge ones cannot be
downloaded; their digests are made up.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench import tree

COUNTS = {"small": 4, "mid": 300, "huge": 12_000, "big": 1, "tree": 1}
SMALL_BYTES = 10_000
BIG_BYTES = 200_000_000
TAIL_BYTES = 64 * 1024  # the end of a big file, its own; what is before is the same in all
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"
_TAGS = "cp3{n}-cp3{n}-manylinux_2_17_x86_64.manylinux2014_x86_64"


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a project: size in bytes, sha256 in hex."""

    project: str
    filename: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Where the upstream has it; as on PyPI, with a digest that hardly compresses."""
        folder = _sha256(self.filename.encode())
        return f"/files/{folder[:2]}/{folder[2:4]}/{folder[4:]}/{self.project}/{self.filename}"


def kind_of(project: str) -> str:
    """The part of the name that decides what it has; `KeyError` if it has nothing."""
    kind = project.partition("-")[0]
    COUNTS[kind]
    return kind


def files(project: str) -> Iterator[Listed]:
    """The files in the order of the page."""
    kind = kind_of(project)
    for number in range(COUNTS[kind]):
        filename = _filename(project, kind, number)
        if kind == "small":
            yield Listed(project, filename, SMALL_BYTES, _sha256(small_body(project, filename)))
        elif kind == "big":
            yield Listed(project, filename, BIG_BYTES, _big_digest(project))
        elif kind == "tree":
            body = tree.wheel(project)
            yield Listed(project, filename, len(body), _sha256(body))
        else:
            yield Listed(project, filename, 1_234_567 + number, _sha256(filename.encode()))


@functools.lru_cache(4096)
def first_file(project: str) -> Listed:
    return next(files(project))


def small_body(project: str, filename: str) -> bytes:
    return random.Random(f"{project}/{filename}").randbytes(SMALL_BYTES)


@functools.lru_cache(1)
def big_start() -> bytes:
    """What all big files begin with: noise, of which a megabyte is drawn and repeated."""
    block = random.Random("big").randbytes(1_000_000)
    return (block * (BIG_BYTES // len(block) + 1))[: BIG_BYTES - TAIL_BYTES]


def big_tail(project: str) -> bytes:
    return random.Random(project).randbytes(TAIL_BYTES)


def big_range(project: str, start: int, stop: int) -> bytes:
    """The bytes from `start` up to `stop` of a big file."""
    head = big_start()[start:stop]
    begin = len(big_start())
    return head + (big_tail(project)[max(0, start - begin) : stop - begin] if stop > begin else b"")


def page(project: str, base_url: str, form: str, *, has_metadata: bool = True) -> bytes:
    """The project page as the upstream sends it; `form` is one of the two media types."""
    entries = (_entry(file, base_url, has_metadata) for file in files(project))
    return _as_json(project, entries) if form == JSON_TYPE else _as_html(project, entries)


def metadata(filename: str) -> bytes:
    """The core metadata of a wheel."""
    if filename.startswith("tree_"):
        return tree.metadata(filename.partition("-")[0].replace("_", "-"))
    return f"Metadata-Version: 2.1\nName: example\nVersion: 1.0\nSummary: {filename}\n".encode()


def filenames(project: str) -> list[str]:
    kind = kind_of(project)
    return [_filename(project, kind, number) for number in range(COUNTS[kind])]


def _filename(project: str, kind: str, number: int) -> str:
    name = project.replace("-", "_")
    if kind in ("small", "big", "tree"):
        return f"{name}-1.{number}-py3-none-any.whl"
    return f"{name}-1.{number // 40}.0-{_TAGS.format(n=number % 40)}.whl"


def _entry(file: Listed, base_url: str, has_metadata: bool) -> dict[str, object]:
    known = {"sha256": _sha256(metadata(file.filename))} if has_metadata else False
    return {
        "core-metadata": known,
        "data-dist-info-metadata": known,
        "filename": file.filename,
        "hashes": {"sha256": file.sha256},
        "provenance": None,
        "requires-python": ">=3.8",
        "size": file.size,
        "upload-time": "2024-05-20T16:08:19.530618Z",
        "url": base_url + file.path,
        "yanked": False,
    }


def _as_json(project: str, entries: Iterable[dict[str, object]]) -> bytes:
    meta = {"_last-serial": 24_681_357, "api-version": "1.4"}
    document = {"files": list(entries), "meta": meta, "name": project, "versions": ["1.0"]}
    return json.dumps(document, separators=(",", ":")).encode()


def _as_html(project: str, entries: Iterable[dict[str, object]]) -> bytes:
    lines = [
        "<!DOCTYPE html><html><head>",
        '<meta name="pypi:repository-version" content="1.4">',
        f"<title>Links for {project}</title></head><body><h1>Links for {project}</h1>",
        *(_anchor(entry) for entry in entries),
        "</body></html>",
    ]
    return "\n".join(lines).encode()


def _anchor(entry: dict[str, object]) -> str:
    digest = entry["hashes"]["sha256"]  # type: ignore[index]
    known = entry["core-metadata"]
    metadata = f' data-core-metadata="sha256={known["sha256"]}"' if known else ""  # type: ignore[index]
    attributes = f'href="{entry["url"]}#sha256={digest}" data-requires-python="&gt;=3.8"{metadata}'
    return f"<a {attributes}>{entry['filename']}</a><br>"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache(4096)
def _big_digest(project: str) -> str:
    digest = _big_start_digest().copy()
    digest.update(big_tail(project))
    return digest.hexdigest()


@functools.lru_cache(1)
def _big_start_digest() -> hashlib._Hash:
    return hashlib.sha256(big_start())
