"""devpi-server with one mirror index, as `devpi-init` sets it up."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request

from bench.environments import environment
from bench.errors import Unavailable
from bench.servers.base import Server, Setup, Site, free_port


class Devpi(Server):
    name = "devpi"
    title = "devpi 6.20"

    def prepare(self, setup: Setup) -> None:
        init = environment(setup.scratch, self.name) / "devpi-init"
        command = [init, "--no-root-pypi", "--serverdir", setup.folder / "server"]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise Unavailable(f"does not start: {done.stderr.strip()[-200:]}")

    def launch(self, setup: Setup) -> Site:
        port = free_port()
        command = [environment(setup.scratch, self.name) / "devpi-server", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--serverdir", setup.folder / "server"]
        url, page = f"http://127.0.0.1:{port}", "/root/bench/+simple/{project}/"
        return Site(self.name, url, setup.child(command), setup.folder, page_path=page)

    def configure(self, site: Site, setup: Setup) -> None:
        login = _call(site, "POST", "/+login", {"user": "root", "password": ""}, "")
        token = base64.b64encode(f"root:{login['result']['password']}".encode()).decode()
        index = {
            "type": "mirror",
            "volatile": False,
            "mirror_url": f"{setup.upstream}/simple/",
            "mirror_no_project_list": True,
        }
        _call(site, "PUT", "/root/bench", index, token)


def _call(
    site: Site, method: str, path: str, what: object, token: str
) -> dict[str, dict[str, str]]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["X-Devpi-Auth"] = token
    data = json.dumps(what).encode()
    request = urllib.request.Request(site.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, dict[str, str]] = json.load(response)
            return answer
    except OSError as problem:
        raise Unavailable(f"cannot be configured: {problem}") from problem
