"""What every repository promises, whatever it is made of: one suite for all of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
import pytest
from packaging.utils import NormalizedName

from proxyindex.errors import Denied, FileNotOnPage, ProjectNotFound, UpstreamUnavailable
from proxyindex.inquiry import Inquiry
from proxyindex.model import ProjectPage
from proxyindex.policy import rules
from proxyindex.policy.verdict import Policy
from proxyindex.repository.base import Repository
from proxyindex.repository.filtered import Filtered
from proxyindex.repository.local import Local
from proxyindex.repository.mirror import Mirror
from proxyindex.repository.priority import Joined, Priority
from proxyindex.repository.routed import Leaf, Routed
from proxyindex.store.derived import DerivedNotes
from proxyindex.store.facts import Fact
from tests.support.builders import put_sdist, put_wheel
from tests.support.mirrors import Source, Workplace, answer, workplace
from tests.support.pages import JSON_TYPE, json_list, json_page, sdist_spec, wheel_spec

FILES = ["demo-1.0.tar.gz", "demo-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl"]
NOTHING = Policy()


def upstream_of(request: httpx.Request) -> httpx.Response:
    specs = [wheel_spec("demo", "1.0"), wheel_spec("demo", "2.0"), sdist_spec("demo", "1.0")]
    bodies = {
        "/simple/demo/": json_page("demo", specs),
        "/simple/other/": json_page("other", []),
        "/simple/": json_list(["demo", "other"]),
    }
    body = bodies.get(request.url.path)
    return answer(404) if body is None else answer(200, body, content_type=JSON_TYPE)


def folder_of(root: Path) -> Path:
    folder = root / "packages"
    put_wheel(folder / "demo", "demo", "1.0")
    put_wheel(folder / "demo", "demo", "2.0")
    put_sdist(folder / "demo", "demo", "1.0")
    (folder / "other").mkdir()
    return folder


def later() -> int:
    """A clock on which everything on disk has settled."""
    return time.time_ns() + 3600 * 10**9


def local(root: Path, place: Workplace) -> Repository:
    notes = DerivedNotes(place.cache.derived, place.cache.worker)
    return Local([folder_of(root)], notes, clock=later)


def routed(root: Path, place: Workplace) -> Repository:
    only = mirror(root, place)
    return Routed(lambda name: [Leaf(only)], [only], lambda name: False)


def joined(root: Path, place: Workplace) -> Repository:
    own = local(root, place)
    return Joined([(own, own)])


def mirror(root: Path, place: Workplace, **how: bool) -> Mirror:
    cache = place.cache
    terms = place.terms(**how)
    return Mirror(terms, cache.facts, cache.blobs, place.tasks, lists_all=True)


# on what the page of `demo` rests, where that is not our own folder alone
UPSTREAM = {"pages", "facts"}
ASKED = {"mirror": UPSTREAM, "routed": UPSTREAM, "merged": {*UPSTREAM, "packages"}}
KINDS: dict[str, Callable[[Path, Workplace], Repository]] = {
    "local": local,
    "mirror": mirror,
    "priority": lambda root, place: Priority([local(root, place), mirror(root, place)]),
    "merged": lambda root, place: Priority(
        [local(root, place), mirror(root, place)], lambda name: True
    ),
    "joined": joined,
    "routed": routed,
    "filtered": lambda root, place: Filtered(local(root, place), NOTHING),
    "index": lambda root, place: Filtered(
        Priority([local(root, place), Filtered(mirror(root, place), NOTHING)]), NOTHING
    ),
}


@asynccontextmanager
async def made(kind: str, root: Path) -> AsyncIterator[Repository]:
    async with workplace(root / "cache", Source(upstream_of)) as place:
        yield KINDS[kind](root, place)


@dataclass(frozen=True)
class Maker:
    kind: str
    root: Path

    def __call__(self) -> AbstractAsyncContextManager[Repository]:
        return made(self.kind, self.root)


@pytest.fixture(params=KINDS)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    """Makes a repository with the projects `demo` (three files) and `other` (none)."""
    return Maker(request.param, tmp_path)


async def page(repository: Repository, name: str = "demo") -> ProjectPage:
    return await repository.project(NormalizedName(name), Inquiry())


async def test_a_page_lists_the_files_by_version_and_name(repository: Maker) -> None:
    async with repository() as made:
        found = await page(made)
    assert found.name == "demo"
    assert [file.filename for file in found.files] == sorted(FILES)
    assert set(found.versions) == {"1.0", "2.0"}
    assert not found.is_gone


async def test_every_file_can_be_had_by_name_with_what_clients_check(repository: Maker) -> None:
    async with repository() as made:
        found = await page(made)
    for name in FILES:
        file = found.file(name)
        assert file.filename == name
        assert file.sha256 is not None
        assert file.size
        if file.is_wheel:
            assert found.file(name + ".metadata").filename == name + ".metadata"


async def test_a_file_that_is_not_listed_cannot_be_had(repository: Maker) -> None:
    async with repository() as made:
        found = await page(made)
    for name in ("demo-3.0.tar.gz", "../demo-1.0.tar.gz", "demo-1.0.tar.gz.metadata", ""):
        with pytest.raises(FileNotOnPage):
            found.file(name)


async def test_a_project_without_files_is_an_empty_page(repository: Maker) -> None:
    async with repository() as made:
        assert (await page(made, "other")).files == ()


async def test_an_unknown_project_is_not_found(repository: Maker) -> None:
    async with repository() as made:
        for _ in range(2):
            with pytest.raises(ProjectNotFound):
                await page(made, "unknown")


async def test_the_list_is_sorted_and_has_no_doubles(repository: Maker) -> None:
    async with repository() as made:
        listed = await made.projects(Inquiry())
    assert listed.names == ("demo", "other")


async def test_an_unchanged_list_is_the_very_same_each_time(repository: Maker) -> None:
    """What is made of it is remembered by identity: other lists, and its bytes."""
    async with repository() as made:
        assert await made.projects(Inquiry()) is await made.projects(Inquiry())


async def test_an_unchanged_page_is_equal_each_time(repository: Maker) -> None:
    async with repository() as made:
        assert (await page(made)).files == (await page(made)).files


async def test_every_answer_says_where_it_came_from(repository: Maker) -> None:
    async with repository() as made:
        inquiry = Inquiry()
        await made.project(NormalizedName("demo"), inquiry)
    assert inquiry.outcome is not None


async def test_every_source_tells_on_what_its_answer_rests(repository: Maker) -> None:
    async with repository() as made:
        await page(made)
        inquiry = Inquiry()
        await made.project(NormalizedName("demo"), inquiry)
        absent = Inquiry()
        with pytest.raises(ProjectNotFound):
            await made.project(NormalizedName("unknown"), absent)
    ground = inquiry.ground
    below = [Path(path).relative_to(repository.root) for path, _ in ground.witnesses]
    told = {path.parts[path.parts[0] == "cache"] for path in below}
    assert told == ASKED.get(repository.kind, {"packages"})
    assert ground.until, "what is stored and settled holds for longer than one request"
    assert absent.ground.witnesses or not absent.ground.until


async def test_many_at_once_get_the_same(repository: Maker) -> None:
    pages: list[ProjectPage] = []

    async with repository() as made:

        async def one() -> None:
            pages.append(await page(made))

        async with anyio.create_task_group() as clients:
            for _ in range(20):
                clients.start_soon(one)
    assert len(pages) == 20
    assert all(found.files == pages[0].files for found in pages)


# -- mirrors ---


async def test_a_mirror_lists_nothing_unless_told(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(upstream_of)) as place:
        quiet = Mirror(place.terms(), place.cache.facts, place.cache.blobs, place.tasks)
        assert (await quiet.projects(Inquiry())).names == ()
        assert place.source.count == 0


async def test_an_upstream_without_a_list_has_none(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(lambda request: answer(404))) as place:
        assert (await mirror(tmp_path, place).projects(Inquiry())).names == ()


@pytest.mark.parametrize("gone", [answer(404), answer(302, location="http://login.example/")])
async def test_a_list_that_is_gone_is_not_doubted(
    gone: httpx.Response, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`cache accept`, which ends a doubt, takes names of projects."""
    async with workplace(tmp_path, Source(upstream_of)) as place:
        made = mirror(tmp_path, place, doubts_absence=True)
        assert (await made.projects(Inquiry())).names == ("demo", "other")
        place.source.reply = lambda request: gone
        place.clock.now += 901
        assert (await made.projects(Inquiry())).names == ()
        assert place.events.alarms == []
    assert "cache accept" not in caplog.text


async def test_a_completed_page_is_the_same_object_until_something_is_learned(
    tmp_path: Path,
) -> None:
    async with workplace(tmp_path, Source(upstream_of)) as place:
        made = mirror(tmp_path, place)
        first = await page(made)
        assert await page(made) is first
        place.cache.facts.learn("up-1", "demo", FILES[0], Fact(url="u", sha256="a" * 64, size=1))
        changed = await page(made)
        assert changed.file(FILES[0]).sha256 == "a" * 64
        assert place.events.alarms == ["changed-file"]


async def test_the_memory_of_a_mirror_minds_versions_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # three files of two versions, and a page without any
    monkeypatch.setattr("proxyindex.repository.copies._MEMO_WEIGHT", 6)
    async with workplace(tmp_path, Source(upstream_of)) as place:
        made = mirror(tmp_path, place)
        first = await page(made)
        await page(made, "other")
        assert await page(made) is not first


async def test_a_herd_gets_the_very_same_completed_page(tmp_path: Path) -> None:
    """Two equal ones would be filtered, rendered and compressed each."""
    async with workplace(tmp_path, Source(upstream_of)) as place:
        place.cache.facts.learn("up-1", "demo", FILES[0], Fact(url="u", sha256="a" * 64, size=1))
        made, pages = mirror(tmp_path, place), []

        async def one() -> None:
            pages.append(await page(made))

        async with anyio.create_task_group() as clients:
            for _ in range(20):
                clients.start_soon(one)
        assert len(pages) == 20
        assert {id(found) for found in pages} == {id(await page(made))}
        assert place.events.alarms == ["changed-file"]


async def test_a_project_removed_upstream_leaves_its_files(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(lambda request: answer(404))) as place:
        place.cache.facts.learn("up-1", "demo", FILES[0], Fact(url="u", sha256="a" * 64))
        found = await page(mirror(tmp_path, place))
    assert found.is_gone
    assert found.file(FILES[0]).sha256 == "a" * 64


@pytest.mark.parametrize("is_evicted", [False, True])
@pytest.mark.parametrize(
    ("last_status", "files"), [("active", FILES[:1]), ("quarantined", []), ("lifted", FILES[:1])]
)
async def test_what_is_removed_after_a_quarantine_leaves_none(
    tmp_path: Path, last_status: str, files: list[str], is_evicted: bool
) -> None:
    quarantined = json_page("demo", [], project_status={"status": "quarantined"})
    bodies = [
        json_page("demo", []),
        *([] if last_status == "active" else [quarantined]),
        *([json_page("demo", [])] if last_status == "lifted" else []),
    ]

    def reply(request: httpx.Request) -> httpx.Response:
        return answer(200, bodies.pop(0), content_type=JSON_TYPE) if bodies else answer(404)

    async with workplace(tmp_path, Source(reply)) as place:
        made = mirror(tmp_path, place)
        place.cache.facts.learn("up-1", "demo", FILES[0], Fact(url="u", sha256="a" * 64, size=1))
        while bodies:
            await page(made)
            place.clock.now += 901
        if is_evicted:
            place.cache.pages.remove("up-1", "demo")
        try:
            left = [file.filename for file in (await page(made)).withdrawn]
        except ProjectNotFound:
            left = []
        assert left == files


async def test_offline_only_files_on_disk_are_shown(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(upstream_of)) as place:
        await page(mirror(tmp_path, place))
        place.cache.blobs.put("a" * 64, b"bytes")
        place.cache.facts.learn("up-1", "demo", FILES[0], Fact(url="u", sha256="a" * 64, size=5))
        offline = mirror(tmp_path, place, is_offline=True)
        found = await page(offline)
        assert [file.filename for file in found.files] == [FILES[0]]
        with pytest.raises(UpstreamUnavailable):
            await page(offline, "unknown")
        assert place.source.count == 1


# -- the whole tree ---


async def test_a_local_or_reserved_name_never_leaves_the_house(tmp_path: Path) -> None:
    async with workplace(tmp_path / "cache", Source(upstream_of)) as place:
        private = Policy(name_rules=(rules.reserved(["acme"]),))
        tree = Priority([local(tmp_path, place), Filtered(mirror(tmp_path, place), private)])
        await page(tree)
        with pytest.raises(ProjectNotFound):
            await page(tree, "acme-core")
        assert place.source.count == 0


async def test_a_denied_project_does_not_fall_through(tmp_path: Path) -> None:
    async with workplace(tmp_path / "cache", Source(upstream_of)) as place:
        deny = Policy(name_rules=(rules.deny_names([rules.Pattern.parse("demo")]),))
        tree = Priority([Filtered(local(tmp_path, place), deny), mirror(tmp_path, place)])
        with pytest.raises(Denied):
            await page(tree)
        assert place.source.count == 0
