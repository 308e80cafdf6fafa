"""When a failing upstream is left alone, and for how long."""

from proxyindex.upstream.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    assert [breaker.failed(key) for key in "abc"] == [False, False, True]
    return breaker


def test_two_that_fail_are_nothing() -> None:
    breaker = Breaker(Clock())
    breaker.failed("a")
    breaker.failed("b")
    assert not breaker.is_open
    breaker.succeeded()
    breaker.failed("c")
    breaker.failed("d")
    assert not breaker.is_open


def test_one_that_fails_for_ever_counts_once() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    assert not any(breaker.failed("broken") for _ in range(100))
    breaker.failed("b")
    breaker.failed("c")
    assert breaker.is_open
    clock.now += 5
    assert not any(breaker.failed("broken") for _ in range(100)), "all others may have come back"


def test_the_third_that_fails_opens_it_for_five_seconds() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert breaker.is_open
    assert breaker.seconds_left() == 5
    clock.now += 4.9
    assert breaker.is_open
    assert breaker.seconds_left() == 1
    clock.now += 0.1
    assert not breaker.is_open


def test_failures_while_it_is_open_do_not_prolong_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert not any(breaker.failed(str(n)) for n in range(100))
    clock.now += 5
    assert not breaker.is_open


def test_each_time_it_opens_doubles_the_pause_up_to_a_minute() -> None:
    clock = Clock()
    breaker = opened(clock)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.seconds_left())
        clock.now += pauses[-1]
        assert not breaker.is_open
        assert [breaker.failed(key) for key in "abc"] == [False, False, True]
    assert pauses == [5, 10, 20, 40, 60, 60]


def test_one_success_closes_it_and_forgets() -> None:
    clock = Clock()
    breaker = opened(clock)
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.seconds_left() == 1  # never 0, which clients would take for "at once"
    assert opened(clock).seconds_left() == 5
