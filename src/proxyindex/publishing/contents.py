"""What lies in a folder on another machine, as far as publishing has to know."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import PurePosixPath

from packaging.utils import NormalizedName

from proxyindex.names import canonical, is_safe_filename, parse_filename
from proxyindex.publishing.distribution import Distribution
from proxyindex.publishing.rsync import Entry, Remote
from proxyindex.repository.scan import is_passed_over, project_of


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of some projects by path, all other paths beside them, and the names of all
    projects, as far as folders tell."""

    files: Mapping[NormalizedName, Mapping[str, Entry]]
    paths: frozenset[str] = frozenset()
    names: frozenset[NormalizedName] = frozenset()

    def path_of(self, each: Distribution) -> str | None:
        """Where a file of this name lies, below the folder."""
        paths = self.files.get(each.project, {})
        return next((path for path in paths if PurePosixPath(path).name == each.filename), None)


def look(remote: Remote, projects: Set[NormalizedName]) -> Contents:
    """What there is of these projects. Raises `PublishError`, and `Missing` without the folder.

    Files may lie flat, or at any depth in a folder of their project's name in any spelling: a push
    puts them into one there.
    """
    entries = remote.listing()
    found = {entry.name: entry for entry in entries if not entry.is_folder}
    folders = {entry.name: canonical(entry.name) for entry in entries if entry.is_folder}
    for folder, name in folders.items():
        if name in projects:
            inner = remote.listing(folder, is_deep=True)
            found |= {f"{folder}/{each.name}": each for each in inner if not each.is_folder}
    files = _files(found, projects)
    names = {name for name in folders.values() if name} | {name for name in files if files[name]}
    return Contents(files, frozenset(found), frozenset(names))


def _files(
    found: Mapping[str, Entry], projects: Set[NormalizedName]
) -> dict[NormalizedName, dict[str, Entry]]:
    """The distribution files of these projects; of equal names the one that `Local` shows."""
    files: dict[NormalizedName, dict[str, Entry]] = {name: {} for name in projects}
    taken: set[str] = set()
    for path in sorted(found, key=lambda path: path.split("/")[:-1]):
        *above, filename = path.split("/")
        if filename in taken or not is_safe_filename(filename) or any(map(is_passed_over, above)):
            continue
        project = parse_filename(filename, project_of("/".join(above), len(above))).project
        if project and project in projects:
            taken.add(filename)
            files[project][path] = found[path]
    return files
