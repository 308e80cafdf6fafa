"""The wire formats of the Simple repository API: bytes to values and back. No I/O."""

from proxyindex.simple.accept import MediaType, NotAcceptable, negotiate
from proxyindex.simple.entries import InvalidPage, order_files, order_versions
from proxyindex.simple.page import (
    page_pieces,
    parse_list,
    parse_page,
    relative_href,
    render_list,
    render_page,
)

__all__ = [
    "InvalidPage",
    "MediaType",
    "NotAcceptable",
    "negotiate",
    "order_files",
    "order_versions",
    "page_pieces",
    "parse_list",
    "parse_page",
    "relative_href",
    "render_list",
    "render_page",
]
