"""What is made of configured upstreams when a house is opened."""

from __future__ import annotations

import ssl
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxyindex import sources
from proxyindex.settings import Settings, UpstreamSettings
from proxyindex.upstream import tls


async def test_certificates_are_read_in_a_thread_and_once_for_each_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take 30 ms each: with twenty upstreams a reload held all requests up for two seconds."""
    made: list[tuple[ssl.SSLContext, threading.Thread]] = []
    trusting = tls.trusting

    def trusted(ca_file: Path | None) -> ssl.SSLContext:
        made.append((trusting(ca_file), threading.current_thread()))
        return made[-1][0]

    monkeypatch.setattr(tls, "trusting", trusted)
    monkeypatch.setattr("proxyindex.upstream.ways.trusting", trusted)
    named = tuple(UpstreamSettings(name, f"https://{name}.example") for name in ("one", "two"))
    settings = Settings(cache_dir=tmp_path, upstreams=named)
    async with AsyncExitStack() as stack:
        found = await sources.upstreams(settings, "px", None, stack)
        used = [(one._pages._ways._tls, one._files._ways._tls) for one in found.values()]
    assert used == [(context, context) for context, _ in made]
    assert len(made) == len(named)
    assert threading.main_thread() not in [thread for _, thread in made]
