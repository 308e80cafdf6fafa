"""A repository seen through a policy: verdicts carried out, failing closed."""

import logging
import threading
from dataclasses import replace
from typing import Any

import anyio
import pytest
from packaging.utils import NormalizedName

from proxyindex.errors import Denied, FileNotOnPage, ProjectNotFound
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, LocalOrigin, ProjectList, ProjectPage, Status
from proxyindex.policy.verdict import (
    ALLOW,
    HIDE,
    Deny,
    FileJudge,
    FileRule,
    NameRule,
    Policy,
    Subject,
    Verdict,
)
from proxyindex.repository.filtered import Filtered
from proxyindex.repository.remembered import Remembered, remembered, weight

DEMO = NormalizedName("demo")
BAD = Deny("no-bad", "it is bad")


def file(name: str) -> File:
    return File(f"demo-{name}.tar.gz", LocalOrigin(name), core_metadata={})


class Pages:
    """A repository of fixed pages that counts."""

    def __init__(self, *pages: ProjectPage) -> None:
        self.pages = {page.name: page for page in pages}
        self.listed = ProjectList.of(self.pages)
        self.asked: list[str] = []

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        return self.listed

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        self.asked.append(name)
        if name not in self.pages:
            raise ProjectNotFound(name)
        return self.pages[name]


def by_name(**verdicts: object) -> NameRule:
    return lambda name: verdicts.get(name, ALLOW)  # type: ignore[return-value]


def by_file(**verdicts: object) -> FileRule:
    return lambda subject: lambda file: verdicts.get(file.origin.path, ALLOW)  # type: ignore[return-value, union-attr]


async def ask(filtered: Filtered, name: str = "demo") -> ProjectPage:
    return await filtered.project(NormalizedName(name), Inquiry())


async def test_a_hidden_name_is_absent_and_never_asked_for() -> None:
    source = Pages(ProjectPage(DEMO, ()))
    with pytest.raises(ProjectNotFound):
        await ask(Filtered(source, Policy(name_rules=(by_name(demo=HIDE),))))
    assert source.asked == []


async def test_a_denied_name_stops_the_search() -> None:
    source = Pages(ProjectPage(DEMO, ()))
    with pytest.raises(Denied) as caught:
        await ask(Filtered(source, Policy(name_rules=(by_name(demo=BAD),))))
    assert str(caught.value).endswith("denied by rule no-bad: it is bad")
    assert source.asked == []


async def test_the_list_shows_what_may_be_had() -> None:
    names = [ProjectPage(NormalizedName(name), ()) for name in ("a", "b", "c")]
    rules = Policy(name_rules=(by_name(a=HIDE, b=BAD),))
    assert (await Filtered(Pages(*names), rules).projects(Inquiry())).names == ("c",)


async def test_a_list_is_judged_once_off_the_loop_whoever_asks_for_it() -> None:
    judged: list[tuple[str, bool]] = []

    def rule(name: NormalizedName) -> Verdict:
        judged.append((name, threading.current_thread() is threading.main_thread()))
        return BAD if name == "b" else ALLOW

    source = Pages(*(ProjectPage(NormalizedName(name), ()) for name in "abc"))
    filtered, lists = Filtered(source, Policy(name_rules=(rule,))), []

    async def one() -> None:
        lists.append(await filtered.projects(Inquiry()))

    async with anyio.create_task_group() as clients:
        for _ in range(20):
            clients.start_soon(one)
    await one()
    assert lists[0].names == ("a", "c")
    assert len({id(listed) for listed in lists}) == 1
    assert judged == [("a", False), ("b", False), ("c", False)]
    source.listed = ProjectList.of((*source.pages, NormalizedName("d")))
    assert (await filtered.projects(Inquiry())).names == ("a", "c", "d")


async def test_a_list_nobody_objects_to_stays_the_same_object() -> None:
    source = Pages(ProjectPage(DEMO, ()))
    filtered = Filtered(source, Policy(name_rules=(by_name(),)))
    assert await filtered.projects(Inquiry()) is source.listed


async def test_a_page_nobody_objects_to_stays_the_same_object() -> None:
    page = ProjectPage(DEMO, (file("a"),))
    filtered = Filtered(Pages(page), Policy(file_rules=(by_file(),)))
    assert await ask(filtered) is page


async def test_hidden_files_are_absent_and_denied_ones_refused() -> None:
    page = ProjectPage(
        DEMO,
        (file("a"), file("b"), file("c")),
        versions=("1",),
        status=Status("archived"),
        withdrawn=(file("d"), file("e")),
        is_gone=True,
    )
    rules = Policy(file_rules=(by_file(b=HIDE, c=BAD, d=BAD),))
    shown = await ask(Filtered(Pages(page), rules))
    assert [f.filename for f in shown.files] == ["demo-a.tar.gz"]
    assert [f.filename for f in shown.withdrawn] == ["demo-e.tar.gz"]
    assert (shown.versions, shown.status, shown.is_gone) == (("1",), Status("archived"), True)
    with pytest.raises(FileNotOnPage):
        shown.file("demo-b.tar.gz")
    for name in ("c", "d"):
        with pytest.raises(Denied, match="no-bad"):
            shown.file(f"demo-{name}.tar.gz")


async def test_versions_go_with_the_last_of_their_files() -> None:
    def of(name: str, version: str | None) -> File:
        return file(name).but(version=version)

    page = ProjectPage(
        DEMO,
        (of("a", "1"), of("b", "1"), of("c", "2"), of("d", "3.0"), of("e", None), of("f", "4b!")),
        versions=("0.9", "1", "2", "3", "4b!", "5b!"),  # 0.9 and 5b! never had files
        withdrawn=(of("g", "0.9"),),
    )
    rule = by_file(b=BAD, c=BAD, d=HIDE, e=BAD, f=BAD, g=BAD)
    shown = await ask(Filtered(Pages(page), Policy(file_rules=(rule,))))
    assert shown.versions == ("0.9", "1", "5b!")
    rule = by_file(g=BAD)  # nothing that was shown
    shown = await ask(Filtered(Pages(page), Policy(file_rules=(rule,))))
    assert shown.versions == page.versions


async def test_refused_versions_without_files_go_too_where_rules_go_by_the_version() -> None:
    def rule(subject: Subject) -> FileJudge:
        if subject.status.status == "quarantined":
            return lambda file: BAD
        return lambda file: {"1": BAD, "2": HIDE}.get(file.version or "", ALLOW)

    policy = Policy(file_rules=(rule,), goes_by_version=True)
    page = ProjectPage(DEMO, (file("a").but(version="4"),), versions=("1", "2", "3", "4"))
    shown = await ask(Filtered(Pages(page), policy))
    assert (shown.files, shown.versions) == (page.files, ("3", "4"))
    page = ProjectPage(DEMO, (), versions=("1", "3"), status=Status("quarantined"))
    assert (await ask(Filtered(Pages(page), policy))).versions == ("3",)


async def test_denials_of_an_inner_policy_are_kept() -> None:
    page = ProjectPage(DEMO, (file("a"), file("b")), denied={"x": Denied("x", "inner", "r")})
    shown = await ask(Filtered(Pages(page), Policy(file_rules=(by_file(b=BAD),))))
    assert set(shown.denied) == {"x", "demo-b.tar.gz"}


async def test_a_page_without_files_left_is_empty_not_absent() -> None:
    shown = await ask(
        Filtered(Pages(ProjectPage(DEMO, (file("a"),))), Policy((), (by_file(a=BAD),)))
    )
    assert shown.files == ()


async def test_rules_that_raise_deny(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("a bug")

    source = Pages(ProjectPage(DEMO, (file("a"),)))
    with caplog.at_level(logging.ERROR):
        with pytest.raises(Denied, match="a rule of this index failed"):
            await ask(Filtered(source, Policy(name_rules=(broken,))))
        for rule in (broken, lambda subject: broken):
            shown = await ask(Filtered(source, Policy(file_rules=(rule,))))
            assert shown.files == ()
            assert set(shown.denied) == {"demo-a.tar.gz"}
    assert len(caplog.records) == 3


async def test_the_rules_are_asked_once_per_page() -> None:
    asked: list[str] = []

    def rule(file: File) -> Deny:
        asked.append(file.filename)
        return BAD

    source = Pages(ProjectPage(DEMO, (file("a"),)))
    filtered = Filtered(source, Policy(file_rules=(lambda subject: rule,)))
    assert await ask(filtered) is await ask(filtered)
    assert len(asked) == 1
    source.pages[DEMO] = ProjectPage(DEMO, (file("b"),))
    await ask(filtered)
    assert len(asked) == 2


@pytest.mark.parametrize("files", [10, 2_000])
async def test_a_large_page_is_judged_once_off_the_loop_whoever_asks_for_it(files: int) -> None:
    threads: list[bool] = []

    def judge(file: File) -> Verdict:
        threads.append(threading.current_thread() is threading.main_thread())
        return BAD if file.filename == "demo-1.tar.gz" else ALLOW

    source = Pages(ProjectPage(DEMO, tuple(file(str(number)) for number in range(files))))
    filtered, pages = Filtered(source, Policy(file_rules=(lambda subject: judge,))), []

    async def one() -> None:
        pages.append(await ask(filtered))

    async with anyio.create_task_group() as clients:
        for _ in range(20):
            clients.start_soon(one)
    await one()
    assert len(pages[0].files) == files - 1
    assert len({id(page) for page in pages}) == 1
    assert threads == [files < 1_000] * files


async def test_rules_that_go_by_the_version_are_asked_once_for_each() -> None:
    asked: list[str | None] = []

    def judge(file: File) -> Verdict:
        asked.append(file.version)
        return {"2": BAD, "3": HIDE}.get(file.version or "", ALLOW)

    files = [
        File(f"demo-{version}-{n}.zip", LocalOrigin("x"), version=version)
        for n in range(3)
        for version in ("1", "2", "3", None)
    ]
    source = Pages(ProjectPage(DEMO, tuple(files)))
    rules = (lambda subject: judge,)
    quick = await ask(Filtered(source, Policy(file_rules=rules, goes_by_version=True)))
    assert sorted(asked, key=str) == ["1", "2", "3", None]
    slow = await ask(Filtered(source, Policy(file_rules=rules)))
    assert quick.files == slow.files
    assert [file.filename for file in quick.files] == [
        file.filename for file in files if file.version in {"1", None}
    ]
    assert {name: str(denied) for name, denied in quick.denied.items()} == {
        name: str(denied) for name, denied in slow.denied.items()
    }


def test_all_that_may_be_long_weighs() -> None:
    some = (file("1"), file("2"))
    page = ProjectPage(NormalizedName("a"), some, ("1", "2", "3"), withdrawn=some[:1])
    assert weight(page) == 7
    assert weight(replace(page, denied={"x": Denied("x", "rule", "reason")})) == 8
    assert weight(replace(page, length=50_000_000)) > 40_000


def test_remembered_pages_are_bounded_by_their_files() -> None:
    memo: Remembered[str] = remembered(limit=10)

    def put(name: str, files: int) -> None:
        page = ProjectPage(NormalizedName(name), tuple(file(str(n)) for n in range(files)))
        memo.put(name, (name, page))

    put("a", 3)
    put("b", 3)
    assert memo.get("a") is not None  # now the latest used
    put("c", 3)
    assert [memo.get(name) is not None for name in "abc"] == [True, False, True]
    put("a", 1)
    put("b", 3)
    assert [memo.get(name) is not None for name in "abc"] == [True, True, True]
    put("huge", 100)
    assert [memo.get(name) is not None for name in ("a", "b", "c", "huge")] == [False] * 3 + [True]
