"""simple-repository-server with the caches of its library, which its own command leaves out."""

from __future__ import annotations

from pathlib import Path

from bench.environments import environment
from bench.servers.base import Server, Setup, Site, free_port

_APP = Path(__file__).with_name("simple_repository_app.py")


class SimpleRepository(Server):
    name = "simple-repository-server"
    title = "simple-repository-server"

    def prepare(self, setup: Setup) -> None:
        environment(setup.scratch, self.name)

    def launch(self, setup: Setup) -> Site:
        port = free_port()
        python = environment(setup.scratch, self.name) / "python"
        # -P: the module beside it that is named as the library is not it
        command = [python, "-P", _APP, str(port), f"{setup.upstream}/simple/", setup.folder]
        return Site(self.name, f"http://127.0.0.1:{port}", setup.child(command), setup.folder)
