"""Small readings of texts that others wrote."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def one_line(text: str) -> str:
    """The text on one line with single blanks, without control characters and surrogates."""
    return " ".join(_CONTROL.sub(" ", text).split())


def whole_number(text: str) -> int | None:
    """The number that up to 18 ASCII digits stand for, `None` for anything else.

    Python reads `+1`, `1_0` and digits of other scripts, too, and takes long over thousands.
    """
    is_fit = len(text) <= 18 and text.isascii() and text.isdigit()
    return int(text) if is_fit else None
