"""Small readings of texts that others wrote."""

import pytest

from proxyindex.texts import one_line, whole_number


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        (" a \t b\r\nc ", "a b c"),
        ("a\x00b\x1b[31m\x85c\ud800", "a b [31m c"),
        ("Zoë Żółw", "Zoë Żółw"),
    ],
)
def test_a_text_becomes_one_line_without_control_characters(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1_0", "1.0", "1e3", "²", "\u0661", "9" * 19]
)
def test_anything_else_is_none(text: str) -> None:
    assert whole_number(text) is None
