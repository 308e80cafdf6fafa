"""Publishing, whatever the target: compare, refuse before anything is sent, send, finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packaging.utils import NormalizedName

from proxyindex.publishing.distribution import Distribution
from proxyindex.publishing.target import (
    Advance,
    NothingPublished,
    Outcome,
    Target,
    conflict,
    refusal,
)
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.service import check_new


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done: `fresh` and `changed` are sent, `same` are there already."""

    fresh: tuple[Distribution, ...]
    changed: tuple[Distribution, ...]
    same: tuple[Distribution, ...]

    @property
    def to_send(self) -> tuple[Distribution, ...]:
        return self.fresh + self.changed


def plan(target: Target, wanted: Sequence[Distribution], *, shown: str, overwrite: bool) -> Plan:
    """Compare with what is there. Raises `NothingPublished` for other bytes, unless `overwrite`,
    and for files of which an index takes but one."""
    held = target.held(wanted)
    fresh = tuple(each for each in wanted if each.filename not in held)
    same = tuple(each for each in wanted if held.get(each.filename) == each.sha256)
    changed = tuple(each for each in wanted if each not in fresh and each not in same)
    refused = [] if overwrite else [conflict(each, held[each.filename], shown) for each in changed]
    if refused := refused + _refused(fresh, same + changed, shown):
        raise NothingPublished(refused)
    return Plan(fresh, changed, same)


def _refused(fresh: Sequence[Distribution], there: Sequence[Distribution], shown: str) -> list[str]:
    """Sentences for those that an index would not take after the others of this very command."""
    names: dict[NormalizedName, list[str]] = {}
    for each in there:
        names.setdefault(each.project, []).append(each.filename)
    sentences = []
    for each in fresh:
        before = names.setdefault(each.project, [])
        try:
            check_new(each.filename, each.project, before, ())
        except UploadRejected as problem:
            sentences.append(refusal(shown, each, problem))
        before.append(each.filename)
    return sentences


def carry_out(
    target: Target,
    planned: Plan,
    *,
    advance: Advance,
    tell: Callable[[Distribution, Outcome], object],
) -> Sequence[str]:
    """Send what is to be sent, and finish; the names of the pages written.

    `tell` learns of each file once it is there. Pages are finished for files that were there
    already as well: whoever sent them may have been killed in between.
    """
    for each in planned.same:
        tell(each, Outcome.THERE)
    for batch, overwrite in ((planned.fresh, False), (planned.changed, True)):
        if batch:
            for each, outcome in target.send(batch, overwrite=overwrite, advance=advance):
                tell(each, outcome)
    everything = planned.same + planned.to_send
    return target.finish(sorted({each.project for each in everything}))
