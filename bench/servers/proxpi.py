"""proxpi under gunicorn with threads, as its own image runs it."""

from __future__ import annotations

from bench.environments import environment
from bench.servers.base import Server, Setup, Site, free_port


class Proxpi(Server):
    name = "proxpi"
    title = "proxpi 1.3.1"

    def prepare(self, setup: Setup) -> None:
        environment(setup.scratch, self.name)

    def launch(self, setup: Setup) -> Site:
        port, folder = free_port(), setup.folder
        command = [environment(setup.scratch, self.name) / "gunicorn", "--preload"]
        command += ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "8"]
        env = {
            "PROXPI_INDEX_URL": f"{setup.upstream}/simple/",
            "PROXPI_CACHE_DIR": str(folder / "cache"),
        }
        child = setup.child([*command, "proxpi.server:app"], env)
        url = f"http://127.0.0.1:{port}"
        return Site(self.name, url, child, folder, page_path="/index/{project}/")
