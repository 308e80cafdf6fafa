"""When a stored page may be served, as a table and as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.freshness import (
    MAX_LIFETIME,
    Freshness,
    FreshnessRules,
    freshness,
    upstream_lifetime,
)

RULES = FreshnessRules(page_ttl=600, stale_while_revalidate=300, stale_if_error=1000)
FRESH, STALE, EXPIRED, MISSING = Freshness


@pytest.mark.parametrize(
    ("age", "lifetime", "expected"),
    [
        (0, None, FRESH),
        (599.9, None, FRESH),
        (600, None, STALE),
        (899.9, None, STALE),
        (900, None, EXPIRED),
        (1599.9, None, EXPIRED),
        (1600, None, MISSING),
        (99, 100, FRESH),
        (100, 100, STALE),
        (600, 3600, STALE),  # our own ttl is the longest
        (0, 0, EXPIRED),  # upstream wants to be asked each time
        (-1, None, EXPIRED),  # the clock was set back
    ],
)
def test_age_decides_what_a_page_is_good_for(
    age: float, lifetime: float | None, expected: Freshness
) -> None:
    assert freshness(10_000, lifetime, 10_000 + age, RULES) is expected


def test_a_ttl_of_zero_asks_upstream_each_time() -> None:
    assert freshness(0, 3600, 0, FreshnessRules(page_ttl=0)) is EXPIRED


def test_without_stale_if_error_nothing_old_is_served() -> None:
    rules = FreshnessRules(page_ttl=10, stale_while_revalidate=0, stale_if_error=0)
    assert freshness(0, None, 10, rules) is MISSING


@given(
    ages=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
    lifetime=st.none() | st.floats(0, 5000),
)
def test_a_page_never_grows_fresher_with_age(
    ages: tuple[float, float], lifetime: float | None
) -> None:
    younger, older = (freshness(0, lifetime, age, RULES) for age in sorted(ages))
    assert younger.value <= older.value


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"cache-control": "max-age=600, public"}, 600.0),
        ({"cache-control": "MAX-AGE=600"}, 600.0),
        ({"cache-control": 'max-age="60"'}, 60.0),
        ({"cache-control": "max-age=600, s-maxage=30"}, 30.0),
        ({"cache-control": "max-age=600, s-maxage=0"}, 0.0),
        ({"cache-control": "s-maxage=junk, max-age=60"}, 60.0),
        ({"cache-control": "max-age=600", "age": "100"}, 500.0),
        ({"cache-control": "max-age=60", "age": "100"}, 0.0),
        ({"cache-control": "max-age=60", "age": "soon"}, 60.0),
        ({"cache-control": "max-age=99999"}, MAX_LIFETIME),
        ({"cache-control": "max-age=soon"}, 0.0),
        ({"cache-control": "max-age=-5"}, 0.0),
        ({"cache-control": "max-age=" + "9" * 20}, MAX_LIFETIME),
        ({"cache-control": "s-maxage=" + "9" * 5000}, MAX_LIFETIME),
        ({"cache-control": "max-age=600", "age": "9" * 20}, 0.0),
        ({"cache-control": "max-age=" + "9" * 30, "age": "9" * 20}, 0.0),
        ({"cache-control": "no-cache, max-age=600"}, 0.0),
        ({"cache-control": "no-store"}, 0.0),
        ({"cache-control": ", ,public"}, None),
        (
            {"expires": "Mon, 01 Jan 2024 00:10:00 GMT", "date": "Mon, 01 Jan 2024 00:00:00 GMT"},
            600,
        ),
        ({"expires": "Mon, 01 Jan 2024 00:10:00 GMT", "date": "Mon, 01 Jan 2024 00:20:00 GMT"}, 0),
        ({"expires": "0", "date": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0.0),
        ({"expires": "Mon, 01 Jan 2024 00:10:00 GMT"}, 0.0),
        ({"expires": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "date": "x"}, 0.0),
        (
            {
                "expires": "Mon, 01 Jan 2024 00:10:00 -0000",  # a naive date
                "date": "Mon, 01 Jan 2024 00:00:00 GMT",
            },
            0.0,
        ),
        (
            {
                "cache-control": "max-age=60",
                "expires": "Mon, 01 Jan 2024 00:10:00 GMT",
                "date": "Mon, 01 Jan 2024 00:00:00 GMT",
            },
            60.0,
        ),
    ],
)
def test_lifetime_is_what_a_shared_cache_reads_from_the_headers(
    headers: dict[str, str], expected: float | None
) -> None:
    assert upstream_lifetime(headers) == expected


@given(
    st.dictionaries(
        st.sampled_from(["cache-control", "expires", "date", "age"]),
        st.text(max_size=40)
        | st.from_regex(r"(max-age|s-maxage)=\d{1,30}(, no-cache)?", fullmatch=True)
        | st.from_regex(
            r"Mon, \d{1,30} Jan \d{1,30} \d{1,3}:\d\d:\d\d [+-]\d{1,30}", fullmatch=True
        ),
    )
)
def test_no_header_breaks_the_lifetime(headers: dict[str, str]) -> None:
    lifetime = upstream_lifetime(headers)
    assert lifetime is None or 0 <= lifetime <= MAX_LIFETIME
