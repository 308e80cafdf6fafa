"""The target that is a folder of another machine, reached by rsync over ssh."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Self

from packaging.utils import NormalizedName

from proxyindex import records
from proxyindex.disk import sha256_at
from proxyindex.model import (
    PROVENANCE_SUFFIX,
    RECORD_SUFFIX,
    SIGNATURE_SUFFIX,
    File,
    LocalOrigin,
    ProjectPage,
)
from proxyindex.publishing.contents import Contents, look
from proxyindex.publishing.distribution import Distribution
from proxyindex.publishing.pages import (
    HTML_NAME,
    JSON_NAME,
    local_names,
    local_pages,
    rendered,
    rendered_list,
    sidecars,
)
from proxyindex.publishing.rsync import Entry, Missing, Remote, stage_files
from proxyindex.publishing.target import (
    Advance,
    NothingPublished,
    Outcome,
    PublishError,
    conflict,
    foreign,
    refusal,
)
from proxyindex.records import Record
from proxyindex.simple import InvalidPage, MediaType, order_files, parse_list, parse_page
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.service import check_new
from proxyindex.uploads.shelf import DELETED, Shelf

_OF_BYTES = (SIGNATURE_SUFFIX, PROVENANCE_SUFFIX)  # what is of these very bytes of a file
_ROUNDS = 5  # of pages made anew because another publisher came in between
_PAGE_URL = "https://static.invalid/"  # what the links of a static page are relative to here


class RemoteFolder:
    """All files go in one transfer and get their names at its end; pages go after them.

    There is no lock between machines: what others put there meanwhile is noticed afterwards, other
    bytes as an error, files missing on a page by making the page anew.
    """

    def __init__(self, shown: str, ssh: str, *, with_pages: bool) -> None:
        self._shown = shown
        self._ssh = ssh
        self._with_pages = with_pages
        self._contents = Contents({})
        self._known: dict[str, Distribution] = {}  # by the path it lies under there
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Raises `PublishError` for what is no `host:path`, and where rsync is not installed."""
        self._scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            self._remote = Remote(self._shown, self._ssh, self._scratch)
        except PublishError:
            self._stack.close()
            raise
        self._stack.callback(self._remote.close)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def held(self, wanted: Sequence[Distribution]) -> Mapping[str, str]:
        """Those with the same bytes are found by rsync's checksums; the others are fetched, for
        their digest is to be told. Raises `PublishError` for names that a server would refuse."""
        self._contents = self._look({each.project for each in wanted})
        paths = self._contents.paths
        if self._with_pages and HTML_NAME in paths and JSON_NAME not in paths:
            raise PublishError(foreign(f"{self._remote.shown}/{HTML_NAME}"))
        there = {path: each for each in wanted if (path := self._contents.path_of(each))}
        self._check_new([each for each in wanted if each not in there.values()])
        self._known.update(there)
        return {each.filename: digest for each, digest in self._compared(there)}

    def send(
        self, wanted: Sequence[Distribution], *, overwrite: bool, advance: Advance
    ) -> Iterator[tuple[Distribution, Outcome]]:
        """One transfer for all, then a comparison: with a file of others under the same name
        nothing was replaced. Signatures and attestations that lie there are gone before: they are
        of other bytes."""
        places = {self._place(each): each for each in wanted}
        beside = {path + suffix for path in places for suffix in _OF_BYTES}
        if old := beside & self._contents.paths:
            self._remote.remove(sorted(old))
        stage = self._staged(places)
        sent = 0

        def told(total: int) -> None:
            nonlocal sent
            advance(total - sent)
            sent = total

        self._remote.send(stage, overwrite=overwrite, told=told)
        for each, digest in self._compared(places):
            if digest != each.sha256:
                raise PublishError(conflict(each, digest, self._remote.shown))
        self._known.update(places)
        for path, each in places.items():
            replaced = self._contents.path_of(each) == path
            yield each, Outcome.REPLACED if replaced else Outcome.PUBLISHED

    def finish(self, projects: Sequence[NormalizedName]) -> Sequence[str]:
        """With pages: those of these projects, and the list, until nobody came in between."""
        if not self._with_pages:
            return ()
        written: dict[str, None] = {}
        contents = self._look(set(projects))
        for _ in range(_ROUNDS):
            stage = self._new_folder()
            stage_files(stage, self._pages(contents))
            if changed := self._changed(stage):
                self._remote.send(stage, overwrite=True)
                written |= dict.fromkeys(changed)
            before, contents = contents, self._look(set(projects))
            if _names(before) == _names(contents):
                return list(written)
        raise PublishError(f"{self._remote.shown} changes faster than its pages can be made.")

    def _staged(self, places: Mapping[str, Distribution]) -> Path:
        """A new folder with these files and what belongs to them."""
        stage = self._new_folder()
        for path, each in places.items():
            stage_files(stage, [(path, each.path)])
            if each.signature is not None:
                stage_files(stage, [(path + SIGNATURE_SUFFIX, each.signature)])
            if each.provenance is not None:
                stage_files(stage, [(path + PROVENANCE_SUFFIX, each.provenance)])
        return stage

    def _changed(self, stage: Path) -> list[str]:
        """The staged pages that are not there, or not like this."""
        staged = [str(p.relative_to(stage)) for p in sorted(stage.rglob("*")) if p.is_file()]
        there = self._fetched(staged)
        return [
            name
            for name in staged
            if not (there / name).is_file()
            or (there / name).read_bytes() != (stage / name).read_bytes()
        ]

    def _look(self, projects: set[NormalizedName]) -> Contents:
        try:
            return look(self._remote, projects)
        except Missing as problem:
            shown = self._remote.shown
            raise PublishError(f"There is no folder {shown}; make it first.") from problem

    def _compared(self, there: Mapping[str, Distribution]) -> Iterator[tuple[Distribution, str]]:
        """The sha256 of the file at each of these paths."""
        if not there:
            return
        stage = self._new_folder()
        stage_files(stage, ((path, each.path) for path, each in there.items()))
        others = self._remote.differing(stage) & there.keys()
        fetched = self._fetched(sorted(others))
        for path, each in there.items():
            digest = sha256_at(fetched / path) if path in others else each.sha256
            if digest is None:
                raise PublishError(f"{each.filename} vanished while it was compared.")
            yield each, digest

    def _check_new(self, fresh: Sequence[Distribution]) -> None:
        listed = self._contents
        noted = [f"{each.project}/{DELETED}" for each in fresh]
        shelf = Shelf(self._fetched(listed.paths.intersection(noted)))
        refused: list[str] = []
        for each in fresh:
            there = [PurePosixPath(path).name for path in listed.files.get(each.project, ())]
            try:
                check_new(each.filename, each.project, there, shelf.deleted(each.project))
            except UploadRejected as problem:
                refused.append(refusal(self._remote.shown, each, problem))
        if refused:
            raise NothingPublished(refused)

    def _place(self, each: Distribution) -> str:
        return self._contents.path_of(each) or f"{each.project}/{each.filename}"

    def _pages(self, contents: Contents) -> Iterator[tuple[str, bytes]]:
        """The files of the pages, by path: with every file that is listed over there."""
        noted = self._records(contents)
        for name, paths in contents.files.items():
            known = self._known_files(name, paths, noted)
            local, promised = self._local_files(name, [path for path in paths if path not in known])
            files = order_files(
                _told(file, path, paths[path], noted.get(path)).but(
                    has_signature=path + SIGNATURE_SUFFIX in contents.paths
                )
                for path, file in (known | local).items()
            )
            versions = dict.fromkeys(file.version for file in files if file.version)
            yield from promised.items()
            yield from rendered(ProjectPage(name, files, tuple(versions)), ".").items()
        yield from rendered_list(sorted(self._listed(contents))).items()

    def _records(self, contents: Contents) -> dict[str, Record]:
        """What a server over there noted of these files, by their path."""
        listed = [path for paths in contents.files.values() for path in paths]
        noted = [path for path in listed if path + RECORD_SUFFIX in contents.paths]
        there = self._fetched(path + RECORD_SUFFIX for path in noted)
        found = {path: records.read(there / (path + RECORD_SUFFIX)) for path in noted}
        return {path: record for path, record in found.items() if record}

    def _known_files(
        self, name: NormalizedName, paths: Mapping[str, Entry], noted: Mapping[str, Record]
    ) -> dict[str, File]:
        """What the page over there says of the files that are as they were when it was made."""
        place = self._fetched([f"{name}/{JSON_NAME}"]) / name / JSON_NAME
        try:
            page = parse_page(
                place.read_bytes(), MediaType.JSON,
                project=name, base_url=f"{_PAGE_URL}{name}/", upstream="static",
            )  # fmt: skip
        except (OSError, InvalidPage):
            return {}
        said = {file.filename: file for file in page.files if file.sha256}
        known: dict[str, File] = {}
        for path, entry in paths.items():
            file = said.get(PurePosixPath(path).name)
            ours = self._known.get(path)
            if (
                file
                and file.size == entry.size
                and (file.upload_time == entry.mtime or _vouches(noted.get(path), file, entry))
                and (not ours or ours.sha256 == file.sha256)
            ):
                known[path] = file
        return known

    def _local_files(
        self, name: NormalizedName, paths: Sequence[str]
    ) -> tuple[dict[str, File], dict[str, bytes]]:
        """What the files themselves say, and the metadata to go beside them, by their paths.

        Ours are here; the others are fetched this once: after it the page knows them.
        """
        stage = self._fetched([path for path in paths if path not in self._known])
        stage_files(stage, ((p, self._known[p].path) for p in paths if p in self._known))
        found: dict[str, File] = {}
        promised: dict[str, bytes] = {}
        for page in local_pages(stage, [name] if name in local_names(stage) else []):
            promised |= {_below(stage, path): body for path, body in sidecars(page).items()}
            for file in page.files:
                if isinstance(file.origin, LocalOrigin):
                    found[_below(stage, file.origin.path)] = file
        return found, promised

    def _listed(self, contents: Contents) -> set[NormalizedName]:
        """Projects with a page: those listed until now and still there, and those made now."""
        place = self._fetched([JSON_NAME]) / JSON_NAME
        try:
            before = set(parse_list(place.read_bytes(), MediaType.JSON).names)
        except (OSError, InvalidPage):
            before = set()
        return (before & contents.names) | set(contents.files)

    def _fetched(self, paths: Iterable[str]) -> Path:
        """A new folder with those of these files that are there."""
        folder = self._new_folder()
        if wanted := list(paths):
            with suppress(Missing):  # some were missing; the others have come
                self._remote.fetch(wanted, folder)
        return folder

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._scratch))


def _names(contents: Contents) -> set[tuple[str, Entry]]:
    return {pair for paths in contents.files.values() for pair in paths.items()}


def _below(folder: Path, path: str) -> str:
    return str(Path(path).relative_to(folder))


def _told(file: File, path: str, entry: Entry, record: Record | None) -> File:
    """The file as a page has it: what was noted of these very bytes, else what lies there."""
    noted = record if record and record.sha256 == file.sha256 else None
    return file.but(
        origin=LocalOrigin(path),
        size=entry.size,
        upload_time=noted.upload_time if noted else entry.mtime,
        yanked=noted.yanked if noted else None,
    )


def _vouches(record: Record | None, file: File, entry: Entry) -> bool:
    """Whether the file is as it was when it was uploaded over there, with these bytes."""
    return (
        record is not None
        and record.examined is not None
        and record.sha256 == file.sha256
        and record.examined.mtime_ns // 10**9 == int(entry.mtime.timestamp())
    )
