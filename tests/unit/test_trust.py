"""Answers that contradict a stored page: when they are believed, and how often one is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from packaging.utils import NormalizedName

from proxyindex.errors import ProjectNotFound
from proxyindex.freshness import FreshnessRules
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.model import File, ProjectPage, Status, UpstreamOrigin
from proxyindex.repository.kept import Kept
from proxyindex.repository.trust import shrinkage
from proxyindex.store.doubts import Doubts, instant
from tests.support.mirrors import Clock, Source, Workplace, answer, workplace

DAY = 86_400.0
RULES = FreshnessRules(page_ttl=600, stale_while_revalidate=300, stale_if_error=30 * DAY)
FULL, LESS = b"a b c d", b"a"


def page(names: str, status: str = "active") -> ProjectPage:
    files = tuple(File(f"{name}.whl", UpstreamOrigin("up", f"http://x/{name}")) for name in names)
    return ProjectPage(NormalizedName("demo"), files, status=Status(status))


@pytest.mark.parametrize(
    ("known", "sent", "lost"),
    [
        ("abcd", "a", "3 of the 4"),
        ("abc", "a", "2 of the 3"),
        ("a", "", "1 of the 1"),
        ("abcdefghij", "xyz", "10 of the 10"),
        ("abcd", "ab", None),  # half is not most
        ("abcd", "abcde", None),
        ("", "", None),
        ("abcd", "axyz", None),  # other names, no fewer
        ("a", "b", None),
    ],
)
def test_most_files_lost_is_a_shrunken_page(known: str, sent: str, lost: str | None) -> None:
    found = shrinkage(page(known), page(sent))
    assert found == (f"has lost {lost} files of its page" if lost else None)


@pytest.mark.parametrize("status", ["quarantined", "archived", "deprecated"])
def test_a_status_tells_why_there_are_fewer(status: str) -> None:
    assert shrinkage(page("abcd"), page("", status)) is None


class Changing:
    """An upstream whose page is `body`, with a serial and a validator, or a redirect away."""

    def __init__(self) -> None:
        self.body: bytes | None = FULL
        self.serial = ""
        self.etag = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.body is None:
            return answer(302, location="http://login.example/")
        if self.etag and request.headers.get("if-none-match") == self.etag:
            return answer(304, etag=self.etag)
        tags = {"etag": self.etag, "x_pypi_last_serial": self.serial}
        return answer(200, self.body, **{name: value for name, value in tags.items() if value})


def kept(place: Workplace, *, doubts_absence: bool = False) -> Kept[list[str]]:
    return Kept(
        place.terms(rules=RULES, doubts_absence=doubts_absence),
        place.tasks,
        parse=lambda body, content_type, url, key: body.decode().split(),
        weigh=len,
        suspect=lambda known, sent: "has less" if 2 * len(sent) < len(known) else None,
    )


async def ask(
    place: Workplace, pages: Kept[list[str]], later: float = 1000.0
) -> tuple[int, Outcome | None]:
    """How many files the page has when it is asked for so many seconds later."""
    place.clock.now += later
    inquiry = Inquiry()
    return len(await pages.get("demo", inquiry, path="demo")), inquiry.outcome


@contextmanager
def told(caplog: pytest.LogCaptureFixture, times: int) -> Iterator[None]:
    before = len(caplog.records)
    yield
    lines = [r.message for r in caplog.records[before:] if r.levelno >= logging.WARNING]
    assert len(lines) == times, lines
    assert all("proxyindex cache accept demo" in line for line in lines)


async def test_a_shrunken_page_is_not_believed_for_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        assert await ask(place, pages) == (4, Outcome.FETCHED)
        changing.body = LESS
        with told(caplog, 1):
            for _ in range(3):
                assert await ask(place, pages) == (4, Outcome.STALE)
                asked = source.count
                assert await ask(place, pages, 5.0) == (4, Outcome.HIT), "not asked each time"
                assert source.count == asked
            assert await ask(place, pages, DAY - 3 * 1005 - 10) == (4, Outcome.STALE)
        assert place.events.alarms == ["shrunken-page"]
        assert await ask(place, pages, 1100.0) == (1, Outcome.FETCHED)


async def test_the_doubt_is_shared_and_survives_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changing, clock = Changing(), Clock()
    source = Source(changing)
    async with workplace(tmp_path, source, clock) as place:
        await ask(place, kept(place))
        changing.body = LESS
        await ask(place, kept(place))
    async with workplace(tmp_path, source, clock) as place:
        with told(caplog, 0):
            assert (await ask(place, kept(place)))[0] == 4
            assert (await ask(place, kept(place), DAY))[0] == 1


@pytest.mark.parametrize("is_evicted", [False, True])
async def test_a_good_answer_ends_the_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_evicted: bool
) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        await ask(place, pages)
        for body in (LESS, FULL):
            if body is FULL and is_evicted:
                place.cache.pages.remove("up-1", "demo")
            changing.body = body
            await ask(place, pages)
        changing.body = LESS
        with told(caplog, 1):
            assert (await ask(place, pages, DAY))[0] == 4, "a new doubt, a new day"


async def test_who_wants_a_page_anew_is_told_also_at_once_that_it_is_in_doubt(
    tmp_path: Path,
) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        for body, outcome in ((FULL, Outcome.HIT), (LESS, Outcome.STALE), (FULL, Outcome.HIT)):
            changing.body = body
            await ask(place, pages)
            asked = source.count
            inquiry = Inquiry(revalidate=True)
            assert len(await pages.get("demo", inquiry, path="demo")) == 4
            assert (inquiry.outcome, source.count) == (outcome, asked)


async def test_a_page_in_doubt_is_asked_for_whole(tmp_path: Path) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        changing.etag = '"1"'
        await ask(place, pages)
        changing.body, changing.etag = LESS, '"2"'
        await ask(place, pages)
        changing.etag = '"1"'  # an upstream whose validators tell nothing
        assert (await ask(place, pages))[0] == 4
        assert "if-none-match" not in source.asked[-1].headers
        assert (await ask(place, pages, DAY))[0] == 1
        assert (await ask(place, pages))[0] == 1
        assert source.asked[-1].headers["if-none-match"] == '"1"', "settled"


@pytest.mark.parametrize(("serial", "files"), [("8", 1), ("7", 4), ("", 4)])
async def test_a_later_serial_is_upstream_s_own_word(
    tmp_path: Path, serial: str, files: int
) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        changing.serial = "7"
        await ask(place, pages)
        changing.body, changing.serial = LESS, serial
        assert (await ask(place, pages))[0] == files


async def test_an_earlier_serial_is_doubted_and_believed_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        changing.serial = "10"
        await ask(place, pages)
        changing.body, changing.serial = b"a b c", "9"  # no more than a lagging edge of a CDN
        with told(caplog, 1):
            assert await ask(place, pages) == (4, Outcome.STALE)
            assert await ask(place, pages) == (4, Outcome.STALE)
        assert place.events.alarms == ["invalid-page"]
        changing.body, changing.serial = b"a b c d e", "11"
        assert await ask(place, pages) == (5, Outcome.FETCHED)
        changing.body, changing.serial = b"a b c", "9"  # restored from a backup
        assert await ask(place, pages, DAY) == (5, Outcome.STALE)
        assert await ask(place, pages, DAY) == (3, Outcome.FETCHED)
        assert await ask(place, pages) == (3, Outcome.FETCHED)


async def test_the_same_page_by_an_earlier_serial_is_no_other(tmp_path: Path) -> None:
    changing = Changing()
    async with workplace(tmp_path, Source(changing)) as place:
        pages = kept(place)
        for serial in ("10", "9", "8"):
            changing.serial = serial
            assert await ask(place, pages) == (4, Outcome.FETCHED)
        assert place.events.alarms == []


async def test_a_page_too_old_to_be_served_stops_nothing(tmp_path: Path) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        await ask(place, pages)
        changing.body = LESS
        assert (await ask(place, pages, RULES.stale_if_error + 1000))[0] == 1


async def test_a_clock_set_back_begins_the_doubt_anew(tmp_path: Path) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        await ask(place, pages)
        changing.body = LESS
        await ask(place, pages)
        assert (await ask(place, pages, -365 * DAY))[0] == 4
        assert (await ask(place, pages, DAY - 1))[0] == 4
        assert (await ask(place, pages, 1000))[0] == 1


async def test_a_redirect_elsewhere_does_not_remove_what_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changing = Changing()
    source = Source(changing)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        await ask(place, pages)
        changing.body = None
        with told(caplog, 1):
            assert await ask(place, pages) == (4, Outcome.STALE)
            assert await ask(place, pages) == (4, Outcome.STALE)
        assert place.events.alarms == ["invalid-page"]
        with pytest.raises(ProjectNotFound):
            await ask(place, pages, DAY)


async def test_a_redirect_elsewhere_of_what_is_not_stored_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changing = Changing()
    changing.body = None
    async with workplace(tmp_path, Source(changing)) as place:
        pages = kept(place)
        for name in ("one", "other"):
            with pytest.raises(ProjectNotFound):
                await pages.get(name, Inquiry(), path=name)
        assert caplog.text.count("redirects to another server") == 1


@pytest.mark.parametrize("status", [404, 410])
async def test_absence_is_doubted_where_another_would_take_the_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    source = Source(lambda request: answer(200, FULL, etag='"1"'))
    async with workplace(tmp_path, source) as place:
        pages = kept(place, doubts_absence=True)
        await ask(place, pages)
        source.reply = lambda request: answer(status)
        with told(caplog, 1):
            assert await ask(place, pages) == (4, Outcome.STALE)
            assert await ask(place, pages, 5.0) == (4, Outcome.HIT), "not asked each time"
            assert await ask(place, pages) == (4, Outcome.STALE)
        assert place.events.alarms == ["lost-project"]
        with pytest.raises(ProjectNotFound):
            await ask(place, pages, DAY)


async def test_absence_that_an_operator_accepts_is_believed_at_once(tmp_path: Path) -> None:
    source = Source(lambda request: answer(200, FULL))
    async with workplace(tmp_path, source) as place:
        pages = kept(place, doubts_absence=True)
        await ask(place, pages)
        source.reply = lambda request: answer(404)
        await ask(place, pages)
        assert Doubts(place.cache.doubts).accept("up-1", "demo")
        with pytest.raises(ProjectNotFound):
            await ask(place, pages)


async def test_a_project_that_comes_back_ends_the_doubt_of_its_absence(tmp_path: Path) -> None:
    source = Source(lambda request: answer(200, FULL))
    async with workplace(tmp_path, source) as place:
        pages = kept(place, doubts_absence=True)
        await ask(place, pages)
        for _ in range(2):
            source.reply = lambda request: answer(404)
            assert await ask(place, pages, DAY - 1000) == (4, Outcome.STALE)
            source.reply = lambda request: answer(200, FULL)
            assert await ask(place, pages) == (4, Outcome.FETCHED)


def test_a_note_that_is_no_time_is_none() -> None:
    assert [instant(noted) for noted in (None, b"", b"soon", b"\xff", b"5.5")] == [
        *[None] * 4,
        5.5,
    ]
