"""Pages completed by what was learned of their files."""

from typing import Any

import pytest
from packaging.utils import NormalizedName

from proxyindex.model import File, ProjectPage, UpstreamOrigin
from proxyindex.repository.learned import changed_files, complete, gone
from proxyindex.store.facts import NO_METADATA, Fact

DEMO = NormalizedName("demo")
WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"
A, B, M = "a" * 64, "b" * 64, "c" * 64


def file(filename: str = WHEEL, **facts: Any) -> File:
    origin = UpstreamOrigin("up", f"http://up.example/{filename}", "demo")
    return File(filename, origin, version="1.0", **facts)


def completed(
    *files: File, facts: dict[str, Fact] | None = None, offers_metadata: bool = True
) -> ProjectPage:
    page = ProjectPage(DEMO, files)
    return complete(page, facts or {}, upstream="up", offers_metadata=offers_metadata)


def only(*files: File, **more: Any) -> File:
    (found,) = completed(*files, **more).files
    return found


def test_what_upstream_advertises_stays_as_it_is() -> None:
    advertised = file(core_metadata={"sha256": M})
    for offers in (True, False):
        assert only(advertised, offers_metadata=offers) is advertised


@pytest.mark.parametrize(
    ("filename", "advertised", "learned", "offers", "expected"),
    [
        (WHEEL, None, M, False, {"sha256": M}),
        (WHEEL, {"sha256": A}, M, True, {"sha256": M}),  # ours is what will be served
        (WHEEL, {"sha256": A}, NO_METADATA, True, None),
        (WHEEL, None, None, False, None),
        (WHEEL, {}, None, False, {}),
        (SDIST, {"sha256": A}, M, True, None),
    ],
)
def test_the_metadata_we_hold_is_the_metadata_we_advertise(
    filename: str,
    advertised: dict[str, str] | None,
    learned: str | None,
    offers: bool,
    expected: dict[str, str] | None,
) -> None:
    found = only(
        file(filename, core_metadata=advertised),
        facts={filename: Fact(metadata=learned)},
        offers_metadata=offers,
    )
    assert found.core_metadata == expected


def test_gaps_are_filled() -> None:
    fact = Fact(sha256=A, size=7, told="md5=" + "d" * 32)
    found = only(file(hashes={"md5": "d" * 32}), facts={WHEEL: fact})
    assert found.hashes == {"md5": "d" * 32, "sha256": A}
    assert found.size == 7


def test_a_digest_that_may_be_of_other_bytes_is_not_shown_beside_the_sha256_of_ours() -> None:
    listed = file(hashes={"md5": "d" * 32})
    for told in (None, "sha512=" + "e" * 128):
        facts = {WHEEL: Fact(sha256=A, told=told)}
        assert only(listed, facts=facts).hashes == {"sha256": A}
        assert changed_files(ProjectPage(DEMO, (listed,)), facts) == []


def test_without_a_sha256_another_digest_of_the_same_kind_counts_as_changed() -> None:
    changed = file(size=1, hashes={"md5": "0" * 32}, core_metadata={"sha256": M})
    facts = {WHEEL: Fact(sha256=A, size=1, told="md5=" + "d" * 32)}
    assert changed_files(ProjectPage(DEMO, (changed,)), facts) == [changed]
    found = only(changed, facts=facts)
    assert (found.hashes, found.core_metadata) == ({"sha256": A}, {})


def test_what_agrees_is_kept() -> None:
    hashes = {"sha256": A, "sha512": "e" * 128}
    found = only(file(hashes=hashes, size=7), facts={WHEEL: Fact(sha256=A, size=7)})
    assert (found.hashes, found.size) == (hashes, 7)


def test_first_bytes_stay_and_other_hashes_of_the_new_ones_go() -> None:
    changed = file(hashes={"sha256": B, "sha512": "e" * 128}, size=8)
    facts = {WHEEL: Fact(sha256=A, size=7)}
    found = only(changed, facts=facts)
    assert (found.hashes, found.size) == ({"sha256": A}, 7)


@pytest.mark.parametrize("advertised", [{"sha256": M}, {}])
def test_what_is_said_of_changed_bytes_is_not_said_of_the_first(
    advertised: dict[str, str],
) -> None:
    changed = file(
        hashes={"sha256": B},
        core_metadata=advertised,
        provenance="https://up.example/attested",
        has_signature=True,
    )
    for offers, offered in ((True, {}), (False, None)):
        found = only(changed, facts={WHEEL: Fact(sha256=A)}, offers_metadata=offers)
        assert found.core_metadata == offered
        assert (found.provenance, found.has_signature) == (None, False)
    known = Fact(sha256=A, metadata=M, of=f"sha256={A}")
    assert only(changed, facts={WHEEL: known}).core_metadata == {"sha256": M}


def test_metadata_of_a_wheel_that_was_replaced_is_not_that_of_the_new_one() -> None:
    facts = {WHEEL: Fact(metadata=M, of=f"sha256={A}")}
    replaced = file(hashes={"sha256": B}, core_metadata={"sha256": "d" * 64})
    assert only(replaced, facts=facts) == replaced
    kept = file(hashes={"sha256": A}, core_metadata={})
    assert only(kept, facts=facts).core_metadata == {"sha256": M}
    untold = file(hashes={"md5": "0" * 32})
    assert only(untold, facts=facts).core_metadata == {"sha256": M}, "nothing can be compared"


def test_a_file_listed_with_other_bytes_counts_as_changed() -> None:
    changed, facts = file(hashes={"sha256": B}), {WHEEL: Fact(sha256=A)}
    assert changed_files(ProjectPage(DEMO, (changed,)), facts) == [changed]


def test_without_a_digest_another_size_counts_as_changed() -> None:
    changed, facts = file(size=2, hashes={"md5": "0" * 32}), {WHEEL: Fact(sha256=A, size=1)}
    assert changed_files(ProjectPage(DEMO, (changed,)), facts) == [changed]
    found = only(changed, facts=facts)
    assert (found.hashes, found.size) == ({"sha256": A}, 1), "nothing is said of the other bytes"


@pytest.mark.parametrize("fact", [Fact(), Fact(sha256=A), Fact(metadata=M)])
def test_nothing_else_counts_as_changed(fact: Fact) -> None:
    page = ProjectPage(DEMO, (file(hashes={"sha256": A}), file(SDIST)))
    assert changed_files(page, {WHEEL: fact, SDIST: Fact(sha256=B)}) == []
    assert changed_files(page, {}) == []


def test_files_no_longer_listed_are_remembered_if_we_had_their_bytes() -> None:
    facts = {
        WHEEL: Fact(url="http://up.example/w", sha256=A, size=7, metadata=M),
        SDIST: Fact(url="http://up.example/s", metadata=None),
        "demo-2.0.tar.gz": Fact(sha256=B),
    }
    page = completed(file("demo-2.0.tar.gz"), facts=facts)
    (withdrawn,) = page.withdrawn
    assert withdrawn.filename == WHEEL
    assert withdrawn.origin == UpstreamOrigin("up", "http://up.example/w", "demo")
    assert (withdrawn.version, withdrawn.size, withdrawn.sha256) == ("1.0", 7, A)
    assert withdrawn.core_metadata == {"sha256": M}
    assert page.file(WHEEL) is withdrawn


def test_a_removed_project_is_its_withdrawn_files_and_nothing_to_show() -> None:
    page = gone(DEMO, {WHEEL: Fact(sha256=A)}, upstream="up", offers_metadata=False)
    assert (page.is_gone, page.files) == (True, ())
    assert [file.filename for file in page.withdrawn] == [WHEEL]
