"""What new answers cost: the server's own processor time, which no busy neighbour changes much.

Small ones are asked for sixteen at a time, as installers do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import catalogue, client
from bench.client import Request
from bench.errors import WrongAnswer
from bench.lab import Lab, spent_when_calm
from bench.servers.base import Site
from bench.workloads.base import OURS, RIVALS, Metric, Workload
from bench.workloads.cold import ACCEPT, ColdWorkload, good, new_big

_SMALL = 160  # answers of each kind: the kernel counts the time in hundredths of a second
_AT_ONCE = 16
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class NewAnswers(ColdWorkload):
    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        projects = [lab.new_name("small") for _ in range(_SMALL)]
        for project in projects:
            lab.upstream.prepare(project)
        pages = _spent(lab, subject, [Request(subject.page(one), ACCEPT) for one in projects])
        files = _spent(lab, subject, [Request(subject.file(one)) for one in projects])
        _, url = new_big(lab, subject)
        big = _spent(lab, subject, [Request(url)])
        return {
            "small page": pages / _SMALL * 1000,
            "10 KB file": files / _SMALL * 1000,
            "MB of a large file": big / (catalogue.BIG_BYTES / _MEGABYTE) * 1000,
        }


def _spent(lab: Lab, site: Site, requests: Sequence[Request]) -> float:
    """Seconds of the processor until all is answered, and stored."""
    before = spent_when_calm([site])
    for begin in range(0, len(requests), _AT_ONCE):
        answers, _ = client.together(requests[begin : begin + _AT_ONCE])
        if any(good(answer).hops for answer in answers):
            raise WrongAnswer("sent away to the upstream")
    lab.upstream.settle()
    return spent_when_calm([site]) - before


WORKLOADS: tuple[Workload, ...] = (
    NewAnswers(
        "cost",
        "processor time of new answers",
        (
            Metric("small page", "ms"),
            Metric("10 KB file", "ms"),
            Metric("MB of a large file", "ms"),
        ),
        (OURS, *RIVALS),
    ),
)
