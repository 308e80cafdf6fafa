"""Content negotiation between the three media types of the Simple repository API.

Pure: texts in, a `MediaType` out. Every answer negotiated here needs `Vary: Accept`.
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum

from proxyindex.errors import ProxyindexError

MAX_ACCEPT = 4096  # characters looked at; the longest header of a real client has 120

_RANGE = re.compile(r"([!#$&^_.+*a-z0-9-]+)/([!#$&^_.+*a-z0-9-]+)")
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


class MediaType(StrEnum):
    """A form a page can be sent in, best first where a client names several as equals."""

    JSON = "application/vnd.pypi.simple.v1+json"
    V1_HTML = "application/vnd.pypi.simple.v1+html"
    HTML = "text/html"

    @property
    def content_type(self) -> str:
        """Value of the `Content-Type` header. uv compares the part before `;` exactly."""
        return self.value if self is MediaType.JSON else f"{self.value}; charset=utf-8"


# request-only names: the answer carries the real type (PEP 691)
_LATEST: Mapping[str, str] = {
    "application/vnd.pypi.simple.latest+json": MediaType.JSON.value,
    "application/vnd.pypi.simple.latest+html": MediaType.V1_HTML.value,
}
_BY_NAME: Mapping[str, MediaType] = {media_type.value: media_type for media_type in MediaType}


class NotAcceptable(ProxyindexError):
    """None of the three forms satisfies the client; 406."""

    def __init__(self) -> None:
        super().__init__(f"This index answers with one of: {', '.join(MediaType)}.")


def negotiate(accept: str | None, format_: str | None = None) -> MediaType:
    """Choose the form of the answer.

    `accept` is the `Accept` header, repeated headers joined with `, `. `format_` is the decoded
    `format` query parameter, which beats it. Raises `NotAcceptable`. Source: PEP 691, RFC 9110
    §12.5.1; ties go to what a client named, then to HTML for those that say just `*/*`.
    """
    if format_ is not None:
        return _requested(format_)
    qualities = dict(_ranges((accept or "")[:MAX_ACCEPT])) or {"*/*": 1.0}
    judged = {media_type: _judge(media_type, qualities) for media_type in MediaType}
    best = max(judged.values())
    quality, is_explicit = best
    if quality == 0:
        raise NotAcceptable
    tied = [media_type for media_type, judgement in judged.items() if judgement == best]
    return MediaType.HTML if MediaType.HTML in tied and not is_explicit else tied[0]


def _requested(format_: str) -> MediaType:
    # form decoding turns a literal `+` into a space
    name = format_.replace(" ", "+").lower()
    if media_type := _BY_NAME.get(_LATEST.get(name, name)):
        return media_type
    raise NotAcceptable


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """The valid media ranges with their q, `latest` names replaced; malformed ones are left out."""
    for part in accept.lower().split(","):
        media_range, *parameters = (piece.strip(" \t") for piece in part.split(";"))
        quality = _quality(parameters)
        if quality is None or not _RANGE.fullmatch(media_range):
            continue
        yield _LATEST.get(media_range, media_range), quality


def _quality(parameters: list[str]) -> float | None:
    for parameter in parameters:
        if parameter.partition("=")[0] == "q":
            match = _QUALITY.fullmatch(parameter)
            return float(match[1]) if match else None
    return 1.0


def _judge(media_type: MediaType, qualities: Mapping[str, float]) -> tuple[float, bool]:
    """The q that the most specific range gives this form, and whether it was named in full."""
    if media_type.value in qualities:
        return qualities[media_type.value], True
    family = media_type.value.partition("/")[0] + "/*"
    return qualities.get(family, qualities.get("*/*", 0.0)), False
