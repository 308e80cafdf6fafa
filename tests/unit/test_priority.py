"""Who answers for a project when several sources might."""

import pytest
from packaging.utils import NormalizedName

from proxyindex.errors import (
    Denied,
    ProjectNotFound,
    ProxyindexError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, LocalOrigin, ProjectList, ProjectPage, Status
from proxyindex.policy.verdict import Policy
from proxyindex.repository.base import Repository
from proxyindex.repository.filtered import Filtered
from proxyindex.repository.priority import Joined, Priority

DEMO = NormalizedName("demo")
ABSENT = ProjectNotFound("demo")


class One:
    """A source with one answer."""

    def __init__(self, answer: ProjectPage | ProxyindexError, *names: str) -> None:
        self.answer = answer
        self.names = names
        self.asked = 0

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        if not self.names and isinstance(self.answer, ProxyindexError):
            raise self.answer
        return ProjectList.of(NormalizedName(name) for name in self.names)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        self.asked += 1
        if isinstance(self.answer, ProxyindexError):
            raise self.answer
        return self.answer


def page(source: str, *versions: str, **more: object) -> ProjectPage:
    files = tuple(file(source, version) for version in versions)
    return ProjectPage(DEMO, files, versions=versions, **more)  # type: ignore[arg-type]


def file(source: str, version: str) -> File:
    return File(f"demo-{version}.tar.gz", LocalOrigin(source), version=version)


def sources(page: ProjectPage) -> list[tuple[str, str]]:
    return [(f.version or "", f.origin.path) for f in page.files]  # type: ignore[union-attr]


async def ask(*given: One, merged: bool = False) -> ProjectPage:
    return await Priority(given, lambda name: merged).project(DEMO, Inquiry())


async def test_the_first_that_has_the_project_answers_alone() -> None:
    first, second = One(page("a", "1")), One(page("b", "2"))
    assert await ask(first, second) is first.answer
    assert second.asked == 0


async def test_absence_falls_through() -> None:
    second = One(page("b", "2"))
    assert await ask(One(ABSENT), second) is second.answer


async def test_an_empty_page_does_not_fall_through() -> None:
    empty = One(page("a"))
    assert await ask(empty, One(page("b", "2"))) is empty.answer


@pytest.mark.parametrize(
    "problem",
    [
        Denied("demo", "rule", "reason"),
        UpstreamUnavailable("up", "slept"),
        UpstreamInvalid("up", "lied"),
    ],
)
@pytest.mark.parametrize("merged", [False, True])
async def test_no_other_error_falls_through(problem: ProxyindexError, merged: bool) -> None:
    second = One(page("b", "2"))
    with pytest.raises(type(problem)):
        await ask(One(problem), second, merged=merged)
    assert second.asked == 0


async def test_absent_everywhere_is_absent() -> None:
    with pytest.raises(ProjectNotFound):
        await ask(One(ABSENT), One(ABSENT))
    with pytest.raises(ProjectNotFound):
        await ask()


async def test_a_removed_project_gives_way_to_one_that_exists() -> None:
    gone, alive = One(page("a", is_gone=True)), One(page("b", "2"))
    assert await ask(gone, alive) is alive.answer
    assert await ask(gone, One(ABSENT), One(page("c", is_gone=True))) == gone.answer


async def test_merging_joins_all_owners_in_order() -> None:
    merged = await ask(
        One(page("a", "2", "10", status=Status("archived"))),
        One(ABSENT),
        One(page("b", "1", "2")),
        merged=True,
    )
    assert sources(merged) == [("1", "b"), ("2", "a"), ("10", "a")]
    assert merged.versions == ("1", "2", "10")
    assert merged.status == Status("archived")


async def test_merging_one_owner_changes_nothing() -> None:
    only = One(page("a", "1"))
    assert await ask(only, One(ABSENT), merged=True) is only.answer


def denial(version: str) -> dict[str, Denied]:
    name = f"demo-{version}.tar.gz"
    return {name: Denied(name, "rule", "reason")}


async def test_what_an_earlier_source_denies_no_later_one_supplies() -> None:
    merged = await ask(
        One(page("a", denied=denial("1"))),
        One(page("b", "1", "2", withdrawn=(file("b", "1"),))),
        merged=True,
    )
    assert sources(merged) == [("2", "b")]
    with pytest.raises(Denied):
        merged.file("demo-1.tar.gz")


async def test_what_a_later_source_denies_an_earlier_one_still_supplies() -> None:
    merged = await ask(One(page("a", "1")), One(page("b", "2", denied=denial("1"))), merged=True)
    assert sources(merged) == [("1", "a"), ("2", "b")]
    assert merged.file("demo-1.tar.gz").origin == LocalOrigin("a")


async def test_withdrawn_files_of_all_owners_can_be_had() -> None:
    merged = await ask(
        One(page("a", "1", withdrawn=(file("a", "3"),))),
        One(page("b", "2", withdrawn=(file("b", "3"), file("b", "4")))),
        merged=True,
    )
    assert merged.file("demo-3.tar.gz").origin == LocalOrigin("a")
    assert merged.file("demo-4.tar.gz").origin == LocalOrigin("b")


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_withdrawn_name_is_not_the_later_source_s(is_gone: bool) -> None:
    listed = () if is_gone else ("1",)
    merged = await ask(
        One(page("a", *listed, withdrawn=(file("a", "3"),), is_gone=is_gone)),
        One(page("b", "2", "3", status=Status("archived"))),
        merged=True,
    )
    assert [source for _, source in sources(merged)] == ["a"] * len(listed) + ["b"]
    assert merged.file("demo-3.tar.gz").origin == LocalOrigin("a")
    assert not merged.is_gone
    assert merged.status == Status("archived" if is_gone else "active")


@pytest.mark.parametrize("merged", [False, True])
async def test_what_is_left_of_a_project_that_is_gone_can_be_had_from_all_sources(
    *, merged: bool
) -> None:
    left = await ask(
        One(page("a", withdrawn=(file("a", "3"),), is_gone=True)),
        One(page("b", withdrawn=(file("b", "3"), file("b", "4")), is_gone=True)),
        merged=merged,
    )
    found = [left.file(f"demo-{version}.tar.gz").origin for version in ("3", "4")]
    assert found == [LocalOrigin("a"), LocalOrigin("b")]
    assert left.is_gone


async def test_what_an_earlier_source_has_withdrawn_no_later_one_denies() -> None:
    merged = await ask(
        One(page("a", "1", withdrawn=(file("a", "3"),))),
        One(page("b", "2", denied=denial("3"))),
        merged=True,
    )
    assert "demo-3.tar.gz" not in merged.denied
    assert merged.file("demo-3.tar.gz.asc").filename == "demo-3.tar.gz.asc"


async def test_merged_or_not_a_project_gone_everywhere_is_gone() -> None:
    gone = One(page("a", is_gone=True))
    assert await ask(gone, One(page("b", is_gone=True)), merged=True) == gone.answer


async def test_own_sources_are_asked_once_unless_a_policy_refuses_the_name() -> None:
    refusal = Denied("demo", "rule", "reason")
    own, base, other = One(page("a", "1")), One(page("b", "2")), One(ABSENT)
    joined = Joined([(own, own), (base, Filtered(base, Policy()))])
    assert sources(await joined.project(DEMO, Inquiry())) == [("1", "a"), ("2", "b")]
    assert (own.asked, base.asked) == (1, 1)
    with pytest.raises(ProjectNotFound):
        await Joined([(other, One(refusal))]).project(DEMO, Inquiry())
    with pytest.raises(Denied):
        await Joined([(other, One(refusal)), (base, One(refusal))]).project(DEMO, Inquiry())
    assert (await Joined([(base, One(refusal)), (own, own)]).project(DEMO, Inquiry())) is own.answer


async def test_the_list_is_the_union() -> None:
    listed = await Priority([One(ABSENT, "b", "a"), One(ABSENT, "c", "a")]).projects(Inquiry())
    assert listed.names == ("a", "b", "c")


async def test_a_source_that_cannot_tell_makes_the_list_fail() -> None:
    broken = One(UpstreamUnavailable("up", "slept"))
    with pytest.raises(UpstreamUnavailable):
        await Priority([One(ABSENT, "a"), broken]).projects(Inquiry())


@pytest.mark.parametrize("kind", ["upstreams", "folders"])
async def test_the_same_pages_are_joined_once(kind: str) -> None:
    first, second = One(page("a", "1")), One(page("b", "1", "2"))
    joined: Repository = (
        Priority([first, second], lambda name: True)
        if kind == "upstreams"
        else Joined([(first, first), (second, second)])
    )
    whole = await joined.project(DEMO, Inquiry())
    assert sources(whole) == [("1", "a"), ("2", "b")]
    assert await joined.project(DEMO, Inquiry()) is whole
    second.answer = page("b", "3")
    assert sources(await joined.project(DEMO, Inquiry())) == [("1", "a"), ("3", "b")]
    second.answer = ABSENT
    assert await joined.project(DEMO, Inquiry()) is first.answer
