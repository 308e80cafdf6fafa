"""What all commands share: errors become sentences and exit codes, options come from the table."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from packaging.utils import NormalizedName

from proxyindex.config import OPTIONS, Loaded, NotReady, Option, load
from proxyindex.config.kinds import SWITCH, Kind, Unfit
from proxyindex.config.show import shown_default
from proxyindex.errors import ConfigError, ProxyindexError
from proxyindex.names import InvalidName, normalize

Callback = TypeVar("Callback", bound=Callable[..., Any])


def not_empty(
    ctx: click.Context, param: click.Parameter, value: str | tuple[str, ...] | None
) -> str | tuple[str, ...] | None:
    """An unset variable in a script would mean the folder one is in, or all there is."""
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise click.BadParameter("is empty.", ctx, param)
    return value


def read_as(kind: Kind) -> Callable[..., Any]:
    """Has a parameter read as the configuration reads values of this kind."""

    def read(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(map(kind.read, value))
            return None if value is None else kind.read(value)
        except Unfit as unfit:
            raise click.BadParameter(f"expected {unfit}.", ctx, param) from None

    return read


class _ProjectName(click.ParamType[NormalizedName]):
    name = "project"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NormalizedName:
        try:
            return normalize(value)
        except InvalidName as problem:
            self.fail(f"{problem}.", param, ctx)


PROJECT = _ProjectName()  # as it is known inside
names_argument = click.argument(
    "projects", metavar="NAME...", nargs=-1, required=True, type=PROJECT
)
ca_file_option = click.option(
    "--ca-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="PEM file of the authorities to trust instead of the system's.",
)


class Commands(click.Group):
    """A group whose commands may raise `ProxyindexError`: exit code 2 for a mistake in the
    configuration, 1 for everything else, one sentence each on stderr and no traceback.

    `modules` says in which module of this room each command is. It is imported when it is called:
    a worker has no use for what the others need (rich: 5 MB, 25 ms).
    """

    def __init__(
        self, *args: Any, modules: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._modules = modules or {}

    def main(self, *args: Any, **options: Any) -> Any:
        """As click has it, also where a standard stream is closed (`<&-`); what else the system
        refuses is told: a full disk behind the output, a folder that is closed to us."""
        _open_streams()
        try:
            return super().main(*args, **options)
        except OSError as error:  # one for a closed pipe is click's own
            where = f" ({error.filename})" if error.filename else ""
            click.echo(f"Error: {error.strerror or error}{where}.", err=True)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, as in a dictionary."""
        return sorted([*self._modules, *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, if there is one."""
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"proxyindex.cli.{self._modules[cmd_name]}")
        return cast(click.Command, getattr(module, cmd_name))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command and turns its errors into an exit code."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for mistake in error.mistakes:
                click.echo(f"Error: {mistake}", err=True)
            ctx.exit(1 if isinstance(error, NotReady) else 2)
        except ProxyindexError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)


def _open_streams() -> None:
    """Have streams that are closed lead nowhere: who asks or tells something would stumble, and the
    next files would get their numbers. `sys.__stdout__` still says that nobody is there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def setting_options(command: Callback) -> Callback:
    """Adds FOLDER arguments and a flag for every option of the table."""
    flags = options(
        *(option.key for option in OPTIONS if option.is_text and option.key != "folders")
    )
    return click.argument("folders", nargs=-1, metavar="[FOLDER]...")(flags(command))


def options(*keys: str) -> Callable[[Callback], Callback]:
    """Adds flags for these options of the table only."""

    def add(command: Callback) -> Callback:
        for option in reversed(OPTIONS):
            if option.key in keys:
                command = _flag(option)(command)
        return command

    return add


def loaded(parameters: Mapping[str, object], *, is_ready: bool = True) -> Loaded:
    """The effective configuration of a command called with these click parameters.

    Without `is_ready` the folders, files and variables it names need not be there.
    """
    flags = {option.key: parameters.get(_parameter(option)) for option in OPTIONS}
    return load(flags, os.environ, is_ready=is_ready)


def _parameter(option: Option) -> str:
    return option.key.replace(".", "_")


def _flag(option: Option) -> Callable[[Callback], Callback]:
    text = option.help
    if option.kind is not SWITCH and (default := shown_default(option)):
        text += f"  [default: {default}]"
    # texts are read by the option's own kind, so that all mistakes are reported together
    if option.kind is SWITCH:
        negative = "" if option.key.startswith("no_") else f"/--no-{option.flag[2:]}"
        return click.option(
            option.flag + negative, _parameter(option), is_flag=True, default=None, help=text
        )
    return click.option(
        option.flag,
        _parameter(option),
        metavar=option.kind.metavar,
        multiple=option.kind.split is not None,
        help=text,
    )
