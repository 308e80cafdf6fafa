"""Which URLs an upstream may lead us to, and which addresses are closed."""

import ipaddress
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyindex.upstream.border import Border, UrlOrigin, is_closed

INDEX = "https://pypi.corp.example/simple"


@pytest.mark.parametrize(
    "url",
    [
        "https://pypi.corp.example/simple/demo/",
        "https://PYPI.corp.example:443/x",
        "https://files.corp.example/x",
        "https://corp.example/x",
        "https://a.b.corp.example/x",
    ],
)
def test_the_index_and_its_family_may_be_asked(url: str) -> None:
    assert Border(INDEX).objection(url) is None


@pytest.mark.parametrize(
    ("url", "objection"),
    [
        ("ftp://pypi.corp.example/x", "is not an http or https URL"),
        ("file:///etc/passwd", "is not an http or https URL"),
        ("javascript:alert(1)", "is not an http or https URL"),
        ("//pypi.corp.example/x", "is not an http or https URL"),
        ("https:///x", "is not an http or https URL"),
        ("https://[::1/x", "is not an http or https URL"),
        ("https://pypi.corp.example:x/", "is not an http or https URL"),
        ("https://pypi.corp.example:99999/", "is not an http or https URL"),
        ("", "is not an http or https URL"),
        ("https://user@pypi.corp.example/x", "carries credentials"),
        ("https://user:pw@pypi.corp.example/x", "carries credentials"),
        ("https://pypi.corp.example\\@evil.example/", "carries credentials"),
        ("http://pypi.corp.example/x", "is a downgrade to plain http"),
        ("https://evil.example/x", "leads to evil.example:443, which is not in file-hosts"),
        ("https://pypi.corp.example:8443/", "leads to pypi.corp.example:8443"),
        ("https://pypi.corp.example:0/", "leads to pypi.corp.example:0"),
        ("https://files.corp.example:22/", "leads to files.corp.example:22"),
        ("https://evilcorp.example/x", "leads to evilcorp.example:443"),
        ("https://corp.example.evil.example/", "leads to corp.example.evil.example:443"),
        ("https://127.0.0.1/", "leads to 127.0.0.1:443"),
        ("https://[::1]/", "leads to ::1:443"),
    ],
)
def test_everything_else_is_objected_to(url: str, objection: str) -> None:
    found = Border(INDEX).objection(url)
    assert found is not None
    assert found.startswith(objection)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://files.example/x", True),
        ("https://files.example:8443/x", False),
        ("https://other.example:8443/x", True),
        ("https://other.example/x", False),
        ("https://files.corp.example/x", False),  # listed hosts replace the family
        ("https://pypi.corp.example/x", True),
        ("https://[2001:db8::1]/x", True),
        ("https://[2001:db8::1]:8443/x", False),
        ("https://[2001:db8::2]:8443/x", True),
    ],
)
def test_listed_hosts_replace_the_family(url: str, allowed: bool) -> None:
    addresses = ("[2001:DB8::1]", "[2001:db8::2]:8443")
    border = Border(INDEX, ("Files.example", "other.example:8443", *addresses))
    assert (border.objection(url) is None) is allowed


@pytest.mark.parametrize(
    "index",
    ["http://index.example/", "http://10.0.0.1/", "http://localhost:8080/", "http://[::1]/"],
)
def test_an_index_without_a_parent_domain_has_no_family(index: str) -> None:
    border = Border(index)
    assert border.objection(index) is None
    assert border.objection("http://files.example/") is not None
    assert border.objection("http://10.0.0.2/") is not None


@pytest.mark.parametrize(
    ("index", "neighbour"),
    [
        ("tenant.github.io", "other.github.io"),
        ("tenant.github.io", "github.io"),
        ("feed.s3.eu-1.amazonaws.com", "other.s3.eu-1.amazonaws.com"),
        ("feed.blob.core.windows.net", "other.blob.core.windows.net"),
        ("pypi.co.uk", "evil.co.uk"),
        ("pypi.com.au", "evil.com.au"),
        ("pypi.ne.jp", "evil.ne.jp"),
        ("pypi.gouv.fr", "evil.gouv.fr"),
        ("pypi.abc.de", "files.abc.de"),  # to err is cheap here: one line of file-hosts
    ],
)
def test_neighbours_below_a_shared_domain_are_strangers(index: str, neighbour: str) -> None:
    assert Border(f"https://{index}/").objection(f"https://{index}/x") is None
    assert Border(f"https://{index}/").objection(f"https://{neighbour}/x") is not None
    assert Border(f"https://{index}/", (neighbour,)).objection(f"https://{neighbour}/x") is None


@pytest.mark.parametrize(
    ("index", "relative"),
    [
        ("pypi.corp.co.uk", "files.corp.co.uk"),
        ("pypi.corp.de", "files.corp.de"),
        ("pypi.notgithub.io", "files.notgithub.io"),
        ("a.abc.de.example", "b.abc.de.example"),
    ],
)
def test_relatives_below_a_domain_of_ones_own_stay(index: str, relative: str) -> None:
    assert Border(f"https://{index}/").objection(f"https://{relative}/x") is None


def test_plain_http_upstreams_may_use_both_schemes() -> None:
    border = Border("http://pypi.corp.example:8080/")
    assert border.objection("https://pypi.corp.example/x") is None
    assert border.objection("http://pypi.corp.example/x") is None
    assert border.objection("http://pypi.corp.example:8081/x") is not None


def test_credentials_belong_to_one_origin() -> None:
    border = Border(INDEX)
    assert border.is_index_origin("https://PyPI.corp.example/files/x")
    for other in (
        "http://pypi.corp.example/",
        "https://pypi.corp.example:444/",
        "https://x.example",
    ):
        assert not border.is_index_origin(other)


def test_named_hosts_are_those_the_operator_wrote_down() -> None:
    border = Border(INDEX, ("files.example", "other.example:8443"))
    named = ("pypi.corp.example", "PYPI.CORP.EXAMPLE", "files.example", "other.example")
    assert all(border.is_named(host) for host in named)
    assert not border.is_named("files.corp.example")


hosts = st.sampled_from(
    [
        "pypi.corp.example",
        "files.corp.example",
        "corp.example",
        "evil.example",
        "127.0.0.1",
        "[::1]",
    ]
)
urls = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "https:", "//", "ftp://", "HTTPS://", "https:/\\"]),
    st.sampled_from(
        ["", "user@", "a:b@", "evil.example\\", "evil.example#", "evil.example?", "\t"]
    ),
    hosts,
    st.sampled_from(["", ":443", ":80", ":0", ":8443", ":", ":443@evil.example", ".evil.example"]),
    st.sampled_from(["/", "", "/x@evil.example", "#@evil.example", "?@evil.example", "\\@x"]),
    st.text(max_size=5),
)


@given(urls)
def test_what_passes_goes_to_an_allowed_host_also_for_the_http_client(url: str) -> None:
    if Border(INDEX).objection(url) is not None:
        return
    try:
        asked = httpx.URL(url)
    except httpx.InvalidURL:
        return  # refused before a connection
    assert asked.scheme == "https"
    assert asked.host == "corp.example" or asked.host.endswith(".corp.example")
    assert asked.port in (None, 443)
    assert asked.userinfo == b""


@given(st.text(max_size=60) | urls)
def test_no_url_breaks_the_border(url: str) -> None:
    objection = Border(INDEX).objection(url)
    if objection is None:
        assert urlsplit(url).scheme == "https"
        assert UrlOrigin.of(url).port == 443


@pytest.mark.parametrize(
    ("address", "closed"),
    [
        ("0.0.0.0", True),
        ("10.1.2.3", True),
        ("100.64.0.1", True),
        ("127.0.0.1", True),
        ("169.254.169.254", True),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("8.8.8.8", False),
        ("192.0.2.1", False),
        ("::", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("2002:7f00:1::", True),  # 6to4 of 127.0.0.1
        ("64:ff9b::a9fe:a9fe", True),  # NAT64 of 169.254.169.254
        ("64:ff9b::808:808", False),
        ("::127.0.0.1", True),
        ("::8.8.8.8", True),
        ("::ffff:0:127.0.0.1", True),
        ("64:ff9b:1::a9fe:a9fe", True),
        ("2001:0:7f00:1::", True),  # Teredo
        ("192.0.0.192", True),
        ("198.18.0.1", True),
        ("168.63.129.16", True),
        ("168.63.129.17", False),
        ("fec0::1", True),
        ("fc00::1", True),
        ("fd12::1", True),
        ("fe80::1", True),
        ("ff02::1", True),
        ("2001:db8::1", False),
        ("2606:4700::1", False),
    ],
)
def test_closed_networks(address: str, closed: bool) -> None:
    assert is_closed(ipaddress.ip_address(address)) is closed


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_changes_nothing(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    wrapped = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
        ipaddress.IPv6Address((0x0064FF9B << 96) | number),
    ]
    assert [is_closed(one) for one in wrapped] == [is_closed(address)] * 3
    if address.is_loopback or address.is_link_local or address.is_multicast:
        assert is_closed(address)
