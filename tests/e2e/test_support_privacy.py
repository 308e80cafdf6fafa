"""The watch over private names can fail: it is told of them, sees them, and tells others apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import http, privacy
from tests.support.answer import Seen
from tests.support.builders import put_sdist, put_wheel
from tests.support.fixtures import start_server
from tests.support.privacy import Privacy
from tests.support.upstream import FakeUpstream


def seen(target: str, headers: tuple[tuple[str, str], ...] = ()) -> Seen:
    return Seen("GET", target, list(headers), 0.0, 1)


@pytest.mark.parametrize(
    "request_",
    [
        seen("/simple/px-own/"),
        seen("/simple/PX_own/"),
        seen("/simple/px.own"),
        seen("/files/px_own-1.0-py3-none-any.whl"),
        seen("/files/px_own-1.0.tar.gz.metadata"),
        seen("/files/px_own.whl"),
        seen("/files/px_own.tar.gz"),
        seen("/simple/px%2Down/"),
        seen("/simple/px%252Down/"),
        seen("/search?q=px-own"),
        seen("/x", (("Referer", "http://a/simple/px-own/"),)),
        seen("/simple/acme/"),
        seen("/simple/acme-core/"),
        seen("/files/acme_core-1.0.tar.gz"),
    ],
    ids=lambda one: one.target,
)
def test_a_private_name_is_seen_in_all_its_spellings(request_: Seen) -> None:
    watch = Privacy()
    watch.keep("Px.Own")
    watch.keep("acme", is_reserved=True)
    watch.saw([request_])
    assert len(watch.betrayals()) == 1


@pytest.mark.parametrize(
    "target",
    ["/simple/px-owner/", "/simple/px-own-not/", "/simple/not-px-own/", "/simple/acmes/", "/"],
)
def test_other_names_are_told_apart(target: str) -> None:
    watch = Privacy()
    watch.keep("px-own")
    watch.keep("acme", is_reserved=True)
    watch.saw([seen(target)])
    assert watch.betrayals() == []


def test_folders_arguments_and_upstreams_tell_the_watch(tmp_path: Path) -> None:
    watch = Privacy()
    privacy.stop_listening(privacy.SUITE)  # it must not hear of what is betrayed here on purpose
    privacy.listen(watch)
    try:
        put_wheel(tmp_path, "px-told-wheel")
        put_sdist(tmp_path, "px-told-sdist")
        start_server(tmp_path / "server", "--policy-reserved", "px-told-prefix")
        assert watch.names == {"px-told-wheel", "px-told-sdist", "px-told-prefix*"}
        with FakeUpstream() as upstream:
            http.request(upstream.url, "/simple/px-told-wheel/")
            upstream.reset()
            assert len(watch.betrayals()) == 1
            http.request(upstream.url, "/simple/px-told-prefix-two/")
        assert len(watch.betrayals()) == 2
    finally:
        privacy.stop_listening(watch)
        privacy.listen(privacy.SUITE)


def test_the_suite_is_watched() -> None:
    assert privacy.is_heard()
