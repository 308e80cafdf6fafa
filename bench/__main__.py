"""`python -m bench`: measure proxyindex beside its rivals and its limits."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import Progress

from bench import environments, report
from bench.errors import Unavailable
from bench.lab import DIRECT, Effort, Lab, machine
from bench.run import Outcome, run
from bench.servers import ALL, SERVERS
from bench.workloads import QUICK, QUICK_SERVERS, WORKLOADS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
console = Console(stderr=True)
COLUMNS = (*SERVERS, DIRECT)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="[WORKLOAD]...", nargs=-1)
@click.option("--quick", is_flag=True, help="A few workloads against the limits; < 3 minutes.")
@click.option(
    "--live", is_flag=True, help="Also real installs, from the index pip asks by default."
)
@click.option("--list", "is_list", is_flag=True, help="Name all workloads and servers, and end.")
@click.option("--servers", metavar="NAME,...", help="Only these servers; proxyindex always.")
@click.option("--rounds", type=int, help="Samples of each server.  [default: 5; quick: 4]")
@click.option("--seconds", type=float, help="Time of one sample under load.  [default: 1]")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    help="Folder for the rivals' environments and full caches, which stay, and for the run.  "
    "[default: the user's cache folder]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the results.  [default: in --scratch]",
)
@click.option("--publish", is_flag=True, help="Also write the table and plots into docs/.")
@click.option(
    "--from",
    "old",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing: make table and plots of this results.json.",
)
def main(
    names: tuple[str, ...],
    quick: bool,
    live: bool,
    is_list: bool,
    servers: str | None,
    rounds: int | None,
    seconds: float | None,
    scratch: Path | None,
    out: Path | None,
    publish: bool,
    old: Path | None,
) -> None:
    """Measure proxyindex beside its rivals and its limits, in turn, on this machine.

    Each server runs on the first core, load generator and upstream on the others. What matters are
    the ratios within one run. Results are a table (Markdown), plots (PNG, SVG) and results.json.

    \b
    Examples:
      scripts/bench                              everything but real installs; 25 minutes
      scripts/bench --quick                      each day
      scripts/bench warm-small-json cold-file    two workloads, all servers
      scripts/bench warm-300-json --servers raw-asgi,nginx-cache
      scripts/bench --live --publish             everything, for docs/performance.md
    """
    if is_list:
        _list()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended
    scratch = scratch or user_cache_path("proxyindex-bench")
    out = out or scratch / "results" / time.strftime("%Y%m%d-%H%M%S")
    if old:
        _tell(json.loads(old.read_text()), out, scratch, publish)
        return
    chosen = _chosen(names, quick, live)
    columns = _columns(servers, quick)
    effort = Effort(seconds or 1.0, rounds or (4 if quick else 5))
    _tell(_measure(scratch, effort, chosen, columns, out), out, scratch, publish)


def _list() -> None:
    for workload in WORKLOADS.values():
        mark = " (only with --live, or by name)" if workload.is_live else ""
        click.echo(f"{workload.name:<22}{workload.title}{mark}")
    click.echo()
    for server in ALL:
        click.echo(f"{server.name:<26}{server.kind:<8}{server.title}")
    click.echo(f"{DIRECT:<26}{'limit':<8}the upstream, without a server between")


def _chosen(names: tuple[str, ...], quick: bool, live: bool) -> list[str]:
    if unknown := set(names) - set(WORKLOADS):
        raise click.UsageError(f"no such workload: {', '.join(sorted(unknown))} (see --list)")
    if names:
        return list(names)
    if quick:
        return list(QUICK)
    return [name for name, workload in WORKLOADS.items() if live or not workload.is_live]


def _columns(servers: str | None, quick: bool) -> list[str]:
    if servers is None:
        return list(QUICK_SERVERS if quick else COLUMNS)
    wanted = {"proxyindex", *servers.split(",")}
    if unknown := wanted - set(COLUMNS):
        raise click.UsageError(f"no such server: {', '.join(sorted(unknown))} (see --list)")
    return [name for name in COLUMNS if name in wanted]


def _measure(
    scratch: Path, effort: Effort, chosen: list[str], columns: list[str], out: Path
) -> report.Results:
    """The results so far if it is interrupted; they are also written after each workload."""
    try:
        environments.program("wrk")
    except Unavailable as problem:
        raise click.ClickException(f"wrk is {problem}; install it first") from problem
    outcomes: list[Outcome] = []
    out.mkdir(parents=True, exist_ok=True)
    # no refreshing thread: it would run beside what is measured
    with Lab(scratch, effort) as lab, Progress(console=console, auto_refresh=False) as progress:
        task = progress.add_task("", total=len(chosen))
        with contextlib.suppress(KeyboardInterrupt):
            for name in chosen:
                say = _teller(progress, task, name)
                outcomes.append(run(lab, WORKLOADS[name], columns, say))
                progress.advance(task)
                progress.print(report.line(outcomes[-1]))
                _write(report.results(outcomes, effort, machine()), out)
    return report.results(outcomes, effort, machine())


def _write(results: report.Results, out: Path) -> None:
    (out / "results.json").write_text(json.dumps(results, indent=1))


def _teller(progress: Progress, task: object, name: str) -> Callable[[str], None]:
    def say(what: str) -> None:
        progress.update(task, description=f"{name}: {what}", refresh=True)  # type: ignore[arg-type]

    return say


def _tell(results: dict[str, object], out: Path, scratch: Path, publish: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    _write(results, out)
    table = report.markdown(results)
    (out / "results.md").write_text(table)
    click.echo(table)
    report.plots(results, out, scratch, console.print)
    console.print(f"written to {out}")
    if publish:
        report.publish(results, table, out, DOCS)


if __name__ == "__main__":
    main()
