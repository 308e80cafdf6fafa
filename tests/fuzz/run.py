"""Runs the targets under atheris, each in a process of its own, and prints one table.

`python -m tests.fuzz.run` is what `scripts/fuzz` calls; `--one` is how it calls itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANG_SECONDS = 1  # of wall time for one input
RSS_MIB = 1024
BUILT = "-built"  # what a target is called whose inputs `structure` builds
START_SECONDS = 60  # a busy machine may take long to import and instrument
HEADINGS = ("target", "executions", "exec/s", "corpus", "edges", "features", "finds", "slowest ms")


@dataclass(slots=True)
class Row:
    """The figures of one target; `finds` are the files of new crashes, hangs and excesses."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    corpus: int = 0
    edges: int = 0
    features: int = 0
    slowest_ms: float = 0.0
    finds: list[Path] = field(default_factory=list)
    problem: str = ""

    def cells(self) -> tuple[str, ...]:
        rate = self.executions / self.seconds if self.seconds else 0
        figures = (self.corpus, self.edges, self.features, len(self.finds))
        slowest = f"{self.slowest_ms:.0f}"
        return (self.name, f"{self.executions}", f"{rate:.0f}", *map(str, figures), slowest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; 1 if anything was found, 2 if it cannot be done here."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--one"]:
        _fuzz_one(given[1], Path(given[2]), int(given[3]))
    options = _options(given)
    try:
        import atheris  # noqa: F401, PLC0415 - not for every Python
    except ImportError:
        print("atheris is not installed: python -m pip install '.[fuzz]'", file=sys.stderr)
        return 2
    work = options.work or Path(tempfile.mkdtemp(prefix="proxyindex-fuzz-"))
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda name: _run(name, work, options.seconds), options.targets))
    print(_table(rows))
    _report(rows, keep=options.keep)
    if not any(row.finds or row.problem for row in rows) and options.work is None:
        shutil.rmtree(work)
    return int(any(row.finds or row.problem for row in rows))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    # not at the top: `--one` instruments first
    from tests.fuzz import structure  # noqa: PLC0415
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="by default all plain ones")
    parser.add_argument("--built", action="store_true", help="also those that build their inputs")
    parser.add_argument("--seconds", type=int, default=20, help="for each target (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep finds and corpora there")
    parser.add_argument("--keep", action="store_true", help="copy finds into tests/fuzz/corpus")
    parser.add_argument("--list", action="store_true", help="print the targets and end")
    options = parser.parse_args(arguments)
    built = [f"{name}{BUILT}" for name in structure.BUILT]
    if options.list:
        print("\n".join([*TARGETS, *built]))
        parser.exit()
    if unknown := set(options.targets) - {*TARGETS, *built}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; see --list")
    options.targets = options.targets or [*TARGETS, *(built if options.built else [])]
    return options


def _run(name: str, work: Path, seconds: int) -> Row:
    """Fuzz one target in a process of its own, limited in time and memory."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    target = TARGETS[name.removesuffix(BUILT)]
    folder = work / name
    finds, corpus = folder / "finds", folder / "corpus"
    for place in (finds, corpus):
        place.mkdir(parents=True, exist_ok=True)
    (folder / "words").write_text("".join(f"{_quoted(word)}\n" for word in target.words))
    arguments = ["--one", name, str(folder.resolve()), str(seconds)]
    command = [sys.executable, "-m", "tests.fuzz.run", *arguments]
    row, started = Row(name), time.monotonic()
    with (folder / "log").open("wb") as log:
        done = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            done.wait(seconds + START_SECONDS)
        except subprocess.TimeoutExpired:
            done.kill()
            row.problem = "did not end in time"
        code = done.wait()
    text = (folder / "log").read_text(errors="replace")
    row.finds = sorted(path for path in finds.iterdir() if path.suffix != ".txt")
    if code and not row.finds and not row.problem:
        row.problem = f"ended with {code}: {text[-2000:]}"
    _read_figures(row, text, folder)
    print(f"{name}: {time.monotonic() - started:.0f} s, {len(row.finds)} finds", flush=True)
    return row


def _read_figures(row: Row, log: str, folder: Path) -> None:
    for counts in re.finditer(r"cov: (\d+) ft: (\d+) corp: (\d+)", log):
        row.edges, row.features, row.corpus = map(int, counts.groups())
    stats = folder / "stats.json"
    if stats.exists():
        found = json.loads(stats.read_text())
        row.executions, row.seconds = found["executions"], found["seconds"]
        row.slowest_ms = found["slowest_ms"]


def _table(rows: list[Row]) -> str:
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| "
        + " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def _report(rows: list[Row], *, keep: bool) -> None:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    for row in rows:
        if row.problem:
            print(f"{row.name} {row.problem}")
        for find in row.finds:
            print(f"{row.name}: {find}")
            note = find.with_suffix(".txt")
            print(note.read_text() if note.exists() else f"see {find.parents[1] / 'log'}")
            if keep:
                shutil.copy(find, TARGETS[row.name.removesuffix(BUILT)].seeds / find.name)


def _quoted(word: str) -> str:
    """A word as libFuzzer's dictionaries write it."""
    encoded = word.encode("latin-1")
    return '"' + "".join(f"\\x{byte:02x}" for byte in encoded) + '"'


def _fuzz_one(name: str, folder: Path, seconds: int) -> None:
    """Be the process that fuzzes. Never returns."""
    import atheris  # noqa: PLC0415

    sys.dont_write_bytecode = True
    with atheris.instrument_imports(include=["proxyindex"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415
    target = TARGETS[name.removesuffix(BUILT)]
    watch = Watch(target.run, folder)
    is_built = name.endswith(BUILT)
    flags = [
        f"-max_len={target.max_len}",
        f"-max_total_time={seconds}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={RSS_MIB}",
        f"-artifact_prefix={folder / 'finds'}/",
        f"-dict={folder / 'words'}",
        "-len_control=20",
    ]
    places = [str(folder / "corpus"), *([] if is_built else [str(target.seeds)])]
    one = _builder(target.name, watch.one) if is_built else watch.one
    atheris.Setup([name, *flags, *places], one)
    atheris.Fuzz()
    os._exit(0)


def _builder(name: str, one: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Takes bytes for the choices by which hypothesis builds an input, and hands that on."""
    from hypothesis import HealthCheck, given, settings  # noqa: PLC0415

    from tests.fuzz import structure  # noqa: PLC0415

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(structure.BUILT[name])
    def check(data: bytes) -> None:
        one(data)

    def build(choices: bytes) -> None:
        check.hypothesis.fuzz_one_input(choices)

    return build


class Watch:
    """Runs inputs, notes the slowest, and keeps one input of every distinct fault.

    A fault does not end the run: only hangs, and what Python cannot catch, do.
    """

    def __init__(self, check: Callable[[bytes], None], folder: Path) -> None:
        self._check = check
        self._folder = folder
        self._faults: set[str] = set()
        self._executions = 0
        self._slowest = 0.0
        self._started = self._told = time.monotonic()

    def one(self, data: bytes) -> None:
        started = time.process_time()
        try:
            self._check(data)
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is a find
            self._keep(data, problem)
        self._slowest = max(self._slowest, time.process_time() - started)
        self._executions += 1
        if time.monotonic() - self._told > 0.5:
            self._tell()

    def _keep(self, data: bytes, problem: Exception) -> None:
        frames = traceback.extract_tb(problem.__traceback__)
        fault = f"{type(problem).__name__} {frames[-1].filename}:{frames[-1].lineno}"
        if fault in self._faults:
            return
        self._faults.add(fault)
        digest = hashlib.sha256(data).hexdigest()[:12]
        path = self._folder / "finds" / f"{type(problem).__name__.lower()}-{digest}"
        path.write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(problem)))

    def _tell(self) -> None:
        self._told = time.monotonic()
        figures = {
            "executions": self._executions,
            "seconds": self._told - self._started,
            "slowest_ms": self._slowest * 1000,
        }
        (self._folder / "stats.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
