"""What is remembered of documents that were asked for in vain."""

from __future__ import annotations

from proxyindex.repository.resting import Resting


def test_a_document_rests_for_a_while_or_until_it_can_be_had() -> None:
    now = [100.0]
    resting = Resting(lambda: now[0])
    assert not resting.is_resting("demo")
    resting.rest("demo")
    now[0] += 4.9
    assert resting.is_resting("demo")
    assert not resting.is_resting("other")
    now[0] += 0.2
    assert not resting.is_resting("demo")
    resting.rest("demo")
    resting.wake("demo")
    assert not resting.is_resting("demo")


def test_a_problem_is_news_once_until_it_changes_or_is_over() -> None:
    resting = Resting()
    told = [resting.is_news("demo", problem) for problem in ("a", "a", "b", "b", "a")]
    assert told == [True, False, True, False, True]
    assert resting.is_news("other", "a")
    resting.wake("demo")
    assert resting.is_news("demo", "a")


def test_the_memory_of_failures_is_bounded() -> None:
    resting = Resting()
    for number in range(1500):
        resting.rest(str(number))
        resting.is_news(str(number), "a")
    assert len(resting._until.items()) == len(resting._told.items()) == 1000
    assert resting.is_resting("1499")
    assert not resting.is_resting("0")
    assert not resting.is_news("1499", "a")
    assert resting.is_news("0", "a")
