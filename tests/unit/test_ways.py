"""URLs are read as httpx reads them, whichever way is taken."""

from __future__ import annotations

import httpx
import pytest

from proxyindex.upstream import ways

URLS = [
    "http://up.example/",
    "https://up.example/simple/demo/",
    "https://up.example:8443/simple/demo/",
    "http://up.example:80/x",
    "https://up.example:443/x",
    "http://up.example:443/x",
    "http://127.0.0.1:8080/x",
    "http://[::1]:8080/x",
    "http://[2001:db8::1]/x",
    "https://up.example",
    "https://Up.Example/X",
    "https://b\u00fccher.example/x",
    "https://up_1.example/x",
    "https://up.example./x",
    "https://up.example/packages/ab/demo-1.0+local.1-py3-none-any.whl",
    "https://up.example/demo-1.0%2Blocal.tar.gz",
    "https://up.example/demo-1.0%2blocal.tar.gz",
    "https://up.example/50%/x",
    "https://up.example/a b/\u00e4.whl",
    "https://up.example/a;b=c,d@e!f$g&h(i)*j'k~l",
    'https://up.example/a"b<c>d`e{f}g|h^i\\j',
    "https://up.example/a/../b/./c",
    "https://up.example/.well-known/x",
    "https://up.example/x?sig=a%2Fb&t=1/2?3",
    "https://up.example?sig=1",
    "https://up.example/x#sha256=ab",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_read_as_httpx_reads_it(url: str) -> None:
    origin, target = ways.read(url)
    read = httpx.URL(url)
    assert origin.scheme == read.scheme
    assert origin.host == read.raw_host.decode("ascii")
    assert origin.port == (read.port or {"http": 80, "https": 443}[read.scheme])
    assert target == read.raw_path


@pytest.mark.parametrize("url", URLS)
async def test_the_host_is_told_as_httpx_tells_it(url: str) -> None:
    asked: list[tuple[bytes, bytes]] = []

    class Pool:
        async def get(self, origin: object, target: bytes, headers: ways.Headers) -> None:
            asked.extend(headers)

    await ways.Straight(Pool()).get(url, {"Accept": "*/*"})  # type: ignore[arg-type]
    told = httpx.Request("GET", url).headers["host"]
    assert asked == [(b"Host", told.encode("ascii")), (b"Accept", b"*/*")]


@pytest.mark.parametrize("url", ["ftp://up.example/x", "file:///etc/passwd", "http:///x", "x"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        ways.read(url)


@pytest.mark.parametrize("url", ["http://up.example/\x00", "http://up.example:80a/x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(httpx.InvalidURL):
        ways.read(url)
