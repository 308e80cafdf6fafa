"""What a push promises about files that are not as the pages of its indexes say."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import NormalizedName

from proxyindex.inquiry import Inquiry
from proxyindex.model import ProjectPage
from proxyindex.names import normalize
from proxyindex.publishing.pages import local
from proxyindex.uploads.promotion import push
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.service import Publisher, Shown, UploadTerms
from proxyindex.uploads.shelf import Shelf
from tests.support.builders import make_sdist, make_wheel, put, put_sdist, put_wheel

DEMO = normalize("demo")
WHEEL = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """The source; it has a release."""
    (tmp_path / "dev").mkdir()
    put_wheel(tmp_path / "dev" / DEMO)
    return tmp_path / "dev"


@pytest.fixture
def prod(tmp_path: Path) -> Path:
    (tmp_path / "prod").mkdir()
    return tmp_path / "prod"


def index(folder: Path, own: Shown | None = None, *, overwrite: bool = False) -> Publisher:
    own = own or local(folder)
    terms = UploadTerms(overwrite, max_size=2**63, claims=lambda name: True)
    return Publisher(Shelf(folder), own, own, own, terms)


async def listed(folder: Path) -> list[str]:
    page = await local(folder).project(DEMO, Inquiry())
    return [file.filename for file in page.files]


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / DEMO).iterdir()}


async def test_a_file_that_is_there_but_not_listed_is_in_the_way(dev: Path, prod: Path) -> None:
    broken = put(prod / DEMO, WHEEL, (dev / DEMO / WHEEL).read_bytes()[:-30])
    with pytest.raises(UploadRejected, match="File already exists"):
        await push(index(dev), index(prod), DEMO, "1.0")
    assert names(prod) == {WHEEL}
    assert await push(index(dev), index(prod, overwrite=True), DEMO, "1.0") == [WHEEL]
    assert broken.read_bytes() == (dev / DEMO / WHEEL).read_bytes()
    assert await listed(prod) == [WHEEL]


async def test_two_source_archives_of_a_version_are_not_pushed(dev: Path, prod: Path) -> None:
    put_sdist(dev)
    put_sdist(dev, suffix=".zip")
    with pytest.raises(UploadRejected, match="has a source archive"):
        await push(index(dev), index(prod), DEMO, "1.0")
    assert not (prod / DEMO).exists()
    assert len(await push(index(dev), index(prod, overwrite=True), DEMO, "1.0")) == 3


async def test_a_file_that_only_its_folder_tells_the_project_of_stays_one_of_it(
    dev: Path, prod: Path
) -> None:
    """By its name alone it is one of `demo-3-0`, or of none."""
    odd = ["demo-3.0-1.egg", "demo-3.0-1.tar.gz"]
    put(dev / DEMO, "demo-3.0-1.tar.gz", make_sdist(DEMO, "3.0.post1"))
    put(dev / DEMO, "demo-3.0-1.egg", make_wheel(DEMO, "3.0"))
    put_wheel(prod / DEMO)
    for version in ("3.0", "3.0-1"):
        assert await push(index(dev), index(prod), DEMO, version)
    assert await listed(prod) == [WHEEL, *odd]
    assert (await local(prod).projects(Inquiry())).names == (DEMO,)


async def test_a_file_that_is_deleted_meanwhile_is_told(dev: Path, prod: Path) -> None:
    page = await local(dev).project(DEMO, Inquiry())

    class Before:
        async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
            return page

    (dev / DEMO / WHEEL).unlink()
    with pytest.raises(UploadRejected, match="was deleted meanwhile") as refused:
        await push(index(dev, Before()), index(prod), DEMO, "1.0")
    assert refused.value.status == 409
    assert not (prod / DEMO).exists()
