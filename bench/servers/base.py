"""What a server under test is: how to start it, and where it has pages and files."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urldefrag, urljoin

from bench import catalogue, client
from bench.client import Failed, Request
from bench.errors import Unavailable, WrongAnswer
from bench.process import Child

START_SECONDS = 60.0
Kind = Literal["ours", "rival", "limit"]


@dataclass(frozen=True, slots=True)
class Certificate:
    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server is started with.

    `scratch` outlives the run (environments), `folder` is this server's own, `answers` holds what
    the limits serve.
    """

    scratch: Path
    folder: Path
    cores: Sequence[int]
    upstream: str
    answers: Path
    workers: int = 1
    certificate: Certificate | None = None

    def child(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Child:
        """The command, at home in the server's folder, with no settings of ours but `env`."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        everything = {**kept, "HOME": str(self.folder), **(env or {})}
        log = self.folder / "server.log"
        return Child(command, cores=self.cores, log=log, cwd=self.folder, env=everything)


@dataclass(slots=True)
class Site:
    """A server that was started. `page` is the path of a project page, with `{project}` in it."""

    name: str
    url: str
    child: Child
    folder: Path
    page_path: str = "/simple/{project}/"
    is_limit: bool = False

    def page(self, project: str) -> str:
        return self.url + self.page_path.format(project=project)

    def file(self, project: str) -> str:
        """The address of the project's first file, as its page has it. Raises `WrongAnswer`."""
        if self.is_limit:
            return f"{self.url}/file/{project}"
        wanted = catalogue.first_file(project).filename
        answer, body = client.body(
            Request(self.page(project), {"Accept": f"{catalogue.JSON_TYPE}, text/html;q=0.1"})
        )
        for name, url in links(answer, body):
            if name == wanted:
                return urldefrag(urljoin(self.page(project), url)).url
        raise WrongAnswer(f"status {answer.status}: the page does not list {wanted}")


class Server(ABC):
    """A program that can be measured. `title` is its column's heading."""

    name: str
    title: str
    kind: Kind = "rival"

    def prepare(self, setup: Setup) -> None:  # noqa: B027  most need nothing
        """Install it and write what it reads. Raises `Unavailable`."""

    @abstractmethod
    def launch(self, setup: Setup) -> Site:
        """Start its process; it need not answer yet. Raises `Unavailable`."""

    def configure(self, site: Site, setup: Setup) -> None:  # noqa: B027
        """What has to be told to the running server, once. Raises `Unavailable`."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def wait_for(site: Site, *, seconds: float = START_SECONDS) -> None:
    """Until it accepts connections. Raises `Unavailable`."""
    port = int(site.url.rpartition(":")[2])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not site.child.is_running:
            raise Unavailable(f"does not start: {site.child.last_words}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.002)
    raise Unavailable(f"does not answer: {site.child.last_words}")


def wait_for_line(child: Child, is_it: Callable[[str], bool]) -> str:
    """The first line of its log that is the one. Raises `Unavailable`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.is_running:
        for line in child.log.read_text(errors="replace").splitlines():
            if is_it(line):
                return line
        time.sleep(0.01)
    raise Unavailable(f"does not start: {child.last_words}")


def until_right(
    request: Request, is_right: Callable[[client.Answer], bool], *, seconds: float = 60.0
) -> client.Answer:
    """Ask until the answer is right: caches may need a moment. Raises `WrongAnswer`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = client.one(request, patience=seconds)
        except Failed as problem:
            raise WrongAnswer(str(problem)) from problem
        if is_right(answer):
            return answer
        if time.monotonic() > deadline:
            raise WrongAnswer(f"status {answer.status}, {answer.size} bytes")
        time.sleep(0.05)


def links(answer: client.Answer, body: bytes) -> list[tuple[str, str]]:
    """Name and URL of every file on a page in either form."""
    if "json" in answer.headers.get("content-type", ""):
        return [(file["filename"], file["url"]) for file in json.loads(body)["files"]]
    anchors = body.decode().split("<a ")[1:]
    found = []
    for anchor in anchors:
        url = anchor.partition('href="')[2].partition('"')[0]
        name = anchor.partition(">")[2].partition("</a>")[0].strip()
        found.append((name, url.replace("&amp;", "&")))
    return found
