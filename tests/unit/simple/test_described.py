"""Releases in the form of PyPI's JSON API."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from packaging.utils import NormalizedName

from proxyindex.model import File, ProjectPage, Status, UpstreamOrigin
from proxyindex.simple import relative_href
from proxyindex.simple.described import describe, files_of, known, latest

DEMO = NormalizedName("demo")
HOME = "https://index.example/simple/demo/"


def file(version: str, *, kind: str = "-py2.py3-none-any.whl", **more: Any) -> File:
    name = f"demo-{version}{kind}"
    return File(name, UpstreamOrigin("up", f"https://up.example/{name}"), version=version, **more)


def page(*files: File, versions: tuple[str, ...] = (), **more: Any) -> ProjectPage:
    listed = dict.fromkeys([*versions, *(one.version for one in files if one.version)])
    return ProjectPage(DEMO, files, tuple(listed), **more)


def described(page: ProjectPage, version: str | None, **metadata: object) -> Any:
    return json.loads(describe(page, version, metadata, home=HOME, href=relative_href))


@pytest.mark.parametrize(
    ("versions", "yanked", "expected"),
    [
        (["1.0", "2.0", "10.0"], [], "10.0"),
        (["1.0", "2.0rc1"], [], "1.0"),
        (["2.0rc1", "2.0rc2"], [], "2.0rc2"),
        (["1.0", "2.0"], ["2.0"], "1.0"),
        (["1.0", "2.0"], ["1.0", "2.0"], "2.0"),
        (["1.0rc1", "1.0"], ["1.0"], "1.0rc1"),
        (["1.0", "not-pep440"], [], "1.0"),
    ],
)
def test_the_latest_release_is_what_installers_would_choose(
    versions: list[str], yanked: list[str], expected: str
) -> None:
    files = [file(version, yanked="" if version in yanked else None) for version in versions]
    assert latest(page(*files)) == expected


def test_a_release_of_which_some_files_are_left_is_not_yanked() -> None:
    files = (file("1.0"), file("2.0", yanked="bad"), file("2.0", kind=".tar.gz"))
    assert latest(page(*files)) == "2.0"
    assert described(page(*files), "2.0")["info"]["yanked"] is False


def test_a_release_has_files_however_their_names_spell_its_version() -> None:
    sample = ProjectPage(DEMO, (file("0.9"), file("1.0.0")), ("0.9", "1.0"))
    assert latest(sample) == "1.0"
    assert [one["filename"] for one in described(sample, "1.0")["urls"]] == [
        "demo-1.0.0-py2.py3-none-any.whl"
    ]


def test_versions_without_files_come_last() -> None:
    assert latest(page(file("1.0"), versions=("2.0",))) == "1.0"
    assert latest(page(versions=("2.0", "3.0"))) == "3.0"
    assert latest(page()) is None
    assert described(page(), None)["info"]["version"] is None


def test_a_version_is_found_in_any_spelling_and_told_as_tools_write_it() -> None:
    sample = page(file("2024.07.04"), file("1.0"))
    assert known(sample, "2024.7.4.0") == "2024.07.04"
    assert known(sample, "3") is None
    told = described(sample, "2024.07.04")
    assert told["info"]["version"] == "2024.7.4"
    assert set(told["releases"]) == {"2024.7.4", "1.0"}
    assert [one["filename"] for one in told["urls"]] == ["demo-2024.07.04-py2.py3-none-any.whl"]


def test_all_spellings_of_a_version_are_one_release() -> None:
    files = (file("1.0"), file("1.0.0", kind=".tar.gz"))
    told = described(page(*files, versions=("1.0",)), "1.0")
    assert told["releases"] == {"1.0": told["urls"]}
    assert len(told["urls"]) == 2


def test_files_that_tell_no_version_are_of_no_release() -> None:
    odd = File("odd.egg", UpstreamOrigin("up", "https://up.example/odd.egg"))
    told = described(page(odd), None)
    assert (told["releases"], len(told["urls"])) == ({}, 1)


def test_a_file_is_told_with_all_that_its_page_says() -> None:
    uploaded = datetime(2024, 5, 20, 16, 8, 19, 530618, tzinfo=UTC)
    wheel = file(
        "1.0+cpu",
        hashes={"sha256": "a" * 64, "md5": "b" * 32},
        size=7,
        upload_time=uploaded,
        requires_python=">=3.8",
        yanked="broken",
    )
    assert described(page(wheel), "1.0+cpu")["urls"] == [
        {
            "filename": "demo-1.0+cpu-py2.py3-none-any.whl",
            "url": HOME + "demo-1.0%2Bcpu-py2.py3-none-any.whl",
            "digests": {"sha256": "a" * 64, "md5": "b" * 32},
            "md5_digest": "b" * 32,
            "size": 7,
            "packagetype": "bdist_wheel",
            "python_version": "py2.py3",
            "requires_python": ">=3.8",
            "upload_time": "2024-05-20T16:08:19",
            "upload_time_iso_8601": "2024-05-20T16:08:19.530618Z",
            "yanked": True,
            "yanked_reason": "broken",
            "has_sig": False,
            "comment_text": "",
            "downloads": -1,
        }
    ]


@pytest.mark.parametrize(
    ("kind", "type_", "python"),
    [
        (".tar.gz", "sdist", "source"),
        (".zip", "sdist", "source"),
        ("-py3.8.egg", "bdist_egg", "any"),
        (".win32-py2.7.exe", "bdist_wininst", "any"),
        (".linux-x86_64.tar.gz", "bdist_dumb", "any"),
    ],
)
def test_other_kinds_of_files(kind: str, type_: str, python: str) -> None:
    (told,) = described(page(file("1.0", kind=kind)), "1.0")["urls"]
    assert (told["packagetype"], told["python_version"]) == (type_, python)
    assert (told["upload_time"], told["size"], told["yanked_reason"]) == (None, None, None)


def test_of_a_quarantined_project_no_file_is_told() -> None:
    sample = page(file("1.0"), status=Status("quarantined"))
    told = described(sample, "1.0")
    assert (told["releases"], told["urls"], files_of(sample, "1.0")) == ({}, [], [])


@pytest.mark.parametrize("name", [{"name": "other"}, {"name": "demo" * 100}, {}])
def test_core_metadata_of_another_project_is_not_told(name: dict[str, str]) -> None:
    told = described(page(file("1.0")), "1.0", requires_dist=["evil"], **name)["info"]
    assert (told["name"], told["requires_dist"]) == ("demo", None)


def test_core_metadata_is_told_and_what_is_not_known_is_null() -> None:
    told = described(
        page(file("1.0")),
        "1.0",
        name="Demo",
        requires_dist=["other>=1"],
        keywords=["a", "b"],
        project_urls={"Home": "https://demo.example"},
    )["info"]
    assert (told["name"], told["requires_dist"]) == ("Demo", ["other>=1"])
    assert (told["keywords"], told["project_urls"]) == ("a,b", {"Home": "https://demo.example"})
    bare = described(page(file("1.0")), "1.0")["info"]
    assert (bare["name"], bare["requires_dist"], bare["classifiers"]) == ("demo", None, [])
