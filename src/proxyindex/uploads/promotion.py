"""Copying a release from one index to another: all of its files, or none."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.audit import Change
from proxyindex.disk import hand_over
from proxyindex.inquiry import Inquiry
from proxyindex.model import (
    PROVENANCE_SUFFIX,
    RECORD_SUFFIX,
    SIDECARS,
    SIGNATURE_SUFFIX,
    File,
    LocalOrigin,
)
from proxyindex.records import Examined
from proxyindex.uploads.changes import note_of, selected
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.service import Publisher
from proxyindex.uploads.stage import Stage

_STEP = 1024**2


async def push(
    source: Publisher,
    target: Publisher,
    project: NormalizedName,
    version: str,
    *,
    by: Change | None = None,
) -> list[str]:
    """Copy the release to the target, bytes, upload time and yanks unchanged; names of new files.

    Files the target has with the same bytes stay. Where one has other bytes the whole release is
    refused, unless the target may be overwritten. What a rule of the source denies its readers goes
    nowhere. Raises as an upload does, and `NotFound`.
    """
    page = await source.own.project(project, Inquiry())
    files = {file.filename: file for file in selected(page, version, None)}
    for spelling in dict.fromkeys(file.version or version for file in files.values()):
        source.check_shown(project, spelling)
    await target.claim(project, version)
    stage = await target.shelf.run(target.shelf.stage)
    try:
        for file in files.values():
            await target.shelf.run(_copy, file, stage)
        async with target.shelf.locked(project):
            there = await target.files(project)
            digests = {name: file.sha256 for name, file in files.items()}
            await target.check_inherited(project, digests, there)
            return await target.shelf.run(_publish, target, stage, project, files, there, by)
    finally:
        with anyio.CancelScope(shield=True):
            await target.shelf.run(stage.discard)


def _copy(file: File, stage: Stage) -> None:
    """Into the stage, with what belongs to it. Blocks."""
    assert isinstance(file.origin, LocalOrigin)
    path, copied = Path(file.origin.path), stage.path / file.filename
    try:
        is_same = _copy_hashed(path, copied) == file.sha256
    except FileNotFoundError:
        if path.exists():
            raise
        raise UploadRejected(409, f"The file {file.filename!r} was deleted meanwhile.") from None
    if not is_same:
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
    files: Mapping[str, File],
    there: Mapping[str, File],
    by: Change | None,
) -> list[str]:
    """All in one step, or in one change where some replace others; names of new files. Blocks."""
    places: dict[str, Path] = {}
    known = dict(there)
    for name, file in files.items():
        assert file.sha256 is not None
        place = target.judge(project, name, file.sha256, known)
        known[name] = file
        if place is None:
            for suffix in ("", *SIDECARS):
                Path(f"{stage.path / name}{suffix}").unlink(missing_ok=True)
        else:
            places[name] = place
    if any(map(os.path.lexists, places.values())):
        target.shelf.replace(stage, project, places, by)
    elif places:
        target.shelf.add_together(stage, project)
    return list(places)
