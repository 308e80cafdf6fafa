"""`proxyindex config show` and `config check`: what `serve` would do with the same arguments."""

from __future__ import annotations

import click

from proxyindex.cli.group import loaded, setting_options
from proxyindex.config import show as shown


@click.group(short_help="Show or check the configuration.")
def config() -> None:
    """Show or check the configuration, without starting anything."""


@config.command()
@setting_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with bytes and seconds.")
def show(*, as_json: bool, **parameters: object) -> None:
    """Print every effective value and where it came from, secrets masked.

    Takes the arguments of `serve`.

    \b
    Examples:
      proxyindex config show --config proxyindex.toml
      PROXYINDEX_PAGE_TTL=1m proxyindex config show --json
    """
    effective = loaded(parameters)
    click.echo(shown.as_json(effective) if as_json else shown.as_toml(effective), nl=False)


@config.command(short_help="Report every mistake in the configuration at once.")
@setting_options
def check(**parameters: object) -> None:
    """Report every mistake in the configuration at once; exit with 0 if there is none.

    Takes the arguments of `serve`.

    \b
    Example:
      proxyindex config check --config proxyindex.toml
    """
    sources = loaded(parameters).sources
    given = sum(source != "default" for source in sources.values())
    click.echo(f"The configuration is sound ({given} values given, the rest are defaults).")
