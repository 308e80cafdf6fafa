"""Which URLs may be asked at all: the defence against request forgery through upstream's links.

Pure decisions. Clients never name a URL, but an upstream's page, `<base>` or `Location` could
point anywhere; so scheme, host, port and (for hosts that nobody configured) the resolved address
are checked on every hop.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORTS = {"http": 80, "https": 443}
_CLOSED_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "168.63.129.16/32",  # a cloud's host agent, at a public address
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata service among them
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks of network gear
        "224.0.0.0/3",
        "::/96",  # unspecified, loopback, and IPv4 in the form given up long ago
        "::ffff:0:0:0/96",  # IPv4 as translators write it (RFC 2765)
        "64:ff9b:1::/48",  # a translator's own prefix (RFC 8215): nobody knows which IPv4
        "2001::/32",  # Teredo
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)

# Suffixes below which everybody gets a name of their own: neighbours there are strangers. The usual
# places to serve files from; what is missing costs no more than a request without credentials.
_SHARED_SUFFIXES = (
    "amazonaws.com",
    "appspot.com",
    "azure.com",
    "azureedge.net",
    "azurewebsites.net",
    "blogspot.com",
    "cloudfront.net",
    "digitaloceanspaces.com",
    "duckdns.org",
    "dyndns.org",
    "fastly.net",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "githubusercontent.com",
    "gitlab.io",
    "googleapis.com",
    "herokuapp.com",
    "linodeobjects.com",
    "netlify.app",
    "ngrok.io",
    "no-ip.org",
    "onrender.com",
    "pages.dev",
    "r2.dev",
    "readthedocs.io",
    "run.app",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
)
_REGISTRIES = frozenset({"arpa", "asso", "coop", "firm", "gouv", "govt", "info", "school"})

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: a gateway translates to the last 32 bits


@dataclass(frozen=True, slots=True)
class UrlOrigin:
    """Scheme, lower-case host and port: what credentials belong to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "UrlOrigin":
        """Raises `ValueError` for anything that is not a plain http(s) URL."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("not an http or https URL")
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        return cls(parts.scheme, parts.hostname.lower(), port)


class Border:
    """The hosts that one upstream may lead us to.

    Its own origin; hosts the operator listed (`name` or `name:port`); and, where none is listed,
    hosts below the same parent domain (`files.corp.example` for `pypi.corp.example`), unless that
    domain is one where strangers register names (`co.uk`, `github.io`).
    """

    def __init__(self, index_url: str, file_hosts: tuple[str, ...] = ()) -> None:
        self.index = UrlOrigin.of(index_url)
        self._listed = {_split_host(entry) for entry in file_hosts}
        self._family = None if file_hosts else _parent_domain(self.index.host)

    def objection(self, url: str) -> str | None:
        """Why the URL must not be asked, as a phrase, or `None` if it may."""
        try:
            parts = urlsplit(url)
            origin = UrlOrigin.of(url)
        except ValueError:
            return "is not an http or https URL"
        if "@" in parts.netloc:
            return "carries credentials"
        if origin == self.index:
            return None
        if origin.scheme == "http" and self.index.scheme == "https":
            return "is a downgrade to plain http"
        if not self._may_reach(origin):
            return f"leads to {origin.host}:{origin.port}, which is not in file-hosts"
        return None

    def is_index_origin(self, url: str) -> bool:
        """Whether the URL is of the index's own origin, to which alone credentials go."""
        return UrlOrigin.of(url) == self.index

    def is_named(self, host: str) -> bool:
        """Whether the operator named this host, so that any address it has is meant."""
        return host.lower() == self.index.host or host.lower() in {name for name, _ in self._listed}

    def _may_reach(self, origin: UrlOrigin) -> bool:
        usual = origin.port == DEFAULT_PORTS[origin.scheme]
        if (origin.host, origin.port) in self._listed:
            return True
        if (origin.host, None) in self._listed:
            return usual
        same_family = self._family is not None and (
            origin.host == self._family or origin.host.endswith("." + self._family)
        )
        return (same_family or origin.host == self.index.host) and usual


def is_closed(address: IPAddress) -> bool:
    """Whether an address lies in a network that public names have no business in.

    Loopback, link-local (cloud metadata services), private, shared, multicast, unspecified, also
    when mapped into IPv6. Documentation ranges are left alone: they lead nowhere.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _translated(address)
        if inner is not None:
            return is_closed(inner)
    return any(
        address in network for network in _CLOSED_NETWORKS if network.version == address.version
    )


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _split_host(entry: str) -> tuple[str, int | None]:
    """Host and port as `UrlOrigin` has them: an IPv6 address without its brackets."""
    host, _, port = entry.lower().rpartition(":")
    if host and port.isdigit():
        return host.strip("[]"), int(port)
    return entry.lower().strip("[]"), None


def _parent_domain(host: str) -> str | None:
    labels = host.rstrip(".").split(".")
    if len(labels) < 3 or labels[-1].isdigit() or ":" in host:
        return None  # an address, or a name whose parent would be a whole top-level domain
    parent = ".".join(labels[1:])
    return None if _is_shared(parent) else parent


def _is_shared(domain: str) -> bool:
    """Whether strangers may own names below `domain`, by rules of thumb that err on this side.

    Below a country's domain a second level of up to three letters is taken for a registry's
    (`co.uk`, `com.au`, `ne.jp`); a company with so short a name lists its file hosts.
    """
    second, _, top = domain.rpartition(".")
    if len(top) == 2 and "." not in second and (len(second) <= 3 or second in _REGISTRIES):
        return True
    return any(domain == suffix or domain.endswith("." + suffix) for suffix in _SHARED_SUFFIXES)
