"""Who may do what: every decision against a model that is written another way."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import NormalizedName

from proxyindex.access import (
    ANONYMOUS,
    NO_NAME,
    Action,
    Decision,
    Grant,
    Identity,
    InvalidGrant,
    Rights,
    Scope,
    is_user_name,
)

GROUPS = {"release": {"alice", "bob"}, "ops": {"carol"}}
# (user, indexes, projects, actions) of a token; the last three None for a log-in by password
WHO: list[tuple[str | None, str | None, str | None, str | None]] = [
    (None, None, None, None),
    ("alice", None, None, None),
    ("carol", None, None, None),
    ("dave", None, None, None),
    ("alice", "dev*", None, None),
    ("alice", None, "acme-*", None),
    ("alice", None, None, "read"),
    ("alice", None, None, "admin"),
    ("alice", "prod", "acme-*", "upload"),
    ("ci", None, "torch", "read upload"),
]
INDEXES = ("dev", "prod", "dev-2")
PROJECTS: tuple[str | None, ...] = (None, "acme-lib", "torch", "other", "")
GRANTS = [
    {},
    {"read": ["*"]},
    {"read": ["@users"], "upload": ["ci", "@release acme-*"]},
    {"read": ["* open-* torch", "@release"], "fetch": ["@ops"], "yank": ["alice"]},
    {"admin": ["carol", "alice acme-*"], "read": ["dave other"]},
    {"delete": ["*"], "admin": ["@nobody"], "fetch": ["@users acme-* torch"]},
]


def globbed(name: str, globs: list[str]) -> bool:
    patterns = [glob.replace("*", ".*") for glob in globs]
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def model(
    grants: dict[str, list[str]],
    who: tuple[str | None, str | None, str | None, str | None],
    index: str,
    action: str,
    project: str | None,
) -> str:
    """The rules as one would tell them."""
    user, of_indexes, of_projects, of_actions = who
    lines = [line.split() for key in (action, "admin") for line in grants.get(key, [])]
    about = [w for w, *globs in lines if project is None or not globs or globbed(project, globs)]
    if "*" in about:
        return "allowed"
    if user is None:
        return "log in" if any(w != "*" for w, *_ in lines) else "forbidden"
    if of_indexes and not globbed(index, [of_indexes]):
        return "forbidden"
    if of_projects and project is not None and not globbed(project, [of_projects]):
        return "forbidden"
    if of_actions:
        good_for = set(of_actions.split())
        if "read" in good_for:
            good_for.add("fetch")
        if action not in good_for and "admin" not in good_for:
            return "forbidden"
    names = {user, "@users"} | {f"@{name}" for name, users in GROUPS.items() if user in users}
    return "allowed" if names & set(about) else "forbidden"


def identity(who: tuple[str | None, str | None, str | None, str | None]) -> Identity:
    user, indexes, projects, actions = who
    scope = Scope(
        (indexes,) if indexes else (),
        (projects,) if projects else (),
        frozenset(Action(word) for word in actions.split()) if actions else frozenset(),
    )
    groups = frozenset(name for name, users in GROUPS.items() if user in users)
    return Identity(user, groups, scope)


def rights(grants: dict[str, list[str]], index: str) -> Rights:
    parsed = {Action(key): [Grant.parse(one) for one in lines] for key, lines in grants.items()}
    return Rights(index, parsed)


@pytest.mark.parametrize("grants", GRANTS, ids=str)
def test_every_decision_is_that_of_the_model(grants: dict[str, list[str]]) -> None:
    seen = set()
    for index, who in itertools.product(INDEXES, WHO):
        judged, asker = rights(grants, index), identity(who)
        for action, project in itertools.product(Action, PROJECTS):
            name = None if project is None else NormalizedName(project)
            expected = model(grants, who, index, action.value, project)
            assert judged.decide(asker, action, name).value == expected, (index, who, action, name)
            seen.add(expected)
    assert len(seen) >= (2 if grants else 1), "the table tells nothing apart"


WORDS = st.sampled_from(["*", "@users", "alice", "bob", "ci", "@release", "@ops"])
GLOBS = st.lists(st.sampled_from(["acme-*", "torch", "*", "o*r"]), max_size=2)
LINES = st.lists(st.tuples(WORDS, GLOBS).map(lambda one: " ".join([one[0], *one[1]])), max_size=3)
MAPS = st.dictionaries(st.sampled_from([action.value for action in Action]), LINES)


@given(
    MAPS,
    st.sampled_from(WHO),
    st.sampled_from(INDEXES),
    st.sampled_from(list(Action)),
    st.sampled_from(PROJECTS),
)
def test_any_configuration_decides_as_the_model(
    grants: dict[str, list[str]],
    who: tuple[str | None, str | None, str | None, str | None],
    index: str,
    action: Action,
    project: str | None,
) -> None:
    judged, asker = rights(grants, index), identity(who)
    name = None if project is None else NormalizedName(project)
    decision = judged.decide(asker, action, name)
    assert decision.value == model(grants, who, index, action.value, project)
    assert judged.allows(asker, action, name) == (decision is Decision.ALLOWED)
    if judged.reaches_all(asker, action):
        assert decision is Decision.ALLOWED
    if judged.is_open(action, name):
        assert decision is Decision.ALLOWED, "whoever logs in may do what everybody may"
    if name is not None:
        both = [judged.decide(asker, one, name) for one in (Action.READ, Action.FETCH)]
        for is_own, needed in ((True, both[:1]), (False, both)):
            expected = set(needed) == {Decision.ALLOWED}
            for _ in range(2):  # the second time from memory
                assert judged.may_get(asker, name, is_own=is_own) == expected


@given(MAPS, st.sampled_from(list(Action)), st.sampled_from(["acme-lib", "torch", "zzz", ""]))
def test_whether_to_log_in_does_not_depend_on_the_name(
    grants: dict[str, list[str]], action: Action, project: str
) -> None:
    judged = rights(grants, "prod")
    found = judged.decide(ANONYMOUS, action, NormalizedName(project))
    other = judged.decide(ANONYMOUS, action, NormalizedName("any-other"))
    assert Decision.ALLOWED in (found, other) or found is other


def test_what_is_no_name_is_covered_by_grants_for_all_names_only() -> None:
    judged = rights({"read": ["alice acme-*", "bob *", "carol"]}, "prod")
    allowed = [judged.allows(Identity(user), Action.READ, NO_NAME) for user in ("alice", "bob")]
    assert allowed == [False, True]
    assert judged.allows(Identity("carol"), Action.READ, NO_NAME)


def test_patterns_are_normalized_as_names_are() -> None:
    judged = rights({"read": ["alice Acme_*"]}, "prod")
    assert judged.allows(Identity("alice"), Action.READ, NormalizedName("acme-lib"))


def test_a_name_like_a_group_is_not_its_member() -> None:
    judged = rights({"read": ["@release"]}, "prod")
    assert not judged.allows(Identity("release"), Action.READ, None)
    assert not judged.allows(Identity("release", frozenset({"ops"})), Action.READ, None)
    assert judged.allows(Identity("x", frozenset({"release"})), Action.READ, None)


@pytest.mark.parametrize("text", ["", "  ", "@", "**", "*x", "a:b", "@@x", "#a", 'a"b'])
def test_a_grant_to_nobody_is_refused(text: str) -> None:
    with pytest.raises(InvalidGrant):
        Grant.parse(text)


def test_a_grant_is_shown_as_it_is_written() -> None:
    assert str(Grant.parse("  @release   acme-*  torch ")) == "@release acme-* torch"
    assert Grant.parse("*") == Grant("*")


@pytest.mark.parametrize("name", ["alice", "a.b@c.example", "DOM\\user", "ÄÖ", "x" * 100])
def test_user_names(name: str) -> None:
    assert is_user_name(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "@a", "*", "#a", "a,b", "a\n", "a\x00", "x" * 101, "a\u2028"]
)
def test_no_user_names(name: str) -> None:
    assert not is_user_name(name)


def test_a_scope_has_no_end_unless_it_is_given_one() -> None:
    assert Scope().expires == math.inf


def test_what_is_remembered_is_bounded() -> None:
    judged = rights({"read": ["*"], "fetch": ["*"]}, "prod")
    for number in range(20_010):
        assert judged.may_get(ANONYMOUS, NormalizedName(f"p{number}"), is_own=False)
    assert judged._may_get.cache_info().currsize == 20_000
