"""proxyindex as its users run it: defaults, a few rules, access lines to a file, metrics on."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.servers.base import Kind, Server, Setup, Site, free_port

UPSTREAM_NAME = "bench"
_CONFIG = """\
port = {port}
cache-dir = "{cache}"
workers = {workers}
{tls}{more}
[policy]
reserved = ["acme"]
deny = ["evil-*", "torch<2.1"]

[[upstream]]
name = "{name}"
url = "{upstream}/simple/"
"""


class ProxyIndex(Server):
    name = "proxyindex"
    title = "proxyindex"
    kind: Kind = "ours"

    def launch(self, setup: Setup) -> Site:
        return self.launch_with(setup, setup.folder / "cache")

    def launch_with(self, setup: Setup, cache: Path, more: str = "") -> Site:
        """As `launch`, on a cache that may be full already, with `more` keys of configuration."""
        port, tls = free_port(), setup.certificate
        config = setup.folder / "proxyindex.toml"
        config.write_text(
            _CONFIG.format(
                port=port,
                cache=cache,
                workers=setup.workers,
                name=UPSTREAM_NAME,
                upstream=setup.upstream,
                more=more,
                tls=f'tls-cert = "{tls.chain}"\ntls-key = "{tls.key}"' if tls else "",
            )
        )
        command = [sys.executable, "-m", "proxyindex", "serve", "--config", config]
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        return Site(self.name, url, setup.child(command), setup.folder)
