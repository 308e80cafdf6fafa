"""`proxyindex cache accept`: what it lets in, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxyindex.cli import main
from proxyindex.store.doubts import Doubts
from proxyindex.store.facts import Fact
from tests.support.pages import JSON_TYPE, FileSpec, json_page
from tests.support.stores import HEAD, keep, opened, sha256

UP = "pypi-0123456789ab"
CHANGED, SAME, BARE, SIZED = (f"demo-{number}.tar.gz" for number in (1, 2, 3, 4))
OLD = {CHANGED: b"first bytes", SAME: b"same", BARE: b"bare", SIZED: b"sized"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache of `demo`: one file changed, one not, one without a digest, one of another size."""
    files = [
        FileSpec(filename=CHANGED, body=b"other bytes"),
        FileSpec(filename=SAME, body=OLD[SAME]),
        FileSpec(filename=BARE, hashes={}, size=None),
        FileSpec(filename=SIZED, hashes={}, size=99),
    ]
    with opened(tmp_path / "cache") as cache:
        keep(cache, "demo", OLD, upstream=UP)
        keep(cache, "other", {"other-1.tar.gz": b"x", "twin-1.tar.gz": OLD[SIZED]}, upstream=UP)
        cache.facts.learn(UP, "demo", CHANGED, Fact(metadata=""))  # a second line of that file
        write_page(cache, *files)
    return tmp_path / "cache"


def write_page(cache: object, *files: FileSpec) -> None:
    head = type(HEAD)("http://up.example/simple/demo/", JSON_TYPE, 1.0, 1.0, lifetime=600.0)
    cache.pages.write(UP, "demo", head, json_page("demo", files))  # type: ignore[attr-defined]


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["cache", "accept", *arguments, "--cache-dir", str(root)])


def pinned(root: Path) -> set[str]:
    with opened(root) as cache:
        return set(cache.facts.read(UP, "demo"))


def held(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").glob("*/*")}


def test_changed_bytes_are_let_in_and_nothing_else_is_lost(root: Path) -> None:
    result = run(root, "Demo")
    assert result.exit_code == 0, result.output
    assert result.stdout == "".join(
        f"Forgot the first bytes of {name}; the next request fetches it anew.\n"
        for name in (CHANGED, SIZED)
    )
    assert pinned(root) == {SAME, BARE}
    assert sha256(OLD[CHANGED]) not in held(root)
    assert {sha256(OLD[name]) for name in (SAME, BARE, SIZED)} <= held(root), "others have it, too"
    with opened(root) as cache:
        assert cache.pages.read(UP, "demo") is not None
        assert cache.facts.broken(UP, "demo") == []
    assert run(root, "demo").exit_code == 1


@pytest.mark.parametrize("name", [CHANGED, BARE, SIZED])
def test_one_file_is_let_in_by_name(root: Path, name: str) -> None:
    result = run(root, "demo", name, "--json")
    freed = 0 if name == SIZED else len(OLD[name])
    assert json.loads(result.stdout) == {
        **{"project": "demo", "pages": 0, "files": [name], "bytes": freed}
    }
    assert pinned(root) == set(OLD) - {name}


@pytest.mark.parametrize("name", [SAME, "demo-9.tar.gz", "../../etc/passwd"])
def test_a_file_that_did_not_change_is_left_alone(root: Path, name: str) -> None:
    result = run(root, "demo", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: There is nothing to accept: no other bytes")
    assert pinned(root) == set(OLD)


def test_a_project_without_contradiction_has_nothing_to_accept(root: Path) -> None:
    result = run(root, "other")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing to accept for 'other'" in result.stderr


def test_a_project_that_is_not_held_is_told(root: Path) -> None:
    result = run(root, "demoo")
    assert result.exit_code == 1
    assert result.stderr == "Error: The cache holds nothing of 'demoo'; did you mean 'demo'?\n"


def test_a_page_in_doubt_is_asked_for_at_once_and_believed(root: Path) -> None:
    with opened(root) as cache:
        write_page(cache, FileSpec(filename=SAME, body=OLD[SAME]))
        Doubts(cache.doubts).begin(UP, "demo", 5.0)
    result = run(root, "demo")
    assert result.exit_code == 0
    assert "Accepted what upstream will say of demo" in result.stdout
    with opened(root) as cache:
        stored = cache.pages.read(UP, "demo")
        assert stored is not None, "the last good page stays until then"
        assert stored.head.lifetime == 0.0
        assert Doubts(cache.doubts).since(UP, "demo") == 0.0
    assert pinned(root) == set(OLD)


def test_a_purge_ends_the_doubt(root: Path) -> None:
    with opened(root) as cache:
        Doubts(cache.doubts).begin(UP, "demo", 5.0)
    CliRunner().invoke(main, ["cache", "purge", "demo", "--cache-dir", str(root)])
    with opened(root) as cache:
        assert Doubts(cache.doubts).since(UP, "demo") is None
