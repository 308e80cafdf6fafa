"""A repository seen through a policy. Rules judge; here the verdicts are carried out."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import assert_never

from packaging.utils import NormalizedName

from proxyindex.errors import Denied, ProjectNotFound, ServedElsewhere
from proxyindex.inquiry import Inquiry
from proxyindex.model import ACTIVE, File, ProjectList, ProjectPage
from proxyindex.names import version_key
from proxyindex.policy.verdict import (
    Allow,
    Deny,
    FileJudge,
    Hide,
    Policy,
    Subject,
    Verdict,
    stand_in,
)
from proxyindex.repository.base import Repository
from proxyindex.repository.lists import MadeList
from proxyindex.repository.remembered import MadePages

log = logging.getLogger(__name__)

_FAILED = Deny("error", "a rule of this index failed")


class Filtered:
    """Another repository, without what the policy hides or denies.

    A hidden name is `ProjectNotFound` without asking the source, so that it never leaves the
    house; a denied name raises `Denied` and stops the search. So does one whose files have to be
    judged, where clients are sent away. A page whose files are all filtered away is an empty page,
    not an absent project. A rule that raises denies.
    """

    def __init__(self, source: Repository, policy: Policy) -> None:
        self._source = source
        self._policy = policy
        # what the rules go by, each asked as seldom as may be (a page of 12,000 files has 300
        # versions, and judging all files took 20 ms)
        self._judged_by = attrgetter("version" if policy.goes_by_version else "filename")
        # the rules are pure: the same page gives the same result
        self._pages = MadePages(self._filter)
        self._listed = MadeList(self._list)

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        """The names of the source that are neither hidden nor denied."""
        listed = await self._source.projects(inquiry)
        return await self._listed.of(listed) if self._policy.name_rules else listed

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        """The source's page, filtered."""
        _carry_out(self._name_verdict(name), name)
        try:
            page = await self._source.project(name, inquiry)
        except ServedElsewhere:
            _carry_out(self._verdict(self._policy.judge_elsewhere, name), name)
            raise
        return await self._pages.of(page) if self._policy.file_rules else page

    def _list(self, listed: ProjectList) -> ProjectList:
        names = [name for name in listed.names if isinstance(self._name_verdict(name), Allow)]
        return listed if len(names) == len(listed.names) else ProjectList(tuple(names))

    def _filter(self, page: ProjectPage) -> ProjectPage:
        judge = self._file_judge(Subject(page.name, page.status))
        denied = dict(page.denied)
        files = self._allowed(page.files, judge, denied)
        withdrawn = self._allowed(page.withdrawn, judge, denied)
        if page.status != ACTIVE:  # what is under quarantine are the files
            judge = self._file_judge(Subject(page.name, ACTIVE))
        versions = self._still_there(page, files, judge)
        if (files, withdrawn, versions) == (page.files, page.withdrawn, page.versions):
            return page
        return replace(page, files=files, versions=versions, withdrawn=withdrawn, denied=denied)

    def _still_there(
        self, page: ProjectPage, files: tuple[File, ...], judge: FileJudge | None
    ) -> tuple[str, ...]:
        """The page's versions without those refused: all their files were filtered away, or they
        have none, and the rules go by the version."""
        lost = set() if files is page.files else _versions(page.files) - _versions(files)
        bare: set[str] = set()
        if judge is not None and self._policy.goes_by_version:
            bare = set(page.versions).difference([file.version for file in page.files])
            bare = {v for v in bare if not isinstance(judge(stand_in(v)), Allow)}
        if not lost and not bare:
            return page.versions
        return tuple(v for v in page.versions if v not in bare and _identity(v) not in lost)

    def _allowed(
        self, files: tuple[File, ...], judge: FileJudge | None, denied: dict[str, Denied]
    ) -> tuple[File, ...]:
        if judge is None:
            return files
        judged = dict(zip(map(self._judged_by, files), files, strict=True))
        verdicts = {key: judge(file) for key, file in judged.items()}
        if all(isinstance(verdict, Allow) for verdict in verdicts.values()):
            return files
        kept = []
        for file in files:
            verdict = verdicts[self._judged_by(file)]
            if isinstance(verdict, Allow):
                kept.append(file)
            elif isinstance(verdict, Deny):
                denied[file.filename] = Denied(file.filename, verdict.rule, verdict.reason)
        return tuple(kept)

    def _name_verdict(self, name: NormalizedName) -> Verdict:
        return self._verdict(self._policy.judge_name, name)

    def _verdict(self, judge: Callable[[NormalizedName], Verdict], name: NormalizedName) -> Verdict:
        try:
            return judge(name)
        except Exception:  # fail closed: a rule that raises denies
            log.exception("a name rule failed on %s", name)
            return _FAILED

    def _file_judge(self, subject: Subject) -> FileJudge | None:
        try:
            judge = self._policy.judge_of(subject)
        except Exception:  # fail closed: a rule that raises denies
            log.exception("a file rule failed on %s", subject.project)
            return lambda file: _FAILED
        return partial(_closed, judge) if judge else None


def _closed(judge: FileJudge, file: File) -> Verdict:
    """The verdict, whatever comes."""
    try:
        return judge(file)
    except Exception:  # fail closed: a rule that raises denies
        log.exception("a file rule failed on %s", file.filename)
        return _FAILED


def _versions(files: Iterable[File]) -> set[object]:
    return {_identity(text) for text in {file.version for file in files}}


def _identity(version: str | None) -> object:
    """The same for all spellings of a version."""
    rank, parsed, text = version_key(version)
    return parsed if rank == 1 else text


def _carry_out(verdict: Verdict, name: NormalizedName) -> None:
    """Raises what a verdict on a name means, if anything."""
    match verdict:
        case Hide():
            raise ProjectNotFound(name)
        case Deny(rule, reason):
            raise Denied(name, rule, reason)
        case Allow():
            pass
        case never:
            assert_never(never)
