"""The management API: delete, yank, push, refresh. JSON in and out, errors as plain text."""

from __future__ import annotations

import msgspec
from packaging.utils import NormalizedName
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxyindex.access import Action
from proxyindex.inquiry import UNCHANGED
from proxyindex.repository import base
from proxyindex.uploads import changes, promotion
from proxyindex.uploads.rejection import no_other_index
from proxyindex.web.accesslog import exchange_of
from proxyindex.web.body import json_body
from proxyindex.web.changes import changed_index, changing, done, project_of, refuse_foreign
from proxyindex.web.index import PAGE_SECONDS, index_of


class _Yank(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""
    filename: str | None = None


class _Push(msgspec.Struct, forbid_unknown_fields=True):
    project: str
    version: str
    to: str


async def delete(request: Request) -> Response:
    """`DELETE api/projects/NAME[/VERSION[/FILENAME]]`"""
    index, publisher = changed_index(request)
    project = _project(request, index.name)
    identity = await index.admission.admit(request, Action.DELETE, project)
    version, filename = (request.path_params.get(key) for key in ("version", "filename"))
    by = changing(request, index.name, identity, "delete")
    gone = await changes.delete(publisher, project, version, filename, by=by)
    by.note(gone)
    return done(JSONResponse({"project": project, "deleted": gone}), request)


async def yank(request: Request) -> Response:
    """`POST api/projects/NAME/VERSION/yank` with {"reason": …, "filename": …}, both optional;
    `DELETE` takes it back."""
    index, publisher = changed_index(request)
    project = _project(request, index.name)
    identity = await index.admission.admit(request, Action.YANK, project)
    wanted = await json_body(request, _Yank)
    is_yank = request.method == "POST"
    by = changing(request, index.name, identity, "yank" if is_yank else "unyank")
    names = await changes.yank(
        publisher,
        project,
        request.path_params["version"],
        wanted.filename,
        wanted.reason if is_yank else None,
        by=by,
    )
    key = "yanked" if is_yank else "unyanked"
    answer = JSONResponse({"project": project, key: names})
    if not names:
        return done(answer, request, UNCHANGED)
    by.note(names)
    return done(answer, request)


async def push(request: Request) -> Response:
    """`POST api/push` with {"project": …, "version": …, "to": INDEX}"""
    index, publisher = changed_index(request)
    exchange = exchange_of(request.scope)
    exchange.kind, exchange.index = "change", index.name
    wanted = await json_body(request, _Push)
    project = exchange.project = project_of(wanted.project)
    target = request.state.house.indexes.get(wanted.to)
    await index.admission.admit(request, Action.READ, project)
    # who may not upload there learns nothing of what there is
    identity = await (target or index).admission.admit(request, Action.UPLOAD, project)
    if target is None or target.publisher is None or target is index:
        others = request.state.house.targets(index).items()
        allowed = (name for name, one in others if one.admission.may_upload(identity, project))
        raise no_other_index(wanted.to, allowed)
    by = changing(request, wanted.to, identity, "push", source=index.name)
    names = await promotion.push(publisher, target.publisher, project, wanted.version, by=by)
    if names:
        by.note(names)
    return done(JSONResponse({"project": project, "pushed": names}), request)


async def refresh(request: Request) -> Response:
    """`POST api/projects/NAME/refresh`: ask the upstream now, whatever the age of its page."""
    refuse_foreign(request)
    index = index_of(request)
    project = _project(request, index.name)
    for action in (Action.READ, Action.FETCH):
        await index.admission.admit(request, action, project)
    outcome = await base.refresh(
        index.repository, project, PAGE_SECONDS, is_offline=index.files.is_offline
    )
    return done(JSONResponse({"project": project, "outcome": outcome}), request)


def _project(request: Request, index: str) -> NormalizedName:
    project = project_of(request.path_params["name"])
    exchange = exchange_of(request.scope)
    exchange.kind, exchange.index, exchange.project = "change", index, project
    return project


_PROJECT = "/api/projects/{name}"

ROUTES = (
    Route("/api/push", push, methods=["POST"]),
    Route(_PROJECT, delete, methods=["DELETE"]),
    Route(_PROJECT + "/refresh", refresh, methods=["POST"]),
    Route(_PROJECT + "/{version}", delete, methods=["DELETE"]),
    Route(_PROJECT + "/{version}/yank", yank, methods=["POST", "DELETE"]),
    Route(_PROJECT + "/{version}/{filename}", delete, methods=["DELETE"]),
)
