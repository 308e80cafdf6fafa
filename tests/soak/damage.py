"""Damage planted in stored files, pages and facts: `cache verify` finds all of it, and mends it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.soak import catalogue
from tests.soak.catalogue import Catalogue, Item
from tests.soak.lab import Helper, Run, serve
from tests.soak.row import Row
from tests.support import http
from tests.support.hermetic import environment
from tests.support.server import ProxyIndex

PROJECTS, FILES = 200, 4
_SHARE = 0.3  # of what is stored, of each kind, is damaged

Plant = Callable[[Path, random.Random], None]


def _flip(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as stream:
        at = chance.randrange(os.fstat(stream.fileno()).st_size)
        byte = os.pread(stream.fileno(), 1, at)[0]
        os.pwrite(stream.fileno(), bytes([byte ^ 1 << chance.randrange(8)]), at)


def _flip_secretly(path: Path, chance: random.Random) -> None:
    """With the times it had: as a bad disk does."""
    before = path.stat()
    _flip(path, chance)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _zero(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as stream:
        os.pwrite(stream.fileno(), bytes(max(1, size // 3)), chance.randrange(size))


def _truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def _empty(path: Path, chance: random.Random) -> None:
    os.truncate(path, 0)


def _lengthen(path: Path, chance: random.Random) -> None:
    with path.open("ab") as stream:
        stream.write(chance.randbytes(chance.randint(1, 5000)))


def _replace(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(path.stat().st_size))


def _dangle(path: Path, chance: random.Random) -> None:
    """A link to nowhere in its place."""
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _break_head(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"{") + 1 :])


def _garble_digest(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    at = data.index(b'"digest": "') + len(b'"digest": "') + chance.randrange(64)
    path.write_bytes(data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :])


def _tear_line(path: Path, chance: random.Random) -> None:
    """What a writer leaves that is killed in mid-line."""
    path.write_bytes(path.read_bytes()[: -chance.randint(2, 40)])


def _add_noise(path: Path, chance: random.Random) -> None:
    with path.open("ab") as stream:
        stream.write(b"\n" + bytes(chance.choices(range(128, 256), k=60)))


def _add_zeros(path: Path, chance: random.Random) -> None:
    """What a file system leaves after a power cut."""
    with path.open("ab") as stream:
        stream.write(bytes(200))


def _garble_quote(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.choice([at for at, byte in enumerate(data) if byte == ord('"')])] ^= 0x80
    path.write_bytes(data)


def _garble_fact(path: Path, chance: random.Random) -> None:
    """A digit of a file's digest: the line stays one that can be read."""
    data = path.read_bytes()
    at = data.index(b'"sha256": "') + len(b'"sha256": "') + chance.randrange(64)
    path.write_bytes(data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :])


_PLANTS: dict[str, tuple[Plant, ...]] = {
    "file": (_flip, _flip_secretly, _zero, _truncate, _empty, _lengthen, _replace, _dangle),
    "page": (_flip, _flip_secretly, _zero, _truncate, _empty, _lengthen, _break_head,
             _garble_digest),
    "facts": (_tear_line, _add_noise, _add_zeros, _garble_quote, _garble_fact),
}  # fmt: skip


def run(run: Run) -> Iterator[Row]:
    """Fill a cache, damage it, look, mend, look again, and ask a server for everything."""
    chance = random.Random(run.seed)
    with run.folder("damage") as folder:
        offered = catalogue.make(
            folder / "catalogue", projects=run.count(PROJECTS, 8), files=FILES, large=0,
            seed=run.seed,
        )  # fmt: skip
        with Helper("mischief", catalogue=str(offered.path), seed=1, chance=0.0) as upstream:
            server = serve(folder / "server", upstream.heard()["url"])
            with server, run.bar("damage, filling", len(offered.items)) as advance:
                wrong = _read_all(server, offered, advance)
                server.stop()
            assert not wrong, "the cache could not be filled"
            planted = _plant(server.cache_dir, chance)
            yield from _look(run, server, planted)
            with server, run.bar("damage, reading again", len(offered.items)) as advance:
                wrong = _read_all(server, offered, advance)
    yield Row(
        "damage: after repair",
        "everything is served right",
        f"{len(wrong)} wrong or refused of {2 * len(offered.items)} files and metadata",
        not wrong,
    )


def _look(run: Run, server: ProxyIndex, planted: dict[tuple[str, str], str]) -> Iterator[Row]:
    reported = _verify(server.cache_dir, "--dry-run")
    missed = [how for what, how in planted.items() if what not in reported]
    invented = reported - planted.keys()
    told = "".join(f"; missed {how} {count} times" for how, count in Counter(missed).items())
    kinds = Counter(kind for kind, _ in planted)
    yield Row(
        "damage: verify",
        "100 % of planted damage found, nothing else",
        f"{len(planted) - len(missed)} of {len(planted)} found ({dict(kinds)}), "
        f"{len(invented)} invented{told}",
        not missed and not invented,
    )
    repaired, left = _verify(server.cache_dir), _verify(server.cache_dir)
    yield Row(
        "damage: repair",
        "mended, and sound afterwards",
        f"{len(repaired)} mended, {len(left)} left",
        repaired == reported and not left,
    )


def _plant(root: Path, chance: random.Random) -> dict[tuple[str, str], str]:
    """Damage a share of everything; how, by kind and name as `cache verify` tells them."""
    stored = {
        "file": sorted(root.glob("blobs/??/[0-9a-f]*")),
        "page": sorted(root.glob("pages/*/*")),
        "facts": sorted(root.glob("facts/*/*")),
    }
    planted = {}
    for kind, paths in stored.items():
        plants = _PLANTS[kind]
        chosen = chance.sample(paths, max(len(plants), int(len(paths) * _SHARE)))
        for number, path in enumerate(chosen):
            plant = plants[number % len(plants)]
            plant(path, chance)
            project = path.name.removesuffix(".later")  # of a project's two files of facts
            name = path.name if kind == "file" else f"{path.parent.name}/{project}"
            planted[kind, name] = f"{kind} {plant.__name__.strip('_').replace('_', ' ')}"
    return planted


def _verify(root: Path, *args: str) -> set[tuple[str, str]]:
    """Kind and name of all damage that the command tells of."""
    command = [sys.executable, "-m", "proxyindex", "cache", "verify", "--json"]
    done = subprocess.run(
        [*command, "--cache-dir", str(root), *args],
        env=environment(root.parent / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(done.stderr)
    found = {(one["kind"], one["name"]) for one in json.loads(done.stdout)["damage"]}
    assert bool(found) == done.returncode
    return found


def _read_all(
    server: ProxyIndex, offered: Catalogue, advance: Callable[[float], None]
) -> list[str]:
    """Ask for every file and its metadata; the names of those that were not right."""

    def read(item: Item) -> list[str]:
        target = f"/simple/{item.project}/{item.filename}"
        return [
            name
            for name, expected in (
                (target, offered.file(item)),
                (target + ".metadata", offered.metadata(item)),
            )
            if not _is_right(server.url, name, expected)
        ]

    wrong: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(read, offered.items)):
            wrong += found
            advance(number + 1)
    return wrong


def _is_right(url: str, target: str, expected: memoryview) -> bool:
    try:
        answer = http.request(url, target)
    except (OSError, http.NoAnswerError, http.ShortBodyError):
        return False
    return answer.status == 200 and answer.body == expected
