"""Trees of random indexes against a plain model: who is asked for a name, and who answers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import NormalizedName

from proxyindex.errors import Denied, ProjectNotFound, ServedElsewhere
from proxyindex.inquiry import Inquiry
from proxyindex.model import File, LocalOrigin, ProjectList, ProjectPage
from proxyindex.names import is_reserved, matches_pattern
from proxyindex.settings import (
    IndexSettings,
    PolicySettings,
    Route,
    Settings,
    UpstreamSettings,
)
from proxyindex.trees import Trees

NAMES = ("acme", "acme-x", "torch", "six")
UPSTREAMS = ("u", "v")
INDEXES = ("a", "b", "c", "d", "e")


class Source:
    """Has some projects, each with one file that tells the source's name."""

    def __init__(self, name: str, projects: frozenset[str]) -> None:
        self.name = name
        self.projects_there = projects
        self.asked = 0

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        return ProjectList.of(NormalizedName(name) for name in self.projects_there)

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        self.asked += 1
        if name not in self.projects_there:
            raise ProjectNotFound(name)
        file = File(f"{name}-{self.name}.tar.gz", LocalOrigin(self.name), version=self.name)
        return ProjectPage(name, (file,), versions=(self.name,))


class World:
    """Settings, sources, and what the model says of them."""

    def __init__(
        self,
        indexes: tuple[IndexSettings, ...],
        own: dict[str, frozenset[str]],
        remote: dict[str, frozenset[str]],
    ) -> None:
        urls = {name: f"https://{name}.example/simple" for name in UPSTREAMS}
        self.settings = Settings(
            upstreams=tuple(UpstreamSettings(name, url) for name, url in urls.items()),
            index_tables=indexes,
        )
        self.indexes = {one.name: one for one in indexes}
        self.own = {name: Source(name, there) for name, there in own.items()}
        self.remote = {name: Source(name, there) for name, there in remote.items()}
        self.trees = Trees(self.settings, self.own, self.remote)

    def answer(self, index: str, name: str) -> list[str] | str | None:
        """Whose files the tree shows, the upstream it sends clients to, or `None`."""

        async def ask() -> ProjectPage:
            tree = self.trees.tree(self.indexes[index])
            return await tree.whole.project(NormalizedName(name), Inquiry())

        try:
            return sorted(file.version or "" for file in anyio.run(ask).files)
        except ProjectNotFound:
            return None
        except ServedElsewhere as away:
            return away.url.split("/")[2].removesuffix(".example")

    def listed(self, index: str) -> set[str]:
        async def ask() -> ProjectList:
            return await self.trees.tree(self.indexes[index]).whole.projects(Inquiry())

        return set(anyio.run(ask).names)

    def model(self, index: str, name: str) -> list[str] | str | None:
        one = self.indexes[index]
        line = self._line(index)
        private = [owner for owner in line if owner in self.own and self._has(owner, name)]
        if private:
            return sorted(private)
        if one.fallback == "none" or any(self._shuts(owner, name) for owner in line):
            return None
        order = self._order(index, name)
        if one.fallback == "redirect":
            return order[0] if order else None
        found = [name_of for name_of in order if name in self.remote[name_of].projects_there]
        return found[:1] or None

    def _has(self, owner: str, name: str) -> bool:
        return name in self.own[owner].projects_there

    def _line(self, index: str) -> set[str]:
        bases = [base for base in self.indexes[index].bases if base in self.indexes]
        return {index}.union(*(self._line(base) for base in bases))

    def _shuts(self, owner: str, name: str) -> bool:
        index = self.indexes[owner]
        route = next((r for r in index.routes if matches_pattern(NormalizedName(name), r.match)), 0)
        is_inside = isinstance(route, Route) and route.to == "folders"
        return is_inside or is_reserved(NormalizedName(name), index.policy.reserved)

    def _order(self, index: str, name: str) -> list[str]:
        """The upstreams that are asked for the name, in order."""
        one = self.indexes[index]
        targets = [*one.bases, *one.upstreams]
        for route in one.routes:
            if matches_pattern(NormalizedName(name), route.match):
                targets = [route.to]
                break
        order: list[str] = []
        for target in targets:
            if target in UPSTREAMS:
                order.append(target)
            elif target in self.indexes and self.indexes[target].fallback != "none":
                order += self._order(target, name)
        return order


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = INDEXES[: draw(st.integers(1, len(INDEXES)))]
    some = st.frozensets(st.sampled_from(NAMES))
    indexes = []
    for number, name in enumerate(names):
        later = [*names[number + 1 :], *UPSTREAMS]  # so there is no ring
        bases = draw(st.lists(st.sampled_from(later), unique=True, max_size=3))
        targets = ["folders", *UPSTREAMS, *(base for base in bases if base in names)]
        patterns = st.sampled_from(["acme*", "acme", "*", "torch"])
        route = st.builds(Route, patterns, st.sampled_from(targets))
        indexes.append(
            IndexSettings(
                name,
                bases=tuple(bases),
                upstreams=draw(st.sampled_from([(), ("u",), ("v", "u")])),
                routes=tuple(draw(st.lists(route, max_size=2))),
                fallback=draw(st.sampled_from(["proxy", "proxy", "redirect", "none"])),
                policy=PolicySettings(reserved=draw(st.sampled_from([(), (), ("acme",)]))),
            )
        )
    own = {name: draw(some) for name in names if draw(st.booleans())}
    return World(tuple(indexes), own, {name: draw(some) for name in UPSTREAMS})


@given(worlds())
def test_every_name_is_answered_as_the_model_says(world: World) -> None:
    for index in world.indexes:
        for name in NAMES:
            for source in world.remote.values():
                source.asked = 0
            expected = world.model(index, name)
            assert world.answer(index, name) == expected, (index, name)
            is_private = bool({"u", "v"}.isdisjoint(expected or ())) and expected is not None
            if is_private or world.indexes[index].fallback != "proxy":
                assert not any(source.asked for source in world.remote.values()), (index, name)


@given(worlds())
def test_an_upstream_that_another_may_follow_is_known_as_such(world: World) -> None:
    followed = world.settings.followed()
    asking = [name for name, one in world.indexes.items() if one.fallback != "none"]
    for index in asking:
        for name in NAMES:
            *earlier, _ = [*dict.fromkeys(world._order(index, name)), "nobody"]
            assert set(earlier[:-1]) <= followed, (index, name)


@given(worlds(), st.data())
def test_what_a_base_denies_comes_from_no_upstream(world: World, drawn: st.DataObject) -> None:
    base = drawn.draw(st.sampled_from(sorted(world.indexes)))
    name = drawn.draw(st.sampled_from(NAMES))
    denying = replace(world.indexes[base].policy, deny=(name,))
    indexes = [
        replace(one, policy=denying) if one.name == base else one for one in world.indexes.values()
    ]
    own = {owner: source.projects_there for owner, source in world.own.items()}
    remote = {upstream: source.projects_there for upstream, source in world.remote.items()}
    there = World(tuple(indexes), own, remote)
    for index in there.indexes:
        line = there._line(index)
        if base not in line:
            continue
        with suppress(Denied):
            assert set(there.answer(index, name) or ()) <= line, index
        assert not any(source.asked for source in there.remote.values()), index
        if name in there.listed(index):
            assert any(owner in there.own and there._has(owner, name) for owner in line), index


@pytest.mark.parametrize(
    ("prod", "dev"),
    [
        ({}, {}),
        ({"upstreams": ("v",)}, {}),
        ({"upstreams": ("v",), "fallback": "none"}, {}),
        ({"upstreams": ("v",)}, {"routes": (Route("six", "u"),)}),
        ({}, {"fallback": "redirect"}),
    ],
)
def test_a_name_that_a_base_denies_is_denied_by_whatever_way(
    prod: dict[str, object], dev: dict[str, object]
) -> None:
    refuses = PolicySettings(deny=("six", "torch<2"))
    indexes = (
        IndexSettings("a", bases=("b",), upstreams=("u",), **dev),  # type: ignore[arg-type]
        IndexSettings("b", policy=refuses, **prod),  # type: ignore[arg-type]
    )
    world = World(indexes, {}, _remote("six", "torch"))
    with pytest.raises(Denied, match="deny six"):
        world.answer("a", "six")
    assert not world.remote["u"].asked
    assert world.answer("a", "torch") in (["u"], "v", "u"), "versions are judged as of each way"
    nearer = World(indexes, {"a": frozenset({"six"})}, _remote("six"))
    assert nearer.answer("a", "six") == ["a"]


@given(worlds())
def test_what_is_listed_is_what_is_served(world: World) -> None:
    for index, settings in world.indexes.items():
        if settings.fallback != "redirect":
            served = {name for name in NAMES if world.model(index, name) is not None}
            assert world.listed(index) == served, index


@pytest.mark.parametrize("depth", [40])
def test_many_paths_to_one_base_take_no_more_time_than_one(depth: int) -> None:
    indexes = [
        IndexSettings(f"{side}{n}", bases=(f"l{n + 1}", f"r{n + 1}"))
        for n in range(depth)
        for side in "lr"
    ]
    last = [IndexSettings(f"{side}{depth}", upstreams=("u",)) for side in "lr"]
    world = World((*indexes, *last), {f"l{depth}": frozenset({"acme"})}, _remote("six"))
    assert world.answer("l0", "acme") == [f"l{depth}"]
    assert world.answer("l0", "six") == ["u"]
    assert world.answer("l0", "torch") is None
    assert world.remote["u"].asked == 2


def test_the_policy_of_each_base_on_the_way_judges_what_comes_from_it() -> None:
    def refuses(*rules: str) -> PolicySettings:
        return PolicySettings(deny=rules)

    indexes = (
        IndexSettings("a", bases=("b",)),
        IndexSettings("b", bases=("c",), policy=refuses("acme")),
        IndexSettings("c", upstreams=("u",), policy=refuses("six")),
    )
    world = World(indexes, {"c": frozenset({"acme", "torch"})}, _remote("six", "acme-x"))
    for name in ("acme", "six"):
        with pytest.raises(Denied):
            world.answer("a", name)
    assert world.answer("c", "acme") == ["c"]
    assert world.answer("a", "torch") == ["c"]
    assert world.answer("a", "acme-x") == ["u"]


@pytest.mark.parametrize("bases", [("b", "c"), ("c", "b")])
@pytest.mark.parametrize("rule", ["deny acme", "deny acme<2", "deny six<2", "allow torch"])
def test_rules_of_a_base_hold_for_what_can_be_had_through_it_by_whatever_way(
    bases: tuple[str, ...], rule: str
) -> None:
    kind, pattern = rule.split()
    indexes = (
        IndexSettings("a", bases=bases),
        IndexSettings("b", bases=("d",), policy=PolicySettings(**{kind: (pattern,)})),
        IndexSettings("c", bases=("d",)),
        IndexSettings("d", upstreams=("u",)),
    )
    world = World(indexes, {"d": frozenset({"acme"})}, _remote("six"))
    for name in ("acme", "six") if kind == "allow" else (pattern.removesuffix("<2"),):
        with suppress(Denied):
            assert world.answer("a", name) == [], "its versions are denied"
        assert world.answer("c", name) in (["d"], ["u"])


class Still(Source):
    """Gives the same page each time."""

    page: ProjectPage | None = None

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        if self.page is None:
            self.page = await super().project(name, inquiry)
        return self.page


@pytest.mark.parametrize("routes", [(), (Route("torch", "u"),)], ids=["plain", "routed"])
async def test_pages_joined_of_the_same_pages_are_the_same_page(routes: tuple[Route, ...]) -> None:
    index = IndexSettings("a", upstreams=("u", "v"), routes=routes, merge=("six",))
    world = World((index,), {}, _remote("six"))
    still = {name: Still(name, frozenset({"six"})) for name in UPSTREAMS}
    tree = Trees(world.settings, {}, still).tree(index)
    first, second = [await tree.whole.project(NormalizedName("six"), Inquiry()) for _ in range(2)]
    assert sorted(file.version or "" for file in first.files) == ["u", "v"]
    assert first is second


def _remote(*names: str) -> dict[str, frozenset[str]]:
    return {"u": frozenset(names), "v": frozenset()}
