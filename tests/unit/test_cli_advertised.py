"""`proxyindex cache` and core metadata of which only a project's page tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxyindex.cli import main
from tests.support.pages import JSON_TYPE, FileSpec, html_page, json_page, wheel_spec
from tests.support.stores import HEAD, age, opened, sha256

UP = "pypi-0123456789ab"
OLD, NEW = wheel_spec("demo", "1.0"), wheel_spec("demo", "2.0")
OTHER = wheel_spec("other")

Page = Callable[[str, Iterable[FileSpec]], bytes]


def shouting(name: str, files: Iterable[FileSpec]) -> bytes:
    """A page whose digests are in upper case, as some say them."""
    text = html_page(name, files).decode()
    for file in files:
        assert file.metadata is not None
        text = text.replace(sha256(file.metadata), sha256(file.metadata).upper())
    return text.encode()


@pytest.fixture(params=[json_page, html_page, shouting], ids=["json", "html", "upper-case"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A cache of `demo` and `other` as it is after they were resolved, but for their wheels."""
    page: Page = request.param
    content_type = JSON_TYPE if page is json_page else "text/html"
    with opened(tmp_path) as cache:
        for name, specs in {"demo": [OLD, NEW], "other": [OTHER]}.items():
            head = replace(HEAD, content_type=content_type)
            cache.pages.write(UP, name, head, page(name, specs))
            for spec in specs:
                assert spec.metadata is not None
                cache.blobs.put(sha256(spec.metadata), spec.metadata)
    for path in (tmp_path / "blobs").glob("*/*"):
        age(path, 7200)
    return tmp_path


def run(root: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(main, ["cache", *arguments, "--cache-dir", str(root)])
    assert result.exit_code == 0, result.output
    return result


def held(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").glob("*/*")}


def metadata(*specs: FileSpec) -> set[str]:
    return {sha256(spec.metadata) for spec in specs if spec.metadata is not None}


def test_clean_keeps_it(root: Path) -> None:
    assert "removed 0 orphaned files" in run(root, "clean").stdout
    assert held(root) == metadata(OLD, NEW, OTHER)


def test_a_pin_keeps_it_also_when_the_page_changes(root: Path) -> None:
    run(root, "pin", "demo")
    with opened(root, file_limit=0) as cache:
        cache.blobs.recount()
        cache.blobs.trim()
        assert held(root) == metadata(OLD, NEW)
        head = replace(HEAD, content_type=JSON_TYPE)
        cache.pages.write(UP, "demo", head, json_page("demo", [NEW]))
        cache.blobs.trim()
        assert held(root) == metadata(NEW), "what upstream has withdrawn was never held"


def test_purge_takes_it(root: Path) -> None:
    size = sum(len(spec.metadata or b"") for spec in (OLD, NEW))
    assert run(root, "purge", "demo").stdout == f"Purged demo: 1 pages, 2 files ({size} bytes).\n"
    assert held(root) == metadata(OTHER)


def test_purge_leaves_it_where_another_page_has_it(root: Path) -> None:
    with opened(root) as cache:
        head = replace(HEAD, content_type=JSON_TYPE)
        cache.pages.write("mirror-0123456789ab", "twin", head, json_page("twin", [NEW]))
    run(root, "purge", "demo")
    assert held(root) == metadata(NEW, OTHER)


def test_ls_counts_and_shows_it(root: Path) -> None:
    listed = json.loads(run(root, "ls", "--json").stdout)
    assert [(one["files"], one["file_bytes"]) for one in listed] == [
        (0, len(OLD.metadata or b"") + len(NEW.metadata or b"")),
        (0, len(OTHER.metadata or b"")),
    ]
    files = json.loads(run(root, "ls", "demo", "--json").stdout)
    assert [(one["filename"], one["size"], one["has_metadata"]) for one in files] == [
        (OLD.filename, None, True),
        (NEW.filename, None, True),
    ]
