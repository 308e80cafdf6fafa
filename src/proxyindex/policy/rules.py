"""The rules themselves: one function each, made from its configuration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from proxyindex.model import File
from proxyindex.names import first_match, is_reserved, matches_pattern
from proxyindex.policy.verdict import (
    ALLOW,
    HIDE,
    Deny,
    FileJudge,
    FileRule,
    NameRule,
    Subject,
    Verdict,
)

# a glob over names, and the text of a specifier, which may be empty; greedy, because `.*?` and
# blanks behind it take time that grows with the square of the blanks
RULE = re.compile(
    r"\s*((?:[A-Za-z0-9._*?\[\]-]|!(?!=))+)\s*(.*(?<!\s)|)\s*\Z", re.ASCII | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """`NAME-GLOB` or `NAME-GLOB SPECIFIER`, such as `torch<2.1` or `evil-*`."""

    text: str
    name: str
    specifier: SpecifierSet | None

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Raises `ValueError` naming what is wrong."""
        match = RULE.match(text)
        if match is None or not match[1]:
            raise ValueError(f"{text!r} does not start with a project name or glob")
        try:
            specifier = SpecifierSet(match[2], prereleases=True) if match[2] else None
        except InvalidSpecifier as problem:
            raise ValueError(f"{match[2]!r} is not a version specifier") from problem
        return cls(text.strip(), match[1], specifier)

    def covers_name(self, name: NormalizedName) -> bool:
        return matches_pattern(name, self.name)

    def covers_version(self, version: str | None) -> bool:
        """Whether the specifier, if any, includes a version; an unknown version it does not."""
        if self.specifier is None:
            return True
        try:
            return version is not None and self.specifier.contains(Version(version))
        except InvalidVersion:
            return False

    def is_against(self, version: str | None) -> bool:
        """What a denial covers: an interval as it is ordered, and a version that cannot be read.

        PEP 440 leaves 2.1rc1 out of `<2.1`, and 2.0.post1 out of `>2.0`, so that nobody gets them
        who did not ask; here that would let in what an advisory for `<2.1` means.
        """
        try:
            parsed = Version(version or "")
        except InvalidVersion:
            return True
        return all(_includes(one, parsed) for one in self.specifier or ())


def _includes(specifier: Specifier, version: Version) -> bool:
    if specifier.operator == "<":
        return version < Version(specifier.version)
    if specifier.operator == ">":  # a local version is no later one
        return Version(version.public) > Version(specifier.version)
    return specifier.contains(version, prereleases=True)


def reserved(patterns: Sequence[str]) -> NameRule:
    """Names that are ours alone: absent here, and never sent out."""

    def rule(name: NormalizedName) -> Verdict:
        return HIDE if is_reserved(name, patterns) else ALLOW

    return rule


def kept_inside(routes: Sequence[tuple[str, bool]]) -> NameRule:
    """Names whose first matching route leads to no upstream: absent here, and never sent out."""

    def rule(name: NormalizedName) -> Verdict:
        return HIDE if first_match(name, routes) else ALLOW

    return rule


def deny_names(patterns: Sequence[Pattern]) -> NameRule:
    """Projects refused whole: patterns without a specifier."""
    whole = [pattern for pattern in patterns if pattern.specifier is None]

    def rule(name: NormalizedName) -> Verdict:
        hit = next((p for p in whole if p.covers_name(name)), None)
        return Deny(f"deny {hit.text}", f"{name} is not allowed here") if hit else ALLOW

    return rule


def deny_files(patterns: Sequence[Pattern]) -> FileRule:
    """Versions refused by patterns with a specifier. An unreadable version is refused, too."""
    narrow = [pattern for pattern in patterns if pattern.specifier is not None]

    def rule(subject: Subject) -> FileJudge | None:
        covering = [p for p in narrow if p.covers_name(subject.project)]

        def judge(file: File) -> Verdict:
            hit = next((p for p in covering if p.is_against(file.version)), None)
            reason = f"{_told(file)} is not allowed here"
            return Deny(f"deny {hit.text}", reason) if hit else ALLOW

        return judge if covering else None

    return rule


def allow_names(patterns: Sequence[Pattern]) -> NameRule:
    """If there are patterns, only projects that one of them covers."""

    def rule(name: NormalizedName) -> Verdict:
        if not patterns or any(p.covers_name(name) for p in patterns):
            return ALLOW
        return Deny("allow", f"{name} is not on the list of allowed projects")

    return rule


def allow_files(patterns: Sequence[Pattern]) -> FileRule:
    """If there are patterns, only versions that one covering the project includes."""

    def rule(subject: Subject) -> FileJudge | None:
        covering = [p for p in patterns if p.covers_name(subject.project)]

        def judge(file: File) -> Verdict:
            if any(p.covers_version(file.version) for p in covering):
                return ALLOW
            return Deny("allow", f"{_told(file)} is not among the allowed versions")

        return judge if covering else None

    return rule


def _told(file: File) -> str:
    return file.version or "an unreadable version"


def versions_elsewhere(deny: Sequence[Pattern], allow: Sequence[Pattern]) -> NameRule:
    """Projects of which only some versions may be had: that cannot be held where others show them.

    As `deny_files` and `allow_files` judge, of files that nobody here will see.
    """

    def rule(name: NormalizedName) -> Verdict:
        reason = f"some versions of {name} are not allowed here, and clients would be shown all"
        denying = [p for p in deny if p.specifier is not None and p.covers_name(name)]
        if denying:
            return Deny(f"deny {denying[0].text}", reason)
        allowing = [p for p in allow if p.covers_name(name)]
        if allowing and all(p.specifier is not None for p in allowing):
            return Deny(f"allow {allowing[0].text}", reason)
        return ALLOW

    return rule


def quarantined(subject: Subject) -> FileJudge | None:
    """Files of a project under quarantine are neither shown nor served (PEP 792).

    No installer enforces the status (measured), so the index has to.
    """
    if subject.status.status != "quarantined":
        return None
    denial = Deny("quarantined", subject.status.reason or f"{subject.project} is under quarantine")
    return lambda file: denial
