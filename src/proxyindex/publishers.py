"""What changes the folders of each index."""

from __future__ import annotations

from proxyindex.names import matches_pattern
from proxyindex.repository.base import Repository
from proxyindex.settings import IndexSettings, Settings
from proxyindex.trees import Tree, policy
from proxyindex.uploads.service import Publisher, UploadTerms
from proxyindex.uploads.shelf import Shelves


def publisher(
    settings: Settings, index: IndexSettings, own: Repository | None, tree: Tree, shelves: Shelves
) -> Publisher | None:
    """What changes the first folder of the index, if it has one; `own` shows all of them."""
    if own is None:
        return None
    claimed = (*index.claim, *index.merge)
    terms = UploadTerms(
        overwrite=index.overwrite,
        max_size=settings.max_upload_size,
        claims=lambda name: any(matches_pattern(name, pattern) for pattern in claimed),
        policy=policy(index.policy),
    )
    shelf = shelves.at(index.folders[0])
    others = list(index.folders[1:])
    for base in settings.lineage(index)[1:]:
        others += () if base.overwrite else base.folders
    return Publisher(shelf, own, tree.inside, tree.outside, terms, others)
