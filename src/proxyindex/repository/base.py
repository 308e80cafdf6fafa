"""The seam everything composes on: a repository answers two questions and nothing else."""

from typing import Protocol

from packaging.utils import NormalizedName

from proxyindex.inquiry import Inquiry
from proxyindex.model import ProjectList, ProjectPage


class Repository(Protocol):
    """Anything that can say which projects there are and which files a project has.

    Repositories do not open files, carry validators, or know about HTTP.
    """

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """All projects to be listed. Raises `UpstreamError` when a source cannot tell."""
        ...

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The page of one project.

        Raises `ProjectNotFound` when the source says that there is none, `Denied` when a rule
        forbids it, and `UpstreamError` when the source cannot tell.
        """
        ...
