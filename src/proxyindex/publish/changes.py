"""Deleting and yanking files of our own: of a project, a version, or one by name.

Raise `ProjectNotFound`, `ReleaseNotFound` and `FileNotOnPage` for what is not there,
`UploadRejected` for files in folders of the index that are only read, `FolderRefused`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.errors import FileNotOnPage, ReleaseNotFound
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, LocalOrigin, ProjectPage
from proxyindex.names import version_key
from proxyindex.publish.rejection import UploadRejected, on_disk
from proxyindex.publish.service import Publisher
from proxyindex.publish.shelf import Shelf
from proxyindex.publish.stage import staged
from proxyindex.records import MAX_REASON, Record, record_path


async def delete(
    publisher: Publisher,
    project: NormalizedName,
    version: str | None = None,
    filename: str | None = None,
) -> list[str]:
    """Delete files; the names of those that are gone. Their names and the project's stay taken."""
    shelf = publisher.shelf
    async with shelf.locked(project):
        page = await publisher.own.project(project, Inquiry())
        paths = _paths(shelf, selected(page, version, filename))
        await on_disk(shelf.remove, project, paths)
    return [path.name for path in paths]


async def yank(
    publisher: Publisher,
    project: NormalizedName,
    version: str,
    filename: str | None,
    reason: str | None,
) -> list[str]:
    """Yank files for a reason, which may be empty, or with `None` unyank them; their names."""
    shelf = publisher.shelf
    yanked = None if reason is None else records.plain(reason, MAX_REASON)
    async with shelf.locked(project):
        page = await publisher.own.project(project, Inquiry())
        files = selected(page, version, filename)
        paths = _paths(shelf, files)
        await on_disk(_write_yanked, shelf, list(zip(files, paths, strict=True)), yanked)
    return [path.name for path in paths]


def selected(page: ProjectPage, version: str | None, filename: str | None) -> list[File]:
    """The files of the page that are meant: all, those of a version in any spelling, or one."""
    files = [
        file
        for file in page.files
        if (version is None or _is_same(file.version, version))
        and filename in (None, file.filename)
    ]
    if not files:
        if filename:
            raise FileNotOnPage(page.name, filename)
        raise ReleaseNotFound(page.name, version)
    return files


def note_of(file: File, path: Path) -> Record:
    """The record of a file, made from its page if it has none (any more). Blocks."""
    record = records.read(record_path(path))
    if record is not None and record.sha256 == file.sha256:
        return record
    assert file.sha256 is not None
    assert file.upload_time is not None
    return Record(
        sha256=file.sha256,
        size=file.size or 0,
        upload_time=file.upload_time,
        requires_python=file.requires_python,
        core_metadata=(file.core_metadata or {}).get("sha256"),
    )


def _is_same(version: str | None, wanted: str) -> bool:
    (rank, parsed, text), (other_rank, other, other_text) = (
        version_key(version),
        version_key(wanted),
    )
    return rank == other_rank and (parsed == other if rank == 1 else text == other_text)


def _paths(shelf: Shelf, files: list[File]) -> list[Path]:
    paths = [Path(file.origin.path) for file in files if isinstance(file.origin, LocalOrigin)]
    for path in paths:
        if not shelf.holds(str(path)):
            raise UploadRejected(
                409, f"The file {path.name!r} lies in a folder that this index only reads."
            )
    return paths


def _write_yanked(shelf: Shelf, files: list[tuple[File, Path]], yanked: str | None) -> None:
    with staged(shelf.root) as stage:
        for file, path in files:
            record = msgspec.structs.replace(note_of(file, path), yanked=yanked)
            shelf.write_record(stage, path, record)
