"""`proxyindex config show` and `config check`: what `serve` would do with the same arguments."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import click

from proxyindex.cli.group import loaded, setting_options
from proxyindex.config import NotReady
from proxyindex.config import show as shown
from proxyindex.settings import Settings
from proxyindex.units import format_size

_SIZES = ("cache_size", "page_cache_size", "max_file_size", "max_page_size", "max_upload_size")
_TINY = 100_000  # bytes; a page of a public project alone has some


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

    Takes the arguments of `serve`, and looks at folders, files and proxies as `serve` does, for
    the user who calls it. What is sound but seldom meant is told as a warning.

    \b
    Example:
      proxyindex config check --config proxyindex.toml
    """
    effective = loaded(parameters)
    # this should not load what only a check of certificates and accounts needs
    from proxyindex.server import checks  # noqa: PLC0415

    # a variable of the environment may be wrong for several upstreams
    if problems := dict.fromkeys(map(str, checks.refusals(effective.settings, makes=False))):
        raise NotReady([*problems])
    for complaint in (*checks.complaints(effective.settings), *_seldom_meant(effective.settings)):
        click.echo(f"Warning: {complaint}.", err=True)
    given = shown.count_given(effective)
    click.echo(f"The configuration is sound ({given} values given, the rest are defaults).")


def _seldom_meant(settings: Settings) -> Iterator[str]:
    for name in _gates(settings):
        yield (
            f"upstream.{name}.policy.allow refuses everything else with 403, also what the "
            "upstreams behind it have. To ask it for some projects only, use routes"
        )
    for key in _SIZES:
        if (size := getattr(settings, key)) < _TINY:
            told = f"{key.replace('_', '-')} is {format_size(size)}"
            yield f"{told}, and hardly anything is so small; a number without a unit means bytes"
    path = urlsplit(settings.public_url or "").path
    if settings.public_url and path != settings.base_path:
        yield (
            f"public-url leads to {path or '/'}, and base-path is {settings.base_path or 'not set'}"
            ": redirects will miss what people are shown. Give both the same path"
        )


def _gates(settings: Settings) -> Iterator[str]:
    """Names of upstreams that let through only what they allow, before others are asked."""
    unrouted = [index for index in settings.indexes if not settings.routes_of(index)]
    before = {name for index in unrouted for name in settings.asks(index)[:-1]}
    return (one.name for one in settings.upstreams if one.policy.allow and one.name in before)
