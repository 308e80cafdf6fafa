"""Own files seen from where other bytes may take their names."""

from dataclasses import replace

from packaging.utils import NormalizedName

from proxyindex.inquiry import Inquiry
from proxyindex.model import File, LocalOrigin, ProjectList, ProjectPage
from proxyindex.repository.base import Repository
from proxyindex.repository.remembered import MadePages


class Volatile:
    """A source of own files, of which clients of this index may keep none unasked."""

    def __init__(self, source: Repository) -> None:
        self._source = source
        self._made = MadePages(_loosened)

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        return await self._source.projects(inquiry)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The source's page, of volatile files."""
        return await self._made.of(await self._source.project(name, inquiry))


def _loosened(page: ProjectPage) -> ProjectPage:
    return replace(page, files=tuple(map(_loose, page.files)))


def _loose(file: File) -> File:
    if not isinstance(file.origin, LocalOrigin) or file.origin.is_volatile:
        return file
    return file.but(origin=replace(file.origin, is_volatile=True))
