"""A release as PyPI's JSON API describes it: its core metadata, its files, and all other releases.

No installer reads this. But pip-tools asks it for the digests of a release, of which it downloads
every file otherwise (measured), and so do generators of recipes, editors and bots. Source: PyPI's
documentation of that API; what only PyPI knows (serials, downloads, vulnerabilities) is left out,
or says that it is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from proxyindex.model import File, ProjectPage
from proxyindex.names import (
    MAX_NAME,
    canonical,
    in_order,
    is_same_version,
    parse_filename,
    version_key,
)

# what `packaging` calls these fields of core metadata is what they are called here, too
_SAME = (
    "author",
    "author_email",
    "description",
    "description_content_type",
    "download_url",
    "home_page",
    "license",
    "license_expression",
    "maintainer",
    "maintainer_email",
    "requires_python",
    "summary",
    "classifiers",
    "dynamic",
    "license_files",
    "project_urls",
    "provides_extra",
    "requires_dist",
)
_NOT_KNOWN = -1  # PyPI's own word for numbers of downloads that nobody counts
_PACKAGE_TYPES = {
    ".whl": "bdist_wheel",
    ".egg": "bdist_egg",
    ".exe": "bdist_wininst",
    ".msi": "bdist_msi",
    ".rpm": "bdist_rpm",
}


def latest(page: ProjectPage) -> str | None:
    """The version that people mean who name none: the newest one with files of which not all are
    yanked, and a pre-release only where there is nothing else; `None` if nothing has a version."""
    keys = _keys(page)
    files = {
        keys.get(file.version): file for file in sorted(page.files, key=_is_yanked, reverse=True)
    }
    return max(page.versions, key=lambda text: _rank(text, files.get(keys[text])), default=None)


def known(page: ProjectPage, version: str) -> str | None:
    """The page's spelling of a version, if it has it."""
    return next((text for text in page.versions if is_same_version(text, version)), None)


def files_of(page: ProjectPage, version: str | None) -> list[File]:
    """The files that may be had of a version, in whatever spelling."""
    if page.status.status == "quarantined":
        return []
    return [file for file in page.files if is_same_version(file.version, version)]


def describe(
    page: ProjectPage,
    version: str | None,
    metadata: Mapping[str, Any],
    *,
    home: str,
    href: Callable[[File], str],
) -> bytes:
    """The document. `metadata` is what `packaging.metadata.parse_email` reads, `home` the absolute
    URL of the project's page, and `href` makes the link of a file below it."""

    if canonical(metadata.get("name", "")[: MAX_NAME + 1]) != page.name:
        metadata = {}  # nobody installs what says that it is another
    keys = _keys(page)
    releases: dict[str | None, list[dict[str, object]]] = {key: [] for key in keys.values()}
    for file in page.files:
        releases.setdefault(keys.get(file.version), []).append(_file(file, home + href(file)))
    if page.status.status == "quarantined":
        releases.clear()
    urls = releases.get(keys.get(version), [])
    releases.pop(None, None)  # of files whose name tells no version
    info = _info(page, version, metadata, home) | _yanked(urls)
    return msgspec.json.encode({"info": info, "releases": releases, "urls": urls})


def _keys(page: ProjectPage) -> Mapping[str | None, str]:
    """What each spelling of a version is listed under: all of them are one release."""
    texts = dict.fromkeys([*page.versions, *(file.version for file in page.files if file.version)])
    return {text: _canonical(same[0]) for same in in_order(texts) for text in same}


def _info(
    page: ProjectPage, version: str | None, metadata: Mapping[str, Any], home: str
) -> dict[str, object]:
    said = {name: metadata.get(name) for name in _SAME}
    return {
        **said,
        "name": metadata.get("name") or page.name,
        "version": None if version is None else _canonical(version),
        "classifiers": metadata.get("classifiers") or [],
        "keywords": ",".join(metadata.get("keywords") or ()),
        "platform": ", ".join(metadata.get("platforms") or ()),
        "package_url": home,
        "project_url": home,
        "release_url": home,
        "bugtrack_url": None,
        "docs_url": None,
        "downloads": dict.fromkeys(("last_day", "last_week", "last_month"), _NOT_KNOWN),
    }


def _yanked(files: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """A release is yanked if all of it is."""
    is_yanked = bool(files) and all(file["yanked"] for file in files)
    return {"yanked": is_yanked, "yanked_reason": files[0]["yanked_reason"] if is_yanked else None}


def _file(file: File, url: str) -> dict[str, object]:
    time = file.upload_time and file.upload_time.replace(tzinfo=None)
    return {
        "filename": file.filename,
        "url": url,
        "digests": dict(file.hashes.items()),
        "md5_digest": file.hashes.get("md5"),
        "size": file.size,
        "packagetype": _package_type(file),
        "python_version": _python(file),
        "requires_python": file.requires_python,
        "upload_time": time and time.isoformat(timespec="seconds"),
        "upload_time_iso_8601": time and f"{time.isoformat()}Z",
        "yanked": file.yanked is not None,
        "yanked_reason": file.yanked or None,
        "has_sig": file.has_signature,
        "comment_text": "",
        "downloads": _NOT_KNOWN,
    }


def _package_type(file: File) -> str:
    if parse_filename(file.filename).kind == "sdist":
        return "sdist"
    return _PACKAGE_TYPES.get(file.filename[-4:], "bdist_dumb")


def _python(file: File) -> str:
    """Of a wheel its tags."""
    parts = file.filename.split("-")
    if file.is_wheel and len(parts) > 4:
        return parts[-3]
    return "source" if _package_type(file) == "sdist" else "any"


def _canonical(version: str) -> str:
    """As tools write a version that they have parsed: `2024.7.4` for `2024.07.04`."""
    rank, parsed, text = version_key(version)
    return str(parsed) if rank == 1 else text


def _is_yanked(file: File) -> bool:
    return file.yanked is not None


def _rank(version: str, file: File | None) -> tuple[object, ...]:
    rank, parsed, text = version_key(version)
    is_final = rank == 1 and not parsed.is_prerelease
    is_there = file is not None and not _is_yanked(file)
    return is_there, file is not None, is_final, rank, parsed, text
