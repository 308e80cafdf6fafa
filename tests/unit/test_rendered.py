"""Pages as bytes: rendered once, whoever asks, and kept within a budget."""

import gzip
import zlib
from typing import Any

import anyio
import pytest
from packaging.utils import NormalizedName

from proxyindex.model import File, LocalOrigin, ProjectPage
from proxyindex.simple import MediaType, render_page
from proxyindex.web import gzipped as gzipped_module
from proxyindex.web import rendered as rendered_module
from proxyindex.web.rendered import Rendered, Renderer


def page(count: int, name: str = "demo") -> ProjectPage:
    files = tuple(File(f"{name}-{n}.tar.gz", LocalOrigin("x"), size=1) for n in range(count))
    return ProjectPage(NormalizedName(name), files)


async def test_a_page_is_rendered_once_per_form_and_coding() -> None:
    renderer, large = Renderer(), page(300)
    results: list[Rendered] = []

    async def one() -> None:
        results.append(await renderer.render(large, MediaType.JSON, accepts_gzip=True))

    async with anyio.create_task_group() as clients:
        for _ in range(20):
            clients.start_soon(one)
    assert all(result is results[0] for result in results)
    other = await renderer.render(large, MediaType.HTML, accepts_gzip=True)
    assert other.etag != results[0].etag
    assert other.is_gzip


@pytest.mark.parametrize("form", [MediaType.JSON, MediaType.HTML])
@pytest.mark.parametrize("compressor", [gzipped_module.compressobj, zlib.compressobj])
async def test_what_is_compressed_piece_by_piece_is_the_page(
    form: MediaType, compressor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzipped_module, "compressobj", compressor)
    large = page(1000)
    compressed = await Renderer().render(large, form, accepts_gzip=True)
    plain = await Renderer().render(large, form, accepts_gzip=False)
    assert compressed.is_gzip
    assert gzip.decompress(compressed.body) == plain.body == render_page(large, form)
    assert len(compressed.body) < len(plain.body) / 4
    again = await Renderer().render(page(1000), form, accepts_gzip=True)
    assert again == compressed


async def test_equal_pages_have_equal_tags() -> None:
    renderer = Renderer()
    one = await renderer.render(page(3), MediaType.JSON, accepts_gzip=False)
    two = await renderer.render(page(3), MediaType.JSON, accepts_gzip=False)
    assert (one.body, one.etag) == (two.body, two.etag)


async def test_the_memory_of_rendered_pages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered_module, "_BUDGET", 1500)
    renderer, pages = Renderer(), [page(10, f"p{n}") for n in range(5)]
    first = await renderer.render(pages[0], MediaType.JSON, accepts_gzip=False)
    for other in pages[1:]:
        await renderer.render(other, MediaType.JSON, accepts_gzip=False)
    again = await renderer.render(pages[0], MediaType.JSON, accepts_gzip=False)
    assert again is not first
    assert again == first
    assert len(renderer._pages._memo.items()) == 1
