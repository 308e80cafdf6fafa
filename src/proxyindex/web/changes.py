"""What all endpoints share that change something: who asks, from where, and the line about it."""

from __future__ import annotations

import logging

from packaging.utils import NormalizedName
from starlette.requests import Request
from starlette.responses import Response

from proxyindex import audit
from proxyindex.access import Identity
from proxyindex.names import InvalidName, normalize
from proxyindex.publish.rejection import FolderRefused, UploadRejected, bad
from proxyindex.publish.service import Publisher
from proxyindex.web.access import OUTCOME_HEADER, exchange_of
from proxyindex.web.simple import IndexService, service

log = logging.getLogger(__name__)

DONE = "done"
_FOREIGN = frozenset({"cross-site", "same-site"})


def changed_index(request: Request) -> tuple[IndexService, Publisher]:
    """The index that is to be changed. Raises `UploadRejected`.

    A browser sends the password it knows with requests that pages of others make it send.
    """
    if request.headers.get("sec-fetch-site") in _FOREIGN:
        raise UploadRejected(403, "This is not taken from pages of other sites.")
    index = service(request)
    if index.publisher is None:
        raise UploadRejected(403, "This index has no folder of its own to be changed.")
    return index, index.publisher


def project_of(text: str) -> NormalizedName:
    """The normalized name of the project. Raises `UploadRejected`."""
    try:
        return normalize(text)
    except InvalidName as problem:
        raise bad(f"{problem}.") from problem


def done(response: Response, request: Request) -> Response:
    """The answer to a change that was made, or need not be made; never kept by caches."""
    exchange_of(request.scope).outcome = DONE
    response.headers["Cache-Control"] = "no-store"
    response.headers[OUTCOME_HEADER] = DONE
    return response


def tell_refused(request: Request, problem: FolderRefused) -> None:
    """A line for whoever can mend it: the answer names no path."""
    index = service(request)
    folder = index.publisher.shelf.root if index.publisher else "-"
    log.error("index %s: %s (%s, %s)", index.name, problem, folder, problem.__cause__)


def note(
    request: Request, index: str, identity: Identity, action: str, *names: str, **subject: str
) -> None:
    """One line for one change of files of these names."""
    client = request.client.host if request.client else "-"
    about = {"index": index, "files": " ".join(names), **subject}
    audit.note(action, "done", user=identity.user, client=client, **about)
