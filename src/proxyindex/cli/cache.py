"""`proxyindex cache …`: look into the cache directory and keep it in order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from packaging.utils import NormalizedName
from rich.filesize import decimal

from proxyindex.cli.group import PROJECT, loaded, names_argument, not_empty, options
from proxyindex.cli.printing import print_json, print_table, progress, waiting
from proxyindex.repository import acceptance
from proxyindex.settings import Settings
from proxyindex.store import holdings, upkeep
from proxyindex.store.cache import Cache
from proxyindex.store.holdings import Holding, NothingHeld

cache_options = options("cache_dir", "cache_size", "page_cache_size", "config")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, in bytes.")

_ORDERS: dict[str, Any] = {
    "name": lambda held: (held.project, held.upstream),
    "size": lambda held: (-held.bytes, held.project),
    "files": lambda held: (-held.files, held.project),
    "validated": lambda held: (-(held.validated_at or 0.0), held.project),
}


def _settings(parameters: dict[str, Any]) -> Settings:
    """The configuration, of which only the cache counts: no secret or folder of a server's."""
    found = loaded(parameters, is_ready=False).settings
    if found.cache_dir == Path():
        raise click.UsageError(
            "this user has no home to keep a cache in: say where it is, with --cache-dir."
        )
    return found


@click.group(short_help="Look into the cache and keep it in order.")
def cache() -> None:
    """Look into the cache and keep it in order.

    All of this works on the cache folder itself, also while servers run on it; they notice.
    """


@cache.command()
@click.argument("project", metavar="[NAME]", required=False, type=PROJECT)
@click.option("--sort", type=click.Choice(list(_ORDERS)), help="Order.  [default: name]")
@click.option("--reverse", is_flag=True, help="The other way round.")
@json_option
@cache_options
def ls(
    *, project: str | None, sort: str | None, reverse: bool, as_json: bool, **parameters: Any
) -> None:
    """List the projects held, or the files of one.

    \b
    Examples:
      proxyindex cache ls --sort size
      proxyindex cache ls numpy
      proxyindex cache ls --json
    """
    if project is not None and (sort or reverse):
        raise click.UsageError("--sort and --reverse mean nothing with NAME.")
    with _opened(_settings(parameters)) as opened:
        if project is not None:
            _show_files(opened, project, as_json=as_json)
            return
        held = sorted(holdings.holdings(opened), key=_ORDERS[sort or "name"], reverse=reverse)
    if as_json:
        print_json([_with_upstream(asdict(one)) | {"bytes": one.bytes} for one in held])
        return
    headings = ("PROJECT", "UPSTREAM", "FILES", "SIZE", "VALIDATED", "PINNED")
    print_table(headings, (_row(one) for one in held), right={2, 3})


@cache.command()
@json_option
@cache_options
def du(*, as_json: bool, **parameters: Any) -> None:
    """Tell how much the parts of the cache take, and their budgets.

    \b
    Example:
      proxyindex cache du --cache-size 20GB
    """
    settings = _settings(parameters)
    with _opened(settings) as opened:
        parts = holdings.usage(
            opened, file_limit=settings.cache_size, page_limit=settings.page_cache_size
        )
    if as_json:
        print_json({one.part: asdict(one) for one in parts})
        return
    rows = [
        (one.part, decimal(one.bytes), str(one.count), decimal(one.limit) if one.limit else "")
        for one in parts
    ]
    print_table(("PART", "SIZE", "COUNT", "BUDGET"), rows, right={1, 2, 3})


@cache.command(short_help="Hold the budgets, and remove what nothing refers to.")
@click.option("--all", "everything", is_flag=True, help="Remove every page, file and fact.")
@click.option("--yes", is_flag=True, help="Do not ask before --all.")
@json_option
@cache_options
@click.pass_context
def clean(
    ctx: click.Context, /, *, everything: bool, yes: bool, as_json: bool, **parameters: Any
) -> None:
    """Hold the budgets, and remove files that no project refers to and downloads left over.

    Exits with 1 if a budget is exceeded all the same, by pinned projects or because the disk
    refuses.

    The budgets are those of this command's own configuration: give it the server's. With --all
    the cache is emptied; only the list of pinned projects stays.

    \b
    Examples:
      proxyindex cache clean --cache-size 20GB
      proxyindex cache clean --all --yes
    """
    with _opened(_settings(parameters), to_change=True) as opened:
        if everything:
            _empty(opened, yes=yes, as_json=as_json)
            return
        with waiting("Cleaning"):
            done = upkeep.clean(opened)
    if done.excess:
        held = f"The budgets are exceeded by {decimal(done.excess)}: by pinned projects, or"
        click.echo(f"{held} because the disk refuses.", err=True)
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(
            f"Evicted {decimal(done.file_bytes)} of files and {decimal(done.page_bytes)} of pages; "
            f"removed {done.orphans} orphaned files ({decimal(done.orphan_bytes)}) and "
            f"{done.leftovers} leftovers."
        )
    ctx.exit(1 if done.excess else 0)


@cache.command(short_help="Hash everything, and remove what is damaged.")
@click.option("--dry-run", is_flag=True, help="Report damage, and leave it.")
@json_option
@cache_options
@click.pass_context
def verify(ctx: click.Context, /, *, dry_run: bool, as_json: bool, **parameters: Any) -> None:
    """Hash every file, page and fact, and remove what is damaged; exit with 1 if there was any.

    What was removed is fetched again when it is asked for.

    \b
    Examples:
      proxyindex cache verify
      proxyindex cache verify --dry-run --json
    """
    with _opened(_settings(parameters), to_change=not dry_run) as opened, progress() as shown:
        task = shown.add_task("Verifying", total=upkeep.verify_bytes(opened))
        found = list(
            upkeep.verify(opened, lambda size: shown.advance(task, size), repair=not dry_run)
        )
    if as_json:
        print_json({"damage": [asdict(one) for one in found], "repaired": not dry_run})
    else:
        for one in found:
            called = f" ({one.file})" if one.file else ""
            click.echo(f"{one.kind} {one.name}{called}: {one.problem}")
        done = "left" if dry_run else "removed"
        click.echo(f"{len(found)} damaged, {done}." if found else "The cache is sound.")
    ctx.exit(1 if found else 0)


@cache.command(short_help="Forget all of some projects.")
@names_argument
@json_option
@cache_options
@click.pass_context
def purge(
    ctx: click.Context, /, *, projects: tuple[str, ...], as_json: bool, **parameters: Any
) -> None:
    """Forget all of a project: its pages, its files, and which bytes came first.

    The next request fetches it anew. Files that another project has, too, stay. To accept files
    whose bytes upstream has changed, `accept` is enough. Exits with 1 if nothing was held of one.

    \b
    Example:
      proxyindex cache purge numpy scipy
    """
    told: list[dict[str, Any]] = []
    with _opened(_settings(parameters), to_change=True) as opened:
        for project in projects:
            try:
                done = upkeep.purge(opened, project)
            except NothingHeld as problem:
                click.echo(f"Error: {problem}", err=True)
                continue
            told.append({"project": project, **asdict(done)})
            if not as_json:
                freed = f"{done.pages} pages, {done.files} files ({decimal(done.bytes)})"
                click.echo(f"Purged {project}: {freed}.")
    if as_json and (told or len(projects) > 1):
        print_json(told if len(projects) > 1 else told[0])
    ctx.exit(0 if len(told) == len(projects) else 1)


@cache.command(short_help="Believe what upstream says now of a project.")
@click.argument("project", metavar="NAME", type=PROJECT)
@click.argument("filename", metavar="[FILENAME]", required=False, callback=not_empty)
@json_option
@cache_options
def accept(
    *, project: NormalizedName, filename: str | None, as_json: bool, **parameters: Any
) -> None:
    """Accept what upstream says now of a project, where that was not believed.

    That is a page which lost most of its files, that there is no such project any more, and files
    whose bytes changed under the same name. Everything else of the project stays. Name the file to
    accept that one only, or one of which the page tells no digest.

    \b
    Examples:
      proxyindex cache accept numpy
      proxyindex cache accept numpy numpy-2.0.0.tar.gz
    """
    with _opened(_settings(parameters), to_change=True) as opened:
        done = acceptance.accept(opened, project, filename)
    if as_json:
        print_json({"project": project, **asdict(done)})
        return
    if done.pages:
        click.echo(f"Accepted what upstream will say of {project}; it is asked with the next use.")
    for name in done.files:
        click.echo(f"Forgot the first bytes of {name}; the next request fetches it anew.")


@cache.command()
@names_argument
@cache_options
def pin(*, projects: tuple[str, ...], **parameters: Any) -> None:
    """Never evict a project's pages and files, whatever the budgets.

    \b
    Example:
      proxyindex cache pin numpy scipy
    """
    with _opened(_settings(parameters), to_change=True) as opened:
        held = {
            name for one in holdings.upstreams(opened) for name in holdings.projects(opened, one)
        }
        for project in projects:
            opened.pins.add(project)
            rest = "." if project in held else "; nothing of it is held yet."
            click.echo(f"Pinned {project}{rest}")


@cache.command()
@names_argument
@cache_options
@click.pass_context
def unpin(ctx: click.Context, /, *, projects: tuple[str, ...], **parameters: Any) -> None:
    """Let a pinned project be evicted again. Exits with 1 if one was not pinned.

    \b
    Example:
      proxyindex cache unpin numpy scipy
    """
    code = 0
    with _opened(_settings(parameters), to_change=True) as opened:
        for project in projects:
            try:
                upkeep.unpin(opened, project)
            except NothingHeld as problem:
                click.echo(f"Error: {problem}", err=True)
                code = 1
            else:
                click.echo(f"Unpinned {project}.")
    ctx.exit(code)


def _opened(settings: Settings, *, to_change: bool = False) -> AbstractContextManager[Cache]:
    return upkeep.opened(
        settings.cache_dir,
        file_limit=settings.cache_size,
        page_limit=settings.page_cache_size,
        to_change=to_change,
    )


def _empty(opened: Cache, *, yes: bool, as_json: bool) -> None:
    question = f"Remove every page, file and fact of the cache in {opened.root}?"
    if not yes:
        click.confirm(question, abort=True, err=True)
    with waiting("Emptying"):
        freed = upkeep.empty(opened)
    if as_json:
        print_json({"freed": freed})
    else:
        click.echo(f"Emptied the cache: {decimal(freed)} freed.")


def _show_files(opened: Cache, project: str, *, as_json: bool) -> None:
    held = holdings.files(opened, project)
    if as_json:
        print_json([_with_upstream(asdict(one)) for one in held])
        return
    rows = (
        (
            one.filename,
            holdings.upstream_name(one.upstream),
            "" if one.size is None else decimal(one.size),
            "yes" if one.has_metadata else "",
            one.sha256 or "",
        )
        for one in held
    )
    print_table(("FILE", "UPSTREAM", "SIZE", "METADATA", "SHA256"), rows, right={2})


def _row(held: Holding) -> tuple[str, ...]:
    validated = ""
    if held.validated_at is not None:
        validated = f"{datetime.fromtimestamp(held.validated_at, UTC):%Y-%m-%d %H:%M:%SZ}"
    return (
        held.project,
        holdings.upstream_name(held.upstream),
        str(held.files),
        decimal(held.bytes),
        validated,
        "pinned" if held.is_pinned else "",
    )


def _with_upstream(fields: dict[str, Any]) -> dict[str, Any]:
    identity = fields["upstream"]
    return {**fields, "upstream": holdings.upstream_name(identity), "upstream_id": identity}
