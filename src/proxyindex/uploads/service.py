"""Publishing what is uploaded: whose name it is, what is there already, and the one step in."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import anyio
from anyio import CapacityLimiter
from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.audit import Change
from proxyindex.disk import sha256_at
from proxyindex.errors import Denied, ProjectNotFound, UpstreamError, UpstreamUnavailable
from proxyindex.inquiry import Inquiry
from proxyindex.model import PROVENANCE_SUFFIX, RECORD_SUFFIX, SIGNATURE_SUFFIX, File, ProjectPage
from proxyindex.names import is_same_file, parse_filename
from proxyindex.policy.verdict import Deny, Policy
from proxyindex.records import Examined, Record
from proxyindex.uploads.checks import Inside, Upload, check_archive, read_form
from proxyindex.uploads.form import MAX_TEXTS, FormReader
from proxyindex.uploads.rejection import UploadRejected, bad, on_disk
from proxyindex.uploads.shelf import Shelf, deleted_in
from proxyindex.uploads.stage import Content, Stage

_UPSTREAM_SECONDS = 7.0
_WRITERS = 8  # uploads that are hashed and written at one moment
_CHECKERS = 2  # archives that are checked: more would only share the disk and the cores


class Shown(Protocol):
    """What has project pages: our own folders, or the upstreams as their rules leave them."""

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage: ...


@dataclass(frozen=True, slots=True)
class UploadTerms:
    """What an index takes. `claims(name)`: it may be uploaded though an upstream has it.

    `overwrite`: other bytes may replace a file, and names of deleted ones are free again.
    `max_size` is of a file in bytes. `policy` is what its pages are seen through.
    """

    overwrite: bool
    max_size: int
    claims: Callable[[NormalizedName], bool]
    policy: Policy = field(default_factory=Policy)


class Receiving:
    """One upload while it arrives. All of it blocks on the disk."""

    def __init__(self, shelf: Shelf, boundary: bytes, max_size: int) -> None:
        self._reader = FormReader(boundary, self._write)  # first: it may refuse
        self._max_size = max_size
        self.stage = shelf.stage()
        try:
            self._content = Content(self.stage.content)
        except BaseException:
            self.stage.discard()
            raise
        self.ended = 0.0

    def feed(self, data: bytes) -> None:
        """Take more of the body. Raises `UploadRejected`."""
        self._reader.feed(data)

    def finish(self) -> Upload:
        """What it is; its file is on the disk, in the stage. Raises `UploadRejected`."""
        form = self._reader.finish()
        self.ended = time.time()
        return read_form(form, self._content.finish(self.ended))

    def discard(self) -> None:
        """Remove what is left of it."""
        self._content.close()
        self.stage.discard()

    def _write(self, data: memoryview) -> None:
        if self._content.size + len(data) > self._max_size:
            raise too_large(self._max_size)
        self._content.write(data)


def too_large(limit: int) -> UploadRejected:
    """413."""
    return UploadRejected(413, f"The file is over the {limit} bytes that are taken here.")


class Publisher:
    """One index as uploads see it: the folder they go to, and who else may own a name.

    `others` are folders it has besides, from which other indexes may delete. `own` shows
    all folders of the index, `inside` those of its bases as well, and `outside` what it falls
    through to for names of none of them.
    """

    def __init__(
        self,
        shelf: Shelf,
        own: Shown,
        inside: Shown,
        outside: Shown,
        terms: UploadTerms,
        others: Sequence[Path] = (),
    ) -> None:
        self.shelf = shelf
        self._others = others
        self.own = own
        self.terms = terms
        self._inside = inside
        self._outside = outside
        self._writers = CapacityLimiter(_WRITERS)
        self._checkers = CapacityLimiter(_CHECKERS)

    @property
    def max_body(self) -> int:
        """Bytes of the largest form."""
        return self.terms.max_size + 2 * MAX_TEXTS

    @asynccontextmanager
    async def receiving(self, boundary: bytes) -> AsyncIterator[Receiving]:
        """An upload to be fed; what was not published is gone at the end."""
        made = await self.shelf.run(Receiving, self.shelf, boundary, self.terms.max_size)
        try:
            yield made
        finally:
            with anyio.CancelScope(shield=True):
                await self.shelf.run(made.discard)

    async def feed(self, receiving: Receiving, data: bytes) -> None:
        """Take more of the body. Raises `UploadRejected`, `FolderRefused`."""
        await on_disk(receiving.feed, data, limiter=self._writers)

    async def finish(self, receiving: Receiving) -> Upload:
        """The upload, its form and digests found right. Raises as `feed`."""
        return await on_disk(receiving.finish, limiter=self._writers)

    async def publish(
        self,
        receiving: Receiving,
        upload: Upload,
        uploader: str | None,
        *,
        by: Change | None = None,
    ) -> bool:
        """Check the archive and put it on its page; whether it was not there before, or with other
        bytes. Raises as `feed`, and `UpstreamUnavailable` where nobody can tell whether an
        upstream has the project. `by` is for the audit log, should others have to finish the
        change."""
        stage = receiving.stage
        inside = await on_disk(check_archive, upload, stage.content, limiter=self._checkers)
        await self.claim(upload.project, str(upload.version))
        async with self.shelf.locked(upload.project):
            files = await self.files(upload.project)
            named = upload.project, upload.filename
            await self.check_inherited(upload.project, {upload.filename: upload.sha256}, files)
            place = await self.shelf.run(self.judge, *named, upload.sha256, files)
            if place is not None:
                await self.shelf.run(_complete, receiving, upload, inside, uploader)
                await self.shelf.run(self._put, stage, *named, place, by)
            return place is not None

    async def claim(self, project: NormalizedName, version: str) -> None:
        """Make sure that this version would be shown, and that the name is ours, or nobody's.

        Raises `Denied` if a rule is against it, `UploadRejected` if an upstream has the project or
        is not asked for it, `UpstreamUnavailable` if that is not known.
        """
        self.check_shown(project, version)
        if self.terms.claims(project):
            return
        try:
            await self._inside.project(project, Inquiry())
        except ProjectNotFound:
            await self._check_outside(project)

    def check_shown(self, project: NormalizedName, version: str) -> None:
        """Whether readers of the index may have this version. Raises `Denied`."""
        verdict = self.terms.policy.judge_release(project, version)
        if isinstance(verdict, Deny):
            raise Denied(f"{project} {version}", verdict.rule, verdict.reason)

    async def files(self, project: NormalizedName) -> Mapping[str, File]:
        """The files on our own page of the project, by name; none if there is no such project."""
        try:
            page = await self.own.project(project, Inquiry())
        except ProjectNotFound:
            return {}
        return {file.filename: file for file in page.files}

    def judge(
        self, project: NormalizedName, filename: str, sha256: str, files: Mapping[str, File]
    ) -> Path | None:
        """Where these bytes are to lie, maybe in the place of others; `None` if they are there.

        `files` are those that are listed; one that is not, as it is broken, has its name all the
        same. Blocks. Raises `UploadRejected`.
        """
        listed, usual = files.get(filename), self.shelf.home(project) / filename
        if (listed.sha256 if listed else sha256_at(usual)) == sha256:
            return None
        self.check_name(project, filename, files)
        if not listed and os.path.lexists(usual) and not self.terms.overwrite:
            raise conflict(filename)
        return self.shelf.place(listed) or usual

    def check_name(self, project: NormalizedName, filename: str, files: Mapping[str, File]) -> None:
        """Whether bytes that are not there may get this name. Blocks. Raises `UploadRejected`."""
        if self.terms.overwrite:
            return
        if filename in files:
            raise conflict(filename)
        deleted = (deleted_in(root, project) for root in (self.shelf.root, *self._others))
        check_new(filename, project, files, frozenset().union(*deleted))

    async def check_inherited(
        self, project: NormalizedName, digests: Mapping[str, str | None], files: Mapping[str, File]
    ) -> None:
        """Whether these files, by name, leave those of bases as they are: clients were told to keep
        them for ever. `files` are our own. Raises `UploadRejected`."""
        if self.terms.overwrite:
            return
        try:
            page = await self._inside.project(project, Inquiry())
        except (ProjectNotFound, Denied):
            return
        there = {one.filename: one.sha256 for one in page.files if one.filename not in files}
        for filename, sha256 in digests.items():
            if there.get(filename, sha256) != sha256:
                raise conflict(filename)
            check_new(filename, project, there.keys() - digests.keys(), ())

    async def _check_outside(self, project: NormalizedName) -> None:
        inquiry = Inquiry(revalidate=True, deadline=time.monotonic() + _UPSTREAM_SECONDS)
        try:
            page = await self._outside.project(project, inquiry)
            if page.is_gone and inquiry.unsure:
                raise inquiry.unsure
        except ProjectNotFound:
            return
        except Denied as problem:
            told = f"{str(problem).rstrip('.')} (a rule of an upstream or base)"
            raise _taken(told) from problem
        except UpstreamError as problem:
            raise UpstreamUnavailable(problem.upstream, problem.problem) from problem
        if not page.is_gone:
            raise _taken(f"{project!r} exists at an upstream, and would be hidden by yours")

    def _put(
        self, stage: Stage, project: NormalizedName, filename: str, place: Path, by: Change | None
    ) -> None:
        if os.path.lexists(place):
            self.shelf.replace(stage, project, {filename: place}, by)
            return
        try:
            self.shelf.add(stage, project, filename)
        except FileExistsError:  # since a moment, by somebody who does not know our locks
            raise conflict(filename) from None


def _taken(problem: str) -> UploadRejected:
    """403; first the ways out and then why, for twine shows the first 200 bytes."""
    return UploadRejected(
        403,
        f"Take another name, or have it put into 'policy.reserved' or 'claim': {problem}. "
        "The first is for names of your own, the second for builds of public projects.",
    )


def conflict(filename: str) -> UploadRejected:
    """409, in the words that clients look for."""
    return UploadRejected(409, f"File already exists ({filename!r}, with other bytes).")


def check_new(
    filename: str, project: NormalizedName, there: Iterable[str], deleted: Collection[str]
) -> None:
    """Whether a project with these files may get another one: none of them, and none that was
    deleted, is the same in another spelling. Raises `UploadRejected`.

    One sdist per version: clients would take either of two, and those may differ (PyPI).
    """

    def same(names: Iterable[str]) -> str | None:
        return next((name for name in names if is_same_file(name, filename, project)), None)

    if (gone := same(deleted)) is not None:
        raise bad(f"A file {gone!r} was deleted; its name is not used again.")
    if (other := same(there)) is not None:
        told = parse_filename(filename, project)
        if told.kind == "sdist":
            raise bad(f"Version {told.version} has a source archive, {other!r}.")
        raise UploadRejected(409, f"File already exists, as {other!r}.")


def _complete(receiving: Receiving, upload: Upload, inside: Inside, uploader: str | None) -> None:
    """Give the staged file its name, and what belongs to it."""
    stage, filename = receiving.stage, upload.filename
    path = stage.path / filename
    stage.content.rename(path)
    found = path.stat()
    record = Record(
        sha256=upload.sha256,
        size=found.st_size,
        upload_time=datetime.fromtimestamp(receiving.ended, UTC),
        uploader=uploader,
        requires_python=inside.requires_python,
        core_metadata=inside.core_metadata,
        examined=Examined(found.st_ino, found.st_mtime_ns),
    )
    stage.put(filename + RECORD_SUFFIX, records.encode(record))
    if upload.signature is not None:
        stage.put(filename + SIGNATURE_SUFFIX, upload.signature)
    if upload.provenance is not None:
        stage.put(filename + PROVENANCE_SUFFIX, upload.provenance)
    stage.sync()
