"""Reads start tags out of HTML in one pass, in time linear in the text whatever the text is.

No tree: an index page is a list of links. What is in comments, scripts and other raw text is no
tag. The measured parsers need minutes for some pages of 2 MB; see decision 0011.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from html import unescape
from typing import NamedTuple

MAX_ATTRIBUTES = 256  # and runs of white space between them

# Names of tokenizer states follow the HTML standard §13.2.5. Repetitions are possessive (`*+`) and
# alternatives start with different characters, so nothing is tried twice.
_SPACE = r"[ \t\n\r\f]"
_NAME = r"[^ \t\n\r\f/>][^ \t\n\r\f/>=]*+"
_VALUE = rf"""{_SPACE}*+={_SPACE}*+(?:"[^"]*+"|'[^']*+'|(?!["'])[^ \t\n\r\f>]*+)"""
_TAG = re.compile(
    rf"<(/?)([A-Za-z][^ \t\n\r\f/>]*+)"
    rf"((?:[ \t\n\r\f/]++|{_NAME}(?:{_VALUE}|(?!{_SPACE}*+=))){{0,{MAX_ATTRIBUTES}}})>"
)
_ATTRIBUTE = re.compile(
    rf"""({_NAME})(?:{_SPACE}*+={_SPACE}*+(?:"([^"]*+)"|'([^']*+)'|([^ \t\n\r\f>]*+)))?"""
)
_RAW_TEXT = {
    name: re.compile(rf"</{name}(?=[ \t\n\r\f/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}


class Unterminated(ValueError):
    """A tag or comment that never ends, or has more than `MAX_ATTRIBUTES` attributes."""


class Tag(NamedTuple):
    """A start tag: lower-case names, unescaped values, `""` where an attribute has no value.

    `text` is what follows up to the next tag or, for raw text such as a title, its end.
    """

    name: str
    attributes: Mapping[str, str]
    text: str


def tags(html: str, wanted: Collection[str]) -> Iterator[Tag]:
    """The start tags whose names are `wanted`, in order. Raises `Unterminated`."""
    position = html.find("<")
    while position >= 0:
        if not (match := _TAG.match(html, position)):
            position = html.find("<", _skip_markup(html, position))
            continue
        name = match[2].lower()
        raw_end = None if match[1] else _RAW_TEXT.get(name)
        if raw_end:
            ending = raw_end.search(html, match.end())
            position = ending.start() if ending else -1  # unclosed: the rest is raw text
        else:
            position = html.find("<", match.end())
        if name in wanted and not match[1]:
            text = html[match.end() : position if position >= 0 else len(html)]
            yield Tag(name, _attributes(match[3]), text)


def _skip_markup(html: str, position: int) -> int:
    """Where to go on behind a `<` that starts no complete tag."""
    if html.startswith("<!--", position):
        # `<!-->` and `<!--->` are complete comments
        return _end_of(html, "-->", position + 2)
    if html.startswith(("<!", "<?"), position):
        return _end_of(html, ">", position)
    if html[position + 1 : position + 2] == "/" and not html[position + 2 : position + 3].isalpha():
        return _end_of(html, ">", position)
    if re.match(r"/?[A-Za-z]", html[position + 1 : position + 3]):
        raise Unterminated
    return position + 1  # a plain `<`


def _end_of(html: str, ending: str, position: int) -> int:
    end = html.find(ending, position)
    if end < 0:
        raise Unterminated
    return end + len(ending)


def _attributes(text: str) -> Mapping[str, str]:
    found = reversed(_ATTRIBUTE.findall(text))  # the first of a name counts, so it comes last
    return {name.lower(): unescape(a or b or c) for name, a, b, c in found}
