"""Judging the head of a request, and making the reason phrase of an answer: pure."""

import re
from collections.abc import Sequence

REASON_LIMIT = 200  # bytes; more than one line of a terminal helps nobody

_WITHOUT_PATH = re.compile(rb"\A([a-z][a-z0-9+.-]*://[^/?#]+)(?![^?#])", re.IGNORECASE)

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")  # RFC 3986 §3.2.2, and a port

Header = tuple[bytes, bytes]


def head_fault(headers: Sequence[Header], version: str) -> str | None:
    """What is wrong with a request's head that the parser lets through, or `None`.

    `headers` have lower-case names; `version` is "1.1" and the like. Source: RFC 9112 §2.3, §3.2,
    §6.1, §6.3. The parser itself refuses most contradictory lengths; checked here too, because
    a front proxy that reads them differently makes request smuggling out of them.
    """
    names = [name for name, _ in headers]
    hosts, lengths = names.count(b"host"), names.count(b"content-length")
    if version not in ("1.0", "1.1"):
        return "Only HTTP/1.0 and HTTP/1.1 are spoken here."
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return "The request must have exactly one Host field."
    if not all(_HOST.fullmatch(value.strip(b" \t")) for name, value in headers if name == b"host"):
        return "The request's Host is no name or address of a host."
    if lengths > 1 or (lengths and b"transfer-encoding" in names):
        return "The request's length is given twice."
    if b"transfer-encoding" in names and version == "1.0":
        return "HTTP/1.0 has no Transfer-Encoding."
    return None


def has_body(headers: Sequence[Header]) -> bool:
    """Whether a sound head with these fields has a body behind it (RFC 9112 §6.3)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in headers
    )


def reason_phrase(text: bytes) -> bytes:
    """`text` fit for a status line: printable ASCII, at most `REASON_LIMIT` bytes, maybe empty.

    RFC 9112 §4 allows more, but clients disagree about the encoding of the rest.
    """
    line = b" ".join(text[: 4 * REASON_LIMIT].split())
    return bytes(byte if 0x20 <= byte < 0x7F else ord("?") for byte in line[:REASON_LIMIT])


def with_path(target: bytes) -> bytes:
    """The target of a request; in absolute form always with a path, which may be left out there and
    is "/" then (RFC 9112 §3.2.2, RFC 9110 §4.2.3)."""
    if target.startswith(b"/"):
        return target
    return _WITHOUT_PATH.sub(rb"\1/", target)
