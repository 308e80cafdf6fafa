"""What an `Authorization` field says, believed or not: read in one way, whoever asks."""

import base64
import binascii


def basic(authorization: bytes) -> tuple[str, str] | None:
    """User and password of Basic credentials (RFC 7617); `None` if the field is not of that kind.

    In UTF-8 as we ask for; requests, and so pip, sends Latin-1 all the same.
    """
    scheme, _, value = authorization.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        decoded = as_text(base64.b64decode(value.strip(), validate=True))
    except binascii.Error:
        return None
    user, colon, password = decoded.partition(":")
    return (user, password) if colon else None


def as_text(value: bytes) -> str:
    """As UTF-8 if it is that, else as Latin-1, which anything is."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
