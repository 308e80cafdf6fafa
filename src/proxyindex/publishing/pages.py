"""An index without a server: pages as files beside the packages, for any web server or bucket.

`<project>/index.html` and `<project>/index.v1_json` (names that others' configurations of web
servers know from bandersnatch) with relative links, and the same of the list of projects. Pages
are what `Local` answers for the folder and `simple` renders, so they say what we would serve.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import anyio
from packaging.utils import NormalizedName

from proxyindex.archives.wheel import InvalidArchive, read_metadata
from proxyindex.inquiry import Inquiry
from proxyindex.model import METADATA_SUFFIX, File, LocalOrigin, ProjectList, ProjectPage
from proxyindex.repository.local import Local
from proxyindex.simple import MediaType, render_list, render_page

HTML_NAME = "index.html"
JSON_NAME = "index.v1_json"
_FORMS = {HTML_NAME: MediaType.HTML, JSON_NAME: MediaType.JSON}
_SAFE = "/!=@~"


class _Nothing:
    """Remembers nothing: everything is read anew."""

    async def recall(self, key: str) -> bytes | None:
        return None

    async def remember(self, key: str, value: bytes) -> None:
        return None


def local(folder: Path) -> Local:
    """What a server shows of the folder, without its memory."""
    return Local([folder], _Nothing())


def local_pages(folder: Path, names: Iterable[NormalizedName]) -> list[ProjectPage]:
    """What is in the folder of these projects; each must be there. Raises `FolderUnavailable`."""

    async def ask() -> list[ProjectPage]:
        repository = local(folder)
        return [await repository.project(name, Inquiry()) for name in names]

    return anyio.run(ask)


def local_names(folder: Path) -> tuple[NormalizedName, ...]:
    """All projects of the folder. Raises `FolderUnavailable`."""

    async def ask() -> ProjectList:
        return await local(folder).projects(Inquiry())

    return anyio.run(ask).names


def has_page(folder: Path, name: NormalizedName) -> bool:
    """Whether a page of the project was made in the folder."""
    return (folder / name / JSON_NAME).exists()


def rendered(page: ProjectPage, root: str) -> dict[str, bytes]:
    """The files of one project's page, by their path below the folder `root`.

    The origins of the page's files are paths below `root`; they may lie beside the project's
    own folder as well.
    """
    home = os.path.join(root, page.name)

    def href(file: File) -> str:
        # a page lists local files only
        path = file.origin.path if isinstance(file.origin, LocalOrigin) else file.filename
        return quote(os.fsencode(os.path.relpath(path, home)), safe=_SAFE)

    return {f"{page.name}/{name}": render_page(page, form, href) for name, form in _FORMS.items()}


def rendered_list(names: Sequence[NormalizedName]) -> dict[str, bytes]:
    """The files of the list of projects, by their path below the folder."""
    listing = ProjectList.of(names)
    return {name: render_list(listing, form) for name, form in _FORMS.items()}


def sidecars(page: ProjectPage) -> Mapping[str, bytes]:
    """The `.metadata` siblings that the page promises, by the path of their file."""
    found: dict[str, bytes] = {}
    for file in page.files:
        if file.core_metadata is None or not isinstance(file.origin, LocalOrigin):
            continue
        try:
            with open(file.origin.path, "rb") as source:
                found[file.origin.path + METADATA_SUFFIX] = read_metadata(source, file.filename)
        except (OSError, InvalidArchive):  # gone or changed since the page was made: next time
            continue
    return found
