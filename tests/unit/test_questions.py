"""What a GET asks for, as far as that is simple."""

from __future__ import annotations

import pytest

from proxyindex.web.questions import asked, is_habit

OLD = b'pip/23.2.1 {"ci":null}'


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (b'pip/9.0.1 {"ci":null}', True),
        (OLD, True),
        (b"pip/26.1.2", True),
        (b"pip/26.2", False),
        (b"pip/27.0", False),
        (b"pip/100.0", False),
        (b"pip/26.20", False),
        (b"pip/x", False),
        (b"pip/99999.0", False),
        (b"mypip/9.0", False),
        (b"uv/0.11", False),
        (b"", False),
    ],
)
def test_only_pips_before_26_2_mean_nothing_by_max_age(agent: bytes, expected: bool) -> None:
    assert is_habit(b"max-age=0", agent) is expected
    assert not is_habit(b"no-cache", agent)
    assert not is_habit(b"max-age=0, no-cache", agent)


@pytest.mark.parametrize(
    "more",
    [
        [(b"cache-control", b"no-cache")],
        [(b"cache-control", b"max-age=0"), (b"cache-control", b"no-cache")],
        [(b"cache-control", b"max-age=0"), (b"user-agent", b"uv")],
    ],
)
def test_a_habit_is_the_same_question_and_a_wish_is_none(more: list[tuple[bytes, bytes]]) -> None:
    fields = [(b"user-agent", OLD)]
    usual = asked(b"/simple/demo/", fields)
    habit = asked(b"/simple/demo/", [*fields, (b"cache-control", b"max-age=0")])
    assert usual is not None
    assert habit is not None
    assert habit.key == usual.key
    assert asked(b"/simple/demo/", [*fields, *more]) is None
