"""What we make of the pages of the corpus, read by the real uv: its rules in `clients.py` hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyindex import simple
from proxyindex.simple import InvalidPage, MediaType
from tests.fuzz.pages import BASE_URL, PROJECT
from tests.fuzz.targets import CORPUS
from tests.support.clients import Workbench
from tests.support.reply import Reply
from tests.support.upstream import FakeUpstream

pytestmark = pytest.mark.e2e

REFUSED = b"""{"meta": {"api-version": "1.0"}, "name": "demo-pkg", "files": [
    {"filename": "demo_pkg-1.0.zip", "url": "demo_pkg-1.0.zip", "hashes": {}, "size": null}
]}"""


def _pages() -> list[tuple[str, bytes, str]]:
    """Every page of the corpus that can be used, in both forms: name, body, content type."""
    found = []
    for kind, form in (("json-page", MediaType.JSON), ("html-page", MediaType.HTML)):
        for path in sorted((CORPUS / kind).iterdir()):
            try:
                page = simple.parse_page(
                    path.read_bytes(),
                    form.content_type,
                    project=PROJECT,
                    base_url=BASE_URL,
                    upstream="pypi",
                )
            except InvalidPage:
                continue
            for sent in (MediaType.JSON, MediaType.HTML):
                body = simple.render_page(page, sent)
                found.append((f"{kind}-{path.name}-{sent.name}", body, sent.content_type))
    return found


def test_uv_reads_every_page_made_of_the_corpus(tmp_path: Path) -> None:
    pages = _pages()
    assert len(pages) > 20
    bench = Workbench(tmp_path)
    with FakeUpstream() as server:
        for name, body, content_type in [*pages, ("refused", REFUSED, MediaType.JSON.value)]:
            server.script(f"/{name}/demo-pkg/", Reply(body=body, content_type=content_type))

        def says(name: str) -> str:
            # a version nobody has: the page is read, and no file is asked for
            index_url = f"{server.url}/{name}/"
            return bench.uv_pip_compile(index_url, "demo-pkg==98765", check=False).stdout

        told = {name: says(name) for name, _, _ in pages}
        assert "Because there is no version of demo-pkg==98765" not in says("refused")
    unread = {n: t for n, t in told.items() if "there is no version of demo-pkg==98765" not in t}
    assert not unread
