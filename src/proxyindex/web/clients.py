"""What a user copies to point pip, uv, poetry or a Docker build at this index.

Pure texts; `banner.py` prints them at start, `landing.py` shows them in a browser.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

PLACEHOLDER_HOST = "HOST"  # where only the user knows what others call this machine


@dataclass(frozen=True, slots=True)
class ClientHints:
    """What people may be told about this server; nothing here is secret.

    `base_url`: the outside address without trailing slash; never taken from a request's `Host`.
    `upstreams`: configured names, in order. `indexes`: the names of all, where there are several.
    """

    base_url: str
    has_own_packages: bool
    upstreams: tuple[str, ...]
    version: str
    is_offline: bool = False
    indexes: tuple[str, ...] = ()

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
        phrase = " first, then ".join(parts) or "nothing"
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
    )


def token_snippets(hints: ClientHints, token: str) -> tuple[Snippet, ...]:
    """The lines with which a token is used; `token` is in them."""
    parts = urlsplit(hints.base_url)
    index = parts._replace(netloc=f"__token__:{token}@{parts.netloc}").geturl() + "/simple/"
    upload = f"{hints.base_url}/legacy/"
    twine = f"export TWINE_USERNAME=__token__ TWINE_PASSWORD={token}\n"
    return (
        Snippet("pip", "environment", f"export PIP_INDEX_URL={index}"),
        Snippet("uv", "environment", f"export UV_DEFAULT_INDEX={index}"),
        Snippet("uv", "shell", f"uv publish --publish-url {upload} --token {token}"),
        Snippet("twine", "shell", f"{twine}twine upload --repository-url {upload} dist/*"),
        Snippet("all", "~/.netrc", f"machine {parts.hostname} login __token__ password {token}"),
    )


def _pip(hints: ClientHints) -> Snippet:
    lines = ["[global]", f"index-url = {hints.index_url}"]
    remark = ""
    if _is_plain(hints):
        lines.append(f"trusted-host = {_netloc(hints)}")
        # measured with pip 26.3: loopback is trusted, but pages and files are not kept either
        remark = (
            "trusted-host lets pip use its own cache, which it does not over plain http."
            if _is_loopback(hints)
            else "Over plain http pip refuses an index that is not a trusted-host."
        )
    return Snippet("pip", "pip.conf", "\n".join(lines), remark)


def _docker(hints: ClientHints) -> Snippet:
    # ARG and not ENV: the build uses the index, the image does not remember it
    lines = [f"ARG PIP_INDEX_URL={hints.index_url}", f"ARG UV_DEFAULT_INDEX={hints.index_url}"]
    if _is_plain(hints):
        lines.append(f"ARG PIP_TRUSTED_HOST={_netloc(hints)}")
    remark = ""
    if _is_loopback(hints):
        remark = "Build with --network=host: in a container this address is the container's own."
    return Snippet("Docker", "Dockerfile", "\n".join(lines), remark)


def _netloc(hints: ClientHints) -> str:
    return urlsplit(hints.base_url).netloc


def _is_plain(hints: ClientHints) -> bool:
    return urlsplit(hints.base_url).scheme == "http"


def _is_loopback(hints: ClientHints) -> bool:
    host = urlsplit(hints.base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
