"""Small readings of texts that others wrote."""

import re
from encodings.idna import Codec  # now: it would be looked for when who runs us may not read it
from ipaddress import IPv4Address
from urllib.parse import urlsplit

import idna

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+(%[\w.-]+)?")  # a name in any script, or an address
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def is_host(text: str) -> bool:
    """Whether it can be looked up: an address, or a name none of whose parts is empty or too long
    for DNS. Whoever does look up another one gets an error that nobody expects.

    Python's name look-up knows other letters than httpx, which asks `idna` about what is not ASCII,
    or stands for it.
    """
    try:
        Codec().encode(text)
        if not text.isascii():
            idna.encode(text.lower())
        elif text.lower().startswith("xn--"):
            idna.decode(text)
        if _IPV4.fullmatch(text):
            IPv4Address(text)
    except ValueError:
        return False
    return bool(_HOST.fullmatch(text))


def with_ascii_host(url: str) -> str:
    """The URL with its host as it goes to a name server, httpx has it, and `Host` tells it:
    `xn--bcher-kva.example`. Only so can it be compared. Raises `ValueError` for no host name."""
    if url.isascii() or (parts := urlsplit(url)).netloc.isascii():
        return url
    userinfo, at, host = parts.netloc.rpartition("@")
    name, colon, port = host.partition(":")
    if not name.isascii():
        name = idna.encode(name.lower()).decode("ascii")
    return parts._replace(netloc=f"{userinfo}{at}{name}{colon}{port}").geturl()


def one_line(text: str) -> str:
    """The text on one line with single blanks, without control characters and surrogates."""
    return " ".join(_CONTROL.sub(" ", text).split())


def whole_number(text: str) -> int | None:
    """The number that up to 18 ASCII digits stand for, `None` for anything else.

    Python reads `+1`, `1_0` and digits of other scripts, too, and takes long over thousands.
    """
    is_fit = len(text) <= 18 and text.isascii() and text.isdigit()
    return int(text) if is_fit else None
