"""Deleting and yanking files of our own: of a project, a version, or one by name.

Raise `ProjectNotFound`, `ReleaseNotFound` and `FileNotOnPage` for what is not there,
`UploadRejected` for files in folders of the index that are only read, `FolderRefused`.
`by` is for the audit log, should others have to finish the change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.audit import Change
from proxyindex.errors import FileNotOnPage, ReleaseNotFound
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, LocalOrigin, ProjectPage
from proxyindex.names import is_same_version
from proxyindex.records import MAX_REASON, Record, record_path
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.service import Publisher
from proxyindex.uploads.shelf import Shelf


async def delete(
    publisher: Publisher,
    project: NormalizedName,
    version: str | None = None,
    filename: str | None = None,
    *,
    by: Change | None = None,
) -> list[str]:
    """Delete files; the names of those that are gone. Their names and the project's stay taken."""
    shelf = publisher.shelf
    async with shelf.locked(project):
        page = await publisher.own.project(project, Inquiry())
        files = selected(page, version, filename)
        paths = [path for file in files for path in _ours(shelf, file, with_shadowed=True)]
        await shelf.run(shelf.remove, project, paths, by)
    return [file.filename for file in files]


async def yank(
    publisher: Publisher,
    project: NormalizedName,
    version: str | None,
    filename: str | None,
    reason: str | None,
    *,
    by: Change | None = None,
) -> list[str]:
    """Yank files for a reason, which may be empty, or with `None` unyank them; the names of those
    of which that was not said already."""
    shelf = publisher.shelf
    yanked = None if reason is None else records.plain(reason, MAX_REASON)
    async with shelf.locked(project):
        page = await publisher.own.project(project, Inquiry())
        files = {
            path: file for file in selected(page, version, filename) for path in _ours(shelf, file)
        }
        return await shelf.run(_write_yanked, shelf, project, files, yanked, by)


def selected(page: ProjectPage, version: str | None, filename: str | None) -> list[File]:
    """The files of the page that are meant: all, those of a version in any spelling, or one."""
    files = [
        file
        for file in page.files
        if (version is None or is_same_version(file.version, version))
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
    if record is not None and (told := record.about(file.sha256)) is not None:
        return told
    assert file.sha256 is not None
    return Record(
        sha256=file.sha256,
        size=file.size or 0,
        upload_time=file.upload_time or datetime.now(UTC),  # its own is none that can be told
        requires_python=file.requires_python,
        core_metadata=(file.core_metadata or {}).get("sha256"),
    )


def _ours(shelf: Shelf, file: File, *, with_shadowed: bool = False) -> list[Path]:
    """Where the file lies, and those of its name that would be served in its place. Raises
    `UploadRejected`."""
    assert isinstance(file.origin, LocalOrigin)
    shadowed = file.origin.shadowed if with_shadowed else ()
    paths = [Path(path) for path in (file.origin.path, *shadowed)]
    if not all(path.is_relative_to(shelf.root) for path in paths):
        raise UploadRejected(
            409, f"The file {file.filename!r} lies in a folder that this index only reads."
        )
    return paths


def _write_yanked(
    shelf: Shelf,
    project: NormalizedName,
    files: Mapping[Path, File],
    yanked: str | None,
    by: Change | None,
) -> list[str]:
    noted = {path: note_of(file, path) for path, file in files.items()}
    changed = {
        path: msgspec.structs.replace(note, yanked=yanked)
        for path, note in noted.items()
        if note.yanked != yanked
    }
    if changed:
        shelf.write_records(project, changed, by)
    return [path.name for path in changed]
