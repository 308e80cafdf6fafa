"""The `proxyindex` command."""

import click

from proxyindex import __version__
from proxyindex.cli.cache import cache
from proxyindex.cli.config import config
from proxyindex.cli.group import Commands
from proxyindex.cli.manage import COMMANDS
from proxyindex.cli.publish import publish
from proxyindex.cli.serve import serve
from proxyindex.cli.token import token
from proxyindex.cli.user import user


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
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


main.add_command(serve)
main.add_command(config)
main.add_command(cache)
main.add_command(token)
main.add_command(user)
main.add_command(publish)
for command in COMMANDS:
    main.add_command(command)

__all__ = ["main"]
