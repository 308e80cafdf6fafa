"""Pages as a browser shows them: those that installers read, with a style beside.

The style tells what is in the attributes of a link, so that there is no other page to be rendered.
"""

from __future__ import annotations

import base64
import hashlib

from proxyindex.simple import MediaType

_STYLE = """
:root{color-scheme:light dark}
body{max-width:64rem;margin:2rem auto;padding:0 1rem;font:16px/1.7 system-ui,sans-serif}
a{text-decoration:none}
a::after{display:inline-block;margin-left:.5rem;color:GrayText;
content:var(--yanked,"") var(--size,"") var(--time,"") var(--python,"")}
a[data-size]{--size:"· " attr(data-size) " bytes "}
a[data-upload-time]{--time:"· " attr(data-upload-time) " "}
a[data-requires-python]{--python:"· Python " attr(data-requires-python) " "}
a[data-yanked]{text-decoration:line-through;--yanked:"· yanked: " attr(data-yanked) " "}
a[data-yanked=""]{--yanked:"· yanked "}
h1:last-child::after{content:"Nothing is listed here. What upstreams have is found by its name.";
display:block;font:16px/1.7 system-ui,sans-serif;color:GrayText}
"""


def style_source(style: str) -> str:
    """What a `Content-Security-Policy` says to allow this style and no other."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"style-src 'sha256-{digest}'"


_END = b"  </head>"
_SOURCE = style_source(_STYLE)
_HEADERS = {
    # without the exception Chromium refuses to save a file whose link is clicked (measured)
    "Content-Security-Policy": "default-src 'none'; sandbox allow-downloads",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STYLED = {"Content-Security-Policy": f"{_HEADERS['Content-Security-Policy']}; {_SOURCE}"}


def html_headers(*, is_styled: bool) -> dict[str, str]:
    """What keeps a page from doing anything, whatever its upstream has put into it."""
    return _HEADERS | _STYLED if is_styled else _HEADERS


def is_browser(form: MediaType, accept: str) -> bool:
    """Whether it is one that gets this form: all of them ask for XHTML, too, and no installer."""
    return form is MediaType.HTML and "application/xhtml+xml" in accept


def styled(page: bytes) -> bytes:
    """The page, or its first piece, with the style at the end of its head."""
    return page.replace(_END, f"    <style>{_STYLE}</style>\n".encode() + _END, 1)
