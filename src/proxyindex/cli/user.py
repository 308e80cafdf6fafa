"""`proxyindex user …`: users and their passwords, in a file as `htpasswd` writes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from proxyindex.access import TOKEN_USER, is_user_name
from proxyindex.cli import audited
from proxyindex.cli.group import loaded, options, read_as
from proxyindex.config.kinds import PATH
from proxyindex.settings import Settings
from proxyindex.users import htpasswd
from proxyindex.users.hashes import PasswordHashes
from proxyindex.users.tokens import PREFIX, is_token

_LONGEST = 1000


file_option = click.option(
    "--htpasswd",
    "path",
    metavar="FILE",
    callback=read_as(PATH),
    help="The file.  [default: the first one of the configuration]",
)
config_option = options("config")
audit_option = options("audit_log")


def _name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not is_user_name(value):
        expected = f"expected a name without blanks, colons and commas, other than {TOKEN_USER}."
        raise click.BadParameter(expected, ctx, param)
    return value


name_argument = click.argument("name", callback=_name)


@click.group(short_help="Add, remove and list users.")
def user() -> None:
    """Add, remove and list users of a password file, hashed with bcrypt.

    The file may be shared with a web server; Apache's htpasswd can change it just as well. Running
    servers count by what it says from the very next request on.
    """


@user.command()
@name_argument
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@file_option
@config_option
@audit_option
def add(*, name: str, password_stdin: bool, path: Path | None, **parameters: Any) -> None:
    """Add a user, or give one another password; it is asked for.

    \b
    Examples:
      proxyindex user add alice --htpasswd users.htpasswd
      pass show index/ci | proxyindex user add ci --config proxyindex.toml --password-stdin
    """
    settings, path = _files(path, parameters)
    try:
        if password_stdin:
            password = sys.stdin.read(_LONGEST).rstrip("\r\n")
        else:
            password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        password.encode()  # bytes that are no text may have come as surrogates
    except UnicodeError as problem:
        raise click.UsageError("expected a password in UTF-8.") from problem
    if "\n" in password:
        raise click.UsageError("expected one line; `… | head -n 1` gives the first.")
    if not password:
        raise click.UsageError("an empty password is none.")
    if is_token(password):
        raise click.UsageError(f"what begins with {PREFIX} is taken for a token at a log-in.")
    try:
        hashed = PasswordHashes().hash(password)
    except ValueError as problem:
        raise click.UsageError(f"expected {problem}.") from problem
    was_there = htpasswd.put(path, name, hashed)
    _note(settings, "change password" if was_there else "add user", name, path)
    click.echo(f"{name} has {'another' if was_there else 'a'} password in {path}.")


@user.command(short_help="Remove a user from the file.")
@name_argument
@file_option
@config_option
@audit_option
@click.pass_context
def remove(ctx: click.Context, /, *, name: str, path: Path | None, **parameters: Any) -> None:
    """Remove a user from the file; exit with 1 if there is none. Tokens are revoked apart.

    \b
    Example:
      proxyindex user remove alice --htpasswd users.htpasswd
    """
    settings, path = _files(path, parameters)
    if not htpasswd.remove(path, name):
        click.echo(f"Error: there is no user {name!r} in {path}.", err=True)
        ctx.exit(1)
    _note(settings, "remove user", name, path)
    click.echo(f"{name} is no more in {path}; `proxyindex token list` shows the tokens that are.")


@user.command("list")
@file_option
@config_option
def list_users(*, path: Path | None, **parameters: Any) -> None:
    """List the users of the file, a name per line.

    \b
    Example:
      proxyindex user list --config proxyindex.toml
    """
    for name in htpasswd.names(_files(path, parameters)[1]):
        click.echo(name)


def _files(path: Path | None, parameters: dict[str, Any]) -> tuple[Settings, Path]:
    """The configuration, and the password file; neither that nor others need be there yet."""
    settings = loaded(parameters, is_ready=False).settings
    if path is not None:
        return settings, path
    configured = settings.htpasswd
    if not configured:
        raise click.UsageError(
            "no password file: give --htpasswd, or --config with htpasswd in it."
        )
    return settings, configured[0]


def _note(settings: Settings, action: str, name: str, path: Path) -> None:
    audited.note(settings, action, account=name, file=str(path.absolute()))
