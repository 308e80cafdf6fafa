"""`proxyindex serve`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from proxyindex.banner import start_lines
from proxyindex.cli.group import loaded, setting_options


@click.command(short_help="Serve folders and upstreams as one index.")
@setting_options
@click.pass_context
def serve(ctx: click.Context, /, **parameters: object) -> None:
    """Serve FOLDERs with your own packages first, and everything else from an upstream index.

    Without any setting: PyPI on http://127.0.0.1:8080, cached in your cache folder.

    \b
    Examples:
      proxyindex serve
      proxyindex serve ./packages --cache-size 20GB
      proxyindex serve --upstream https://index.example/simple --page-ttl 1m
      proxyindex serve ./packages --policy-reserved acme --policy-deny 'torch<2.1'
      proxyindex serve --config proxyindex.toml --host 0.0.0.0 --workers 4

    Every option is also an environment variable (PROXYINDEX_PAGE_TTL=10m) and, but for --config, a
    key of the TOML file (page-ttl = "10m"), which has tables besides. A flag wins over the
    variable, the variable over the file. Sizes are written 50GB or 512MiB, times 10m, 1h30m or 7d.
    """
    settings = loaded(parameters).settings

    def announce(urls: Sequence[str]) -> None:
        for line in start_lines(settings, urls):
            click.echo(line, err=True)

    # printing a help text or a configuration mistake should not load a web server
    from proxyindex.server.run import serve as run  # noqa: PLC0415

    ctx.exit(run(settings, on_listening=announce, reload=lambda: loaded(parameters).settings))
