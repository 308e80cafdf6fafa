"""The limits: the same bytes from programs that do nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.servers.base import Kind, Server, Setup, Site, free_port

_ROOT = Path(__file__).resolve().parents[2]


class _Limit(Server):
    kind: Kind = "limit"

    def launch(self, setup: Setup) -> Site:
        port, tls = free_port(), setup.certificate
        command = [sys.executable, "-m", "bench.servers.limit_app", self.name, str(port)]
        command += [str(setup.answers), *([str(tls.chain), str(tls.key)] if tls else [])]
        child = setup.child(command, {"PYTHONPATH": str(_ROOT)})
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        return Site(self.name, url, child, setup.folder, is_limit=True)


class RawAsgi(_Limit):
    """A bare ASGI callable on uvicorn with httptools and uvloop."""

    name = "raw-asgi"
    title = "raw ASGI"


class Sendfile(_Limit):
    """The same, files by `os.sendfile`: see `bench.servers.sendfile`."""

    name = "sendfile"
    title = "raw ASGI, sendfile"


class Starlette(_Limit):
    """Starlette's routing, `Response` and `FileResponse`."""

    name = "starlette"
    title = "Starlette"
