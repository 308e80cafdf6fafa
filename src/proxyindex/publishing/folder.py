"""The target that is a folder of this machine: files come in as uploads do, without a server."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from anyio.from_thread import start_blocking_portal
from packaging.utils import NormalizedName

from proxyindex.disk import add_folder, at_once, sha256_at, sync_folder
from proxyindex.model import ProjectPage
from proxyindex.publishing.distribution import Distribution
from proxyindex.publishing.form import make_form
from proxyindex.publishing.pages import (
    HTML_NAME,
    JSON_NAME,
    local,
    local_names,
    local_pages,
    rendered,
    rendered_list,
    sidecars,
)
from proxyindex.publishing.target import (
    Advance,
    NothingPublished,
    Outcome,
    PublishError,
    foreign,
    refusal,
)
from proxyindex.repository.scan import FolderUnavailable
from proxyindex.uploads.rejection import FolderRefused, UploadRejected
from proxyindex.uploads.service import Publisher, Receiving, UploadTerms
from proxyindex.uploads.shelf import Shelf
from proxyindex.uploads.stage import Stage


class Folder:
    """The form that a server would get goes to the service a server has: `uploads/service.py`.

    So the steps, locks and sentences are the same, whether a server runs on the folder or not.
    """

    def __init__(self, folder: Path, *, with_pages: bool) -> None:
        self._folder = folder
        self._with_pages = with_pages
        self._shelf = Shelf(folder)
        self._local = local(folder)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Raises `PublishError` if there is no such folder: a volume that is not mounted?"""
        if not self._folder.is_dir():
            raise PublishError(f"There is no folder {self._folder}; make it first.")
        if self._with_pages and not _is_free(self._folder):
            raise PublishError(foreign(self._folder / HTML_NAME))
        self._portal = self._stack.enter_context(start_blocking_portal())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def held(self, wanted: Sequence[Distribution]) -> Mapping[str, str]:
        """Wherever they lie in the folder: flat, in another directory, in the project's own.

        Raises `PublishError` for names that are not there and would be refused as well.
        """
        publisher = self._publisher(overwrite=False)
        found: dict[str, str] = {}
        refused: list[str] = []
        with _said(self._folder):
            projects = {each.project for each in wanted}
            files = {name: self._portal.call(publisher.files, name) for name in projects}
            for each in wanted:
                there = files[each.project].get(each.filename)
                # it may lie there broken, and on no page
                digest = (
                    there.sha256
                    if there
                    else sha256_at(self._shelf.home(each.project) / each.filename)
                )
                if digest is not None:
                    found[each.filename] = digest
                    continue
                try:
                    publisher.check_name(each.project, each.filename, files[each.project])
                except UploadRejected as problem:
                    refused.append(refusal(self._folder, each, problem))
        if refused:
            raise NothingPublished(refused)
        return found

    def send(
        self, wanted: Sequence[Distribution], *, overwrite: bool, advance: Advance
    ) -> Iterator[tuple[Distribution, Outcome]]:
        """One after the other; each is there for good when it is told."""
        self._shelf.sweep()
        publisher = self._publisher(overwrite=overwrite)
        for each in wanted:
            with _said(self._folder):
                try:
                    is_new = self._publish(publisher, each, advance)
                except UploadRejected as problem:
                    raise PublishError(refusal(self._folder, each, problem)) from problem
            new = Outcome.REPLACED if overwrite else Outcome.PUBLISHED
            yield each, new if is_new else Outcome.THERE

    def finish(self, projects: Sequence[NormalizedName]) -> Sequence[str]:
        """With pages: those of these projects and of all that have none yet, and the list.

        Alone among publishers, so that a page is made of all files there are.
        """
        if not self._with_pages:
            return ()
        root = self._shelf.root
        with self._writing_pages() as stage:
            names = local_names(root)
            without = {name for name in names if not (root / name / HTML_NAME).exists()}
            wanted = sorted(without.union(projects).intersection(names))
            return _write_pages(stage, root, local_pages(root, wanted), names)

    def renew(self) -> tuple[Sequence[str], Sequence[str]]:
        """Make all pages anew, of what lies there now: the names of those written, and removed.

        A project without files keeps a page, an empty one, as a server shows it: its name is taken,
        and whoever asks the next index for what is not found here must not find it there.
        """
        root = self._shelf.root
        with self._writing_pages() as stage:
            self._shelf.sweep()  # pages of what a killed process had begun would be old at once
            names = local_names(root)
            pages = [p for p in local_pages(root, names) if p.files or _is_free(root / p.name)]
            written = _write_pages(stage, root, pages, names)
            return written, _remove_pages(root, names)

    @contextlib.contextmanager
    def _writing_pages(self) -> Iterator[Stage]:
        alone = self._portal.wrap_async_context_manager(self._shelf.writing_pages())
        with _said(self._folder), alone, self._shelf.staged() as stage:
            yield stage

    def _publisher(self, *, overwrite: bool) -> Publisher:
        """Who may write into the folder may give names to what is in it."""
        terms = UploadTerms(overwrite, max_size=2**63, claims=lambda name: True)
        return Publisher(self._shelf, self._local, self._local, self._local, terms)

    def _publish(self, publisher: Publisher, each: Distribution, advance: Advance) -> bool:
        # with pages the records are on a web server for everybody to read
        uploader = None if self._with_pages else _user()
        form = make_form(each)
        receiving = Receiving(self._shelf, form.boundary.encode(), each.size)
        try:
            for piece in form.pieces(advance):
                receiving.feed(piece)
            upload = receiving.finish()
            return self._portal.call(publisher.publish, receiving, upload, uploader)
        finally:
            receiving.discard()


def _user() -> str | None:
    """Who runs this, as the system knows him; in a container it may not."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _write_pages(
    stage: Stage, root: Path, pages: Iterable[ProjectPage], names: Sequence[NormalizedName]
) -> list[str]:
    """Write these pages and the list of projects, where they differ; what was written."""
    written: list[str] = []
    for page in pages:
        # what a page promises must be there before the page
        found = {os.path.relpath(path, root): body for path, body in sidecars(page).items()}
        written += _write_all(stage, root, found | rendered(page, str(root)))
    return written + _write_all(stage, root, rendered_list(names))


def _write_all(stage: Stage, root: Path, files: Mapping[str, bytes]) -> list[str]:
    return [name for name, body in files.items() if _write(stage, root / name, body)]


def _is_free(home: Path) -> bool:
    """Whether there is no page yet, or ours: a folder without packages may be a web site's."""
    return (home / JSON_NAME).exists() or not (home / HTML_NAME).exists()


def _remove_pages(root: Path, names: Container[NormalizedName]) -> list[str]:
    """Remove our pages in folders that are no project's any more, such as those in which only
    files of other projects are left; what was removed."""
    gone = [page.parent for page in root.glob(f"*/{JSON_NAME}") if page.parent.name not in names]
    removed: list[str] = []
    for home in sorted(gone):
        for name in (HTML_NAME, JSON_NAME):  # JSON last: by it the rest is known for ours
            with contextlib.suppress(FileNotFoundError):
                (home / name).unlink()
                removed.append(f"{home.name}/{name}")
        sync_folder(home)
    return removed


def _write(stage: Stage, place: Path, body: bytes) -> bool:
    """Write a small file unless it is as it should be; whether it was written."""
    with contextlib.suppress(OSError), open(place, "rb", opener=at_once) as there:
        if there.read(len(body) + 1) == body:
            return False
    add_folder(place.parent)
    stage.put(place.name, body)
    os.replace(stage.path / place.name, place)
    sync_folder(place.parent)
    return True


@contextlib.contextmanager
def _said(folder: Path) -> Iterator[None]:
    """What the disk refuses, as a sentence."""
    try:
        yield
    except FolderUnavailable as problem:
        raise PublishError(f"{problem.folder} cannot be read: {problem.problem}.") from problem
    except (OSError, FolderRefused) as problem:
        cause = problem.problem if isinstance(problem, FolderRefused) else problem
        place, reason = cause.filename2 or cause.filename or folder, cause.strerror or str(cause)
        raise PublishError(f"{place} cannot be written: {reason}.") from problem
