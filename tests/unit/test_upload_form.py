"""The upload form: what of it is bounded by us, whichever release of the parser there is."""

from __future__ import annotations

import pytest

from proxyindex.uploads.form import MAX_HEADER, MAX_HEADERS, Form, FormReader
from proxyindex.uploads.rejection import UploadRejected

HEAD = b'--b\r\nContent-Disposition: form-data; name="name"\r\n'


def read(body: bytes, size: int) -> Form:
    """The form, whose body comes in pieces of so many bytes."""
    reader = FormReader(b"b", lambda piece: None)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.finish()


@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"x" * MAX_HEADER,
        b"X" * (MAX_HEADER + 1) + b": x",
        b"X: x\r\n" * MAX_HEADERS,
    ],
    ids=["value", "name", "count"],
)
@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_the_headers_of_a_field_are_bounded(headers: bytes, size: int) -> None:
    with pytest.raises(UploadRejected, match="no sound"):
        read(HEAD + headers, size)


def test_headers_within_the_bounds_are_taken() -> None:
    most = b"X: " + b"x" * (MAX_HEADER - 3) + b"\r\n" + b"X: x\r\n" * (MAX_HEADERS - 2)
    form = read(HEAD + most + b"\r\ndemo\r\n--b--\r\n", 10_000)
    assert form.texts == {"name": "demo"}
