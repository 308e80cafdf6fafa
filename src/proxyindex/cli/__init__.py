"""The `proxyindex` command."""

import click

from proxyindex.cli.group import Commands
from proxyindex.version import __version__

_MODULES = {
    "serve": "serve",
    "config": "config",
    "cache": "cache",
    "token": "token",
    "user": "user",
    "publish": "publish",
    "delete": "manage",
    "yank": "manage",
    "unyank": "manage",
    "push": "manage",
    "refresh": "manage",
}


@click.group(
    cls=Commands, modules=_MODULES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="proxyindex")
def main() -> None:
    """A private Python package index that falls through to PyPI and keeps what it fetched.

    \b
    Examples:
      proxyindex serve                          PyPI, cached on disk
      proxyindex serve ./packages               own packages first, the rest from PyPI
      proxyindex serve --config proxyindex.toml
      proxyindex publish dist --to ./packages   own packages to a folder, an index, a machine
      proxyindex config show                    every setting and where it came from
      proxyindex cache ls                       what is held on disk
      proxyindex token create --user ci         lets somebody in
      proxyindex push acme-lib==1.2 dev prod    promote a release
    """


__all__ = ["main"]
