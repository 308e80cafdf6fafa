"""Which files are meant: files, folders and globs, or a name and a version in a folder."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.version import InvalidVersion, Version

from proxyindex.names import InvalidName, normalize, parse_filename
from proxyindex.publishing.distribution import BESIDE, ENDINGS
from proxyindex.publishing.target import PublishError

_SHOWN = 80  # characters of a text that is no version


def by_paths(arguments: Sequence[str]) -> list[Path]:
    """The files meant, each once, in order. Raises `PublishError` for what matches nothing.

    Of a folder, its wheels and sdists; whatever else a build leaves there is passed over. A file
    that is named is taken at its word, but signatures and attestations, which go along anyway.
    """
    named = [argument for argument in arguments if not argument.endswith(BESIDE)]
    if not named:
        raise PublishError("Only signatures and attestations are named; name what they are of.")
    return _distinct(path for argument in named for path in _meant(argument))


def by_release(folder: Path, name: str, version: str) -> list[Path]:
    """The wheels and sdists of one version in a folder, by normalized name and parsed version.

    Raises `PublishError` where there are none.
    """
    try:
        project, wanted = normalize(name), Version(version)
    except InvalidName as problem:
        raise PublishError(f"{problem}.") from problem
    except ValueError as problem:  # InvalidVersion, and int() refusing thousands of digits
        raise PublishError(f"{version[:_SHOWN]!r} is no version.") from problem
    found = [path for path in _in_folder(folder) if _is_of(path.name, project, wanted)]
    if not found:
        raise PublishError(f"There is no wheel or sdist of {project} {wanted} in {folder}.")
    return found


def _meant(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        found = _in_folder(path)
    elif path.is_file():
        found = [path]
    elif path.exists():
        raise PublishError(f"{argument!r} is neither a file nor a folder.")
    else:
        matching = map(Path, sorted(glob.glob(argument)))
        found = [one for one in matching if one.name.endswith(ENDINGS) and one.is_file()]
    if not found:
        raise PublishError(f"There is no wheel or sdist {argument!r}.")
    return found


def _in_folder(folder: Path) -> list[Path]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise PublishError(f"The folder {folder} cannot be read: {reason}.") from problem
    visible = [name for name in names if name.endswith(ENDINGS) and not name.startswith(".")]
    return [path for path in (folder / name for name in visible) if path.is_file()]


def _is_of(filename: str, project: str, wanted: Version) -> bool:
    named = parse_filename(filename)
    try:
        return named.project == project and Version(named.version or "") == wanted
    except InvalidVersion:
        return False


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """Each file once. Raises `PublishError` for two files of one name: which would it be?"""
    chosen: dict[str, Path] = {}
    for path in paths:
        known = chosen.setdefault(path.name, path)
        if known.resolve() != path.resolve():
            raise PublishError(f"Two files have the name {path.name}: {known} and {path}.")
    return list(chosen.values())
