"""Files, their siblings and keys; pages and what they yield by name."""

import pytest
from packaging.utils import NormalizedName

from proxyindex import errors
from proxyindex.errors import Denied, FileNotOnPage, ReleaseNotFound
from proxyindex.inquiry import Inquiry
from proxyindex.model import (
    File,
    MetadataOrigin,
    Origin,
    ProjectList,
    ProjectPage,
    Sha256,
    SignatureOrigin,
    UpstreamOrigin,
)

WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"
DEMO = NormalizedName("demo")
UP = UpstreamOrigin("up", "http://up.example/w", "demo")


def wheel(origin: Origin = UP, **facts: object) -> File:
    return File(WHEEL, origin, **facts)  # type: ignore[arg-type]


KNOWN = {"hashes": {"sha256": "a" * 64}}


@pytest.mark.parametrize(
    "other",
    [
        wheel(),
        wheel(hashes={"sha256": "b" * 64}),
        wheel(UpstreamOrigin("other", UP.url, "demo"), **KNOWN),
        wheel(UpstreamOrigin("up", UP.url, "other"), **KNOWN),
        File(SDIST, UP, **KNOWN),
    ],
    ids=["no digest", "digest", "upstream", "project", "name"],
)
def test_the_key_is_of_who_promised_which_bytes_and_where(other: File) -> None:
    assert wheel(**KNOWN).key != other.key
    assert all("/" not in file.key for file in (other, wheel(**KNOWN)))


def test_the_key_of_a_digest_goes_by_no_address() -> None:
    signed = UpstreamOrigin("up", UP.url + "?signature=1", "demo")
    assert wheel(signed, **KNOWN).key == wheel(size=7, **KNOWN).key
    assert wheel(signed).key != wheel().key, "without a digest nothing else tells the bytes"


def test_a_lone_digest_is_the_mapping_of_it() -> None:
    digest, mapping = Sha256("a" * 64), {"sha256": "a" * 64}
    assert digest == mapping
    assert mapping == digest
    assert digest == Sha256("a" * 64)
    assert digest != Sha256("b" * 64)
    assert digest != {**mapping, "md5": "c" * 32}
    assert dict(digest) == {**digest} == mapping
    assert list(digest) == list(digest.keys()) == ["sha256"]
    assert list(digest.items()) == list(mapping.items())
    assert (len(digest), "sha256" in digest, "md5" in digest) == (1, True, False)
    assert (digest["sha256"], digest.get("sha256"), digest.get("md5")) == ("a" * 64, "a" * 64, None)
    with pytest.raises(KeyError):
        digest["md5"]
    assert wheel(hashes=digest) == wheel(hashes=mapping)


def test_metadata_is_a_file_of_its_own_where_it_is_offered() -> None:
    assert wheel().metadata() is None
    assert File(SDIST, UP, core_metadata={}).metadata() is None
    offered = wheel(core_metadata={"sha256": "b" * 64})
    sibling = offered.metadata()
    assert sibling is not None
    assert (sibling.filename, sibling.sha256) == (WHEEL + ".metadata", "b" * 64)
    assert sibling.origin == MetadataOrigin(offered)
    assert not sibling.is_wheel


def page(*files: File, **more: object) -> ProjectPage:
    return ProjectPage(DEMO, files, **more)  # type: ignore[arg-type]


def test_a_page_yields_files_and_siblings_by_name() -> None:
    offered = wheel(core_metadata={})
    shown = page(offered)
    assert shown.file(WHEEL) is offered
    assert shown.file(WHEEL + ".metadata").origin == MetadataOrigin(offered)
    assert shown.file(WHEEL + ".asc").origin == SignatureOrigin(offered)


@pytest.mark.parametrize(
    "filename", ["other.whl", SDIST, WHEEL + ".metadata", SDIST + ".asc", ".metadata", ".asc", ""]
)
def test_nothing_else_is_on_it(filename: str) -> None:
    with pytest.raises(FileNotOnPage):
        page(wheel()).file(filename)


def test_a_listed_file_wins_over_a_withdrawn_one() -> None:
    listed, withdrawn = wheel(size=1), wheel(size=2)
    other = File(SDIST, UP)
    shown = page(listed, withdrawn=(withdrawn, other))
    assert shown.file(WHEEL) is listed
    assert shown.file(SDIST) is other


@pytest.mark.parametrize("suffix", ["", ".metadata", ".asc"])
def test_a_denied_file_is_refused_with_its_siblings(suffix: str) -> None:
    denial = Denied(WHEEL, "rule", "reason")
    with pytest.raises(Denied) as caught:
        page(denied={WHEEL: denial}).file(WHEEL + suffix)
    assert caught.value is denial


def test_a_list_is_sorted_and_without_doubles() -> None:
    names = [NormalizedName(name) for name in ("b", "a", "b")]
    assert ProjectList.of(names).names == ("a", "b")


def test_patience_is_never_negative() -> None:
    assert Inquiry(deadline=0.0).remaining() == 0.0
    assert Inquiry().remaining() == float("inf")


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (errors.ConfigError(["one", "two"]), "one\ntwo"),
        (errors.ProjectNotFound("demo"), "There is no project 'demo' on this index."),
        (ReleaseNotFound("demo", "9"), "Project 'demo' has no version '9' on this index."),
        (ReleaseNotFound("demo", None), "Project 'demo' has no files on this index."),
        (FileNotOnPage("demo", "f"), "Project 'demo' has no file 'f' on this index."),
        (errors.FileGone("f"), "The source of 'f' says that the file does not exist."),
        (Denied("demo", "deny x", "bad"), "demo is denied by rule deny x: bad"),
        (errors.UpstreamError("up", "broke"), "Upstream 'up' broke."),
        (
            errors.DigestMismatch("up", "f", expected="a", actual="b"),
            "Upstream 'up' sent wrong bytes for f: b, not a.",
        ),
        (errors.LoopDetected("up"), "Upstream 'up' leads back to this server."),
        (errors.StoreError("keep a file", "full"), "The cache could not keep a file: full."),
    ],
)
def test_an_error_is_one_sentence(problem: errors.ProxyindexError, sentence: str) -> None:
    assert str(problem) == sentence


def test_clients_are_told_to_come_back() -> None:
    assert errors.UpstreamUnavailable("up", "slept").retry_after == 2
    assert errors.UpstreamUnavailable("up", "slept", asked_pause=20).retry_after == 20
