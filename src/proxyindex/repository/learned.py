"""A page as upstream gave it, completed by what we learned: pure."""

from collections.abc import Mapping
from dataclasses import replace

from packaging.utils import NormalizedName

from proxyindex.model import File, ProjectPage, UpstreamOrigin
from proxyindex.names import parse_filename
from proxyindex.store.facts import NO_METADATA, Fact


def complete(
    page: ProjectPage, facts: Mapping[str, Fact], *, upstream: str, offers_metadata: bool
) -> ProjectPage:
    """The page with gaps filled, first bytes pinned, and withdrawn files remembered.

    `offers_metadata`: advertise core metadata for every wheel, found or made on request.
    """
    files = tuple(
        _complete(file, page.name, facts.get(file.filename), offers_metadata) for file in page.files
    )
    listed = {file.filename for file in page.files}
    return replace(
        page,
        files=files,
        withdrawn=_withdrawn(page.name, listed, facts, upstream, offers_metadata),
    )


def gone(
    project: NormalizedName, facts: Mapping[str, Fact], *, upstream: str, offers_metadata: bool
) -> ProjectPage:
    """The page of a project that upstream has removed: nothing but what we still may hold."""
    withdrawn = _withdrawn(project, set(), facts, upstream, offers_metadata)
    return ProjectPage(name=project, files=(), withdrawn=withdrawn, is_gone=True)


def changed_files(page: ProjectPage, facts: Mapping[str, Fact]) -> list[str]:
    """Names of files that upstream now lists with another sha256 than the one first adopted."""
    return [
        file.filename
        for file in page.files
        if file.sha256
        and (fact := facts.get(file.filename))
        and fact.sha256
        and fact.sha256 != file.sha256
    ]


def _complete(file: File, project: str, fact: Fact | None, offers_metadata: bool) -> File:
    if fact is None:
        if file.core_metadata is None and offers_metadata and file.is_wheel:
            return replace(file, core_metadata={})
        return file
    hashes = file.hashes
    if fact.sha256 and fact.sha256 != file.sha256:
        # weaker hashes of the page stay only where they speak of the same bytes
        hashes = {"sha256": fact.sha256} if file.sha256 else {**hashes, "sha256": fact.sha256}
    return replace(
        file,
        hashes=hashes,
        size=file.size if fact.size is None else fact.size,  # we counted; upstream only says
        core_metadata=_metadata(file, fact, offers_metadata),
    )


def _metadata(file: File, fact: Fact, offers_metadata: bool) -> Mapping[str, str] | None:
    if not file.is_wheel:
        return None
    if fact.metadata:
        return {"sha256": fact.metadata}
    if fact.metadata == NO_METADATA:
        return None
    return {} if file.core_metadata is None and offers_metadata else file.core_metadata


def _withdrawn(
    project: NormalizedName,
    listed: set[str],
    facts: Mapping[str, Fact],
    upstream: str,
    offers_metadata: bool,
) -> tuple[File, ...]:
    remembered = []
    for filename, fact in facts.items():
        if filename in listed or not fact.sha256:
            continue
        bare = File(
            filename=filename,
            origin=UpstreamOrigin(upstream, fact.url, project),
            version=parse_filename(filename, project).version,
        )
        remembered.append(_complete(bare, project, fact, offers_metadata))
    return tuple(remembered)
