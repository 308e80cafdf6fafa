"""What all endpoints share that change something: who asks, from where, and what is noted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from packaging.utils import NormalizedName
from starlette.requests import Request
from starlette.responses import Response

from proxyindex.access import Identity
from proxyindex.audit import Action, Change
from proxyindex.inquiry import OUTCOME_HEADER
from proxyindex.names import InvalidName, normalize
from proxyindex.uploads.rejection import FolderRefused, UploadRejected, bad, no_folder
from proxyindex.uploads.service import Publisher
from proxyindex.web.accesslog import exchange_of
from proxyindex.web.clients import address_of
from proxyindex.web.index import IndexService, index_of

log = logging.getLogger(__name__)

DONE = "done"
_FOREIGN = frozenset({"cross-site", "same-site"})
_PORTS = {"http": ":80", "https": ":443"}


def refuse_foreign(request: Request) -> None:
    """Raises `UploadRejected` for what a page of another site has a browser send.

    It would send the password it knows along. `Sec-Fetch-Site` tells over TLS and on loopback only
    (Fetch Metadata, 2); `Origin` (RFC 6454, 7.3) comes with each POST and DELETE of a page, `null`
    from where it is nobody's to know.

    Where our name is told (`public-url`), no other name in `Host` is taken for it: a page of others
    can have its own name lead here (DNS rebinding). An address is nobody's but ours.
    """
    public, asked = urlsplit(request.state.house.public_url).netloc, request.headers.get("host", "")
    own = [public, asked] if not public or _is_address(asked) else [public]
    is_foreign = not _FOREIGN.isdisjoint(request.headers.getlist("sec-fetch-site"))
    if is_foreign or not all(_is_of(o, own) for o in request.headers.getlist("origin")):
        raise UploadRejected(403, "This is not taken from pages of other sites.")


def _is_address(host: str) -> bool:
    """Whether `host` or `host:port` is one, and no name."""
    try:
        return address_of(urlsplit(f"//{host}").hostname or "") is not None
    except ValueError:
        return False


def _is_of(origin: str, hosts: Sequence[str]) -> bool:
    """Whether it is a page of one of these hosts (`name` or `name:port`); which of HTTP and HTTPS
    it came by is not known behind a front."""
    scheme, _, authority = origin.lower().partition("://")
    usual = _PORTS.get(scheme, "")
    mine = {host.lower().removesuffix(usual) for host in hosts if host}
    return bool(usual) and authority.removesuffix(usual) in mine


def changed_index(request: Request) -> tuple[IndexService, Publisher]:
    """The index that is to be changed. Raises `UploadRejected`."""
    refuse_foreign(request)
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


def done(response: Response, request: Request, outcome: str = DONE) -> Response:
    """The answer to a change that was made, or need not be made; never kept by caches."""
    exchange_of(request.scope).outcome = outcome
    response.headers["Cache-Control"] = "no-store"
    response.headers[OUTCOME_HEADER] = outcome
    return response


def tell_refused(request: Request, problem: FolderRefused) -> None:
    """A line for whoever can mend it: the answer names no path."""
    index = index_of(request)
    folder = index.publisher.shelf.root if index.publisher else "-"
    log.error("index %s: %s (%s, %s)", index.name, problem, folder, problem.__cause__)


def changing(
    request: Request,
    index: str,
    identity: Identity,
    action: Action,
    *,
    sha256: str | None = None,
    source: str | None = None,
) -> Change:
    """Who is about to change files of this index, and how, for the audit log."""
    client = request.client.host if request.client else "-"
    return Change(action, identity.user, client, index, sha256=sha256, source=source)
