"""What a page of another site may have a browser send: nothing that changes anything."""

from __future__ import annotations

import pytest

from tests.support.pages import wheel_spec
from tests.web.conftest import House

REFRESH = "/api/projects/demo/refresh"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://index.example"}, 200),
        ({"origin": "http://INDEX.example"}, 200),
        ({"origin": "https://index.example"}, 200),  # a front speaks TLS for us
        ({"origin": "http://index.example", "host": "index.example:80"}, 200),
        ({"origin": "http://index.example:8000", "host": "index.example:8000"}, 200),
        ({"origin": "https://packages.example", "host": "backend:8000"}, 200),  # public-url
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
    page = house.project("demo", wheel_spec("demo", "1.0"))
    client = await house.client(public_url="https://packages.example/pypi", upload=("*",))
    assert (await client.post(REFRESH, headers=headers)).status_code == status
    assert page.called is (status == 200)
    for method, url in [("POST", "/legacy/"), ("DELETE", "/api/projects/demo")]:
        answered = await client.request(method, url, headers=headers)
        assert ("other sites" in answered.text) is (status == 403), url
