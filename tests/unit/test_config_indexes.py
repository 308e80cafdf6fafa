"""Tables `[index.NAME]`: what they may refer to, and how every mistake is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxyindex.config import load
from proxyindex.config.show import as_json, as_toml
from proxyindex.errors import ConfigError
from proxyindex.settings import IndexSettings, PolicySettings, Route, Settings, UpstreamSettings

EXAMPLE = """
default-index = "prod"
[index.dev]
folders = ["dev"]
bases = ["prod"]
overwrite = true
upload = ["@release", "ci   acme-*"]
[index.prod]
folders = ["prod"]
upstreams = ["pypi"]
routes = [ {match = "torch*", to = "pypi"}, "acme-*=folders" ]
fallback = "redirect"
merge = ["six"]
claim = ["acme-*"]
read = ["@users"]
policy = { deny = ["evil-*"], reserved = ["acme"] }
[groups]
release = ["alice", "bob"]
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration file beside the folders `dev` and `prod`, and says where it is."""
    for name in ("dev", "prod", "prod/deep"):
        (tmp_path / name).mkdir()

    def write(text: str) -> Path:
        path = tmp_path / "proxyindex.toml"
        path.write_text(text)
        return path

    return write


def mistakes_in(path: Path, **flags: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load({"config": str(path), **flags})
    return [mistake.removeprefix(f"{path}: ") for mistake in caught.value.mistakes]


def test_tables_become_indexes_in_their_order(
    written: Callable[[str], Path], tmp_path: Path
) -> None:
    loaded = load({"config": str(written(EXAMPLE))})
    dev, prod = loaded.settings.indexes
    assert dev == IndexSettings(
        "dev",
        folders=(tmp_path / "dev",),
        bases=("prod",),
        overwrite=True,
        upload=("@release", "ci acme-*"),
    )
    assert prod == IndexSettings(
        "prod",
        folders=(tmp_path / "prod",),
        upstreams=("pypi",),
        routes=(Route("torch*", "pypi"), Route("acme-*", "folders")),
        fallback="redirect",
        merge=("six",),
        claim=("acme-*",),
        read=("@users",),
        policy=PolicySettings(deny=("evil-*",), reserved=("acme",)),
    )
    assert loaded.settings.default is prod
    assert loaded.sources["index.dev.bases"].endswith("proxyindex.toml:index.dev.bases")


def test_without_tables_the_other_keys_describe_the_one_index(tmp_path: Path) -> None:
    settings = load({"folders": (str(tmp_path),), "merge": ("six",), "read": ("@users",)}).settings
    (only,) = settings.indexes
    assert only is not settings.default  # made anew each time
    assert only == settings.default
    assert only == IndexSettings(
        "root", folders=(tmp_path,), upstreams=("pypi",), merge=("six",), read=("@users",)
    )


def test_the_first_table_is_the_default(written: Callable[[str], Path]) -> None:
    text = EXAMPLE.replace('default-index = "prod"', "")
    assert load({"config": str(written(text))}).settings.default.name == "dev"
    path = str(written(text))
    assert load({"config": path, "default_index": "prod"}).settings.default.name == "prod"


def test_what_is_shown_can_be_loaded_again(written: Callable[[str], Path]) -> None:
    loaded = load({"config": str(written(EXAMPLE))})
    assert load({"config": str(written(as_toml(loaded)))}).settings == loaded.settings
    lines = as_toml(loaded).splitlines()
    assert all("  # " in line for line in lines if " = " in line)
    dev, prod = json.loads(as_json(loaded))["indexes"]
    assert dev["name"] == "dev"
    assert prod["routes"]["value"][0] == {"match": "torch*", "to": "pypi"}
    assert "folders" not in json.loads(as_json(loaded))["settings"]


def test_all_mistakes_are_reported_together_with_their_places(
    written: Callable[[str], Path],
) -> None:
    path = written("""
        folders = ["dev"]
        default-index = "pord"
        base-path = "/dev/x"
        [index.dev]
        bases = ["prdo", "pypi"]
        upstreams = ["dev"]
        routes = ["a=foldrs", {match = "a>1", to = "pypi"}, {match = "b"}]
        fallback = "cache"
        uplaod = []
        policy.deny = ["a>>1"]
        [index.prod]
        merge = ["a"]
        [index.simple]
        folders = ["gone"]
        [index.Big]
        upstreams = ["pypi"]
        [index]
        five = 5
    """)
    expected = [
        "index.dev.uplaod: unknown key; did you mean 'upload'?",
        "index.dev.routes = {…}: expected a table such as {match = ",
        "index.dev.routes = {…}: expected a table such as {match = ",
        "index.dev.fallback = 'cache': expected one of proxy, redirect, none.",
        "index.dev.policy.deny = 'a>>1': expected a project pattern",
        "index.simple = 'simple': expected a short name of lower-case letters, digits and -, and",
        "index.Big = 'Big': expected a short name",
        "index.five = 5: expected a table [index.five].",
        "index.dev.bases: there is no index or upstream 'prdo'; did you mean 'prod'?",
        "index.dev.upstreams: there is no upstream 'dev'; there are pypi.",
        "index.prod: without folders, bases and upstreams there is nothing to serve.",
        "index.five: without folders, bases and upstreams there is nothing to serve.",
        "folders: belongs into a table [index.NAME], since there are some.",
        "default-index: there is no index 'pord'; there are ",
        "base-path: begins with 'dev', which is an index.",
        f"index.simple.folders = '{path.parent}/gone': this path does not exist; make it first: "
        f"mkdir {path.parent}/gone.",
    ]
    found = mistakes_in(path)
    for start in expected:
        assert [mistake for mistake in found if mistake.startswith(start)], start
    assert len(found) == len(expected), found


@pytest.mark.parametrize(
    ("bases", "rings"),
    [
        ({"dev": ["prod"], "prod": ["dev"]}, ["dev -> prod -> dev"]),
        ({"dev": ["dev"]}, ["dev -> dev"]),
        ({"a": ["b"], "b": ["c"], "c": ["b", "pypi"]}, ["b -> c -> b"]),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["pypi"]}, []),
        ({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}, ["a -> b -> a", "c -> d -> c"]),
    ],
)
def test_a_ring_of_bases_is_refused_with_its_path(
    bases: dict[str, list[str]], rings: list[str], written: Callable[[str], Path]
) -> None:
    text = "".join(f"[index.{name}]\nbases = {json.dumps(of)}\n" for name, of in bases.items())
    path = written(text)
    if not rings:
        load({"config": str(path)})
        return
    told = [f"index.{ring.split()[0]}: its bases lead back to it: {ring}." for ring in rings]
    assert mistakes_in(path) == told


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ({"a": ["dev"], "b": ["dev"]}, "written to"),
        ({"a": ["dev"], "b": ["prod", "dev"]}, None),
        ({"a": ["dev", "prod"], "b": ["dev/../prod"]}, None),
        ({"a": ["prod"], "b": ["prod/deep"]}, "lies in"),
        ({"a": ["prod", "prod/deep"]}, None),
        ({"a": ["link"], "b": ["dev"]}, "written to"),
    ],
)
def test_no_index_gets_at_the_files_of_another_by_accident(
    folders: dict[str, list[str]],
    said: str | None,
    written: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "dev")
    path = written("".join(f"[index.{n}]\nfolders = {json.dumps(f)}\n" for n, f in folders.items()))
    if said is None:
        load({"config": str(path)})
    else:
        (mistake,) = mistakes_in(path)
        assert mistake.startswith("index.b.folders: ")
        assert said in mistake


def test_an_upstream_and_an_index_have_different_names(written: Callable[[str], Path]) -> None:
    (mistake,) = mistakes_in(
        written("""
        [index.corp]
        upstreams = ["corp"]
        [[upstream]]
        name = "corp"
        url = "https://corp.example/simple"
    """)
    )
    assert mistake.startswith("index.corp: an upstream has this name, too")


@pytest.mark.parametrize("flags", [{"folders": (".",)}, {"merge": ("x",)}, {"read": ("x",)}])
def test_flags_of_the_one_index_do_not_go_with_tables(
    flags: dict[str, object], written: Callable[[str], Path]
) -> None:
    (mistake,) = mistakes_in(written(EXAMPLE), **flags)
    assert mistake.startswith("command line: ")
    assert "belongs into a table [index.NAME]" in mistake


def test_routes_and_the_default_of_the_one_index_are_checked_too(
    written: Callable[[str], Path],
) -> None:
    assert mistakes_in(written('routes = ["torch*=pytorch"]\ndefault-index = "dev"')) == [
        "routes: there is no upstream 'pytorch'; there are folders, pypi.",
        "default-index: there is no index 'dev'; there are root.",
    ]


def test_no_more_indexes_than_can_be_held(written: Callable[[str], Path]) -> None:
    text = "".join(f'[index.i{number}]\nbases = ["i{number + 1}"]\n' for number in range(201))
    (mistake,) = mistakes_in(written(text))
    assert mistake == "index: more than 200 indexes."


def test_lineage_and_reach_are_told_once_each_and_in_order() -> None:
    settings = Settings(
        upstreams=tuple(UpstreamSettings(name, "https://x.example") for name in "uvw"),
        index_tables=(
            IndexSettings("top", bases=("left", "v", "right"), upstreams=("u",)),
            IndexSettings("left", bases=("deep",), fallback="none", upstreams=("w",)),
            IndexSettings("right", bases=("deep",)),
            IndexSettings("deep", upstreams=("u",), routes=(Route("x", "w"),)),
        ),
    )
    top, left, *_ = settings.indexes
    assert [one.name for one in settings.lineage(top)] == ["top", "left", "deep", "right"]
    assert set(settings.reaches(top)) == {"u", "v", "w"}
    assert settings.reaches(left) == ()


def test_the_last_upstream_of_all_is_followed_by_nobody() -> None:
    two = tuple(UpstreamSettings(name, "https://x.example") for name in "uv")
    assert Settings(upstreams=two[:1]).followed() == frozenset()
    assert Settings(upstreams=two).followed() == {"u"}
    base = IndexSettings("base", upstreams=("v",))
    top = IndexSettings("top", bases=("base",), upstreams=("u",))
    assert Settings(upstreams=two, index_tables=(top, base)).followed() == {"v"}, "bases come first"
