"""What a rule may say, and what it may know."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from packaging.utils import NormalizedName

from proxyindex.model import ACTIVE, File, LocalOrigin, Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Allow:
    """The rule has no objection."""


@dataclass(frozen=True, slots=True)
class Hide:
    """As if absent: the source is not asked, the file not shown."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused, and the client is told which rule and why."""

    rule: str
    reason: str


Verdict = Allow | Hide | Deny
ALLOW, HIDE = Allow(), Hide()


@dataclass(frozen=True, slots=True)
class Subject:
    """What a file rule knows beside the file: whose it is, and the project's status."""

    project: NormalizedName
    status: Status


NameRule = Callable[[NormalizedName], Verdict]  # asked before the source is
FileJudge = Callable[[File], Verdict]  # asked for every file of a page, or every version
FileRule = Callable[[Subject], FileJudge | None]  # asked for a page; `None`: it cannot object


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one index or one source, in order; the first that objects decides.

    Rules are pure: same name, file and status, same verdict. With `goes_by_version` the file rules
    look at nothing of a file but its version: what they say of one holds for all of that version.
    The `elsewhere_rules` judge names of whose files others than we will tell the client.
    """

    name_rules: tuple[NameRule, ...] = ()
    file_rules: tuple[FileRule, ...] = ()
    elsewhere_rules: tuple[NameRule, ...] = ()
    goes_by_version: bool = False

    def judge_name(self, name: NormalizedName) -> Verdict:
        """The verdict on asking for a project at all."""
        return _first(self.name_rules, name)

    def judge_elsewhere(self, name: NormalizedName) -> Verdict:
        """The verdict on sending a client away for a project that may be asked for."""
        return _first(self.elsewhere_rules, name)

    def judge_of(self, subject: Subject) -> FileJudge | None:
        """Who gives the verdict on showing and serving a file; `None` if all are allowed."""
        judges = [judge for rule in self.file_rules if (judge := rule(subject)) is not None]
        return partial(_first, judges) if judges else None

    def judge_file(self, file: File, subject: Subject) -> Verdict:
        """The verdict on showing and serving one file."""
        judge = self.judge_of(subject)
        return ALLOW if judge is None else judge(file)

    def judge_release(self, project: NormalizedName, version: str) -> Verdict:
        """The verdict on what is not there yet, by rules that go by version."""
        if (verdict := self.judge_name(project)) != ALLOW:
            return verdict
        return self.judge_file(stand_in(version), Subject(project, ACTIVE))


def stand_in(version: str) -> File:
    """A file for the rules to judge of a version that has none: by name, it is nobody's."""
    return File(filename=version, origin=LocalOrigin(""), version=version)


def _first(rules: Iterable[Callable[[T], Verdict]], what: T) -> Verdict:
    for rule in rules:
        if (verdict := rule(what)) is not ALLOW and verdict != ALLOW:
            return verdict
    return ALLOW
