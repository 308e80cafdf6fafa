"""`proxyindex delete`, `yank`, `unyank`, `push`, `refresh`: change what an index holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from packaging.utils import NormalizedName

from proxyindex.cli.group import Callback, loaded, options
from proxyindex.names import InvalidName, normalize

if TYPE_CHECKING:
    from proxyindex.cli.places import Place

Release = tuple[NormalizedName, str | None]


class _What(click.ParamType[Release]):
    """`NAME` or `NAME==VERSION`. `needs_version`: the latter only."""

    name = "release"

    def __init__(self, *, needs_version: bool) -> None:
        self._needs_version = needs_version

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Release:
        name, _, version = str(value).partition("==")
        if self._needs_version and not version:
            self.fail("say NAME==VERSION.", param, ctx)
        try:
            return normalize(name.strip()), version.strip() or None
        except InvalidName as problem:
            self.fail(f"{problem}.", param, ctx)


def _arguments(metavar: str, *, indexed: bool = True) -> Callable[[Callback], Callback]:
    """The release or project, and where: on the folders of a configuration, or by a server."""

    def add(command: Callback) -> Callback:
        command = options("cache_dir", "config")(command)
        command = click.option(
            "--server",
            metavar="URL",
            help="Let this running server do it, instead of working on its folders; who asks is "
            "told by PROXYINDEX_PUBLISH_TOKEN, or PROXYINDEX_PUBLISH_USERNAME and …_PASSWORD.",
        )(command)
        command = click.option(
            "--folder",
            "folders",
            metavar="FOLDER",
            multiple=True,
            help="The folder, as told to serve, where no configuration file tells it.",
        )(command)
        if indexed:
            command = click.option(
                "--index", metavar="NAME", help="Of this index.  [default: the default one]"
            )(command)
        kind = _What(needs_version=metavar == "NAME==VERSION")
        return click.argument("release", metavar=metavar, type=kind)(command)

    return add


one_file = click.option("--file", "filename", metavar="FILENAME", help="Only this file of it.")


@click.command(short_help="Delete a project, a version or a file of your own.")
@_arguments("NAME[==VERSION]")
@one_file
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(
    *, release: Release, index: str | None, filename: str | None, yes: bool, **where: Any
) -> None:
    """Delete a project, a version, or with --file one file, from the index's own folder.

    The project's name stays taken, and names of deleted files are not used again, except on
    an index with `overwrite`.

    \b
    Examples:
      proxyindex delete acme-lib==1.2 --config proxyindex.toml
      proxyindex delete acme-lib==1.2 --file acme_lib-1.2.tar.gz --index dev
      proxyindex delete acme-lib --yes --server https://index.example
    """
    project, version = release
    what = " ".join(filter(None, (project, version, filename)))
    if not yes:
        click.confirm(f"Delete {what}?", abort=True)
    _tell("Deleted", _place(where).delete(index, project, version, filename))


@click.command(short_help="Mark a version as not to be chosen any more.")
@_arguments("NAME==VERSION")
@one_file
@click.option("--reason", default="", help="Why; shown by installers.")
def yank(
    *, release: Release, index: str | None, filename: str | None, reason: str, **where: Any
) -> None:
    """Yank a version, or with --file one file: installers take it only where it is pinned.

    \b
    Example:
      proxyindex yank acme-lib==1.2 --reason 'loses data' --server https://index.example
    """
    project, version = release
    _tell("Yanked", _place(where).yank(index, project, version or "", filename, reason))


@click.command(short_help="Take a yank back.")
@_arguments("NAME==VERSION")
@one_file
def unyank(*, release: Release, index: str | None, filename: str | None, **where: Any) -> None:
    """Take the yank of a version, or with --file of one file, back.

    \b
    Example:
      proxyindex unyank acme-lib==1.2 --config proxyindex.toml
    """
    project, version = release
    _tell("Unyanked", _place(where).yank(index, project, version or "", filename, None))


@click.command(short_help="Copy a release from one index to another.")
@_arguments("NAME==VERSION", indexed=False)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def push(*, release: Release, source: str, target: str, **where: Any) -> None:
    """Copy all files of a release from the index FROM to the index TO, bytes unchanged.

    All of them, or none: the whole is refused if TO has other bytes under one of the names,
    unless TO may be overwritten. What is there already stays.

    \b
    Example:
      proxyindex push acme-lib==1.2 dev prod --config proxyindex.toml
    """
    project, version = release
    pushed = _place(where).push(source, target, project, version or "")
    _tell("Pushed", pushed) if pushed else click.echo("All of it is there already.")


@click.command(short_help="Ask the upstream for a project's page now.")
@_arguments("NAME")
@click.pass_context
def refresh(ctx: click.Context, /, *, release: Release, index: str | None, **where: Any) -> None:
    """Ask the upstream for the page of a project now, whatever the age of the one that is kept.

    Exits with 1 if the page was not brought up to date.

    \b
    Example:
      proxyindex refresh numpy --server https://index.example
    """
    project, _ = release
    outcome = _place(where, changes_files=False).refresh(index, project)
    if outcome in _ASKED:
        click.echo(f"{project}: {outcome}")
        return
    click.echo(f"Error: {project}: {_NOT_ASKED.get(outcome, outcome)}.", err=True)
    ctx.exit(1)


_ASKED = frozenset({"fetched", "joined"})
_NOT_ASKED = {
    "hit": "the upstream was not asked, by an offline server or for it was asked a moment ago",
    "local": "it is in a folder, and no upstream is asked for it",
    "missing": "no source has it",
    "stale": "the upstream did not answer; the page that is kept stays",
}


def _place(where: dict[str, Any], *, changes_files: bool = True) -> Place:
    from proxyindex.cli.places import Folders, Server  # noqa: PLC0415 - loads what serves

    server = where.pop("server")
    if server is not None:
        return Server(server)
    where["folders"] = where["folders"] or None
    settings = loaded(where).settings
    if changes_files and not settings.every_folder:
        raise click.UsageError(
            "no folders to work on: say --folder FOLDER or --config FILE, as told to serve, or "
            "--server URL to let a running server do it."
        )
    return Folders(settings)


def _tell(done: str, names: list[str]) -> None:
    for name in names:
        click.echo(f"{done} {name}")


COMMANDS = (delete, yank, unyank, push, refresh)
