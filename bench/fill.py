"""Full caches of ours, made by its own stores: faster than by requests; kept for later runs."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from bench import catalogue
from bench.servers.ours import UPSTREAM_NAME
from proxyindex.events import SILENT
from proxyindex.store.cache import Cache
from proxyindex.store.pages import PageHead

_ROOM = 10**12
_FORM = 2  # to be raised when the stores change, so that caches are made anew


def cache_of(scratch: Path, base_url: str, *, projects: int, files: int) -> Path:
    """A cache with so many small projects, all their files, and others up to `files`."""
    folder = scratch / "caches" / f"{projects}-{files}-{_FORM}"
    done = folder / "filled"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _fill(folder, base_url, projects, files)
        done.touch()
    return folder


def _fill(folder: Path, base_url: str, projects: int, files: int) -> None:
    folder.mkdir(parents=True)
    cache = Cache.open(folder, file_limit=_ROOM, page_limit=_ROOM, events=SILENT)
    stored = 0
    for number in range(projects):
        stored += _project(cache, f"small-{number}", base_url)
    for number in range(stored, files):
        data = b"file %d\n" % number
        cache.blobs.put(hashlib.sha256(data).hexdigest(), data)
    cache.release()


def _project(cache: Cache, project: str, base_url: str) -> int:
    now = time.time()
    head = PageHead(
        url=f"{base_url}/simple/{project}/",
        content_type=catalogue.JSON_TYPE,
        fetched_at=now,
        validated_at=now,
        lifetime=600.0,
    )
    body = catalogue.page(project, base_url, catalogue.JSON_TYPE)
    cache.pages.write(UPSTREAM_NAME, project, head, body)
    for file in catalogue.files(project):
        cache.blobs.put(file.sha256, catalogue.small_body(project, file.filename))
    return catalogue.COUNTS["small"]
