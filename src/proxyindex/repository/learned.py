"""A page as upstream gave it, completed by what we learned: pure."""

from collections.abc import Container, Mapping
from dataclasses import replace

from packaging.utils import NormalizedName

from proxyindex.model import File, ProjectPage, ReplacedOrigin, UpstreamOrigin
from proxyindex.names import parse_filename
from proxyindex.store.facts import NO_METADATA, Fact


def complete(
    page: ProjectPage, facts: Mapping[str, Fact], *, upstream: str, offers_metadata: bool
) -> ProjectPage:
    """The page with gaps filled, first bytes pinned, and withdrawn files remembered.

    Only files of which there are facts are made anew: pages have thousands, and each fact learned
    completes the page again. `offers_metadata` goes for wheels of which upstream says nothing that
    is of our bytes.
    """
    if not facts:
        return page
    files = list(page.files)
    listed = {file.filename: place for place, file in enumerate(files)}
    for filename, fact in facts.items():
        if (place := listed.get(filename)) is not None:
            files[place] = _complete(files[place], fact, offers_metadata)
    withdrawn = _withdrawn(page.name, listed, facts, upstream, offers_metadata)
    return replace(page, files=tuple(files), withdrawn=withdrawn)


def gone(
    project: NormalizedName, facts: Mapping[str, Fact], *, upstream: str, offers_metadata: bool
) -> ProjectPage:
    """The page of a project that upstream has removed: nothing but what we still may hold."""
    withdrawn = _withdrawn(project, (), facts, upstream, offers_metadata)
    return ProjectPage(name=project, files=(), withdrawn=withdrawn, is_gone=True)


def changed_files(page: ProjectPage, facts: Mapping[str, Fact]) -> list[File]:
    """The files, as upstream lists them now, whose bytes are others than those first adopted."""
    if not facts:
        return []
    pairs = ((file, facts.get(file.filename)) for file in page.files)
    return [file for file, fact in pairs if fact and _is_changed(file, fact)]


def tells_of_same(file: File, fact: Fact) -> bool | None:
    """Whether the digest listed is that of the bytes adopted; `None` if none can be compared."""
    if file.sha256:
        return file.sha256 == fact.sha256
    name, _, digest = (fact.told or "").partition("=")
    return file.hashes[name] == digest if name in file.hashes else None


def _is_changed(file: File, fact: Fact) -> bool:
    """Whether the digest listed is another, or the size where no digest can be compared."""
    if not fact.sha256:
        return False
    if (is_same := tells_of_same(file, fact)) is not None:
        return not is_same
    return file.size is not None and fact.size is not None and file.size != fact.size


def _complete(file: File, fact: Fact, offers_metadata: bool) -> File:
    hashes = file.hashes
    if fact.sha256 and fact.sha256 != file.sha256:
        # other digests may be of other bytes than ours
        proven = hashes if tells_of_same(file, fact) else {}
        hashes = {**proven, "sha256": fact.sha256}
        if _is_changed(file, fact):
            file = _first(file, fact, offers_metadata)
    metadata = file.core_metadata if file.is_wheel else None
    if file.is_wheel and (known := fact.metadata_for(hashes)) is not None:
        metadata = None if known == NO_METADATA else {"sha256": known}
    size = file.size if fact.size is None else fact.size  # we counted; upstream only says
    return file.but(hashes=hashes, size=size, core_metadata=metadata)


def _first(file: File, fact: Fact, offers_metadata: bool) -> File:
    """The file whose bytes stay, without what upstream says of the others: metadata, provenance
    and signature. Ours may still be where they came from."""
    assert isinstance(file.origin, UpstreamOrigin)
    origin = file.origin
    return file.but(
        origin=ReplacedOrigin(origin.upstream, fact.url or origin.url, origin.project),
        core_metadata={} if offers_metadata else None,
        provenance=None,
        has_signature=False,
    )


def _withdrawn(
    project: NormalizedName,
    listed: Container[str],
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
            core_metadata={} if offers_metadata and filename.endswith(".whl") else None,
        )
        remembered.append(_complete(bare, fact, offers_metadata))
    return tuple(remembered)
