"""Sizes and durations: what is read, what is refused, and that showing loses nothing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.units import (
    LARGEST_SIZE,
    LONGEST_SECONDS,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50GB", 50_000_000_000),
        ("50G", 50_000_000_000),
        ("50 gb", 50_000_000_000),
        ("512MiB", 536_870_912),
        ("1.5kB", 1500),
        ("4096", 4096),
        ("7B", 7),
        ("0", 0),
        ("2TiB", 2 * 1024**4),
    ],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "1,5GB", "1e9", "50XB", "50 GB GB", "9999999PB", "\u0665GB", "5 0GB"]
)
def test_other_texts_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("90", 90.0),
        ("0.25", 0.25),
        ("0", 0.0),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-5m", "10 minutes", "1e3", "inf", "m", "900000d", "1h-"]
)
def test_other_texts_are_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (50_000_000_000, "50GB"),
        (67_108_864, "64MiB"),
        (1500, "1500B"),
        (2000, "2kB"),
        (3072, "3KiB"),
        (0, "0B"),
    ],
)
def test_size_is_shown_in_its_largest_exact_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(600.0, "10m"), (5400.0, "1h30m"), (604_800.0, "7d"), (0.5, "500ms"), (0.0, "0s")],
)
def test_duration_is_shown_in_its_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, LARGEST_SIZE))
def test_shown_size_is_read_back_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, LONGEST_SECONDS * 1000))
def test_shown_duration_is_read_back_exactly(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.text(max_size=30))
def test_any_text_is_a_size_and_duration_or_a_value_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
