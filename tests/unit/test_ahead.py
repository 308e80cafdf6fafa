"""What is asked ahead of a client, and for whom nothing is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName

from proxyindex.archives.wheel import Wanted, required_projects
from proxyindex.errors import FileGone, ProjectNotFound, UpstreamUnavailable
from proxyindex.events import SILENT
from proxyindex.files.content import ByteStream, InMemory
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.model import File, LocalOrigin, MetadataOrigin, ProjectPage, UpstreamOrigin
from proxyindex.web.ahead import LookAhead, Reader
from proxyindex.web.machine import likely_wheel

ME = ("192.0.2.1", "pip")
REQUIRES = {"app": ["lib", "tool"], "lib": ["base"], "tool": [], "base": []}


def wheel(name: str, version: str = "1.0", tag: str = "py3-none-any", **fields: Any) -> File:
    filename = f"{name}-{version}-{tag}.whl"
    origin = UpstreamOrigin("up", f"https://files.example/{filename}", name)
    usual: dict[str, Any] = {"version": version, "size": 1000, "core_metadata": {}}
    return File(filename, **{"origin": origin, **usual, **fields})


def page(name: str) -> ProjectPage:
    return ProjectPage(NormalizedName(name), (wheel(name),))


def metadata(*requirements: str) -> bytes:
    lines = [f"Requires-Dist: {requirement}" for requirement in requirements]
    return "\n".join(["Metadata-Version: 2.1", "Name: x", "Version: 1", *lines, "", ""]).encode()


class _Flowing:
    """A wheel that begins to arrive when it is streamed."""

    def __init__(self, begun: Callable[[], None]) -> None:
        self._begun = begun

    async def stream(self) -> ByteStream:
        self._begun()
        return self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""

    async def aclose(self) -> None: ...


class World:
    """Repository and files at once; writes down what it was asked for, all of it new."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.alone = True
        self.fetchable = set(REQUIRES)
        self.outcome = Outcome.FETCHED
        self.outcomes: dict[str, Outcome] = {}
        self.unsure: set[str] = set()
        self.reader = Reader(lambda name: name in self.fetchable, lambda: self.alone, "via", ME)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        self.asked.append(name)
        assert inquiry.accepts_stale
        assert inquiry.via == "via"
        inquiry.outcome = self.outcomes.get(name, self.outcome)
        if name not in REQUIRES:
            raise ProjectNotFound(name)
        if name in self.unsure:
            inquiry.unsure = UpstreamUnavailable("earlier", "is down")
        return page(name)

    async def open(self, file: File, inquiry: Inquiry, *, whole: bool) -> Any:
        inquiry.outcome = self.outcome
        if not isinstance(file.origin, MetadataOrigin):
            return _Flowing(lambda: self.asked.append(file.filename))
        name = file.filename.partition("-")[0]
        self.asked.append(f"{name} metadata")
        if name == "tool":
            raise FileGone(file.filename)
        data = metadata(*REQUIRES[name])
        return InMemory(data)


async def after(world: World, *steps: Callable[[LookAhead], None]) -> list[str]:
    """What is asked for because of each step, sorted; for the next one only when all is over."""
    async with anyio.create_task_group() as tasks:
        ahead = LookAhead(world, world, tasks, SILENT)  # type: ignore[arg-type]
    for step in steps:
        world.asked.clear()
        async with anyio.create_task_group() as tasks:
            ahead._tasks = tasks
            step(ahead)
    return sorted(world.asked)


def page_answered(
    world: World, name: str, outcome: Outcome = Outcome.FETCHED
) -> Callable[[LookAhead], None]:
    return lambda ahead: ahead.after_page(page(name), outcome, world.reader)


def metadata_answered(
    world: World, name: str, outcome: Outcome = Outcome.FETCHED, **fields: Any
) -> Callable[[LookAhead], None]:
    return lambda ahead: ahead.after_metadata(
        wheel(name, **fields), metadata(*REQUIRES.get(name, [])), outcome, world.reader
    )


async def test_after_a_page_its_metadata_and_what_that_requires() -> None:
    world = World()
    expected = ["app metadata", "lib", "lib metadata", "tool", "tool metadata"]
    assert await after(world, page_answered(world, "app")) == expected


async def test_what_was_brought_leads_on_once_when_it_is_asked_for() -> None:
    world = World()
    first, lib = page_answered(world, "app"), page_answered(world, "lib", Outcome.HIT)
    assert await after(world, first, lib) == ["base", "base metadata", "lib metadata"]
    assert await after(world, first, lib, lib) == []


async def test_after_metadata_what_it_requires() -> None:
    world = World()
    expected = ["base", "base metadata"]
    assert await after(world, metadata_answered(world, "lib")) == expected
    brought = metadata_answered(world, "lib", Outcome.HIT)
    assert await after(world, page_answered(world, "app"), brought) == expected


async def test_an_own_wheel_in_the_place_of_one_that_was_brought_leads_nowhere() -> None:
    world = World()
    own = metadata_answered(world, "lib", Outcome.LOCAL, origin=LocalOrigin("lib"))
    assert await after(world, page_answered(world, "app"), own) == []


def file_answered(world: World, name: str) -> Callable[[LookAhead], None]:
    return lambda ahead: ahead.after_file(wheel(name), world.reader)


async def test_after_the_first_wheel_the_others_whose_metadata_the_client_has() -> None:
    world = World()
    large = metadata_answered(world, "large", size=100 * 1024**2)
    unknown = metadata_answered(world, "unknown", size=None)
    seen = [metadata_answered(world, name) for name in ("app", "lib", "base")]
    resolved = (*seen, large, unknown)
    others = ["app-1.0-py3-none-any.whl", "base-1.0-py3-none-any.whl"]
    assert await after(world, *resolved, file_answered(world, "lib")) == others
    # each once, and nothing for who only resolves, or installs what he has resolved long ago
    again = file_answered(world, "app")
    assert await after(world, *resolved, file_answered(world, "lib"), again) == []
    assert await after(world, *resolved, file_answered(world, "tool")) == []


async def test_wheels_that_may_not_be_fetched_for_who_asks_now_are_left() -> None:
    world = World()
    seen = [metadata_answered(world, name) for name in ("app", "lib", "base")]

    def may_less(ahead: LookAhead) -> None:
        world.fetchable = {"lib", "base"}
        ahead.after_file(wheel("lib"), world.reader)

    assert await after(world, *seen, may_less) == ["base-1.0-py3-none-any.whl"]


async def test_what_one_client_resolves_is_not_fetched_for_another() -> None:
    world = World()
    steps = [metadata_answered(world, name) for name in ("app", "lib", "base")]

    def other(ahead: LookAhead) -> None:
        reader = replace(world.reader, who=("192.0.2.9", "pip"))
        ahead.after_metadata(wheel("tool"), metadata(), Outcome.FETCHED, reader)
        ahead.after_file(wheel("tool"), reader)

    assert await after(world, *steps, other) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"size": None}, []),
        ({"size": None, "core_metadata": {"sha256": "0" * 64}}, ["app metadata"]),
        ({"core_metadata": None}, []),
    ],
)
async def test_metadata_is_looked_for_only_where_one_request_will_do(
    fields: dict[str, Any], expected: list[str]
) -> None:
    world = World()
    world.fetchable = {"app"}
    shown = ProjectPage(NormalizedName("app"), (wheel("app", **fields),))

    def answered(ahead: LookAhead) -> None:
        ahead.after_page(shown, Outcome.FETCHED, world.reader)

    assert await after(world, answered) == expected


@pytest.mark.parametrize("outcome", [Outcome.HIT, Outcome.STALE, Outcome.LOCAL, None])
async def test_after_what_was_there_nothing_is_asked(outcome: Outcome | None) -> None:
    world = World()
    for answered in (page_answered, metadata_answered):
        assert await after(world, answered(world, "app", outcome)) == []  # type: ignore[arg-type]


async def test_for_clients_that_ask_for_much_at_once_nothing_is_asked() -> None:
    world = World()
    world.alone = False
    for answered in (page_answered, metadata_answered):
        assert await after(world, answered(world, "app")) == []


async def test_it_ends_when_others_come() -> None:
    world = World()

    def alone() -> bool:
        return "app metadata" not in world.asked

    world.reader = Reader(world.reader.may_fetch, alone, "via", ME)
    assert await after(world, page_answered(world, "app")) == ["app metadata"]


async def test_for_whom_nothing_is_fetched_nothing_is_asked() -> None:
    world = World()
    world.fetchable = {"app", "tool"}
    assert await after(world, page_answered(world, "app")) == [
        "app metadata",
        "tool",
        "tool metadata",
    ]
    # what others had brought is no way around it
    steps = page_answered(world, "app"), page_answered(world, "tool", Outcome.HIT)
    assert await after(world, *steps) == ["tool metadata"]
    world.fetchable = {"app"}
    assert await after(world, steps[0], page_answered(world, "tool", Outcome.HIT)) == []


async def test_what_is_held_already_leads_nowhere() -> None:
    world = World()
    world.outcome = Outcome.HIT
    assert await after(world, page_answered(world, "app")) == ["app metadata", "lib", "tool"]


@pytest.fixture
def pip_world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A client that tells its machine, and projects that require more on some."""
    monkeypatch.setitem(
        REQUIRES, "app", ["lib[fast]", "tool; os_name == 'posix'", "odd; os_name == 'nt'"]
    )
    monkeypatch.setitem(REQUIRES, "lib", ["base; extra == 'fast'", "odd; extra == 'slow'"])
    monkeypatch.setitem(REQUIRES, "base", ["tool[a]"])
    world = World()
    told = {"python": "3.11.7", "cpu": "x86_64", "implementation": {"name": "CPython"}}
    agent = f"pip/26.3 {json.dumps({**told, 'system': {'name': 'Linux'}})}"
    world.reader = replace(world.reader, who=("192.0.2.1", agent))
    return world


async def test_what_is_required_on_the_machine_of_a_client_that_tells_it(pip_world: World) -> None:
    expected = ["app metadata", "lib", "lib metadata", "tool", "tool metadata"]
    assert await after(pip_world, page_answered(pip_world, "app")) == expected
    unknown = World()
    expected = ["app metadata", "lib", "lib metadata"]
    assert await after(unknown, page_answered(unknown, "app")) == expected


async def test_extras_are_remembered_until_their_project_is_asked_for(pip_world: World) -> None:
    first, lib = page_answered(pip_world, "app"), page_answered(pip_world, "lib", Outcome.HIT)
    assert await after(pip_world, first, lib) == ["base", "base metadata", "lib metadata"]
    metadata = metadata_answered(pip_world, "lib", Outcome.HIT)
    assert await after(pip_world, first, metadata) == ["base", "base metadata"]


async def test_extras_of_what_is_held_already_are_followed_at_once(pip_world: World) -> None:
    pip_world.outcomes["lib"] = Outcome.HIT
    expected = ["app metadata", "base", "base metadata", "lib", "lib metadata"]
    expected += ["tool", "tool metadata"]
    assert await after(pip_world, page_answered(pip_world, "app")) == expected
    # and no further, whatever requires what
    pip_world.outcomes["base"] = Outcome.HIT
    expected.remove("base metadata")
    assert await after(pip_world, page_answered(pip_world, "app")) == expected


async def test_what_an_earlier_source_may_have_by_now_leads_nowhere(pip_world: World) -> None:
    pip_world.outcomes["lib"] = Outcome.STALE
    pip_world.unsure.add("lib")
    expected = ["app metadata", "lib", "tool", "tool metadata"]
    assert await after(pip_world, page_answered(pip_world, "app")) == expected


async def test_a_fault_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def broken(name: NormalizedName) -> bool:
        if name == "lib":
            raise RuntimeError("a bug")
        return True

    world.reader = Reader(broken, world.reader.is_alone, "via", ME)
    await after(world, page_answered(world, "app"))
    assert "looking ahead failed" in caplog.text


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], None),
        ([wheel("a", "1.0"), wheel("a", "2.0")], "2.0"),
        ([wheel("a", "1.0"), wheel("a", "2.0rc1")], "1.0"),
        ([wheel("a", "1.0"), wheel("a", "2.0", yanked="")], "1.0"),
        ([wheel("a", "1.0"), wheel("a", "2.0", "cp312-cp312-win32"), wheel("a", "2.0")], None),
        ([wheel("a", "1.0").but(origin=LocalOrigin("a"))], None),
        ([wheel("a", "1.0"), wheel("a", "2.0").but(filename="a-2.0.tar.gz")], None),
        ([wheel("a", "odd!")], None),
    ],
)
def test_the_likely_wheel(files: list[File], expected: str | None) -> None:
    found = likely_wheel(tuple(files), None, SpecifierSet())
    assert (found and found.version) == expected


def test_required_projects_are_those_that_nothing_depends_on() -> None:
    data = metadata(
        "Lib_One>=1",
        "lib.one<9",
        "two[extra]",
        "three; extra == 'x'",
        "four; python_version < '3'",
        "five @ https://files.example/five.whl",
        "not a requirement!",
        "six (>=1.0)",
    )
    assert required_projects(data) == {
        "lib-one": Wanted(versions=SpecifierSet(">=1,<9")),
        "two": Wanted(frozenset({"extra"})),
        "six": Wanted(versions=SpecifierSet(">=1.0")),
    }
    assert list(required_projects(data, lambda marker: "python_version" in str(marker))) == [
        "lib-one",
        "two",
        "four",
        "six",
    ]
    assert required_projects(b"") == {}
    assert required_projects(b"\xff" * 100) == {}
    assert required_projects(b"A:\n" * 60_000) == {}
    assert required_projects(metadata("a; " + "(" * 495 + "os_name=='x'" + ")" * 495)) == {}
    bomb = metadata("a[x]>1", *(f"a[{n}0,{n}1,{n}2]>0.{n},!=1.{n}" for n in range(290)))
    (of_bomb,) = required_projects(bomb).values()
    assert "x" in of_bomb.extras
    assert "2.0" in of_bomb.versions
    assert max(len(of_bomb.extras), len(of_bomb.versions)) <= 16
    many = metadata(*(f"p{n}" for n in range(400)), "x" * 2000)
    assert list(required_projects(many)) == [f"p{n}" for n in range(300)]
