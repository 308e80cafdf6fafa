"""Makes `UpstreamSettings` of URLs and TOML tables: names, credentials, the default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from proxyindex.config import layers
from proxyindex.config.mistakes import DEFAULT, Given, Mistakes, Place, Rank
from proxyindex.config.options import ENV_PREFIX, UPSTREAM_OPTIONS
from proxyindex.settings import Secret, UpstreamSettings
from proxyindex.upstream.default import DEFAULT_NAME, default_file_host, default_index_url
from proxyindex.upstream.logins import InvalidNetrc, login

_LARGEST_PASSWORD_FILE = 64 * 1024
_PATHS = ("ca_file", "client_cert", "client_key")
_OPTIONS = {option.key: option for option in UPSTREAM_OPTIONS}

Entry = dict[str, Given]


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The upstreams in order, and where each of their values came from (`NAME.KEY`)."""

    settings: tuple[UpstreamSettings, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


def build(entries: Given, environ: Mapping[str, str], mistakes: Mistakes) -> Upstreams:
    """Upstreams of URLs and tables. Everything wrong with them goes to `mistakes`."""
    listed = entries.value if isinstance(entries.value, tuple) else ()
    found: dict[str, UpstreamSettings] = {}
    sources: dict[str, str] = {}
    for number, entry in enumerate(listed, 1):
        place = entries.place
        if len(listed) > 1 or isinstance(entry, dict):
            place = Place(place.rank, f"{place.name}[{number}]", place.file)
        values = _values(entry, place, mistakes)
        if not (upstream := _upstream(values, environ, mistakes)):
            continue
        if upstream.name in found:
            mistakes.say(place, f"a second upstream named {upstream.name!r}; give it another name")
        elif alike := [name for name in found if _variable(name) == _variable(upstream.name)]:
            # or the credentials of one would go to the other
            mistakes.say(
                place,
                f"{upstream.name!r} and {alike[0]!r} share the variables "
                f"{_prefix(upstream.name)}USERNAME and …_PASSWORD; give one another name",
            )
        found[upstream.name] = upstream
        sources |= {f"{upstream.name}.{key}": given.place.source for key, given in values.items()}
    _check_variables(found, environ, mistakes)
    return Upstreams(tuple(found.values()), sources)


def default() -> Given:
    """PyPI, when nobody names another upstream."""
    return Given((default_index_url(),), DEFAULT)


def _values(entry: object, place: Place, mistakes: Mistakes) -> Entry:
    if isinstance(entry, dict):
        raw = dict(layers.table_keys(entry, UPSTREAM_OPTIONS, place.file, mistakes, place))
    else:
        raw = {"url": Given(entry, place)}
    values = layers.read_all(raw.items(), _OPTIONS, mistakes)
    if "url" not in raw:
        mistakes.say(place, "an upstream needs a url")
    return values


def _upstream(
    values: Entry, environ: Mapping[str, str], mistakes: Mistakes
) -> UpstreamSettings | None:
    if "url" not in values:
        return None
    _move_credentials(values, mistakes)
    url = str(values["url"].value)
    is_default = _same_index(url, default_index_url())
    name = values.setdefault("name", Given(DEFAULT_NAME if is_default else _name(url), DEFAULT))
    _read_password(values, environ, mistakes)
    _apply_variables(values, str(name.value), environ)
    _look_up_netrc(values, environ, mistakes)
    if "password" in values and "username" not in values and mistakes.is_ready:
        mistakes.say(values["password"].place, "a password needs a username beside it")
    _check_paths(values, mistakes)
    fields = layers.fields((key, given.value) for key, given in values.items())
    if is_default:
        hosts = fields.get("file_hosts", ())
        fields["file_hosts"] = tuple(dict.fromkeys((*hosts, default_file_host())))
    return UpstreamSettings(**fields)


def _move_credentials(values: Entry, mistakes: Mistakes) -> None:
    url = values["url"]
    parts = urlsplit(str(url.value))
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return
    values["url"] = Given(parts._replace(netloc=host).geturl(), url.place)
    if values.keys() & {"username", "password", "password_env", "password_file"}:
        mistakes.say(url.place, "credentials both in the URL and beside it")
    username, _, password = userinfo.partition(":")
    if username:
        values["username"] = Given(unquote(username), url.place)
    if password:
        values["password"] = Given(Secret(unquote(password)), url.place)


def _read_password(values: Entry, environ: Mapping[str, str], mistakes: Mistakes) -> None:
    ways = values.keys() & {"password", "password_env", "password_file"}
    if len(ways) > 1:
        keys = ", ".join(sorted(ways)).replace("_", "-")  # as the documentation spells them
        mistakes.say(values[min(ways)].place, f"only one of {keys} may be given")
    if by_name := values.pop("password_env", None):
        if password := environ.get(str(by_name.value)):
            values["password"] = Given(Secret(password), by_name.place)
        else:
            mistakes.unset(by_name.place, by_name.value, "the name of a variable that is set")
    if by_file := values.pop("password_file", None):
        try:
            with Path(str(by_file.value)).open("rb") as stream:
                text = stream.read(_LARGEST_PASSWORD_FILE + 1).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            mistakes.absent(by_file.place, Path(str(by_file.value)), "a readable text file")
            return
        if not text or "\n" in text or len(text) > _LARGEST_PASSWORD_FILE:
            mistakes.absent(by_file.place, Path(str(by_file.value)), "a file of one line")
        else:
            values["password"] = Given(Secret(text), by_file.place)


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _prefix(name: str) -> str:
    return f"{ENV_PREFIX}UPSTREAM_{_variable(name)}_"


def _apply_variables(values: Entry, name: str, environ: Mapping[str, str]) -> None:
    for key in ("username", "password"):
        variable = f"{_prefix(name)}{key.upper()}"
        if text := environ.get(variable):
            value = Secret(text) if key == "password" else text
            values[key] = Given(value, Place(Rank.ENVIRONMENT, variable))


def _check_variables(
    found: Mapping[str, UpstreamSettings], environ: Mapping[str, str], mistakes: Mistakes
) -> None:
    known = {_variable(name) for name in found}
    for variable in sorted(environ) if found else ():
        match = layers.CREDENTIAL.fullmatch(variable)
        if match and match[1] not in known:
            names = ", ".join(sorted(found))
            mistakes.say(
                Place(Rank.ENVIRONMENT, variable), f"no upstream has this name; there are {names}"
            )


def _look_up_netrc(values: Entry, environ: Mapping[str, str], mistakes: Mistakes) -> None:
    host = urlsplit(str(values["url"].value)).hostname or ""
    if values.keys() & {"username", "password"} or not host:
        return
    try:
        found = login(host, environ)
    except InvalidNetrc as problem:
        place = Place(Rank.ENVIRONMENT, "NETRC")
        mistakes.unset(place, str(problem.path), "a readable netrc file")
        return
    if found:
        place = Place(Rank.FILE, host, found.path)
        values["username"] = Given(found.username, place)
        if found.password:
            values["password"] = Given(Secret(found.password), place)


def _check_paths(values: Entry, mistakes: Mistakes) -> None:
    for key in _PATHS:
        if given := values.get(key):
            mistakes.need_file(given.place, Path(str(given.value)))
    if "client_key" in values and "client_cert" not in values:
        mistakes.say(values["client_key"].place, "needs a client-cert beside it")


def _same_index(one: str, other: str) -> bool:
    first, second = urlsplit(one), urlsplit(other)
    return (first.scheme, first.netloc.lower(), first.path.rstrip("/")) == (
        second.scheme,
        second.netloc.lower(),
        second.path.rstrip("/"),
    )


def _name(url: str) -> str:
    # host, odd port and path: stable, and different for two indexes of one host
    parts = urlsplit(url)
    port = f"-{parts.port}" if parts.port else ""
    path = parts.path.rstrip("/").removesuffix("/simple")
    name = re.sub(r"[^a-z0-9]+", "-", f"{parts.hostname}{port}{path}".lower()).strip("-")
    return name[:64].strip("-") or "upstream"
