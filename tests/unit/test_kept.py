"""The table of freshness, row by row, against a scripted upstream and an injected clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest

from proxyindex.errors import (
    LoopDetected,
    NotHeld,
    ProjectNotFound,
    ProxyindexError,
    StoreError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from proxyindex.freshness import FreshnessRules
from proxyindex.inquiry import Inquiry, Outcome
from proxyindex.repository import kept as kept_module
from proxyindex.repository.kept import Kept
from proxyindex.store import upkeep
from proxyindex.store.holdings import NothingHeld
from tests.support.hermetic import until
from tests.support.limits import no_descriptors, no_room
from tests.support.mirrors import Clock, Source, Workplace, answer, workplace
from tests.support.stores import opened


@dataclass
class Document:
    """What the test's parser makes of a body."""

    text: str
    url: str


class Unreadable(ProxyindexError):
    pass


def parse(body: bytes, content_type: str, url: str, key: str) -> Document:
    if body.startswith(b"!"):
        raise Unreadable("it starts with an exclamation mark")
    return Document(body.decode(), url)


def kept(place: Workplace, **terms: object) -> Kept[Document]:
    made = place.terms(**terms)  # type: ignore[arg-type]
    return Kept(made, place.tasks, parse=parse, weigh=lambda document: len(document.text))


async def ask(
    pages: Kept[Document], key: str = "demo", **inquiry: object
) -> tuple[str, Outcome | None]:
    asked = Inquiry(**inquiry)  # type: ignore[arg-type]
    document = await pages.get(key, asked, path=key)
    return document.text, asked.outcome


def soon() -> float:
    return time.monotonic() + 0.02


def always(status: int = 200, body: bytes = b"one", **headers: str) -> Source:
    return Source(lambda request: answer(status, body, **headers))


def etagged(etag: str = '"1"', body: bytes = b"one") -> Callable[[httpx.Request], httpx.Response]:
    """An upstream that answers conditional requests as it should."""

    def reply(request: httpx.Request) -> httpx.Response:
        if request.headers.get("if-none-match") == etag:
            return answer(304, etag=etag)
        return answer(200, body, etag=etag)

    return reply


def failing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("down")


async def settled() -> None:
    """Wait for the background to be done."""

    def is_quiet() -> bool:
        return not any(task.name.startswith("flight ") for task in anyio.get_running_tasks())

    await until(is_quiet, "the end of all flights", every=0)


# -- missing, fresh ---


async def test_a_missing_page_is_fetched_and_then_fresh(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        assert await ask(pages) == ("one", Outcome.FETCHED)
        place.clock.now += 599
        assert await ask(pages) == ("one", Outcome.HIT)
        assert place.source.count == 1
        assert place.events.pages == ["fetched", "fresh"]


async def test_a_fresh_page_is_the_very_same_object(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        first = await pages.get("demo", Inquiry(), path="demo")
        assert await pages.get("demo", Inquiry(), path="demo") is first


async def test_fifty_requests_for_a_missing_page_are_one(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages, outcomes = kept(place), []
        place.source.hold()

        async def one() -> None:
            outcomes.append((await ask(pages))[1])

        async with anyio.create_task_group() as clients:
            for _ in range(50):
                clients.start_soon(one)
            await until(
                lambda: len(place.events.flights) == 50 and place.source.count > 0, "the request"
            )
            place.source.release()
        assert place.source.count == 1
        assert sorted(str(outcome) for outcome in outcomes) == ["fetched"] + ["joined"] * 49


async def test_the_lifetime_upstream_names_counts(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(cache_control="max-age=10")) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 11
        assert (await ask(pages))[1] is Outcome.STALE


@pytest.mark.parametrize("reply", [failing, lambda request: answer(503)])
async def test_missing_and_failing_is_unavailable_never_absent(
    tmp_path: Path, reply: Callable[[httpx.Request], httpx.Response]
) -> None:
    async with workplace(tmp_path, Source(reply)) as place:
        with pytest.raises(UpstreamUnavailable):
            await ask(kept(place))
        assert place.events.pages == ["failed"]


async def test_missing_and_slow_is_unavailable_and_still_arrives(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        place.source.hold()
        with pytest.raises(UpstreamUnavailable, match="did not answer in time"):
            await ask(pages, deadline=soon())
        place.source.release()
        await settled()
        assert await ask(pages) == ("one", Outcome.HIT)
        assert place.source.count == 1


async def test_an_unusable_page_is_told_once_and_counted_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [b"!", b"!", b"one", b"!"]
    async with workplace(tmp_path, Source(lambda request: answer(200, bodies.pop(0)))) as place:
        pages = kept(place)
        for told in (1, 1):
            with pytest.raises(UpstreamInvalid):
                await ask(pages)
            assert len([r for r in caplog.records if r.levelname == "WARNING"]) == told
        await ask(pages)
        place.clock.now += 5000
        await ask(pages)
        assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 2, "it is news again"
        assert place.events.alarms == ["invalid-page"] * 3


async def test_an_unusable_page_is_invalid_and_an_alarm(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(body=b"!")) as place:
        with pytest.raises(UpstreamInvalid, match="exclamation mark"):
            await ask(kept(place))
        assert place.events.alarms == ["invalid-page"]
        assert place.cache.pages.keys("up-1") == []


async def test_a_loop_is_told_to_the_client(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(508)) as place:
        with pytest.raises(LoopDetected):
            await ask(kept(place))
        assert not place.breaker.is_open


async def test_a_loop_does_not_stop_what_is_stored(tmp_path: Path) -> None:
    source = always()
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        await ask(pages)
        source.reply = lambda request: answer(508)
        place.clock.now += 1000
        assert await ask(pages) == ("one", Outcome.STALE)


# -- stale, expired ---


async def test_a_stale_page_is_answered_at_once_and_refreshed_behind(tmp_path: Path) -> None:
    bodies = [b"one", b"two"]
    source = Source(lambda request: answer(200, bodies.pop(0)))
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 601
        source.hold()
        assert await ask(pages) == ("one", Outcome.STALE)
        source.release()
        await settled()
        assert await ask(pages) == ("two", Outcome.HIT)


async def test_a_stale_page_will_not_do_for_those_who_insist(tmp_path: Path) -> None:
    bodies = [b"one", b"two"]
    async with workplace(tmp_path, Source(lambda request: answer(200, bodies.pop(0)))) as place:
        pages = kept(place)
        await ask(pages)
        assert await ask(pages, insists=True) == ("one", Outcome.HIT), "it is fresh"
        place.clock.now += 601
        assert await ask(pages, insists=True) == ("two", Outcome.FETCHED)
        place.source.reply = failing
        place.clock.now += 601
        assert await ask(pages, insists=True) == ("two", Outcome.STALE)


async def test_an_expired_page_is_asked_for_first(tmp_path: Path) -> None:
    bodies = [b"one", b"two"]
    async with workplace(tmp_path, Source(lambda request: answer(200, bodies.pop(0)))) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        assert await ask(pages) == ("two", Outcome.FETCHED)


async def test_an_expired_page_will_do_for_those_who_accept_it(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        assert await ask(pages, accepts_stale=True) == ("one", Outcome.STALE)
        await settled()
        assert place.source.count == 2


@pytest.mark.parametrize(
    "broken",
    [
        failing,
        lambda request: answer(500),
        lambda request: answer(429, retry_after="20"),
        lambda request: answer(401),
        lambda request: answer(200, b"!"),
        lambda request: answer(304),
    ],
)
async def test_expired_and_failing_serves_what_there_is(
    tmp_path: Path, broken: Callable[[httpx.Request], httpx.Response]
) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        place.source.reply = broken
        assert await ask(pages) == ("one", Outcome.STALE)
        assert await ask(pages) == ("one", Outcome.STALE)
        assert place.source.count == 2  # a page that failed is left alone for a moment


async def test_expired_and_slow_serves_what_there_is_and_does_not_wait_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        place.source.hold()
        assert await ask(pages, deadline=soon()) == ("one", Outcome.STALE)
        monkeypatch.setattr(kept_module, "_PATIENCE_WITH_COPY", math.inf)
        with anyio.fail_after(20):
            assert await ask(pages) == ("one", Outcome.STALE)
        place.source.release()
        await settled()
        assert await ask(pages) == ("one", Outcome.HIT)


async def test_too_old_is_never_served(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 20_000
        place.source.reply = failing
        for _ in range(2):
            with pytest.raises(UpstreamUnavailable):
                await ask(pages)
        assert place.source.count == 3


# -- revalidation ---


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"'])
async def test_304_renews(tmp_path: Path, etag: str) -> None:
    async with workplace(tmp_path, Source(etagged(etag))) as place:
        pages = kept(place)
        first = await pages.get("demo", Inquiry(), path="demo")
        place.clock.now += 1000
        again = await pages.get("demo", Inquiry(), path="demo")
        assert again is first
        assert await ask(pages) == ("one", Outcome.HIT)
        assert place.events.pages == ["fetched", "renewed", "fetched", "fresh"]


async def test_304_without_an_etag_is_accepted(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(etag='"1"')) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        place.source.reply = lambda request: answer(304)
        assert await ask(pages) == ("one", Outcome.FETCHED)
        assert place.source.count == 2


async def test_304_may_change_the_lifetime(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(etag='"1"')) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        place.source.reply = lambda request: answer(304, cache_control="max-age=10")
        await ask(pages)
        place.clock.now += 11
        assert (await ask(pages))[1] is Outcome.STALE


async def test_304_of_another_version_is_not_believed(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(etag='"1"')) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000

        def lying(request: httpx.Request) -> httpx.Response:
            if "if-none-match" in request.headers:
                return answer(304, etag='"2"')
            return answer(200, b"two", etag='"2"')

        place.source.reply = lying
        assert await ask(pages) == ("two", Outcome.FETCHED)
        assert place.source.count == 3


async def test_304_for_a_page_evicted_meanwhile_is_good_for_now(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(etagged())) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        place.source.hold()
        async with anyio.create_task_group() as clients:
            clients.start_soon(ask, pages)
            await until(lambda: place.source.count == 2, "the second request", every=0)
            place.cache.pages.remove("up-1", "demo")
            place.source.release()
        assert await ask(pages) == ("one", Outcome.HIT)
        place.clock.now += 1000
        await ask(pages)
        assert "if-none-match" not in place.source.asked[-1].headers
        assert place.cache.pages.read("up-1", "demo") is not None, "and stored again with the next"


async def test_304_for_a_page_that_the_disk_did_not_take_leaves_the_one_there(
    tmp_path: Path,
) -> None:
    async with workplace(tmp_path, Source(etagged())) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        place.source.reply = etagged('"2"', b"two")
        with no_room():
            assert await ask(pages) == ("two", Outcome.FETCHED)
        place.clock.now += 1000
        assert await ask(pages) == ("two", Outcome.FETCHED)
        assert place.source.asked[-1].headers["if-none-match"] == '"2"'
        assert await ask(pages) == ("two", Outcome.HIT), "not the older one on the disk"
        stored = place.cache.pages.read("up-1", "demo")
        assert stored is not None, "or nobody has a page when the upstream is down"
        assert (stored.head.etag, stored.body) in {('"1"', b"one"), ('"2"', b"two")}


async def test_304_for_a_page_damaged_meanwhile_has_the_next_one_whole(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(etagged())) as place:
        pages = kept(place)
        await ask(pages)
        path = place.cache.pages.path("up-1", "demo")
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        place.clock.now += 1000
        assert await ask(pages) == ("one", Outcome.FETCHED)
        assert await ask(pages) == ("one", Outcome.HIT), "good for now"
        place.clock.now += 1000
        await ask(pages)
        assert "if-none-match" not in place.source.asked[-1].headers
        assert place.cache.pages.read("up-1", "demo") is not None, "and stored again with the next"


async def test_a_page_that_cannot_be_read_now_is_not_taken_for_missing(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(etagged())) as place:
        await ask(kept(place))
        pages = kept(place)  # of another process
        place.clock.now += 1000
        place.source.reply = etagged('"2"', b"two")
        with no_descriptors(), pytest.raises(StoreError):
            await ask(pages)
        assert place.source.count == 1
        assert await ask(pages) == ("two", Outcome.FETCHED)


async def test_without_validators_the_body_tells_whether_it_changed(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        first = await pages.get("demo", Inquiry(), path="demo")
        place.clock.now += 1000
        assert await pages.get("demo", Inquiry(), path="demo") is first
        assert "if-none-match" not in place.source.asked[1].headers


async def test_equal_bytes_from_another_url_are_another_document(tmp_path: Path) -> None:
    def moved(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/simple/demo/" and source.count > 1:
            return answer(302, location="/elsewhere/demo/")
        return answer(200, b"one")

    source = Source(moved)
    async with workplace(tmp_path, source) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        document = await pages.get("demo", Inquiry(), path="demo")
        assert document.url.endswith("/elsewhere/demo/")


async def test_an_upstream_restored_from_a_backup_is_accepted_in_the_end(tmp_path: Path) -> None:
    replies = [
        answer(200, b"new", x_pypi_last_serial="10"),
        answer(200, b"old", x_pypi_last_serial="9"),
    ]
    async with workplace(tmp_path, Source(lambda request: replies.pop(0))) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 20_000
        assert await ask(pages) == ("old", Outcome.FETCHED)


# -- absent ---


@pytest.mark.parametrize("status", [404, 410])
async def test_absence_is_remembered(tmp_path: Path, status: int) -> None:
    async with workplace(tmp_path, always(status)) as place:
        pages = kept(place)
        for _ in range(3):
            with pytest.raises(ProjectNotFound):
                await ask(pages)
        assert place.source.count == 1
        assert place.events.pages == ["fetched", "absent", "absent"]


async def test_absence_has_a_short_life(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(404)) as place:
        pages = kept(place, rules=FreshnessRules(negative_ttl=0))
        for _ in range(2):
            with pytest.raises(ProjectNotFound):
                await ask(pages)
        assert place.source.count == 2


async def test_a_project_that_upstream_removed_is_gone(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        place.source.reply = lambda request: answer(404)
        with pytest.raises(ProjectNotFound):
            await ask(pages)
        assert place.cache.pages.keys("up-1") == []
        place.source.reply = failing
        with pytest.raises(ProjectNotFound):  # remembered: not asked
            await ask(pages)


async def test_absence_is_asked_again_on_demand_but_not_at_once(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(404)) as place:
        pages = kept(place)
        with pytest.raises(ProjectNotFound):
            await ask(pages)
        with pytest.raises(ProjectNotFound):
            await ask(pages, revalidate=True)
        assert place.source.count == 1
        place.clock.now += 3
        place.source.reply = lambda request: answer(200, b"born")
        assert await ask(pages, revalidate=True) == ("born", Outcome.FETCHED)


async def test_who_does_not_believe_a_noted_absence_joins_nobody_who_does(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(404)) as place:
        pages = kept(place)
        with pytest.raises(ProjectNotFound):
            await ask(pages)
        place.clock.now += 3
        place.source.reply = lambda request: answer(200, b"born")
        before, results = len(place.events.flights), {}

        async def one(*, revalidate: bool) -> None:
            try:
                results[revalidate] = (await ask(pages, revalidate=revalidate))[0]
            except ProjectNotFound:
                results[revalidate] = "absent"

        async with (
            anyio.create_task_group() as clients,
            place.cache.locks.hold("page up-1 demo"),
        ):
            for number, revalidate in enumerate((False, True), start=before + 1):
                clients.start_soon(partial(one, revalidate=revalidate))
                await until(
                    lambda most=number: len(place.events.flights) == most, "a flight for it"
                )
        assert results[True] == "born"
        assert place.source.count == 2


async def told_of_none(place: Workplace) -> Kept[Document]:
    pages = kept(place)
    with pytest.raises(ProjectNotFound):
        await ask(pages)
    return pages


async def test_who_cannot_be_asked_tells_whether_there_was_none_the_last_time(
    tmp_path: Path,
) -> None:
    async with workplace(tmp_path, always(404)) as place:
        pages = await told_of_none(place)

        async def refused(**more: object) -> bool:
            place.clock.now += 1000
            place.source.reply = failing
            inquiry = Inquiry(**more)  # type: ignore[arg-type]
            with pytest.raises((UpstreamUnavailable, NotHeld)) as told:
                await pages.get("demo", inquiry, path="demo")
            return inquiry.unsure is told.value

        assert await refused()
        assert await refused(may_fetch=False)
        place.source.reply = lambda request: answer(200, b"born")
        assert await ask(kept(place)) == ("born", Outcome.FETCHED)
        place.cache.pages.remove("up-1", "demo")
        assert not await refused(), "there was one"


async def test_of_what_upstream_has_sent_it_is_never_told_that_there_was_none(
    tmp_path: Path,
) -> None:
    async with workplace(tmp_path, always(404)) as place:
        pages = await told_of_none(place)
        for reply, problem in ((b"!", UpstreamInvalid), (None, UpstreamUnavailable)):
            place.clock.now += 1000
            place.source.reply = always(200, reply).reply if reply else failing
            inquiry = Inquiry()
            with pytest.raises(problem):
                await pages.get("demo", inquiry, path="demo")
            assert inquiry.unsure is None


async def test_who_refuses_to_tell_is_not_taken_at_an_earlier_word(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(404)) as place:
        pages = await told_of_none(place)
        place.clock.now += 1000
        place.source.reply = always(403).reply
        inquiry = Inquiry()
        with pytest.raises(UpstreamInvalid):
            await pages.get("demo", inquiry, path="demo")
        assert inquiry.unsure is None


async def test_where_an_earlier_source_cannot_tell_what_is_stored_is_given_as_it_is(
    tmp_path: Path,
) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place, rules=FreshnessRules(stale_if_error=3600))
        assert await ask(pages) == ("one", Outcome.FETCHED)
        problem = UpstreamUnavailable("earlier", "is down")
        for age, revalidate in ((700, False), (0, True), (700, True)):
            place.clock.now += age
            asked = await ask(pages, unsure=problem, revalidate=revalidate)
            assert asked == ("one", Outcome.STALE)
        place.clock.now += 7200
        for key in ("demo", "never-asked"):
            inquiry = Inquiry(unsure=problem)
            with pytest.raises(UpstreamUnavailable) as told:
                await pages.get(key, inquiry, path=key)
            assert (told.value, inquiry.unsure) == (problem, None), "nor may others tell"
        await settled()
        assert place.source.count == 1


# -- on demand, offline, the breaker ---


async def test_revalidation_on_demand_is_limited(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1
        assert await ask(pages, revalidate=True) == ("one", Outcome.HIT)
        place.clock.now += 2
        assert await ask(pages, revalidate=True) == ("one", Outcome.FETCHED)
        assert place.source.count == 2


async def test_revalidation_on_demand_waits_also_where_stale_would_do(tmp_path: Path) -> None:
    bodies = [b"one", b"two"]
    async with workplace(tmp_path, Source(lambda request: answer(200, bodies.pop(0)))) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 601
        assert await ask(pages, revalidate=True) == ("two", Outcome.FETCHED)


async def test_offline_serves_whatever_its_age_and_asks_nobody(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        await ask(kept(place))
        place.clock.now += 10**6
        offline = kept(place, is_offline=True)
        assert await ask(offline, revalidate=True) == ("one", Outcome.HIT)
        with pytest.raises(UpstreamUnavailable, match="offline"):
            await ask(offline, "other")
        assert place.source.count == 1


async def test_three_failures_open_the_breaker_for_all_projects(tmp_path: Path) -> None:
    async with workplace(tmp_path, Source(failing)) as place:
        pages = kept(place)
        for name in ("a", "b", "c"):
            with pytest.raises(UpstreamUnavailable):
                await ask(pages, name)
        with pytest.raises(UpstreamUnavailable, match="failed repeatedly"):
            await ask(pages, "d")
        assert place.source.count == 3


async def test_an_open_breaker_serves_stored_pages_without_asking(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.clock.now += 1000
        for name in ("a", "b", "c"):
            place.breaker.failed(name)
        assert await ask(pages) == ("one", Outcome.STALE)
        assert place.source.count == 1


async def test_a_success_closes_the_breaker(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        place.breaker.failed("a")
        place.breaker.failed("b")
        await ask(kept(place))
        place.breaker.failed("c")
        assert not place.breaker.is_open


async def test_one_project_that_fails_again_and_again_shuts_out_no_other(tmp_path: Path) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        return answer(500) if "broken" in request.url.path else answer(200, b"one")

    async with workplace(tmp_path, Source(reply)) as place:
        pages = kept(place)
        for _ in range(5):
            with pytest.raises(UpstreamUnavailable, match="answered 500"):
                await ask(pages, "broken")
        assert await ask(pages, "demo") == ("one", Outcome.FETCHED)


async def test_a_crowd_waiting_for_one_slow_page_is_one_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "_PATIENCE_WITHOUT", 0.02)
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        place.source.hold()

        async def one() -> None:
            with pytest.raises(UpstreamUnavailable):
                await ask(pages)

        async with anyio.create_task_group() as clients:
            for _ in range(10):
                clients.start_soon(one)
        assert not place.breaker.is_open
        for name in ("b", "c"):
            with pytest.raises(UpstreamUnavailable):
                await ask(pages, name)
        assert place.breaker.is_open


async def test_time_used_up_by_others_is_no_failure_of_this_upstream(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        place.source.hold()
        for name in ("a", "b", "c"):
            with pytest.raises(UpstreamUnavailable):
                await ask(pages, name, deadline=time.monotonic())
        assert not place.breaker.is_open


async def test_an_unusable_page_does_not_open_the_breaker(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(body=b"!")) as place:
        pages = kept(place)
        for name in ("a", "b", "c", "d"):
            with pytest.raises(UpstreamInvalid):
                await ask(pages, name)
        assert not place.breaker.is_open


# -- the disk ---


async def test_a_restart_finds_the_page(tmp_path: Path) -> None:
    clock = Clock()
    async with workplace(tmp_path, always(), clock) as place:
        await ask(kept(place))
    async with workplace(tmp_path, Source(failing), clock) as place:
        assert await ask(kept(place)) == ("one", Outcome.HIT)


@pytest.mark.parametrize("damage", [b"", b"x", b"{}\n", b'{"url": 1}\nbody', b"\xff\xfe\n"])
async def test_a_broken_entry_is_a_miss(tmp_path: Path, damage: bytes) -> None:
    async with workplace(tmp_path, always()) as place:
        await ask(kept(place))
        (tmp_path / "pages" / "up-1" / "demo").write_bytes(damage)
        assert await ask(kept(place)) == ("one", Outcome.FETCHED)
        assert await ask(kept(place)) == ("one", Outcome.HIT)


async def test_a_truncated_entry_is_a_miss_for_a_whole_crowd(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(body=b"a page")) as place:
        await ask(kept(place))
        path = tmp_path / "pages" / "up-1" / "demo"
        path.write_bytes(path.read_bytes()[:-1])
        pages = kept(place)
        async with anyio.create_task_group() as clients:
            for _ in range(1200):
                clients.start_soon(ask, pages)
        assert place.source.count == 2


async def test_a_stored_page_that_a_stricter_parser_refuses_is_a_miss(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        await ask(kept(place))

        def stricter(body: bytes, content_type: str, url: str, key: str) -> Document:
            if body == b"one":
                raise Unreadable("it is one")
            return Document(body.decode(), url)

        place.source.reply = lambda request: answer(200, b"two")
        pages = Kept(place.terms(), place.tasks, parse=stricter, weigh=lambda document: 1)
        assert await ask(pages) == ("two", Outcome.FETCHED)


async def test_a_large_new_page_is_told_before_it_is_stored(tmp_path: Path) -> None:
    large = b"x" * 2 * 1024**2
    async with workplace(tmp_path, always(body=large)) as place:
        pages = kept(place)
        first = await pages.get("demo", Inquiry(), path="demo")
        stored = place.cache.pages.signature("up-1", "demo")
        latecomer = Inquiry()
        assert await pages.get("demo", latecomer, path="demo") is first
        assert (stored, latecomer.outcome) == (None, Outcome.JOINED)
        await until(lambda: place.cache.pages.signature("up-1", "demo"), "the page")
        await settled()
        assert await pages.get("demo", Inquiry(), path="demo") is first
        found = place.cache.pages.read("up-1", "demo")
        assert found is not None
        assert found.body == large
        assert place.source.count == 1


async def test_a_large_page_that_was_told_is_stored_even_if_we_stop(tmp_path: Path) -> None:
    large = b"x" * 2 * 1024**2
    async with workplace(tmp_path, always(body=large)) as place:
        await ask(kept(place))
        assert place.cache.pages.signature("up-1", "demo") is None
        place.tasks.cancel_scope.cancel()
    async with workplace(tmp_path, Source(failing)) as place:
        assert (await ask(kept(place)))[1] is Outcome.HIT


async def test_a_disk_that_refuses_does_not_stop_the_answer(tmp_path: Path) -> None:
    (tmp_path / "pages").write_text("in the way")
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        assert await ask(pages) == ("one", Outcome.FETCHED)
        assert await ask(pages) == ("one", Outcome.HIT)  # from memory
        assert place.events.alarms == ["store-failed"]


@pytest.mark.parametrize("how", ["purge", "empty"])
async def test_a_page_that_the_disk_refused_can_be_purged(tmp_path: Path, how: str) -> None:
    """It is in memory only, and the operator in another process."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "up-1").write_text("in the way")
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        assert [await ask(pages) for _ in range(2)] == [
            ("one", Outcome.FETCHED),
            ("one", Outcome.HIT),
        ]
        with opened(tmp_path) as cache:
            if how == "empty":
                upkeep.empty(cache)
            else:
                with pytest.raises(NothingHeld):
                    upkeep.purge(cache, "demo")
        assert [await ask(pages) for _ in range(2)] == [
            ("one", Outcome.FETCHED),
            ("one", Outcome.HIT),
        ]


async def test_another_worker_sees_what_the_first_one_fetched(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        workplace(tmp_path, always(body=b"one"), clock) as first,
        workplace(tmp_path, always(body=b"two"), clock) as second,
    ):
        one, two = kept(first), kept(second)
        await ask(one)
        assert await ask(two) == ("one", Outcome.HIT)
        clock.now += 1000
        assert await ask(two) == ("two", Outcome.FETCHED)
        assert await ask(one) == ("two", Outcome.HIT)
        assert (first.source.count, second.source.count) == (1, 1)


async def test_a_page_renewed_by_another_worker_is_not_parsed_again(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        workplace(tmp_path, Source(etagged()), clock) as first,
        workplace(tmp_path, Source(etagged()), clock) as second,
    ):
        one, two = kept(first), kept(second)
        document = await one.get("demo", Inquiry(), path="demo")
        clock.now += 1000
        await ask(two)
        assert await one.get("demo", Inquiry(), path="demo") is document
        assert first.source.count == 1


async def test_absence_is_known_to_other_workers(tmp_path: Path) -> None:
    async with (
        workplace(tmp_path, always(404)) as first,
        workplace(tmp_path, always()) as second,
    ):
        with pytest.raises(ProjectNotFound):
            await ask(kept(first))
        with pytest.raises(ProjectNotFound):
            await ask(kept(second))
        assert second.source.count == 0


@pytest.mark.parametrize("status", [200, 404])
async def test_who_waited_for_another_worker_takes_its_answer(tmp_path: Path, status: int) -> None:
    async with workplace(tmp_path, always(status)) as place:
        pages, other = kept(place), kept(place)
        place.source.hold()
        results: list[object] = []

        async def one(asked: Kept[Document]) -> None:
            try:
                results.append((await ask(asked))[1])
            except ProjectNotFound:
                results.append("absent")

        async with anyio.create_task_group() as clients:
            clients.start_soon(one, pages)
            clients.start_soon(one, other)
            await until(
                lambda: place.events.flights == ["led", "led"] and place.source.count > 0,
                "the request",
            )
            place.source.release()
        assert place.source.count == 1
        assert sorted(map(str, results)) == (
            ["fetched", "joined"] if status == 200 else ["absent", "absent"]
        )


async def test_memory_holds_the_latest_up_to_its_budget(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(body=b"x" * 25_000)) as place:
        pages = kept(place)
        for name in ("a", "b", "c"):
            await ask(pages, name)
        assert [name in pages._copies._memo for name in "abc"] == [False, True, True]
        assert (await ask(pages, "a"))[1] is Outcome.HIT
        assert [name in pages._copies._memo for name in "abc"] == [True, False, True]


async def test_a_purged_page_is_forgotten(tmp_path: Path) -> None:
    async with workplace(tmp_path, always()) as place:
        pages = kept(place)
        await ask(pages)
        place.cache.pages.remove("up-1", "demo")
        assert await ask(pages) == ("one", Outcome.FETCHED)


async def test_large_pages_are_parsed_too(tmp_path: Path) -> None:
    async with workplace(tmp_path, always(body=b"x" * 100_000)) as place:
        assert len((await ask(kept(place)))[0]) == 100_000
