"""The seam everything composes on: a repository answers two questions and nothing else."""

import time
from typing import Protocol

from packaging.utils import NormalizedName

from proxyindex.errors import NotFound, ProjectNotFound
from proxyindex.inquiry import Inquiry, Outcome
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


async def there(repository: Repository, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
    """The page of a project that is there. Raises as `project`, also for one of which nothing is
    left but withdrawn files."""
    page = await repository.project(name, inquiry)
    if page.is_gone:
        raise inquiry.unsure or ProjectNotFound(name)
    return page


async def refresh(
    repository: Repository, name: NormalizedName, seconds: float, *, is_offline: bool
) -> str | None:
    """Ask the upstream now, whatever the age of its page; an `Outcome`, `missing`, or `offline`
    where what is kept had to do: a `hit` is a page that was asked for a moment ago."""
    inquiry = Inquiry(revalidate=True, deadline=time.monotonic() + seconds)
    try:
        await there(repository, name, inquiry)
    except NotFound:
        return "missing"
    if is_offline and inquiry.outcome is Outcome.HIT:
        return "offline"
    return inquiry.outcome.value if inquiry.outcome else None
