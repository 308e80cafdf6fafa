"""`proxyindex delete`, `yank`, `unyank`, `push`, `refresh`: change what an index holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from packaging.utils import NormalizedName

from proxyindex.cli.group import PROJECT, Callback, ca_file_option, loaded, not_empty, options
from proxyindex.errors import ProxyindexError

if TYPE_CHECKING:
    from proxyindex.cli.places import Files, Place

Release = tuple[NormalizedName, str | None]

# what a release may be given as
NAME, EITHER, RELEASE = "NAME", "NAME[==VERSION]", "NAME==VERSION"

# what the outcomes of a refresh mean; with the first three the page is as upstream has it now
_ASKED = frozenset({"fetched", "joined", "hit"})
_MEANINGS = {
    "fetched": "served is what the upstream says now",
    "joined": "somebody was asking already; served is what the upstream says now",
    "hit": "the upstream was asked a moment ago; served is what it said",
    "offline": "offline is set, and no upstream is asked; served is what is kept",
    "stale": "the upstream gave no answer, or one that is doubted; served is what is kept",
    "local": "your own folders have it; no upstream is asked",
    "missing": "nobody has a project of this name",
}


class _What(click.ParamType[Release]):
    """A project and perhaps a version, as `form` says."""

    name = "release"

    def __init__(self, form: str) -> None:
        self._form = form

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Release:
        name, equals, version = (part.strip() for part in str(value).partition("=="))
        if not version and (equals or self._form == RELEASE):
            self.fail("say NAME==VERSION.", param, ctx)
        if version and self._form == NAME:
            self.fail("say NAME, without a version.", param, ctx)
        return PROJECT.convert(name, param, ctx), version or None


def _arguments(form: str, *, has_two: bool = False) -> Callable[[Callback], Callback]:
    """The release, or by `NAME` any number of projects, and where: on the folders of a
    configuration, or by a server.

    `has_two`: the indexes are arguments, so that a single folder will not do.
    """
    what: dict[str, Any] = {"type": _What(form), "metavar": form}
    if form == NAME:
        what |= {"metavar": f"{NAME}...", "nargs": -1, "required": True}
    keys = ("cache_dir", "config") if form == NAME else ("cache_dir", "audit_log", "config")

    def add(command: Callback) -> Callback:
        command = ca_file_option(options(*keys)(command))
        command = click.option(
            "--server",
            metavar="URL",
            help="Let the server that runs there do it, instead of working on folders; who asks is "
            "told by PROXYINDEX_PUBLISH_TOKEN, or PROXYINDEX_PUBLISH_USERNAME and …_PASSWORD, or "
            "netrc or keyring, as for `publish`.",
        )(command)
        if not has_two:
            command = folder_option(index_option(command))
        return click.argument("release", **what)(command)

    return add


folder_option = click.option(
    "--folder",
    "folders",
    metavar="FOLDER",
    multiple=True,
    help="Folder of your packages, as told to `serve`, if no --config names it.",
)
index_option = click.option(
    "--index",
    metavar="NAME",
    callback=not_empty,
    help="Index it is in.  [default: the one at /simple/]",
)
one_file = click.option(
    "--file", "filename", metavar="FILENAME", callback=not_empty, help="Only this file of it."
)


@click.command(short_help="Delete a project, a version or a file of your own.")
@_arguments(EITHER)
@one_file
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(
    *, release: Release, index: str | None, filename: str | None, yes: bool, **where: Any
) -> None:
    """Delete a version, all of a project, or with --file one file of a version, from an index's
    own folder.

    There is no way back; `yank` has one. The project's name stays yours, and names of deleted files
    are not used again, except on an index with `overwrite`.

    \b
    Examples:
      proxyindex delete acme-lib==1.2 --config proxyindex.toml
      proxyindex delete acme-lib==1.2 --file acme_lib-1.2.tar.gz --folder ./packages
      proxyindex delete acme-lib --yes --server https://index.example
    """
    project, version = release
    if filename and not version:
        raise click.UsageError("--file needs its version, too: say NAME==VERSION.")
    place = _place(where)
    if not yes:
        click.confirm(f"Delete {' '.join(filter(None, (project, version, filename)))}?", abort=True)
    _tell("Deleted", place.delete(_files(index, release, filename)))


@click.command(short_help="Mark a version as not to be chosen any more.")
@_arguments(RELEASE)
@one_file
@click.option("--reason", default="", metavar="TEXT", help="Why; installers show it.")
def yank(
    *, release: Release, index: str | None, filename: str | None, reason: str, **where: Any
) -> None:
    """Yank a version, or with --file one file: installers take it only where it is pinned (==).

    It stays on its page and can be downloaded. `unyank` takes it back.

    \b
    Examples:
      proxyindex yank acme-lib==1.2 --config proxyindex.toml
      proxyindex yank acme-lib==1.2 --reason 'loses data' --server https://index.example
    """
    yanked = _place(where).yank(_files(index, release, filename), reason)
    _tell("Yanked", yanked) if yanked else click.echo("All of it is yanked so already.")


@click.command(short_help="Take a yank back.")
@_arguments(RELEASE)
@one_file
def unyank(*, release: Release, index: str | None, filename: str | None, **where: Any) -> None:
    """Take back the yank of a version, or with --file of one file.

    \b
    Example:
      proxyindex unyank acme-lib==1.2 --config proxyindex.toml
    """
    unyanked = _place(where).yank(_files(index, release, filename), None)
    _tell("Unyanked", unyanked) if unyanked else click.echo("None of it is yanked.")


@click.command(short_help="Copy a release from one index to another.")
@_arguments(RELEASE, has_two=True)
@click.argument("source", metavar="FROM", callback=not_empty)
@click.argument("target", metavar="TO", callback=not_empty)
def push(*, release: Release, source: str, target: str, **where: Any) -> None:
    """Copy all files of a release from the index FROM to the index TO, bytes unchanged.

    FROM and TO are names of [index.NAME] tables. All files or none: if TO has other bytes under one
    of the names, nothing is copied, unless TO has `overwrite`. What is there already stays.

    \b
    Examples:
      proxyindex push acme-lib==1.2 dev prod --config proxyindex.toml
      proxyindex push acme-lib==1.2 dev prod --server https://index.example
    """
    pushed = _place(where).push(_files(source, release), target)
    _tell("Pushed", pushed) if pushed else click.echo("All of it is there already.")


@click.command(short_help="Ask the upstream for pages of projects now.")
@_arguments(NAME)
@click.pass_context
def refresh(
    ctx: click.Context, /, *, release: tuple[Release, ...], index: str | None, **where: Any
) -> None:
    """Ask the upstream for the pages of projects now, whatever the age of those that are kept.

    For a release that is out and not seen yet. Exits with 1 if one was not brought up to date.

    \b
    Examples:
      proxyindex refresh numpy
      proxyindex refresh numpy scipy --server https://index.example
    """
    place = _place(where, changes_files=False)
    is_done = True
    for project, _ in release:
        try:
            outcome = place.refresh(index, project)
        except ProxyindexError as problem:  # the others are asked for all the same
            which = f"{project}: " if len(release) > 1 else ""
            click.echo(f"Error: {which}{problem}", err=True)
            is_done = False
            continue
        meaning = f" ({_MEANINGS[outcome]})" if outcome in _MEANINGS else ""
        click.echo(f"{project}: {outcome}{meaning}")
        is_done &= outcome in _ASKED
    ctx.exit(0 if is_done else 1)


def _files(index: str | None, release: Release, filename: str | None = None) -> Files:
    from proxyindex.cli.places import Files  # noqa: PLC0415 - loads what serves

    project, version = release
    return Files(index, project, version, filename)


def _place(where: dict[str, Any], *, changes_files: bool = True) -> Place:
    from proxyindex.cli.places import Folders, Server  # noqa: PLC0415 - loads what serves

    url, ca_file = where.pop("server"), where.pop("ca_file")
    if url is not None:
        for key in (key for key, given in where.items() if given):
            option = key.replace("_", "-").removesuffix("s")
            raise click.UsageError(f"--{option} means nothing with --server.")
        return Server(url, ca_file)
    if ca_file is not None:
        raise click.UsageError("--ca-file means nothing without --server.")
    settings = loaded(where).settings
    if changes_files and not settings.every_folder:
        # a command that names indexes has no use for a single folder, and no such option
        ways = "--folder FOLDER or --config FILE" if "folders" in where else "--config FILE"
        raise click.UsageError(
            f"no folders to work on: say {ways}, as told to serve, or "
            "--server URL to let a running server do it."
        )
    return Folders(settings)


def _tell(done: str, names: list[str]) -> None:
    for name in names:
        click.echo(f"{done} {name}")
