"""Remembered answers of our own packages, and offline: every change shows at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from proxyindex import disk
from proxyindex.inquiry import MOST_WITNESSES, Ground
from tests.support.builders import make_sdist, make_wheel, put, sdist_name, wheel_name
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.quick import quick_answer
from tests.web.conftest import House
from tests.web.test_express import asked, same

PAGE = "/simple/demo/"
WHEEL = wheel_name("demo", "1.0")
SDIST = sdist_name("demo", "1.0")
FILE, METADATA = PAGE + WHEEL, f"{PAGE}{WHEEL}.metadata"
SIGNATURE = f"{PAGE}{SDIST}.asc"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that gives no stamp twice: changes made a moment ago are trusted. And one that
    tells what it has in memory, which overlayfs and tmpfs do not."""
    monkeypatch.setattr(disk, "RACY_NS", -1_000_000_000)
    monkeypatch.setattr(disk, "are_cached", lambda fd, start, stop: True)


@pytest.fixture
async def client(house: House, settled: None) -> httpx.AsyncClient:
    """Of an application with own packages in many directories, which was asked for all of one."""
    for number in range(20):
        (house.folder / f"other-{number}").mkdir()
    folder = house.folder / "demo"
    put(folder, WHEEL, make_wheel("demo", "1.0"))
    put(folder, SDIST, make_sdist("demo", "1.0"))
    put(folder, SDIST + ".asc", b"signed")
    house.project("elsewhere", wheel_spec("elsewhere"))
    made = await house.client()
    for target in (PAGE, FILE, METADATA, SIGNATURE, "/simple/elsewhere/"):
        for _ in range(2):
            await made.get(target)
    return made


def remembered(house: House, client: httpx.AsyncClient, target: str) -> bool:
    request = client.build_request("GET", target)
    fields = [(name.lower(), value) for name, value in request.headers.raw]
    return quick_answer(house.express, target.encode(), fields) is not None


@pytest.mark.parametrize("target", [PAGE, FILE, METADATA, SIGNATURE])
async def test_own_pages_and_files_are_remembered(
    house: House, client: httpx.AsyncClient, target: str
) -> None:
    plain, given = await asked(house, client, target, {})
    assert plain.headers["x-proxyindex"] == "local"
    assert same(plain, given)


def overwrite(folder: Path) -> None:
    """In its place, with as many bytes, and the time put back."""
    path = folder / "demo" / WHEEL
    before, body = path.stat(), bytearray(path.read_bytes())
    body[-1:] = b"\1"
    path.write_bytes(bytes(body))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def grow(folder: Path) -> None:
    path = folder / "demo" / WHEEL
    path.write_bytes(make_wheel("demo", "1.0", payload=9000))


def replace(folder: Path) -> None:
    put(folder / "demo", "new.tmp", make_wheel("demo", "1.0", payload=50)).rename(
        folder / "demo" / WHEEL
    )


def remove(folder: Path) -> None:
    (folder / "demo" / WHEEL).unlink()


def add(folder: Path) -> None:
    put(folder / "demo", wheel_name("demo", "2.0"), make_wheel("demo", "2.0"))


def add_elsewhere(folder: Path) -> None:
    put(folder / "other-7", wheel_name("demo", "3.0"), make_wheel("demo", "3.0"))


@pytest.mark.parametrize("change", [overwrite, grow, replace, remove, add, add_elsewhere])
@pytest.mark.parametrize("target", [PAGE, FILE, METADATA])
async def test_a_change_of_own_packages_is_noticed_at_once(
    house: House, client: httpx.AsyncClient, target: str, change: Callable[[Path], None]
) -> None:
    assert remembered(house, client, target)
    change(house.folder)
    assert not remembered(house, client, target)


async def test_an_own_name_that_turns_up_anywhere_beats_the_remembered_page(
    house: House, client: httpx.AsyncClient
) -> None:
    target = "/simple/elsewhere/"
    assert remembered(house, client, target)
    put(house.folder / "other-3", wheel_name("elsewhere", "9.0"), make_wheel("elsewhere", "9.0"))
    assert not remembered(house, client, target)
    found = await client.get(target)
    assert found.headers["x-proxyindex"] == "local"
    assert "elsewhere-9.0" in found.text


async def test_a_link_whose_target_comes_and_goes_is_not_remembered(
    house: House, settled: None, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    (house.folder / WHEEL).symlink_to(away / WHEEL)
    client = await house.client()
    for _ in range(2):
        assert WHEEL not in (await client.get(PAGE)).text
    assert not remembered(house, client, PAGE)
    put(away, WHEEL, make_wheel("demo", "1.0"))
    for _ in range(2):
        assert WHEEL in (await client.get(PAGE)).text
    assert remembered(house, client, PAGE)
    (away / WHEEL).unlink()
    assert not remembered(house, client, PAGE)


async def test_what_changed_a_moment_ago_is_not_remembered_yet(house: House) -> None:
    path = put(house.folder, WHEEL, make_wheel("demo", "1.0"))
    for each in (path, house.folder):  # but not the time of the change itself
        os.utime(each, (1e9, 1e9))
    client = await house.client()
    for target in (PAGE, FILE, METADATA) * 2:
        assert (await client.get(target)).status_code == 200
        assert not remembered(house, client, target)


async def test_pages_with_very_many_own_files_take_the_plain_way(
    house: House, settled: None
) -> None:
    for number in range(MOST_WITNESSES):
        put(house.folder, f"demo-{number}.tar.bz2", b"")
    put(house.folder, "few-1.0-py3-none-any.whl", make_wheel("few", "1.0"))
    client = await house.client()
    for name in ("demo", "few"):
        for _ in range(2):
            await client.get(f"/simple/{name}/")
    assert not remembered(house, client, PAGE)
    assert remembered(house, client, "/simple/few/")


def test_what_rests_on_too_much_does_not_hold() -> None:
    ground = Ground()
    ground.rests_on(*[("/", None)] * MOST_WITNESSES)
    assert ground.until > 0
    ground.rests_on(("/", None))
    assert ground.until == 0


@pytest.fixture
def held() -> FileSpec:
    return wheel_spec("demo", "1.0", payload=5000)


@pytest.fixture
async def offline(house: House, held: FileSpec, settled: None) -> httpx.AsyncClient:
    """Of an application that is offline and holds one of two files."""
    house.project("demo", held, sdist_spec("demo", "0.9"))
    online = await house.client(folders=())
    for target in (PAGE, FILE, METADATA):
        await online.get(target)
    made = await house.client(folders=(), offline=True, page_ttl=0)
    for target in (PAGE, FILE, METADATA):
        for _ in range(2):
            await made.get(target)
    return made


@pytest.mark.parametrize("target", [PAGE, FILE, METADATA])
async def test_offline_answers_are_remembered(
    house: House, offline: httpx.AsyncClient, target: str
) -> None:
    plain, given = await asked(house, offline, target, {})
    assert plain.headers["x-proxyindex"] == "hit"
    assert same(plain, given)


async def test_offline_a_file_that_goes_or_comes_is_noticed_at_once(
    house: House, offline: httpx.AsyncClient, held: FileSpec
) -> None:
    body = (await offline.get(FILE)).content
    sha256 = (await offline.get(FILE)).headers["etag"].strip('"')
    path = house.root / "cache" / "blobs" / sha256[:2] / sha256
    path.unlink()
    assert not remembered(house, offline, PAGE)
    assert not remembered(house, offline, FILE)
    assert WHEEL not in (await offline.get(PAGE)).text
    path.with_name("new").write_bytes(body)
    path.with_name("new").rename(path)
    assert not remembered(house, offline, PAGE)
    assert WHEEL in (await offline.get(PAGE)).text
    assert (await offline.get(FILE)).content == held.body


async def test_offline_a_page_whose_files_came_a_moment_ago_is_not_remembered_yet(
    house: House, held: FileSpec
) -> None:
    house.project("demo", held)
    await (await house.client(folders=())).get(FILE)
    client = await house.client(folders=(), offline=True)
    for _ in range(2):
        assert WHEEL in (await client.get(PAGE)).text
    assert not remembered(house, client, PAGE)
