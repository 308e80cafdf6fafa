"""Copying a release from one index to another: all of its files, or none."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.audit import Change
from proxyindex.disk import hand_over
from proxyindex.inquiry import Inquiry
from proxyindex.model import (
    PROVENANCE_SUFFIX,
    RECORD_SUFFIX,
    SIGNATURE_SUFFIX,
    File,
    LocalOrigin,
)
from proxyindex.records import Examined
from proxyindex.uploads.changes import note_of, selected
from proxyindex.uploads.rejection import UploadRejected, on_disk
from proxyindex.uploads.service import Publisher, Shown
from proxyindex.uploads.shelf import SIDECARS
from proxyindex.uploads.stage import Stage

_STEP = 1024**2


async def push(
    source: Shown,
    target: Publisher,
    project: NormalizedName,
    version: str,
    *,
    by: Change | None = None,
) -> list[str]:
    """Copy the release to the target, bytes, upload time and yanks unchanged; names of new files.

    Files the target has with the same bytes stay. Where one has other bytes the whole release is
    refused, unless the target may be overwritten. Raises as an upload does, and `NotFound`.
    """
    page = await source.project(project, Inquiry())
    files = {file.filename: file for file in selected(page, version, None)}
    await target.claim(project)
    stage = await on_disk(target.shelf.stage)
    try:
        for file in files.values():
            await on_disk(_copy, file, stage)
        async with target.shelf.locked(project):
            there = await target.files(project)
            new = [name for name, file in files.items() if not _has(there, file)]
            for name in new:
                await on_disk(target.check_name, project, name, there)
            await on_disk(_publish, target, stage, project, new, files, there, by)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(stage.discard)
    return new


def _has(there: Mapping[str, File], file: File) -> bool:
    return file.filename in there and there[file.filename].sha256 == file.sha256


def _copy(file: File, stage: Stage) -> None:
    """Into the stage, with what belongs to it. Blocks."""
    assert isinstance(file.origin, LocalOrigin)
    path, copied = Path(file.origin.path), stage.path / file.filename
    if _copy_hashed(path, copied) != file.sha256:
        raise UploadRejected(409, f"The file {file.filename!r} was changed meanwhile.")
    record = note_of(file, path)
    mtime = int(record.upload_time.timestamp())
    os.utime(copied, (mtime, mtime))
    found = copied.stat()
    examined = Examined(found.st_ino, found.st_mtime_ns)
    stage.put(
        file.filename + RECORD_SUFFIX,
        records.encode(msgspec.structs.replace(record, examined=examined)),
    )
    for suffix in (SIGNATURE_SUFFIX, PROVENANCE_SUFFIX):
        with suppress(FileNotFoundError):
            hand_over(shutil.copyfile(f"{path}{suffix}", Path(f"{copied}{suffix}")))


def _copy_hashed(path: Path, copied: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as source, open(copied, "xb") as target:
        while data := source.read(_STEP):
            digest.update(data)
            target.write(data)
        target.flush()
        os.fsync(target.fileno())
    hand_over(copied)
    return digest.hexdigest()


def _publish(
    target: Publisher,
    stage: Stage,
    project: NormalizedName,
    new: list[str],
    copied: Iterable[str],
    there: Mapping[str, File],
    by: Change | None,
) -> None:
    """Blocks. All in one step, or in one change where some replace others."""
    shelf = target.shelf
    for name in set(copied).difference(new):
        for suffix in ("", *SIDECARS):
            Path(f"{stage.path / name}{suffix}").unlink(missing_ok=True)
    places = {name: shelf.place(there.get(name)) for name in new}
    replaced = {name: place for name, place in places.items() if place}
    if replaced:
        home = shelf.home(project)
        shelf.replace(stage, project, {name: home / name for name in new} | replaced, by)
    elif new:
        shelf.add_together(stage, project)
