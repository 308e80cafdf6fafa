"""A whole install of something new, from an index that is as far away as real ones are."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import installing, tree
from bench.errors import Unavailable
from bench.lab import DIRECT, Lab
from bench.servers.base import Site
from bench.workloads.base import OURS, RIVALS, Goal, Metric, Workload
from bench.workloads.cold import LATENCY, ColdWorkload

_SECONDS = 120.0
_MOST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class FarInstall(ColdWorkload):
    """pip, which asks for one thing at a time, installs 31 distributions that nobody has yet."""

    def rounds(self, lab: Lab) -> int:
        return min(_MOST_ROUNDS, lab.effort.rounds)

    def sample(self, lab: Lab, subject: Site) -> Mapping[str, float]:
        root = lab.new_name("tree")
        lab.upstream.behave()
        for number in range(1, tree.NODES + 1):
            lab.upstream.prepare(f"{root}-{number}")
        lab.upstream.behave(latency=LATENCY)
        folder = Path(tempfile.mkdtemp(prefix="far-", dir=lab.folder))
        try:
            return {"": _install(f"{root}-1", subject, folder)}
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _install(project: str, site: Site, folder: Path) -> float:
    index = site.page(project).removesuffix(f"{project}/")
    pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--quiet"]
    command = [*pip, "--target", folder / "made", "--index-url", index, project]
    seconds = installing.timed(command, folder, limit=_SECONDS, extra={})
    if len(list((folder / "made").glob("*.dist-info"))) != tree.NODES:
        raise Unavailable("pip did not install all of them")
    return seconds


WORKLOADS: tuple[Workload, ...] = (
    FarInstall(
        "far-pip",
        f"pip installs {tree.NODES} new distributions, upstream 50 ms away",
        (Metric("", "s", goals=(Goal("at most", 1.05, DIRECT),)),),
        (OURS, DIRECT, *RIVALS),
    ),
)
