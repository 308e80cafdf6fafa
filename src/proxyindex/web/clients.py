"""What a user copies to point pip, uv, poetry or a Docker build at this index.

Pure texts; `banner.py` prints them at start, `landing.py` shows them in a browser.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

PLACEHOLDER_HOST = "HOST"  # where only the user knows what others call this machine


@dataclass(frozen=True, slots=True)
class ClientHints:
    """What people may be told about this server; nothing here is secret.

    `base_url`: the outside address without trailing slash; never taken from a request's `Host`.
    `upstreams`: configured names, in the order they are asked. `indexes`: the names of all, where
    there are several. `routes`: phrases, what comes from one upstream only. `needs_login`: not
    everybody may read everything. `takes_uploads`: somebody may upload.
    """

    base_url: str
    has_own_packages: bool
    upstreams: tuple[str, ...]
    version: str
    is_offline: bool = False
    indexes: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    needs_login: bool = False
    takes_uploads: bool = False

    @property
    def index_url(self) -> str:
        """What clients are given as index; installers expect the trailing slash."""
        return f"{self.base_url}/simple/"

    @property
    def serves(self) -> str:
        """One phrase: where answers come from, in order."""
        parts = ["own packages"] if self.has_own_packages else []
        if self.upstreams:
            word = "upstream" if len(self.upstreams) == 1 else "upstreams"
            parts.append(f"{word} {', '.join(self.upstreams)}")
        phrase = "; ".join([" first, then ".join(parts) or "nothing", *self.routes])
        return f"{phrase} (offline: from the cache only)" if self.is_offline else phrase


@dataclass(frozen=True, slots=True)
class Snippet:
    """Lines to copy: `where` is the file or place they belong to, `remark` what to know."""

    client: str
    where: str
    text: str
    remark: str = ""


def snippets(hints: ClientHints) -> tuple[Snippet, ...]:
    """The exact lines for each client, with the remarks its address makes necessary."""
    url = hints.index_url
    uv = f'[[tool.uv.index]]\nname = "proxyindex"\nurl = "{url}"\ndefault = true'
    return (
        _pip(hints),
        Snippet("uv", "environment", f"export UV_DEFAULT_INDEX={url}"),
        Snippet("uv", "pyproject.toml", uv, "In uv.toml the table is called [[index]]."),
        Snippet("poetry", "shell", f"poetry source add --priority=primary proxyindex {url}"),
        _docker(hints),
        *((_login(hints),) if hints.needs_login else ()),
        *(_uploads(hints) if hints.takes_uploads else ()),
    )


def token_snippets(
    hints: ClientHints, token: str, *, reads: bool, uploads: bool
) -> tuple[Snippet, ...]:
    """The lines for what a token is good for; `token` is in them."""
    netrc = Snippet("all", "~/.netrc", f"machine {_host(hints)} login __token__ password {token}")
    return (
        *(_reading(hints, token) if reads else ()),
        *(_uploading(hints, token) if uploads else ()),
        netrc,
    )


def _reading(hints: ClientHints, token: str) -> tuple[Snippet, ...]:
    parts = urlsplit(hints.base_url)
    index = parts._replace(netloc=f"__token__:{token}@{parts.netloc}").geturl() + "/simple/"
    login = f"poetry config http-basic.proxyindex __token__ {token}"
    pip = f"export PIP_INDEX_URL={index}"
    if _is_plain(hints):
        pip += f"\nexport PIP_TRUSTED_HOST={_netloc(hints)}"
    return (
        Snippet("pip", "environment", pip),
        Snippet("uv", "environment", f"export UV_DEFAULT_INDEX={index}"),
        Snippet("poetry", "shell, for a source called proxyindex", login),
    )


def _uploading(hints: ClientHints, token: str) -> tuple[Snippet, ...]:
    upload = f"{hints.base_url}/legacy/"
    twine = f"export TWINE_USERNAME=__token__ TWINE_PASSWORD={token}\n"
    poetry = (
        f"poetry config repositories.upload {upload}\n"
        f"poetry publish -r upload -u __token__ -p {token}"
    )
    return (
        Snippet("proxyindex", "shell", _publish(hints, token)),
        Snippet("uv", "shell", f"uv publish --publish-url {upload} --token {token}"),
        Snippet("twine", "shell", f"{twine}twine upload --repository-url {upload} dist/*"),
        Snippet("poetry", "shell", poetry),
    )


def _publish(hints: ClientHints, token: str) -> str:
    return f"PROXYINDEX_PUBLISH_TOKEN={token} proxyindex publish dist --to {hints.index_url}"


def _login(hints: ClientHints) -> Snippet:
    parts = urlsplit(hints.base_url)
    address = parts._replace(netloc=f"USER:PASSWORD@{parts.netloc}").geturl() + "/simple/"
    return Snippet(
        "Log-in",
        "~/.netrc",
        f"machine {_host(hints)} login USER password PASSWORD",
        f"Or in the address: {address}. With a token, USER is __token__.",
    )


def _uploads(hints: ClientHints) -> Iterator[Snippet]:
    remark = "`proxyindex token create` makes a TOKEN, on the server."
    for each in _uploading(hints, "TOKEN"):
        yield Snippet("Upload", f"{each.where}, with {each.client}", each.text, remark)
        remark = ""


def _pip(hints: ClientHints) -> Snippet:
    lines = ["[global]", f"index-url = {hints.index_url}"]
    remark = ""
    if _is_plain(hints):
        lines.append(f"trusted-host = {_netloc(hints)}")
        # measured with pip 26.3: loopback is trusted, but pages and files are not kept either
        remark = (
            "trusted-host lets pip use its own cache, which it does not over plain http."
            if is_loopback(hints.base_url)
            else "Over plain http pip refuses an index that is not a trusted-host."
        )
    return Snippet("pip", "pip.conf", "\n".join(lines), remark)


def _docker(hints: ClientHints) -> Snippet:
    # ARG and not ENV: the build uses the index, the image does not remember it
    lines = [f"ARG PIP_INDEX_URL={hints.index_url}", f"ARG UV_DEFAULT_INDEX={hints.index_url}"]
    if _is_plain(hints):
        lines.append(f"ARG PIP_TRUSTED_HOST={_netloc(hints)}")
    remark = ""
    if is_loopback(hints.base_url):
        remark = "Build with --network=host: in a container this address is the container's own."
    return Snippet("Docker", "Dockerfile", "\n".join(lines), remark)


def _netloc(hints: ClientHints) -> str:
    return urlsplit(hints.base_url).netloc


def _host(hints: ClientHints) -> str:
    """Without the port. In its own case: HOST stands for one that the reader knows."""
    netloc = _netloc(hints)
    host = urlsplit(hints.base_url).hostname or ""
    start = netloc.lower().find(host)
    return netloc[start : start + len(host)]


def _is_plain(hints: ClientHints) -> bool:
    return urlsplit(hints.base_url).scheme == "http"


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host (in lower case, without port) is spelled as; `localhost` is one, for
    no name server is asked for it (RFC 6761, 6.3). `None` for names."""
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return None


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is spelled as this machine itself."""
    address = address_of(urlsplit(url).hostname or "")
    return address is not None and address.is_loopback
