"""Each rule as a table: name or file in, verdict out."""

from collections.abc import Callable

import pytest
from packaging.utils import NormalizedName

from proxyindex.model import File, LocalOrigin, Status
from proxyindex.policy import rules
from proxyindex.policy.verdict import (
    ALLOW,
    HIDE,
    Allow,
    Deny,
    FileRule,
    Policy,
    Subject,
    Verdict,
)

DEMO = Subject(NormalizedName("demo"), Status())


def file(version: str | None) -> File:
    return File(f"demo-{version}.tar.gz", LocalOrigin("demo"), version=version)


def patterns(*texts: str) -> list[rules.Pattern]:
    return [rules.Pattern.parse(text) for text in texts]


def judged(rule: FileRule, version: str | None, subject: Subject = DEMO) -> Verdict:
    return Policy(file_rules=(rule,)).judge_file(file(version), subject)


def kind(verdict: Verdict) -> str:
    return type(verdict).__name__


@pytest.mark.parametrize(
    ("text", "name", "specifier"),
    [
        ("torch", "torch", None),
        (" torch ", "torch", None),
        ("torch<2.1", "torch", "<2.1"),
        ("torch >= 1, != 1.5", "torch", "!=1.5,>=1"),
        ("evil-*", "evil-*", None),
        ("Foo.[ab]?~=1.0", "Foo.[ab]?", "~=1.0"),
        ("[!a]*!=1.0", "[!a]*", "!=1.0"),
    ],
)
def test_a_pattern_is_a_glob_and_perhaps_a_specifier(
    text: str, name: str, specifier: str | None
) -> None:
    parsed = rules.Pattern.parse(text)
    assert parsed.name == name
    assert (parsed.specifier and str(parsed.specifier)) == specifier


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not start with a project name"),
        ("<2", "does not start with a project name"),
        ("torch 2.1", "is not a version specifier"),
        ("torch<", "is not a version specifier"),
        ("torch;python_version<'3'", "is not a version specifier"),
    ],
)
def test_a_pattern_that_is_none_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        rules.Pattern.parse(text)


@pytest.mark.parametrize(
    ("pattern", "version", "covered"),
    [
        ("demo", None, True),
        ("demo", "not a version", True),
        ("demo<2", "1.9", True),
        ("demo<2", "2.0", False),
        ("demo<2", "2.0rc1", False),  # PEP 440: <2 excludes pre-releases of 2
        ("demo<2", "1.9rc1", True),
        ("demo<2", None, False),
        ("demo<2", "not a version", False),
    ],
)
def test_a_specifier_covers_only_versions_it_can_read(
    pattern: str, version: str | None, covered: bool
) -> None:
    assert rules.Pattern.parse(pattern).covers_version(version) is covered


@pytest.mark.parametrize(
    ("name", "expected"),
    [("acme", HIDE), ("acme-core", HIDE), ("acmeism", ALLOW), ("x-internal", HIDE), ("x", ALLOW)],
)
def test_reserved_names_are_hidden(name: str, expected: Verdict) -> None:
    assert rules.reserved(["Acme", "*-internal"])(NormalizedName(name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("evil-1", "Deny"), ("good", "Allow"), ("torch", "Allow")]
)
def test_denied_names_are_those_without_a_specifier(name: str, expected: str) -> None:
    verdict = rules.deny_names(patterns("evil-*", "torch<2"))(NormalizedName(name))
    assert kind(verdict) == expected


def test_a_denial_names_the_rule_and_the_project() -> None:
    verdict = rules.deny_names(patterns("evil-*"))(NormalizedName("evil-1"))
    assert verdict == Deny("deny evil-*", "evil-1 is not allowed here")


@pytest.mark.parametrize(
    ("texts", "version", "expected"),
    [
        (["demo<2"], "1.0", "Deny"),
        (["demo<2"], "2.0", "Allow"),
        (["demo<2"], None, "Deny"),  # cannot be told, so refused
        (["demo<2"], "not a version", "Deny"),
        (["other<2"], "1.0", "Allow"),
        (["demo"], "1.0", "Allow"),  # whole projects are the name rule's
        (["d*<2", "demo>3"], "3.5", "Deny"),
        ([], None, "Allow"),
    ],
)
def test_denied_versions(texts: list[str], version: str | None, expected: str) -> None:
    assert kind(judged(rules.deny_files(patterns(*texts)), version)) == expected


@pytest.mark.parametrize(
    ("rule", "denied", "allowed"),
    [
        ("demo<2.1", ["2.1rc1", "2.1.dev0", "2.0.post1", "2.0+cu1", "1"], ["2.1", "2.1+cu1", "3"]),
        ("demo<=2.0", ["2.0", "2.0+cu1", "2.0rc1"], ["2.0.post1", "2.1.dev0"]),
        ("demo>2.0", ["2.0.post1", "2.1a1", "2.0.post1+x"], ["2.0", "2.0+x", "2.0rc1"]),
        ("demo>=2.0", ["2.0", "2.0+x", "2.1a1"], ["2.0rc1"]),
        ("demo>=2,<3", ["2", "3.0rc1"], ["3", "2.0rc1", "1"]),
        ("demo>1,<2", ["1.0.post1", "2rc1"], ["1+x", "2", "1"]),
        ("demo!=2.0", ["2.0.post1", "2.0rc1", "1"], ["2.0", "2.0+x"]),
        ("demo==2.0", ["2.0", "2.0+x"], ["2.0.post1", "2.0rc1"]),
        ("demo==2.*", ["2.0rc1", "2.9.post1"], ["3.0rc1"]),
        ("demo===2.0", ["2.0"], ["2.0.0"]),
    ],
)
def test_a_denied_interval_goes_by_the_order_of_versions(
    rule: str, denied: list[str], allowed: list[str]
) -> None:
    denial = rules.deny_files(patterns(rule))
    assert [v for v in denied if kind(judged(denial, v)) == "Allow"] == []
    assert [v for v in allowed if kind(judged(denial, v)) == "Deny"] == []


@pytest.mark.parametrize(
    ("texts", "expected"),
    [([], "Allow"), (["demo"], "Allow"), (["demo<2"], "Allow"), (["other"], "Deny")],
)
def test_allowed_names(texts: list[str], expected: str) -> None:
    assert kind(rules.allow_names(patterns(*texts))(DEMO.project)) == expected


@pytest.mark.parametrize(
    ("texts", "version", "expected"),
    [
        ([], "1.0", "Allow"),
        (["other<2"], "1.0", "Allow"),  # the name rule decides on projects nobody covers
        (["demo<2"], "1.0", "Allow"),
        (["demo<2"], "2.0", "Deny"),
        (["demo<2", "demo>3"], "4", "Allow"),
        (["demo<2"], None, "Deny"),
    ],
)
def test_allowed_versions(texts: list[str], version: str | None, expected: str) -> None:
    assert kind(judged(rules.allow_files(patterns(*texts)), version)) == expected


@pytest.mark.parametrize("rule", [rules.deny_files, rules.allow_files])
def test_an_unreadable_version_is_refused_as_such(rule: Callable[..., FileRule]) -> None:
    denial = judged(rule(patterns("demo<2")), None)
    assert isinstance(denial, Deny)
    assert denial.reason.startswith("an unreadable version is not ")


@pytest.mark.parametrize("status", ["active", "archived", "deprecated", "unheard-of"])
def test_only_quarantine_takes_files_away(status: str) -> None:
    subject = Subject(DEMO.project, Status(status))
    assert rules.quarantined(subject) is None


@pytest.mark.parametrize(
    ("reason", "told"), [("haunted", "haunted"), (None, "demo is under quarantine")]
)
def test_quarantine_tells_why(reason: str | None, told: str) -> None:
    subject = Subject(DEMO.project, Status("quarantined", reason))
    assert judged(rules.quarantined, "1.0", subject) == Deny("quarantined", told)


def test_the_first_objection_decides() -> None:
    first, second = Deny("first", ""), Deny("second", "")
    policy = Policy(
        name_rules=(lambda name: ALLOW, lambda name: first, lambda name: second),
        file_rules=(
            lambda subject: None,
            lambda subject: lambda file: Allow(),
            lambda subject: lambda file: HIDE,
        ),
    )
    assert policy.judge_name(DEMO.project) == first
    assert policy.judge_file(file("1"), DEMO) == HIDE


def test_no_rules_allow_everything() -> None:
    assert Policy().judge_name(DEMO.project) == ALLOW
    assert Policy().judge_file(file("1"), DEMO) == ALLOW
