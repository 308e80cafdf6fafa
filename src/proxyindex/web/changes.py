"""What all endpoints share that change something: who asks, from where, and the line about it."""

from __future__ import annotations

from packaging.utils import NormalizedName
from starlette.requests import Request

from proxyindex import audit
from proxyindex.access import Identity
from proxyindex.names import InvalidName, normalize
from proxyindex.publish.rejection import UploadRejected, bad, no_folder
from proxyindex.publish.service import Publisher
from proxyindex.web.simple import IndexService, index_of

_FOREIGN = frozenset({"cross-site", "same-site"})


def changed_index(request: Request) -> tuple[IndexService, Publisher]:
    """The index that is to be changed. Raises `UploadRejected`.

    A browser sends the password it knows with requests that pages of others make it send.
    """
    if request.headers.get("sec-fetch-site") in _FOREIGN:
        raise UploadRejected(403, "This is not taken from pages of other sites.")
    index = index_of(request)
    if index.publisher is None:
        raise no_folder()
    return index, index.publisher


def project_of(text: str) -> NormalizedName:
    """The normalized name of the project. Raises `UploadRejected`."""
    try:
        return normalize(text)
    except InvalidName as problem:
        raise bad(f"{problem}.") from problem


def note(
    request: Request, index: str, identity: Identity, action: str, *names: str, **subject: str
) -> None:
    """One line for one change of files of these names."""
    client = request.client.host if request.client else "-"
    about = {"index": index, "files": " ".join(names), **subject}
    audit.note(action, "done", user=identity.user, client=client, **about)
