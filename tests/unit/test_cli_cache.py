"""`proxyindex cache`: what it prints, what it changes, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxyindex.cli import main
from proxyindex.store.facts import Fact
from proxyindex.store.locks import Locks
from tests.support.stores import HEAD, age, keep, opened, sha256

UP = "pypi-0123456789ab"
OTHER = "internal-ba9876543210"
WHEEL = b"wheel bytes"
METADATA = b"Metadata-Version: 2.1\n"
SHARED = b"the same bytes in two projects"
COMMANDS = ["ls", "du", "clean", "verify", "purge", "accept", "pin", "unpin"]
NAMED = {"purge", "accept", "pin", "unpin"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache of `foo-bar` (a wheel with metadata, a shared file) and `other` (that file)."""
    with opened(tmp_path / "cache") as cache:
        keep(cache, "foo-bar", {"foo_bar-1.0.whl": WHEEL}, upstream=UP, metadata=METADATA)
        keep(cache, "foo-bar", {"foo_bar-1.0.tar.gz": SHARED}, upstream=UP)
        keep(cache, "other", {"other-1.0.tar.gz": SHARED}, upstream=OTHER)
    return tmp_path / "cache"


def run(root: Path, *arguments: str, text: str | None = None) -> Result:
    environ = {"PROXYINDEX_CACHE_DIR": str(root)}
    return CliRunner().invoke(main, ["cache", *arguments], env=environ, input=text)


def run_as_one_who_may_not(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """By root that may not read what others have closed."""
    command = [sys.executable, "-m", "proxyindex", "cache", *arguments, "--cache-dir", str(root)]
    return subprocess.run(
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command],
        text=True,
        capture_output=True,
        check=False,
    )


def run_json(root: Path, *arguments: str) -> object:
    result = run(root, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def blobs(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").glob("*/*")}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_only_the_server_needs_is_not_asked_for(
    root: Path, command: str, tmp_path: Path
) -> None:
    config = tmp_path / "proxyindex.toml"
    config.write_text("""
        folders = ["gone"]
        htpasswd = ["gone"]
        tls-cert = "gone"
        tls-key = "gone"
        [[upstream]]
        name = "corp"
        url = "https://index.example/simple"
        username = "server"
        password-env = "SECRET_OF_THE_SERVER"
        ca-file = "gone"
        [[upstream]]
        name = "other"
        url = "https://other.example/simple"
        password-file = "secret"
    """)
    (tmp_path / "secret").write_text("of a user whom only the server's environment knows")
    named = ["other"] if command in NAMED else []
    result = run(root, command, *named, "--config", str(config))
    # what they are asked for there is not
    assert result.exit_code == (1 if command in {"accept", "unpin"} else 0), result.output
    assert str(config) not in result.output
    served = CliRunner().invoke(main, ["config", "check", "--config", str(config)])
    assert served.exit_code == 2
    assert "SECRET_OF_THE_SERVER" in served.output


def test_an_offline_server_is_no_reason_to_refuse(tmp_path: Path) -> None:
    environ = {"PROXYINDEX_CACHE_DIR": str(tmp_path / "gone"), "PROXYINDEX_OFFLINE": "true"}
    result = CliRunner().invoke(main, ["cache", "du"], env=environ)
    assert "nothing to serve" not in result.output
    assert result.exit_code != 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_the_flags_and_an_example(command: str) -> None:
    result = CliRunner().invoke(main, ["cache", command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert "--cache-dir" in result.output
    assert "--upstream" not in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_cache_is_one_sentence_and_is_not_made(tmp_path: Path, command: str) -> None:
    names = ["demo"] if command in NAMED else []
    result = run(tmp_path / "none", command, *names)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"Error: The cache could not be opened: there is no folder ({tmp_path / 'none'}).\n"
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [["ls"], ["clean", "--all", "--yes"], ["purge", "blobs"]])
def test_any_other_folder_is_left_alone(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "mine").write_text("mine")
    result = run(tmp_path, *command)
    assert result.exit_code == 1
    assert "no cache of proxyindex" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["blobs", "mine"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_cache_of_another_user_is_not_called_none(tmp_path: Path) -> None:
    tag = tmp_path / "CACHEDIR.TAG"
    tag.touch(0o600)
    os.chown(tag, 54321, 54321)
    done = run_as_one_who_may_not(tmp_path, "ls")
    assert done.returncode == 1
    assert "is another user's; run it as the one whose server uses it." in done.stderr


def test_a_mistaken_option_exits_with_2(root: Path) -> None:
    result = run(root, "du", "--cache-size", "lots")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: command line: --cache-size = 'lots'")


@pytest.mark.parametrize("command", sorted(NAMED))
def test_a_name_that_is_none_exits_with_2(root: Path, command: str) -> None:
    result = run(root, command, "../etc")
    assert result.exit_code == 2
    assert "'../etc' is not a valid project name" in result.stderr


def test_ls_lists_projects_with_what_is_held(root: Path) -> None:
    run(root, "pin", "other")
    result = run(root, "ls")
    assert result.exit_code == 0
    heading, first, second = result.stdout.splitlines()
    assert heading.split() == ["PROJECT", "UPSTREAM", "FILES", "SIZE", "VALIDATED", "PINNED"]
    assert first.split()[:3] == ["foo-bar", "pypi", "2"]
    assert "2023-11-14 22:13:20Z" in first
    assert "pinned" not in first
    assert second.split()[:3] == ["other", "internal", "1"]
    assert second.endswith("pinned")


def test_ls_in_json_has_every_number(root: Path) -> None:
    page = (root / "pages" / UP / "foo-bar").stat().st_size
    files = len(WHEEL) + len(METADATA) + len(SHARED)
    listed = run_json(root, "ls")
    assert isinstance(listed, list)
    assert listed[0] == {
        "project": "foo-bar",
        "upstream": "pypi",
        "upstream_id": UP,
        "files": 2,
        "file_bytes": files,
        "page_bytes": page,
        "bytes": files + page,
        "is_pinned": False,
        "validated_at": HEAD.validated_at,
    }


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ([], "foo-bar"),
        (["--reverse"], "other"),
        (["--sort", "size"], "big"),
        (["--sort", "files"], "foo-bar"),
        (["--sort", "validated"], "fresh"),
    ],
)
def test_ls_sorts(root: Path, options: list[str], first: str) -> None:
    if "--sort" in options:
        with opened(root) as cache:
            keep(cache, "big", {"big.whl": b"x" * 10_000}, upstream=UP)
            cache.pages.write(UP, "fresh", HEAD.renewed(time.time(), None), b"")
    listed = run_json(root, "ls", *options)
    assert isinstance(listed, list)
    assert listed[0]["project"] == first


def test_ls_leaves_out_documents_that_are_no_projects(root: Path) -> None:
    with opened(root) as cache:
        cache.pages.write(UP, "+list", HEAD, b"all projects")
    assert "+list" not in run(root, "ls").stdout


@pytest.mark.parametrize("option", [["--sort", "name"], ["--reverse"]])
def test_files_have_an_order_of_their_own(root: Path, option: list[str]) -> None:
    result = run(root, "ls", "one", *option)
    assert result.exit_code == 2
    assert "--sort and --reverse mean nothing with NAME." in result.output


def test_ls_of_a_project_lists_its_files(root: Path) -> None:
    with opened(root) as cache:
        cache.facts.learn(UP, "foo-bar", "foo_bar-0.9.whl", Fact("", sha256(b"evicted"), 7))
    listed = run_json(root, "ls", "Foo_Bar")
    assert isinstance(listed, list)
    assert [(one["filename"], one["size"], one["has_metadata"]) for one in listed] == [
        ("foo_bar-0.9.whl", None, False),
        ("foo_bar-1.0.tar.gz", len(SHARED), False),
        ("foo_bar-1.0.whl", len(WHEEL), True),
    ]
    table = run(root, "ls", "foo.bar").stdout
    assert f"foo_bar-1.0.whl     pypi      {len(WHEEL)} bytes  yes       {sha256(WHEEL)}\n" in table


@pytest.mark.parametrize("command", ["ls", "purge"])
def test_an_unknown_project_exits_with_1_and_a_hint(root: Path, command: str) -> None:
    result = run(root, command, "foo-baz")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: The cache holds nothing of 'foo-baz'; did you mean 'foo-bar'?\n"
    )
    result = run(root, command, "zzz")
    assert result.stderr == "Error: The cache holds nothing of 'zzz'.\n"


def test_du_counts_every_part_against_its_budget(root: Path) -> None:
    usage = run_json(root, "du", "--cache-size", "1GB", "--page-cache-size", "2MB")
    assert isinstance(usage, dict)
    assert set(usage) == {"files", "pages", "facts", "partials", "index"}
    assert usage["files"] == {
        "part": "files",
        "bytes": len(WHEEL) + len(METADATA) + len(SHARED),
        "count": 3,
        "limit": 1_000_000_000,
    }
    assert usage["pages"]["limit"] == 2_000_000
    assert usage["pages"]["count"] == 2
    assert usage["index"]["bytes"] > 0
    table = run(root, "du", "--cache-size", "1GB").stdout.splitlines()
    assert table[0].split() == ["PART", "SIZE", "COUNT", "BUDGET"]
    assert table[1].split() == ["files", "63", "bytes", "3", "1.0", "GB"]


def test_looking_changes_nothing(root: Path) -> None:
    """Above all it evicts nothing, whatever budget this command believes in."""
    before = {
        path: path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and path.parent.parent != root / "index"
    }
    for arguments in (["ls"], ["ls", "other"], ["du"], ["verify", "--dry-run"]):
        assert run(root, *arguments, "--cache-size", "1B", "--page-cache-size", "1B").exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_clean_holds_the_budgets(root: Path) -> None:
    done = run_json(root, "clean", "--cache-size", str(len(SHARED)), "--page-cache-size", "1GB")
    assert isinstance(done, dict)
    assert done["file_bytes"] >= len(WHEEL) + len(METADATA)
    assert done["page_bytes"] == done["orphans"] == 0
    sizes = [path.stat().st_size for path in (root / "blobs").glob("*/*")]
    assert sum(sizes) <= len(SHARED)


def test_clean_exits_with_1_if_a_budget_is_exceeded_all_the_same(root: Path) -> None:
    run(root, "pin", "other")
    result = run(root, "clean", "--cache-size", "10B")
    assert result.exit_code == 1
    assert f"exceeded by {len(SHARED) - 10} bytes: by pinned projects, or" in result.stderr
    result = run(root, "clean", "--cache-size", "10B", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["excess"] == len(SHARED) - 10
    assert blobs(root) == {sha256(SHARED)}


def test_clean_removes_old_orphans_and_leftovers_only(root: Path) -> None:
    with opened(root) as cache:
        for content in (b"old orphan", b"young orphan"):
            cache.blobs.put(sha256(content), content)
        for key in ("old", "young"):
            cache.partials.create(key).close()
    unfinished = root / "blobs" / "aa" / ".new-x"
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.write_bytes(b"half")
    for path in (root / "blobs").glob("*/*"):  # what a fact refers to is old, too
        if path.name != sha256(b"young orphan"):
            age(path, 7200)
    for name in ("old", "old.state"):
        age(root / "partials" / name, 7200)
    result = run(root, "clean")
    assert result.exit_code == 0
    assert result.stdout == (
        "Evicted 0 bytes of files and 0 bytes of pages; "
        "removed 1 orphaned files (10 bytes) and 3 leftovers.\n"
    )
    expected = {sha256(content) for content in (WHEEL, METADATA, SHARED, b"young orphan")}
    assert blobs(root) == expected
    assert {path.name for path in (root / "partials").iterdir()} == {"young", "young.state"}


def test_clean_leaves_a_download_that_runs(root: Path) -> None:
    with opened(root) as cache:
        cache.partials.create("busy").close()
    for name in ("busy", "busy.state"):
        age(root / "partials" / name, 7200)
    locks = Locks(root / "locks")
    assert locks.try_acquire("file busy")
    # in a process of its own, as a process is not stopped by its own locks
    command = [sys.executable, "-m", "proxyindex", "cache", "clean", "--cache-dir", str(root)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    locks.close()
    assert {path.name for path in (root / "partials").iterdir()} == {"busy", "busy.state"}


def test_clean_all_asks_first(root: Path) -> None:
    result = run(root, "clean", "--all", text="n\n")
    assert result.exit_code == 1
    assert "Remove every page, file and fact" in result.stderr
    assert len(blobs(root)) == 3


@pytest.mark.parametrize(("options", "text"), [(["--yes"], None), ([], "y\n")])
def test_clean_all_empties_the_cache_but_for_the_list_of_pins(
    root: Path, options: list[str], text: str | None
) -> None:
    run(root, "pin", "other")
    result = run(root, "clean", "--all", *options, text=text)
    assert result.exit_code == 0
    assert "Emptied the cache" in result.stdout
    assert run_json(root, "ls") == []
    usage = run_json(root, "du")
    assert isinstance(usage, dict)
    assert [usage[part]["count"] for part in ("files", "pages", "facts", "partials")] == [0] * 4
    with opened(root) as cache:
        assert cache.pins.names() == ["other"]
        assert cache.blobs.total() == cache.pages.total() == 0


def test_verify_of_a_sound_cache_exits_with_0(root: Path) -> None:
    result = run(root, "verify")
    assert (result.exit_code, result.stdout) == (0, "The cache is sound.\n")
    assert result.stderr == "", "no progress bar where no one looks"


def damage(root: Path) -> None:
    (root / "blobs" / sha256(WHEEL)[:2] / sha256(WHEEL)).write_bytes(b"other bytes")
    page = root / "pages" / UP / "foo-bar"
    page.write_bytes(page.read_bytes()[:-1])
    with (root / "facts" / OTHER / "other").open("ab") as stream:
        stream.write(b"\nno json")
    (root / "blobs" / "fo").mkdir()
    (root / "blobs" / "fo" / "foreign").write_bytes(b"")


def test_verify_reports_and_removes_what_is_damaged(root: Path) -> None:
    damage(root)
    result = run(root, "verify", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["repaired"] is True
    assert {(one["kind"], one["name"]) for one in document["damage"]} == {
        ("file", sha256(WHEEL)),
        ("file", "foreign"),
        ("page", f"{UP}/foo-bar"),
        ("facts", f"{OTHER}/other"),
    }
    assert blobs(root) == {sha256(METADATA), sha256(SHARED)}
    assert not (root / "pages" / UP / "foo-bar").exists()
    assert run(root, "verify").stdout == "The cache is sound.\n"
    with opened(root) as cache:
        assert cache.blobs.total() == len(METADATA) + len(SHARED)
        assert set(cache.facts.read(OTHER, "other")) == {"other-1.0.tar.gz"}


def test_verify_tells_what_damaged_files_are_called(root: Path) -> None:
    for data in (WHEEL, METADATA):
        (root / "blobs" / sha256(data)[:2] / sha256(data)).write_bytes(b"other bytes")
    (root / "blobs" / "fo").mkdir()
    (root / "blobs" / "fo" / "foreign").write_bytes(b"")
    told = run(root, "verify", "--dry-run").stdout
    wheel = f"{UP}/foo-bar/foo_bar-1.0.whl"
    assert f"file {sha256(WHEEL)} ({wheel}): its bytes have the sha256" in told
    assert f"file {sha256(METADATA)} ({wheel}.metadata): " in told
    assert "file foreign: the name is no sha256" in told
    damage = json.loads(run(root, "verify", "--json").stdout)["damage"]
    assert {one["file"] for one in damage} == {wheel, f"{wheel}.metadata", None}


@pytest.mark.parametrize("place", ["63", "63/deep", "."])
def test_verify_removes_what_lies_where_it_should_not(root: Path, place: str) -> None:
    """And not what lies where that should."""
    folder = root / "blobs" / place
    folder.mkdir(parents=True, exist_ok=True)
    assert sha256(WHEEL)[:2] != "63"
    for name in ("foreign", sha256(WHEEL), sha256(b"lost")):
        (folder / name).write_bytes(WHEEL)
    result = run(root, "verify")
    assert result.exit_code == 1
    assert result.stdout.endswith("3 damaged, removed.\n")
    assert [path for path in folder.iterdir() if path.is_file()] == []
    assert blobs(root) - {"deep"} == {sha256(content) for content in (WHEEL, METADATA, SHARED)}
    assert run(root, "verify").stdout == "The cache is sound.\n"


def test_verify_dry_run_removes_nothing(root: Path) -> None:
    damage(root)
    result = run(root, "verify", "--dry-run")
    assert result.exit_code == 1
    problem = f"its bytes have the sha256 {sha256(b'other bytes')}"
    assert f"file {sha256(WHEEL)} ({UP}/foo-bar/foo_bar-1.0.whl): {problem}\n" in result.stdout
    assert result.stdout.endswith("4 damaged, left.\n")
    assert len(blobs(root)) == 4
    assert run(root, "verify", "--dry-run").exit_code == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_what_cannot_be_read_is_named_and_can_be_purged(root: Path) -> None:
    facts = root / "facts" / UP / "foo-bar"
    facts.chmod(0)
    os.chown(facts, 54321, 54321)
    for command in ("ls", "verify"):
        done = run_as_one_who_may_not(root, command)
        assert done.returncode == 1
        assert "could not read what it has learned of foo-bar: Permission denied." in done.stderr
    assert run_as_one_who_may_not(root, "purge", "foo-bar").returncode == 0
    assert not facts.exists()
    assert run_as_one_who_may_not(root, "verify").stdout == "The cache is sound.\n"


def test_purge_removes_page_facts_and_files_but_shared_ones(root: Path) -> None:
    with opened(root) as cache:
        cache.absent.remember(f"absent {UP}/foo-bar", b"1")
    result = run(root, "purge", "Foo.Bar")
    assert result.exit_code == 0
    assert result.stdout == "Purged foo-bar: 1 pages, 2 files (33 bytes).\n"
    assert blobs(root) == {sha256(SHARED)}
    with opened(root) as cache:
        assert cache.facts.read(UP, "foo-bar") == {}
        assert cache.pages.read(UP, "foo-bar") is None
        assert cache.pages.read(OTHER, "other") is not None
        assert cache.absent.recall(f"absent {UP}/foo-bar") is None
    assert run(root, "purge", "foo-bar").exit_code == 1


def test_purge_forgets_that_there_was_nothing(root: Path) -> None:
    with opened(root) as cache:
        cache.absent.remember(f"absent {UP}/no-such", b"1")
    assert run(root, "purge", "no-such").exit_code == 1
    with opened(root) as cache:
        assert cache.absent.recall(f"absent {UP}/no-such") is None


def test_purge_takes_what_several_upstreams_have(root: Path) -> None:
    with opened(root) as cache:
        keep(cache, "other", {"other-2.0.tar.gz": b"second"}, upstream=UP)
    done = run_json(root, "purge", "other")
    assert done == {"project": "other", "pages": 2, "files": 1, "bytes": 6}


def test_pin_and_unpin(root: Path) -> None:
    assert run(root, "pin", "Foo_Bar").stdout == "Pinned foo-bar.\n"
    assert run(root, "pin", "new").stdout == "Pinned new; nothing of it is held yet.\n"
    with opened(root) as cache:
        assert cache.pins.names() == ["foo-bar", "new"]
    run(root, "clean", "--cache-size", "1B", "--page-cache-size", "1B")
    assert blobs(root) == {sha256(content) for content in (WHEEL, METADATA, SHARED)}
    assert run(root, "unpin", "foo.bar").stdout == "Unpinned foo-bar.\n"
    result = run(root, "unpin", "foo-bar")
    assert result.exit_code == 1
    assert result.stderr == "Error: The cache has no pin of 'foo-bar'.\n"
    result = run(root, "unpin", "newt")
    assert result.stderr == "Error: The cache has no pin of 'newt'; did you mean 'new'?\n"
    run(root, "clean", "--cache-size", "1B", "--page-cache-size", "1B")
    assert blobs(root) == set()


def test_several_projects_are_pinned_and_purged_at_once(root: Path) -> None:
    assert run(root, "pin", "new", "newer").stdout.count("Pinned new") == 2
    assert run(root, "unpin", "new", "newer").stdout == "Unpinned new.\nUnpinned newer.\n"
    done = run_json(root, "purge", "other", "Foo.Bar")
    assert [one["project"] for one in done] == ["other", "foo-bar"]
    assert run(root, "pin").exit_code == 2


def test_one_project_that_is_not_held_does_not_keep_others(root: Path) -> None:
    result = run(root, "purge", "nothing", "other", "no-more", "Foo.Bar", "--json")
    assert result.exit_code == 1
    assert [one["project"] for one in json.loads(result.stdout)] == ["other", "foo-bar"]
    assert result.stderr == (
        "Error: The cache holds nothing of 'nothing'.\n"
        "Error: The cache holds nothing of 'no-more'.\n"
    )
    assert blobs(root) == set()
    assert run(root, "purge", "other", "--json").stdout == ""

    run(root, "pin", "new")
    result = run(root, "unpin", "other", "new")
    assert (result.exit_code, result.stdout) == (1, "Unpinned new.\n")
    assert "'other'" in result.stderr
