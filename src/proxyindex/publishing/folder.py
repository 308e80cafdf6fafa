"""The target that is a folder of this machine: `<folder>/<project>/<file>`, as `Local` reads it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from packaging.utils import NormalizedName

from proxyindex.model import SIGNATURE_SUFFIX
from proxyindex.publishing.distribution import Distribution
from proxyindex.publishing.pages import (
    HTML_NAME,
    local_names,
    local_pages,
    rendered,
    rendered_list,
    sidecars,
)
from proxyindex.publishing.target import Advance, Outcome, PublishError, conflict
from proxyindex.repository.scan import FolderUnavailable, Scanner

_LOCK = ".publishing"
_INCOMING = ".incoming-"  # hidden: `scan` passes it over
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES})


class Folder:
    """Files arrive under a hidden name and get their own when they are whole and on the disk.

    As a context it keeps other publishers out, so that leftovers of killed ones are known to be
    that, and a page is made of all files there are. Servers only read, and need no such thing.
    """

    def __init__(self, folder: Path, *, with_pages: bool) -> None:
        self._folder = folder
        self._with_pages = with_pages
        self._places: dict[str, Path] = {}
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Raises `PublishError` if there is no such folder: a volume that is not mounted?"""
        if not self._folder.is_dir():
            raise PublishError(f"There is no folder {self._folder}; make it first.")
        with _said(self._folder):
            self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks: then without
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def held(self, wanted: Sequence[Distribution]) -> Mapping[str, str]:
        """Wherever they lie in the folder: flat, in another directory, in the project's own."""
        try:
            projects = Scanner([self._folder]).scan().projects
        except FolderUnavailable as problem:
            raise PublishError(f"{problem.folder} cannot be read: {problem.problem}.") from problem
        found: dict[str, str] = {}
        for each in wanted:
            for there in projects.get(each.project, ()):
                if there.filename == each.filename:
                    self._places[each.filename] = Path(there.path)
                    with _said(there.path):
                        found[each.filename] = _sha256(there.path)
        return found

    def send(
        self, wanted: Sequence[Distribution], *, overwrite: bool, advance: Advance
    ) -> Iterator[tuple[Distribution, Outcome]]:
        """One after the other; each is there for good when it is told."""
        for each in wanted:
            usual = self._folder / each.project / each.filename
            place = self._places.get(each.filename, usual)
            with _said(place):
                outcome = _put(each, place, overwrite=overwrite, advance=advance)
            yield each, outcome

    def finish(self, projects: Sequence[NormalizedName]) -> Sequence[str]:
        """With pages: those of these projects and of all that have none yet, and the list."""
        if not self._with_pages:
            return ()
        names = local_names(self._folder)
        without = {name for name in names if not (self._folder / name / HTML_NAME).exists()}
        wanted = sorted(without.union(projects).intersection(names))
        root = os.path.abspath(self._folder)
        files: dict[str, bytes] = {}
        for page in local_pages(self._folder, wanted):
            # what a page promises must be there before the page
            found = sidecars(page).items()
            files.update((os.path.relpath(path, root), body) for path, body in found)
            files.update(rendered(page, root))
        files.update(rendered_list(names))
        return [name for name, body in files.items() if self._write(name, body)]

    def _write(self, name: str, body: bytes) -> bool:
        """Write a small file unless it is as it should be; whether it was written."""
        place = self._folder / name
        with _said(place):
            with contextlib.suppress(OSError):
                if place.read_bytes() == body:
                    return False
            place.parent.mkdir(exist_ok=True)
            temporary = _incoming(place.parent)
            try:
                with open(temporary, "xb") as stream:
                    stream.write(body)
                    _sync(stream)
                os.replace(temporary, place)
            finally:
                temporary.unlink(missing_ok=True)
        return True


def _put(each: Distribution, place: Path, *, overwrite: bool, advance: Advance) -> Outcome:
    """Copy the file to its place. Raises `PublishError` where others put other bytes there."""
    place.parent.mkdir(exist_ok=True)
    _sweep(place.parent)
    temporary = _incoming(place.parent)
    try:
        with open(temporary, "xb") as stream:
            for piece in each.pieces():
                stream.write(piece)
                advance(len(piece))
            _sync(stream)
        replaced = place.exists()
        if replaced and overwrite:
            os.replace(temporary, place)
        elif not _link(temporary, place):
            if (there := _sha256(place)) != each.sha256:
                raise PublishError(conflict(each, there, str(place)))
            return Outcome.THERE
    finally:
        temporary.unlink(missing_ok=True)
    if each.signature is not None:
        _put_signature(place.with_name(each.filename + SIGNATURE_SUFFIX), each.signature)
    _sync_folder(place.parent)
    return Outcome.REPLACED if replaced else Outcome.PUBLISHED


def _put_signature(place: Path, content: bytes) -> None:
    temporary = _incoming(place.parent)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, place: Path) -> bool:
    """Give the file its name unless that is taken; whether it was free."""
    try:
        os.link(temporary, place)
    except FileExistsError:
        return False
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        # no hard links here; other publishers are kept out by the lock
        if place.exists():
            return False
        os.rename(temporary, place)
    return True


def _incoming(folder: Path) -> Path:
    return folder / (_INCOMING + secrets.token_hex(8))


def _sweep(folder: Path) -> None:
    """Remove what killed publishers left; the lock says that no living one is at it."""
    for left in folder.glob(_INCOMING + "*"):
        left.unlink(missing_ok=True)


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync(stream: BinaryIO) -> None:
    """On the disk, not only on its way there: after a power cut a name must not lead to nothing."""
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems know no such thing
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _said(place: str | Path) -> Iterator[None]:
    """What the disk refuses, as a sentence."""
    try:
        yield
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise PublishError(f"{problem.filename or place} cannot be written: {reason}.") from problem
