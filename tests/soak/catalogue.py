"""The files of a soak, on disk once for all: the upstream sends them, the clients compare."""

from __future__ import annotations

import hashlib
import json
import mmap
import random
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.builders import make_wheel, metadata, wheel_name


@dataclass(frozen=True, slots=True)
class Item:
    """One wheel and its core metadata: where their bytes lie in the catalogue, and their digests.

    `hashes` are those that the upstream's page tells; `sha256` is always the true one.
    """

    project: str
    filename: str
    start: int
    size: int
    sha256: str
    hashes: dict[str, str]
    metadata_start: int
    metadata_size: int
    metadata_sha256: str


class Catalogue:
    """`path` holds all bytes, one after the other; `path`.json the items."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes = memoryview(self._map)
        listed = json.loads(path.with_suffix(".json").read_text())
        self.items = [Item(**entry) for entry in listed]
        self.projects: dict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            self.projects[item.project].append(item)

    def file(self, item: Item) -> memoryview:
        return self.bytes[item.start : item.start + item.size]

    def metadata(self, item: Item) -> memoryview:
        return self.bytes[item.metadata_start : item.metadata_start + item.metadata_size]

    def page(self, project: str) -> bytes:
        """The JSON page of a project as its upstream has it."""
        files = [
            {
                "filename": item.filename,
                "url": f"/files/{item.filename}",
                "hashes": item.hashes,
                "size": item.size,
                "core-metadata": {"sha256": item.metadata_sha256},
                "upload-time": "2024-01-17T16:53:12.779164Z",
            }
            for item in self.projects[project]
        ]
        versions = [item.filename.split("-")[1] for item in self.projects[project]]
        page = {"meta": {"api-version": "1.4"}, "name": project, "versions": versions}
        return json.dumps({**page, "files": files}).encode()


def make(path: Path, *, projects: int, files: int, large: int, seed: int) -> Catalogue:
    """Write a catalogue: so many `files` of each of `projects`, wheels of 1 to 50 KB, and so many
    `large` ones of 5 MB.

    Every tenth project's page tells no sha256 but a sha512: what proves those files is found out
    on the way.
    """
    chance = random.Random(seed)
    sizes = [(f"soak-{p}", f"1.{f}", chance.randint(500, 48_000)) for p in range(projects)
             for f in range(files)]  # fmt: skip
    sizes += [(f"soak-large-{p}", "1.0", 5_000_000) for p in range(large)]
    items, position = [], 0
    with path.open("wb") as stream:
        for number, (project, version, size) in enumerate(sizes):
            body, told = make_wheel(project, version, payload=size), metadata(project, version)
            algorithm = "sha512" if (number // files) % 10 == 9 else "sha256"
            item = Item(
                project,
                wheel_name(project, version),
                position,
                len(body),
                hashlib.sha256(body).hexdigest(),
                {algorithm: hashlib.new(algorithm, body).hexdigest()},
                position + len(body),
                len(told),
                hashlib.sha256(told).hexdigest(),
            )
            items.append(asdict(item))
            stream.write(body + told)
            position += len(body) + len(told)
    path.with_suffix(".json").write_text(json.dumps(items))
    return Catalogue(path)
