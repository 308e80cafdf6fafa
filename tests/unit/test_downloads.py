"""Who joins a download, and who must not any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from proxyindex.events import SILENT
from proxyindex.files import downloads as downloads_module
from proxyindex.files.downloads import Downloads
from proxyindex.model import File, UpstreamOrigin

FILE = File(
    "demo-1.0.tar.gz", UpstreamOrigin("up", "https://files.example/demo-1.0.tar.gz", "demo")
)


class _Transfer:
    """A transfer that ends when it is told to."""

    is_gone = False

    def __init__(self, file: File, *_: object) -> None:
        self.file = file
        self.is_done = False
        self.may_end = anyio.Event()
        self.has_ended = anyio.Event()

    async def run(self) -> None:
        await self.may_end.wait()
        self.has_ended.set()


async def test_who_comes_when_it_is_done_must_not_read_what_it_has_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """He comes because what was stored is gone or damaged: its descriptor may lead to just that."""
    monkeypatch.setattr(downloads_module, "Transfer", _Transfer)
    upstream: Any = None
    async with anyio.create_task_group() as tasks:
        downloads = Downloads(SimpleNamespace(events=SILENT), tasks)  # type: ignore[arg-type]
        first: Any = downloads.join(FILE, upstream)[0]
        assert downloads.join(FILE, upstream) == (first, False)
        first.is_done = True
        assert downloads.running(FILE) is None
        second: Any
        second, led = downloads.join(FILE, upstream)
        assert led
        assert second is not first
        first.may_end.set()
        await first.has_ended.wait()
        await anyio.lowlevel.checkpoint()
        assert downloads.join(FILE, upstream) == (second, False)
        second.may_end.set()
    assert len(downloads) == 0
