"""Reads what an index answers with the standard library only: none of the product's own code."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from tests.support.fixtures import Index
from tests.support.http import Response
from tests.support.pages import HTML_TYPE, JSON_TYPE, FileSpec, json_page
from tests.support.reply import Reply

AS_JSON = {"Accept": JSON_TYPE}
AS_HTML = {"Accept": HTML_TYPE}


@dataclass(slots=True)
class Anchor:
    """One link: `text` unescaped, attributes unescaped, `None` for one without a value."""

    attributes: dict[str, str | None]
    text: str = ""

    @property
    def href(self) -> str:
        return self.attributes["href"] or ""

    @property
    def url(self) -> str:
        return self.href.partition("#")[0]

    @property
    def fragment(self) -> str:
        return self.href.partition("#")[2]


@dataclass(slots=True)
class HtmlPage:
    """An HTML page as a browser would see it."""

    text: str
    anchors: list[Anchor] = field(default_factory=list)
    metas: dict[str, str | None] = field(default_factory=dict)
    elements: list[str] = field(default_factory=list)

    def link(self, filename: str) -> Anchor:
        """The one link to a file."""
        (found,) = [anchor for anchor in self.anchors if anchor.text == filename]
        return found


def read_html(text: str) -> HtmlPage:
    """Parse an HTML page."""
    parser = _Parser(HtmlPage(text))
    parser.feed(text)
    parser.close()
    return parser.page


def last_segment(url: str) -> str:
    """The file name a URL ends in, decoded once, as pip reads it."""
    return unquote(url.partition("#")[0].partition("?")[0].rpartition("/")[2])


def page_reply(name: str, *files: FileSpec, **changes: Any) -> Reply:
    """A JSON page with top-level keys added or replaced (`project_status=…`)."""
    return Reply(body=json_page(name, files, **changes), content_type=JSON_TYPE)


def html_text_reply(text: str, **behaviour: Any) -> Reply:
    """An HTML page exactly as given."""
    usual = Reply(body=text.encode(), content_type="text/html; charset=utf-8", ranges="none")
    return usual.with_(**behaviour)


def offer(index: Index, reply: Reply, name: str | None = None) -> str:
    """Answer for a project, by default one of a new name, with this page; its name."""
    name = name or index.new_name()
    index.upstream.script(f"/simple/{name}/", reply)
    return name


def json_of(index: Index, name: str) -> dict[str, Any]:
    """The project's page in JSON; it must be there."""
    return _good(index.get(f"/simple/{name}/", AS_JSON)).json()  # type: ignore[no-any-return]


def html_of(index: Index, name: str) -> HtmlPage:
    """The project's page in HTML; it must be there."""
    return read_html(_good(index.get(f"/simple/{name}/", AS_HTML)).text)


def entry_of(index: Index, name: str) -> dict[str, Any]:
    """The only file of a project, in JSON."""
    (entry,) = json_of(index, name)["files"]
    return entry  # type: ignore[no-any-return]


def _good(response: Response) -> Response:
    assert response.status == 200, response.text
    return response


class _Parser(HTMLParser):
    def __init__(self, page: HtmlPage) -> None:
        super().__init__(convert_charrefs=True)
        self.page = page
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append(tag)
        attributes = dict(attrs)
        if tag == "meta" and (name := attributes.get("name")):
            self.page.metas[name] = attributes.get("content")
        if tag == "a":
            self.page.anchors.append(Anchor(attributes))
            self._is_inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._is_inside = False

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.page.anchors[-1].text += data
