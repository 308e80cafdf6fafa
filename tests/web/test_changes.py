"""What a page of another site may have a browser send: nothing that changes anything."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.pages import wheel_spec
from tests.web.conftest import House

REFRESH = "/api/projects/demo/refresh"


PUBLIC = "https://packages.example/pypi"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://index.example"}, 200),
        ({"origin": "http://INDEX.example"}, 200),
        ({"origin": "https://index.example"}, 200),  # a front speaks TLS for us
        ({"origin": "http://index.example", "host": "index.example:80"}, 200),
        ({"origin": "http://index.example:8000", "host": "index.example:8000"}, 200),
        ({"origin": "https://index.example", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://index.example.evil.example"}, 403),
        ({"origin": "http://index.example:8000"}, 403),
        ({"origin": "http://index.example:80", "host": "index.example:443"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "://index.example"}, 403),
        ({"origin": "ftp://index.example"}, 403),
        ({"origin": "http://"}, 403),
        ({"origin": "http://index.example", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
async def test_only_our_own_pages_and_no_pages_change_anything(
    house: House, headers: dict[str, str], status: int
) -> None:
    await answers(house, headers, status)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://packages.example", "backend:8000", 200),
        ("https://packages.example", "packages.example", 200),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", 200),
        ("http://10.1.2.3", "10.1.2.3:80", 200),
        ("http://[::1]:8000", "[::1]:8000", 200),
        ("http://LOCALHOST:8000", "localhost:8000", 200),
        # its name leads here by now: a browser takes it for the page's own server
        ("http://evil.example:8000", "evil.example:8000", 403),
        ("http://10.1.2.3.evil.example", "10.1.2.3.evil.example", 403),
        ("http://localhost.evil.example", "localhost.evil.example", 403),
        ("http://[::1", "[::1", 403),
        ("http://packages.example.evil.example", "packages.example.evil.example", 403),
    ],
)
async def test_where_our_name_is_told_no_other_name_is_ours(
    house: House, origin: str, host: str, status: int
) -> None:
    headers = {"origin": origin, "host": host, "sec-fetch-site": "same-origin"}
    await answers(house, headers, status, public_url=PUBLIC)


async def answers(house: House, headers: dict[str, str], status: int, **settings: Any) -> None:
    """Whatever changes something is refused, or not, by these headers."""
    page = house.project("demo", wheel_spec("demo", "1.0"))
    client = await house.client(**settings, upload=("*",))
    assert (await client.post(REFRESH, headers=headers)).status_code == status
    assert page.called is (status == 200)
    for method, url in [("POST", "/legacy/"), ("DELETE", "/api/projects/demo")]:
        answered = await client.request(method, url, headers=headers)
        assert ("other sites" in answered.text) is (status == 403), url
