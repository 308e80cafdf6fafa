"""`proxyindex token …`: API tokens, made, listed and revoked in the file of the server."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from packaging.utils import NormalizedName

from proxyindex.access import Action, Scope
from proxyindex.banner import client_hints
from proxyindex.cli import audited
from proxyindex.cli.group import loaded, not_empty, options, read_as
from proxyindex.cli.printing import print_json, print_table
from proxyindex.config.kinds import PATTERNS, duration
from proxyindex.errors import ProxyindexError
from proxyindex.names import matches_pattern
from proxyindex.settings import Settings
from proxyindex.units import format_minute
from proxyindex.users.tokens import PREFIX, Token, TokenFile
from proxyindex.web.clients import ClientHints, token_snippets

file_options = options("tokens", "config")
audit_option = options("audit_log")
address_options = options("host", "port", "base_path", "public_url")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Make, list and revoke API tokens.")
def token() -> None:
    """Make, list and revoke API tokens.

    All of this works on the file of tokens itself, also while servers run on it: the very next
    request counts by what it says.
    """


@token.command()
@click.option("--user", required=True, metavar="NAME", help="Whom it stands for; may be new.")
@click.option(
    "--index",
    "indexes",
    multiple=True,
    callback=not_empty,
    metavar="GLOB",
    help="Only these indexes; repeatable.",
)
@click.option(
    "--project",
    "projects",
    multiple=True,
    callback=read_as(PATTERNS),  # what no name matches would be a token for nothing
    metavar="GLOB",
    help="Only these projects; repeatable.",
)
@click.option(
    "--action",
    "actions",
    multiple=True,
    type=click.Choice([action.value for action in Action]),
    help="Only this; read includes fetch; repeatable.  [default: all]",
)
@click.option(
    "--expires",
    callback=read_as(duration("1s")),
    metavar="DURATION",
    help="Ends after, e.g. 90d.",
)
@file_options
@audit_option
@address_options
def create(
    *,
    user: str,
    indexes: tuple[str, ...],
    projects: tuple[str, ...],
    actions: tuple[str, ...],
    expires: float | None,
    **parameters: Any,
) -> None:
    """Make a token and print it, this once; only its digest is kept.

    The token alone goes to standard output, how to use it to standard error. It can do what its
    user may do (read, upload, … in the configuration), within the limits given here.

    \b
    Examples:
      proxyindex token create --user ci --action read --expires 90d
      proxyindex token create --user alice --project 'acme-*' --action upload
      TOKEN=$(proxyindex token create --user ci --index prod)
    """
    settings = loaded(parameters, is_ready=False).settings
    _check_indexes(indexes, settings)
    path = _path(settings)
    end = math.inf if expires is None else time.time() + expires
    scope = Scope(indexes, projects, frozenset(Action(action) for action in actions), end)
    file = TokenFile(path)
    text, made = file.create(user, scope)
    audited.note(settings, "create token", **_subject(made, path), **_limits(made))
    if not _is_told(text):
        file.revoke(frozenset([made.id]))
        audited.note(settings, "revoke token", **_subject(made, path))
        raise ProxyindexError("Nobody could read the token: standard output cannot be written.")
    hints = client_hints(settings)
    if len(indexes) == 1 and indexes[0].replace("-", "").isalnum():
        hints = replace(hints, base_url=f"{hints.base_url}/{indexes[0]}")
    # what is captured should not stand in a log as well
    shown = text if sys.stdout.isatty() else f"{PREFIX}…"
    for line in _usage(made, shown, hints, path):
        click.echo(line, err=True)
    if settings.public_url is None:
        guessed = f"The address {hints.base_url} is guessed from where the server listens"
        click.echo(f"{guessed}; --public-url tells that of clients.", err=True)


@token.command("list")
@json_option
@file_options
def list_tokens(*, as_json: bool, **parameters: Any) -> None:
    """List the tokens, without what would let anybody use them.

    \b
    Example:
      proxyindex token list
    """
    tokens = TokenFile(_path(loaded(parameters, is_ready=False).settings)).all()
    if as_json:
        print_json([_document(one) for one in tokens])
        return
    headings = ("ID", "USER", "TOKEN", "INDEXES", "PROJECTS", "ACTIONS", "CREATED", "EXPIRES")
    print_table(headings, (_row(one) for one in tokens), right=set())


@token.command(short_help="Revoke tokens by their ids, as `token list` shows them.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@file_options
@audit_option
@click.pass_context
def revoke(ctx: click.Context, /, *, ids: tuple[str, ...], **parameters: Any) -> None:
    """Revoke tokens by their ids, as `token list` shows them; exit with 1 if one is not there.

    \b
    Example:
      proxyindex token revoke 5e884898
    """
    settings = loaded(parameters, is_ready=False).settings
    path = _path(settings)
    gone = TokenFile(path).revoke(frozenset(ids))
    for one in gone:
        audited.note(settings, "revoke token", **_subject(one, path))
    for one in gone:
        click.echo(f"Revoked {one.id} of {one.user}.")
    missing = set(ids) - {one.id for one in gone}
    for name in sorted(missing):
        click.echo(f"Error: there is no token {name!r}.", err=True)
    ctx.exit(1 if missing else 0)


def _is_told(text: str) -> bool:
    """Whether it went to standard output: nobody can have it another time."""
    try:
        print(text, flush=True)
    except OSError:
        return False
    return sys.__stdout__ is not None  # it was closed, and leads nowhere now


def _subject(one: Token, path: Path) -> dict[str, str]:
    """Which token it is, for the audit log."""
    return {"token": one.id, "account": one.user, "file": str(path.absolute())}


def _limits(one: Token) -> dict[str, str]:
    """What it is limited to, for the audit log; nothing where there is no limit."""
    limits = {"indexes": one.indexes, "projects": one.projects, "actions": one.actions}
    shown = {key: " ".join(values) for key, values in limits.items() if values}
    return shown if one.expires is None else shown | {"expires": format_minute(one.expires)}


def _path(settings: Settings) -> Path:
    if settings.tokens is None:
        raise click.UsageError("this user has no home to keep tokens in: say where, with --tokens.")
    return settings.tokens


def _check_indexes(globs: tuple[str, ...], settings: Settings) -> None:
    """Each means an index there is, where a file tells which there are."""
    known = [index.name for index in settings.indexes]
    for glob in globs if settings.config_file else ():
        if not any(matches_pattern(NormalizedName(name), glob) for name in known):
            problem = f"there is no index {glob!r}; there are: {', '.join(known)}."
            raise click.BadParameter(problem, param_hint="--index")


def _usage(made: Token, text: str, hints: ClientHints, path: Path) -> Iterator[str]:
    end = "does not expire" if made.expires is None else f"expires on {format_minute(made.expires)}"
    yield f"Token {made.id} of {made.user}, kept in {path}; it {end}."
    yield "It is shown this once. To use it:"
    may = frozenset(made.actions) or frozenset(Action)
    reads = not may.isdisjoint((Action.READ, Action.ADMIN))
    uploads = not may.isdisjoint((Action.UPLOAD, Action.ADMIN))
    for snippet in token_snippets(hints, text, reads=reads, uploads=uploads):
        yield f"{snippet.client} ({snippet.where})"
        yield from (f"    {line}" for line in snippet.text.splitlines())


def _row(one: Token) -> tuple[str, ...]:
    return (
        one.id,
        one.user,
        f"{PREFIX}…{one.tail}",
        " ".join(one.indexes) or "all",
        " ".join(one.projects) or "all",
        " ".join(one.actions) or "all",
        format_minute(one.created),
        "never" if one.expires is None else format_minute(one.expires),
    )


def _document(one: Token) -> dict[str, object]:
    return {
        "id": one.id,
        "user": one.user,
        "tail": one.tail,
        "indexes": one.indexes,
        "projects": one.projects,
        "actions": [action.value for action in one.actions],
        "created": one.created,
        "expires": one.expires,
    }
