"""`proxyindex publish`: own packages to an index, a folder, or another machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from proxyindex import logs
from proxyindex.cli.group import ca_file_option, not_empty
from proxyindex.cli.printing import progress, tell_of_old_pages, waiting

if TYPE_CHECKING:
    from proxyindex.publishing.distribution import Distribution
    from proxyindex.publishing.publish import Plan
    from proxyindex.publishing.target import Target


@click.command(short_help="Publish wheels and sdists to an index, a folder or another machine.")
@click.argument("dists", nargs=-1, metavar="[DIST...]", callback=not_empty)
@click.option(
    "--to", "to", metavar="TARGET", envvar="PROXYINDEX_PUBLISH_TO", required=True, show_envvar=True,
    callback=not_empty, help="Where to: an index (URL), a folder, or host:path.",
)  # fmt: skip
@click.option(
    "--dist", "folder", metavar="FOLDER", callback=not_empty,
    help="Take the files of NAME==VERSION from this folder.",
)  # fmt: skip
@click.option("--pages", is_flag=True, help="Write pages beside the packages: an index on its own.")
@click.option("--overwrite", is_flag=True, help="Replace files that have other bytes.")
@click.option(
    "--check", metavar="URL", help="The index's pages (…/simple/), compared before and after."
)
@click.option("--dry-run", is_flag=True, help="Look and tell, and change nothing.")
@ca_file_option
@click.option(
    "--ssh", metavar="COMMAND", callback=not_empty,
    help="How to reach host:path.  [default: ssh]",
)  # fmt: skip
def publish(
    *,
    dists: tuple[str, ...],
    to: str,
    folder: str | None,
    overwrite: bool,
    dry_run: bool,
    **how: Any,
) -> None:
    """Publish DISTs (wheels and sdists; files, globs, or folders with some) to TARGET.

    Or, with --dist FOLDER, those in it of NAME==VERSION (or NAME VERSION). All are checked before
    the first is sent. What TARGET has already is left alone, so that a run that failed may be
    repeated. Signatures (DIST.asc) and attestations (DIST.publish.attestation) beside them go
    along.

    Without DIST, --pages brings all pages of a folder up to date with what lies there now.

    \b
    Examples:
      proxyindex publish dist/* --to http://127.0.0.1:8080/simple/
      proxyindex publish acme-lib==1.2 --dist dist --to https://index.example/legacy/
      proxyindex publish dist --to ./packages
      proxyindex publish dist --to ./public --pages
      proxyindex publish --to ./public --pages
      proxyindex publish dist --to web@www.example:/srv/www/simple --pages

    Credentials come from PROXYINDEX_PUBLISH_TOKEN, or PROXYINDEX_PUBLISH_USERNAME and
    PROXYINDEX_PUBLISH_PASSWORD, or else from netrc or keyring; never from the command line.
    """
    from proxyindex.publishing.publish import plan  # noqa: PLC0415 - others should not load it

    if how["pages"] and folder is None and not dists:
        if dry_run or overwrite:
            raise click.UsageError("--dry-run and --overwrite mean nothing without DIST.")
        _renew(to, **how)
        return
    with waiting("Reading"):
        wanted = _wanted(dists, folder)
    with _target(to, **how) as target:
        with waiting("Comparing"):
            planned = plan(target, wanted, shown=to, overwrite=overwrite)
        _tell_of_left_sidecars(planned)
        if dry_run:
            _foretell(planned)
        else:
            _carry_out(target, planned)
            if not how["pages"]:
                _tell_of_old_pages(target, to, planned)


def _renew(to: str, **how: Any) -> None:
    """All pages of a folder, made of what lies there now."""
    from proxyindex.publishing.folder import Folder  # noqa: PLC0415

    target = _target(to, **how)
    if not isinstance(target, Folder):
        raise click.UsageError("Name the files to publish: only a folder here does without.")
    with target, waiting("Writing pages"):
        written, removed = target.renew()
    for what, names in (("written", written), ("removed", removed)):
        for name in names:
            click.echo(f"{what}: {name}")
    if not written and not removed:
        click.echo("All pages are up to date.")


def _tell_of_old_pages(target: Target, to: str, planned: Plan) -> None:
    from proxyindex.publishing.folder import Folder  # noqa: PLC0415

    if isinstance(target, Folder):
        tell_of_old_pages(Path(to), sorted({each.project for each in planned.to_send}))


def _tell_of_left_sidecars(planned: Plan) -> None:
    """One line, on standard error: no index takes them later, and folders do as an index does."""
    left = [each.filename for each in planned.same if each.signature or each.provenance]
    if left:
        click.echo(
            "Signatures and attestations go along with a new file only; those of "
            f"{', '.join(left)} are neither compared nor sent.",
            err=True,
        )


def _foretell(planned: Plan) -> None:
    for batch, what in (
        (planned.same, "already there"),
        (planned.fresh, "would be published"),
        (planned.changed, "would be replaced"),
    ):
        for each in batch:
            _tell(each, what)


def _carry_out(target: Target, planned: Plan) -> None:
    from proxyindex.publishing.publish import carry_out  # noqa: PLC0415

    with progress() as shown:
        task = shown.add_task("Publishing", total=sum(each.size for each in planned.to_send))
        written = carry_out(
            target, planned, advance=lambda size: shown.advance(task, size), tell=_tell
        )
    for name in written:
        click.echo(f"written: {name}")


def _tell(each: Distribution, what: str) -> None:
    click.echo(f"{what}: {each.filename} ({decimal(each.size)})")


def _wanted(dists: Sequence[str], folder: str | None) -> list[Distribution]:
    """The files meant, all of them sound. Every unsound one is told."""
    from proxyindex.publishing import distribution, form, selection  # noqa: PLC0415
    from proxyindex.publishing.target import NothingPublished  # noqa: PLC0415

    if folder is None and not dists:
        raise click.UsageError("Name the files to publish, or a folder with them.")
    if folder is None:
        paths = selection.by_paths(dists)
    else:
        paths = selection.by_release(Path(folder), *_release(dists))
    found: list[Distribution] = []
    problems: list[str] = []
    for path in paths:
        try:
            found.append(form.checked(distribution.read(path)))
        except distribution.Unpublishable as problem:
            problems.append(str(problem))
    if problems:
        raise NothingPublished(problems)
    return found


def _release(words: Sequence[str]) -> tuple[str, str]:
    """The name and the version meant: one word as the other commands have it, or two."""
    parts = [part.strip() for part in (words[0].split("==") if len(words) == 1 else words)]
    if len(parts) != 2 or not all(parts):
        raise click.UsageError("With --dist, say which release: NAME==VERSION.")
    return parts[0], parts[1]


def _target(
    to: str, *, pages: bool, check: str | None, ca_file: Path | None, ssh: str | None
) -> Target:
    from proxyindex.publishing import folder, remote, rsync  # noqa: PLC0415

    is_index = "://" in to
    for option, given, fits in (
        ("--pages", pages, not is_index),
        ("--check", check, is_index),
        ("--ca-file", ca_file, is_index),
        ("--ssh", ssh, not is_index and rsync.looks_remote(to)),
    ):
        if given and not fits:
            raise click.UsageError(f"{option} means nothing for this TARGET.")
    if is_index:
        return _index(to, check, ca_file)
    if rsync.looks_remote(to):
        return remote.RemoteFolder(to, ssh or rsync.DEFAULT_SSH, with_pages=pages)
    logs.setup("text", "warning")  # a change that others began and we finish is told
    return folder.Folder(Path(to), with_pages=pages)


def _index(to: str, check: str | None, ca_file: Path | None) -> Target:
    from proxyindex.cli.calling import caller, credentials_for  # noqa: PLC0415
    from proxyindex.publishing import credentials, server  # noqa: PLC0415
    from proxyindex.publishing.client import origin  # noqa: PLC0415

    where = server.address(to, check)
    found = credentials_for(where.upload)
    logins = {origin(where.upload): found} if found else {}
    if where.pages and origin(where.pages) != origin(where.upload):
        stored = credentials.stored(where.pages, os.environ)
        logins |= {origin(where.pages): stored} if stored else {}
    return server.Server(where, caller(logins, ca_file), found)
