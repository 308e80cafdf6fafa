"""The configuration: one table, four layers, all mistakes at once, nothing secret shown."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxyindex.config import (
    INDEX_OPTIONS,
    INHERITANCE_OPTIONS,
    OPTIONS,
    UPSTREAM_OPTIONS,
    Loaded,
    NotReady,
    Option,
    load,
)
from proxyindex.config.show import as_json, as_toml, shown_default
from proxyindex.errors import ConfigError
from proxyindex.settings import IndexSettings, PolicySettings, Secret, Settings, UpstreamSettings
from proxyindex.upstream.default import default_file_host, default_index_url

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
BY_KEY = {option.key: option for option in OPTIONS}

# texts that are valid and not the default, two per option; "" stands for an existing path
SAMPLES: dict[str, tuple[str, str]] = {
    "folders": ("", ""),
    "upstream": ("https://one.example/simple", "https://two.example/simple"),
    "no_upstream": ("true", "true"),
    "host": ("10.0.0.1", "server.example"),
    "port": ("81", "0"),
    "unix_socket": ("/run/one.sock", "/run/two.sock"),
    "tls_cert": ("", ""),
    "tls_key": ("", ""),
    "base_path": ("/pypi", "/a/b"),
    "public_url": ("https://one.example", "https://two.example/pypi"),
    "workers": ("2", "3"),
    "grace": ("1s", "2s"),
    "cache_dir": ("/tmp/one", "/tmp/two"),
    "cache_size": ("1GB", "2GiB"),
    "page_cache_size": ("1GB", "2GiB"),
    "offline": ("true", "true"),
    "look_ahead": ("false", "true"),
    "page_ttl": ("1m", "2m"),
    "stale_while_revalidate": ("1m", "2m"),
    "stale_if_error": ("1d", "2d"),
    "negative_ttl": ("1s", "2s"),
    "max_file_size": ("1GB", "2GB"),
    "max_page_size": ("1MiB", "2MiB"),
    "max_upload_size": ("1GB", "2GB"),
    "max_transfers": ("1", "2"),
    "project_list": ("all", "all"),
    "routes": ("torch*=folders", "acme-*=pypi"),
    "fallback": ("redirect", "none"),
    "merge": ("one", "two-*"),
    "overwrite": ("true", "true"),
    "claim": ("one", "two-*"),
    "read": ("@users", "alice"),
    "fetch": ("@users", "alice acme-*"),
    "upload": ("alice", "*"),
    "delete": ("alice", "*"),
    "yank": ("alice", "*"),
    "admin": ("alice", "*"),
    "select_by_user": ("true", "true"),
    "policy.reserved": ("one", "two-*"),
    "policy.allow": ("one", "two>=2"),
    "policy.deny": ("one", "two >=2,<3"),
    "htpasswd": ("", ""),
    "tokens": ("/run/one.json", "/run/two.json"),
    "remote_user_header": ("Remote-User", "X-User"),
    "remote_user_from": ("10.0.0.1", "unix"),
    "trusted_proxies": ("10.0.0.1", "10.0.0.0/8"),
    "log_format": ("json", "json"),
    "log_level": ("debug", "error"),
    "audit_log": ("/run/one.log", "/run/two.log"),
}
# `default_index` needs tables: see tests/unit/test_config_indexes.py
IN_FILE = [o for o in OPTIONS if o.in_file and o.is_text and o.key != "default_index"]


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration file and says where it is."""

    def write(text: str) -> Path:
        path = tmp_path / "proxyindex.toml"
        path.write_text(text)
        return path

    return write


def mistakes_of(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, environ or {})
    return caught.value.mistakes


def value_of(settings: Settings, option: Option) -> object:
    if option.key == "no_upstream":
        return not settings.upstreams
    if option.key == "upstream":
        return [upstream.url for upstream in settings.upstreams]
    value: object = settings
    for name in option.attribute.split("."):
        value = getattr(value, name)
    return value


def setup_for(key: str, tmp_path: Path) -> tuple[dict[str, object], tuple[str, str]]:
    """Flags without which the sample of this key is no whole configuration, and the samples."""
    here = tmp_path / "one"
    there = tmp_path / "two"
    for folder in (here, there):
        folder.mkdir()
        (folder / "file.pem").touch()
    flags: dict[str, object] = {} if key == "folders" else {"folders": (str(here),)}
    if key == "folders":
        return flags, (str(here), str(there))
    if key == "htpasswd":
        return flags, (str(here / "file.pem"), str(there / "file.pem"))
    if key == "remote_user_header":
        flags["remote_user_from"] = ("unix",)
    if key == "remote_user_from":
        flags["remote_user_header"] = "Remote-User"
    if key in {"tls_cert", "tls_key"}:
        other = {"tls_cert": "tls_key", "tls_key": "tls_cert"}[key]
        flags[other] = str(here / "file.pem")
        return flags, (str(here / "file.pem"), str(there / "file.pem"))
    return flags, SAMPLES[key]


def as_flag(option: Option, text: str) -> object:
    return (text,) if option.kind.split else text


def as_file(option: Option, text: str) -> str:
    table, _, key = option.key.rpartition(".")
    value = json.dumps([text] if option.kind.split else text)
    return (f"[{table}]\n" if table else "") + f"{key.replace('_', '-')} = {value}\n"


def test_table_has_every_setting_once() -> None:
    attributes = [option.attribute for option in OPTIONS if option.key != "no_upstream"]
    expected = {field.name for field in fields(Settings)} - {"policy"}
    expected |= {f"policy.{field.name}" for field in fields(PolicySettings)}
    assert sorted(attributes) == sorted(expected)


def test_index_table_has_every_setting_once() -> None:
    keys = [option.key for option in (*INDEX_OPTIONS, *INHERITANCE_OPTIONS)]
    expected = {field.name for field in fields(IndexSettings)} - {"policy", "name"}
    expected |= {f"policy.{field.name}" for field in fields(PolicySettings)}
    assert sorted(keys) == sorted(expected)


def test_upstream_table_has_every_setting_once() -> None:
    keys = [option.key for option in UPSTREAM_OPTIONS]
    expected = {field.name for field in fields(UpstreamSettings)} - {"policy"}
    expected |= {f"policy.{field.name}" for field in fields(PolicySettings)}
    assert sorted(keys) == sorted(expected | {"password_env", "password_file"})


def test_samples_cover_the_table() -> None:
    assert SAMPLES.keys() == {option.key for option in IN_FILE}


@pytest.mark.parametrize("option", IN_FILE, ids=lambda option: option.key)
def test_every_option_is_read_alike_from_flag_environment_and_file(
    option: Option, tmp_path: Path, toml: Callable[[str], Path]
) -> None:
    flags, (text, _) = setup_for(option.key, tmp_path)
    path = toml(as_file(option, text))
    ways: list[tuple[dict[str, object], dict[str, str], str]] = [
        ({option.key: as_flag(option, text)}, {}, "flag "),
        ({}, {option.variable: text}, f"env {option.variable}"),
        ({"config": str(path)}, {}, f"{path}:{option.toml}"),
    ]
    seen = []
    for more, environ, source in ways:
        loaded = load(flags | more, environ)
        seen.append(value_of(loaded.settings, option))
        assert loaded.sources[option.key].startswith(source)
    assert seen[0] == seen[1] == seen[2]
    without = load({"folders": (str(tmp_path),)}).settings
    assert seen[0] != value_of(without, option)


@pytest.mark.parametrize("option", IN_FILE, ids=lambda option: option.key)
def test_flag_wins_over_environment_and_environment_over_file(
    option: Option, tmp_path: Path, toml: Callable[[str], Path]
) -> None:
    flags, (low, high) = setup_for(option.key, tmp_path)
    config: dict[str, object] = {"config": str(toml(as_file(option, low)))}
    by_flag = load(flags | {option.key: as_flag(option, high)}).settings

    over_file = load(flags | config, {option.variable: high})
    assert value_of(over_file.settings, option) == value_of(by_flag, option)
    assert over_file.sources[option.key] == f"env {option.variable}"

    over_both = load(flags | config | {option.key: as_flag(option, high)}, {option.variable: low})
    assert value_of(over_both.settings, option) == value_of(by_flag, option)
    assert over_both.sources[option.key].startswith("flag ")


def test_no_setting_means_pypi_as_pip_knows_it() -> None:
    loaded = load()
    (upstream,) = loaded.settings.upstreams
    assert upstream.name == "pypi"
    assert upstream.url == default_index_url()
    assert upstream.file_hosts == (default_file_host(),)
    assert loaded.settings.cache_dir.name == "proxyindex"
    assert {loaded.sources[option.key] for option in OPTIONS} == {"default"}


def test_settings_of_pip_are_not_consulted() -> None:
    (upstream,) = load({}, {"PIP_INDEX_URL": "http://127.0.0.1:8080/simple/"}).settings.upstreams
    assert upstream.url == default_index_url()


@pytest.mark.parametrize("end", ["", "/"])
def test_pypi_named_by_url_has_its_file_host_too(end: str, toml: Callable[[str], Path]) -> None:
    url = default_index_url() + end
    path = toml(f'[[upstream]]\nname = "mine"\nurl = "{url}"\nfile-hosts = ["more.example"]\n')
    (upstream,) = load({"config": str(path)}).settings.upstreams
    assert (upstream.name, upstream.file_hosts) == ("mine", ("more.example", default_file_host()))
    assert load({"upstream": (url,)}).settings.upstreams[0].name == "pypi"


def test_pypi_is_named_without_its_address(toml: Callable[[str], Path]) -> None:
    path = toml(
        '[[upstream]]\nurl = "https://index.example/simple"\n\n[[upstream]]\nurl = "pypi"\n'
    )
    by_table = load({"config": str(path)}).settings.upstreams
    by_text = load({"upstream": ("https://index.example/simple", "pypi")}).settings.upstreams
    assert by_table == by_text
    assert by_table[-1] == load().settings.upstreams[0]


@pytest.mark.parametrize("joint", [" ", ",", "; ", ",,", " , "])
@pytest.mark.parametrize(
    "urls",
    [
        ["https://a.example/simple", "pypi"],
        ["pypi", "https://a.example/simple"],
        ["https://a.example/simple", "pypi", "https://b.example/pypi"],
        ["pypi", "https://a.example/simple", "https://b.example/simple"],
        ["https://u:secret,pypi,more@a.example/simple", "https://b.example/simple"],
    ],
)
def test_a_variable_names_pypi_among_urls(urls: list[str], joint: str) -> None:
    by_flag = load({"upstream": tuple(urls)}).settings.upstreams
    assert load({}, {"PROXYINDEX_UPSTREAM": joint.join(urls)}).settings.upstreams == by_flag


def test_other_upstreams_get_no_file_hosts_and_a_name_from_their_url() -> None:
    urls = (
        "https://index.example/simple/",
        "https://wheels.example:8443/whl/cpu",
        "http://[::1]:81/simple",
    )
    upstreams = load({"upstream": urls}).settings.upstreams
    names = [upstream.name for upstream in upstreams]
    assert names == ["index-example", "wheels-example-8443-whl-cpu", "1-81"]
    assert upstreams[0] == UpstreamSettings("index-example", "https://index.example/simple")


@pytest.mark.parametrize(
    ("url", "read"),
    [
        (
            "http://b\u00fccher.example:81/r\u00e9po/a%2Fb",
            "xn--bcher-kva.example:81/r\u00e9po/a%2Fb",
        ),
        ("http://B\u00dcCHER.example", "xn--bcher-kva.example"),
        ("http://xn--bcher-kva.example/r%C3%A9po", "xn--bcher-kva.example/r%C3%A9po"),
        ("http://Index.example/A%2fb/{c}", "Index.example/A%2fb/{c}"),
        ("http://[::1]/\u00e9", "[::1]/\u00e9"),
    ],
)
def test_a_host_is_read_as_it_is_asked_for(url: str, read: str) -> None:
    flags = {"upstream": (url,), "public_url": url, "proxy": url.replace("//", "//\u00fc:\u00e4@")}
    settings = load(flags, {}).settings
    assert (settings.upstreams[0].url, settings.public_url) == (f"http://{read}", f"http://{read}")
    (mine,) = load({"upstream": (flags["proxy"],)}).settings.upstreams
    assert (mine.url, mine.username) == (f"http://{read}", "\u00fc")
    assert mine.password is not None
    assert mine.password.reveal() == "\u00e4"


@pytest.mark.parametrize(
    "host", ["b\u00fc..example", "-\u00fc.example", "\u2488com", "\u00fc" * 64]
)
def test_a_host_that_no_name_server_can_hold_is_refused(
    host: str, toml: Callable[[str], Path]
) -> None:
    (mistake,) = mistakes_of({"upstream": (f"http://{host}/simple",)})
    assert "expected pypi, or an http(s) address" in mistake
    text = f"[[upstream]]\nurl = 'https://x.example'\nfile-hosts = ['{host}']"
    (mistake,) = mistakes_of({"config": str(toml(text))})
    assert "expected a host or host:port" in mistake


def test_whole_file_is_read(tmp_path: Path, toml: Callable[[str], Path]) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "ca.pem").touch()
    path = toml("""
        folders = ["packages"]
        page_ttl = 90
        cache-size = "20GB"
        [policy]
        deny = ["torch >= 2, <3"]
        [[upstream]]
        name = "corp"
        url = "https://user:p%40ss@corp.example/simple/"
        ca-file = "ca.pem"
        connect-timeout = 1.5
        forbidden-is-missing = true
        policy = { reserved = ["acme"] }
        [[upstream]]
        url = "https://other.example/simple"
    """)
    settings = load({"config": str(path)}).settings
    assert settings.folders == (tmp_path / "packages",)
    assert (settings.page_ttl, settings.cache_size) == (90.0, 20_000_000_000)
    assert settings.policy == PolicySettings(deny=("torch >= 2, <3",))
    assert settings.config_file == path
    assert settings.upstreams == (
        UpstreamSettings(
            name="corp",
            url="https://corp.example/simple",
            username="user",
            password=Secret("p@ss"),
            ca_file=tmp_path / "ca.pem",
            connect_timeout=1.5,
            forbidden_is_missing=True,
            policy=PolicySettings(reserved=("acme",)),
        ),
        UpstreamSettings(name="other-example", url="https://other.example/simple"),
    )


def test_file_in_the_working_directory_is_not_read_unless_named(
    tmp_path: Path, toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml("port = 1234")
    monkeypatch.chdir(tmp_path)
    assert load().settings.port == 8080
    assert load({}, {"PROXYINDEX_CONFIG": path.name}).settings.port == 1234


def test_lists_in_the_environment_are_split_at_commas_and_blanks(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    environ = {
        "PROXYINDEX_FOLDERS": f"{tmp_path}/a:{tmp_path}/b,{tmp_path}/c",
        "PROXYINDEX_POLICY_DENY": "torch >= 2, <3, evil-*  old<1 keep!=2",
        "PROXYINDEX_UPSTREAM": "https://one.example/simple https://two.example/simple",
    }
    settings = load({}, environ).settings
    assert [folder.name for folder in settings.folders] == ["a", "b", "c"]
    assert settings.policy.deny == ("torch >= 2, <3", "evil-*", "old <1", "keep !=2")
    assert [upstream.name for upstream in settings.upstreams] == ["one-example", "two-example"]


def test_a_password_may_hold_what_separates_urls() -> None:
    text = "http://ci:hunter,2;x@one.example/simple, HTTPS://two.example/simple;"
    one, two = load({}, {"PROXYINDEX_UPSTREAM": text}).settings.upstreams
    assert (one.username, one.password) == ("ci", Secret("hunter,2;x"))
    assert (one.url, two.url) == ("http://one.example/simple", "https://two.example/simple")


@pytest.mark.parametrize("password", ["hunter two", "hunter, two", "hunter,\ttwo", "hunter,t/wo"])
def test_no_part_of_a_password_is_shown_where_its_url_is_refused(password: str) -> None:
    found = mistakes_of({}, {"PROXYINDEX_UPSTREAM": f"http://ci:{password}@one.example/simple"})
    assert len(found) == 1
    assert "'http://****@one.example/simple': expected" in found[0]


@pytest.mark.parametrize("entry", ["h:0", "h:65536", "[::1]:70000", "h:443/x", "h:"])
def test_a_file_host_has_a_port_that_exists_or_none(
    entry: str, toml: Callable[[str], Path]
) -> None:
    text = "[[upstream]]\nurl = 'https://x.example'\nfile-hosts = ['h:65535', '[::1]', '{}']"
    (upstream,) = load(
        {"config": str(toml(text.format("b\u00fccher.example:81")))}
    ).settings.upstreams
    assert upstream.file_hosts == ("h:65535", "[::1]", "xn--bcher-kva.example:81")
    (mistake,) = mistakes_of({"config": str(toml(text.format(entry)))})
    assert f"= {entry!r}: expected a host or host:port" in mistake


def test_password_comes_from_a_named_variable_or_file(
    tmp_path: Path, toml: Callable[[str], Path]
) -> None:
    (tmp_path / "token").write_text("from file\n")
    path = toml("""
        [[upstream]]
        name = "one"
        url = "https://one.example"
        username = "u"
        password-env = "TOKEN"
        [[upstream]]
        name = "two"
        url = "https://two.example"
        username = "u"
        password-file = "token"
    """)
    one, two = load({"config": str(path)}, {"TOKEN": "from variable"}).settings.upstreams
    assert one.password == Secret("from variable")
    assert two.password == Secret("from file")


def test_variables_named_after_an_upstream_override_its_credentials() -> None:
    loaded = load(
        {"upstream": ("https://a:b@one.example/simple",)},
        {
            "PROXYINDEX_UPSTREAM_ONE_EXAMPLE_USERNAME": "user",
            "PROXYINDEX_UPSTREAM_ONE_EXAMPLE_PASSWORD": "word",
        },
    )
    (upstream,) = loaded.settings.upstreams
    assert (upstream.username, upstream.password) == ("user", Secret("word"))
    source = loaded.sources["upstream.one-example.password"]
    assert source == "env PROXYINDEX_UPSTREAM_ONE_EXAMPLE_PASSWORD"


def test_credentials_of_no_upstream_are_a_mistake() -> None:
    (mistake,) = mistakes_of({}, {"PROXYINDEX_UPSTREAM_CORP_PASSWORD": "secret"})
    assert "PROXYINDEX_UPSTREAM_CORP_PASSWORD" in mistake
    assert "there are pypi" in mistake
    assert "secret" not in mistake


@pytest.mark.parametrize("by_variable", [True, False])
def test_netrc_is_used_for_its_very_host_when_nothing_else_is_given(
    tmp_path: Path, by_variable: bool
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine one.example login u password p\ndefault login d password d\n")
    environ = {"NETRC": str(netrc)} if by_variable else {"HOME": str(tmp_path)}
    urls = ("https://one.example/simple", "https://two.example", "https://x:y@one.example/other")
    one, two, three = load({"upstream": urls}, environ).settings.upstreams
    assert (one.username, one.password) == ("u", Secret("p"))
    assert (two.username, two.password) == (None, None)
    assert (three.username, three.password) == ("x", Secret("y"))


def test_broken_netrc_matters_only_when_named(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("nonsense here")
    assert load({}, {"HOME": str(tmp_path)}).settings.upstreams[0].username is None
    (mistake,) = mistakes_of({}, {"NETRC": str(tmp_path / ".netrc")})
    assert "NETRC" in mistake


@pytest.mark.parametrize("text", ["false\r", " No\n", "\t0"])
def test_a_switch_may_have_the_end_of_a_line_behind_it(text: str) -> None:
    assert not load(environ={"PROXYINDEX_LOOK_AHEAD": text}).settings.look_ahead


@pytest.mark.parametrize("kind", ["pipe", "endless", "large", "none"])
def test_a_netrc_that_is_no_regular_file_of_sensible_size_is_not_read(
    tmp_path: Path, kind: str
) -> None:
    path = {"endless": Path("/dev/zero"), "none": Path("/dev/null")}.get(kind, tmp_path / ".netrc")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_text("machine one.example login u password p\n" + " " * 1024**2)
    urls = {"upstream": ("https://one.example/simple",)}
    assert load(urls, {"HOME": str(tmp_path)}).settings.upstreams[0].username is None
    if kind == "none":
        assert load(urls, {"NETRC": str(path)}).settings.upstreams[0].username is None
    else:
        (mistake,) = mistakes_of(urls, {"NETRC": str(path)})
        assert "a readable netrc file" in mistake


def test_all_mistakes_are_reported_at_once_with_place_value_and_remedy(
    toml: Callable[[str], Path],
) -> None:
    path = toml("""
        page-tll = "10m"
        port = 70000
        cache_size = "lots"
        policy = 3
        host = "a b"
        project-list = "some"
        [[upstream]]
        url = "https://u:secret@x.example/simple?token=secret"
        [[upstream]]
        name = "Corp"
        url = "https://x.example/simple"
        pasword = "secret"
        password = "secret"
        password-env = "NOPE"
        policy.deny = ["a>>1", "b<2"]
        retries = -1
        [[upstream]]
        username = "nobody"
    """)
    found = mistakes_of(
        {"config": str(path), "tls_cert": "gone.pem", "base_path": "x y"},
        {"PROXYINDEX_WORKERS": "many", "PROXYINDEX_PAGETTL": "1m"},
    )
    expected = [
        f"{path}: page-tll: unknown key; did you mean 'page-ttl'?",
        f"{path}: port = 70000: expected a whole number from 0 to 65535.",
        f"{path}: cache_size = 'lots': expected a size of at least 1 byte",
        f"{path}: policy = 3: expected a table [policy].",
        f"{path}: host = 'a b': expected an address or host name",
        f"{path}: project-list = 'some': expected one of local, all.",
        f"{path}: upstream[1].url = 'https://****@x.example/simple?****': expected pypi, or",
        f"{path}: upstream[2].name = 'Corp': expected a short name",
        f"{path}: upstream[2].pasword: unknown key; did you mean 'password'?",
        f"{path}: upstream[2].password: only one of password, password-env may be given.",
        f"{path}: upstream[2].password-env = 'NOPE': expected the name of a variable that is set.",
        f"{path}: upstream[2].policy.deny = 'a>>1': expected a project pattern",
        f"{path}: upstream[2].retries = -1: expected a whole number from 0 to 20.",
        f"{path}: upstream[2].password: a password needs a username beside it.",
        f"{path}: upstream[3]: an upstream needs a url.",
        "command line: --tls-cert: needs tls-key beside it.",
        "command line: --tls-cert = 'gone.pem': this path does not exist.",
        "command line: --base-path = 'x y': expected a path such as /pypi",
        "environment: PROXYINDEX_WORKERS = 'many': expected a whole number from 1 to 256.",
        "environment: PROXYINDEX_PAGETTL: unknown variable; did you mean 'PROXYINDEX_PAGE_TTL'?",
    ]
    for start in expected:
        assert [mistake for mistake in found if mistake.startswith(start)], start
    assert len(found) == len(expected)
    assert "secret" not in "\n".join(found)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("port", "-1"),
        ("port", "80.5"),
        ("port", "\u0668"),
        ("workers", "0"),
        ("host", "http://x"),
        ("base_path", "pypi"),
        ("base_path", "/a/../b"),
        ("base_path", "/a//b"),
        ("base_path", "/a?b"),
        ("public_url", "packages.example"),
        ("public_url", "ftp://packages.example"),
        ("public_url", "https://user@packages.example"),
        ("public_url", "https://packages.example/?a"),
        ("public_url", "https://packages.example/a b"),
        ("public_url", "https://packages.example:99999"),
        ("upstream", "ftp://index.example/simple"),
        ("upstream", "https:///simple"),
        ("upstream", "https://index.example/simple?a=b"),
        ("upstream", "https://index.example/simple#a"),
        ("upstream", "index.example/simple"),
        ("cache_size", "0"),
        ("page_ttl", "soon"),
        ("page_ttl", "-1"),
        ("merge", "acme>=1"),
        ("policy.reserved", "acme>=1"),
        ("policy.deny", "acme>>1"),
        ("policy.deny", ">=1"),
        ("policy.allow", "a^b"),
        ("trusted_proxies", "proxy.example"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("log_level", "loud"),
        ("offline", "perhaps"),
    ],
)
def test_value_that_does_not_fit_names_its_variable_and_flag(key: str, text: str) -> None:
    option = BY_KEY[key]
    (by_flag,) = mistakes_of({key: as_flag(option, text)})
    assert by_flag.startswith(f"command line: {option.flag} = ")
    assert ": expected " in by_flag
    assert all(option.variable in mistake for mistake in mistakes_of({}, {option.variable: text}))


@pytest.mark.parametrize("pattern", ["acme-", "acme_", "evil-[ab", "!evil", "-x"])
@pytest.mark.parametrize(
    "key", ["policy.reserved", "policy.deny", "policy.allow", "merge", "claim", "routes"]
)
def test_what_would_protect_nothing_is_refused(key: str, pattern: str) -> None:
    (mistake,) = mistakes_of({key: (f"{pattern}=folders" if key == "routes" else pattern,)})
    assert "this covers no project, because" in mistake


def test_a_rule_about_versions_is_refused_where_its_name_covers_nothing() -> None:
    (mistake,) = mistakes_of({"policy.deny": ("acme-<2",)})
    assert "no name ends with a separator: write acme or acme-*." in mistake


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = [\n1,,]", "line 2, column 3"),
        ("port = 1\nport = 2", "not valid TOML"),
        ("a." * 30_000 + "a = 1", "not valid TOML: a key has more than 200 parts."),
        ("a = " + "[" * 60_000, "not valid TOML: nested too deeply."),
        # a password is not shown for being long, or for a blank in it
        (f"upstream = ['ftp://u:{'x' * 200}@x.example']", "'ftp://****@x.example': expected"),
        ("upstream = ['ftp://u:pass word@x.example']", "'ftp://****@x.example': expected"),
        ("[upstream]\nurl = 'https://u:secret@x.example'", "[[upstream]] tables"),
        ("upstream = [5]", "upstream = 5: expected pypi, or an http(s) address"),
        ("port = true", "port = True: expected a whole number"),
        ("offline = 1", "offline = 1: expected true or false"),
        ("cache-size = true", "expected a size"),
        ("page-ttl = 1\npage_ttl = 1", "given twice"),
        ("folders = 5", "expected a list of folders"),
        ("[policy]\ndney = []", "policy.dney: unknown key; did you mean 'policy.deny'?"),
        ("[polcy]\ndeny = []", "polcy: unknown key; did you mean 'policy'?"),
        ("config = 'other.toml'", "config: unknown key"),
        ("zzz = 1", "unknown key; known are admin, audit-log, "),
        ("[[upstream]]\nurl = 'https://u:secret@x.example'\nusername = 'u'", "both in the URL and"),
        ("[[upstream]]\nurl = 'https://x.example'\nproxy = 'secret'", "proxy = '****': expected"),
        ("[[upstream]]\nurl = 'https://x.example'\nproxy = 'http://ä..b'", "proxy = '****': expe"),
        (
            f"[[upstream]]\nurl = 'https://{'x' * 64}.example'",
            "expected pypi, or an http(s) address",
        ),
        ("upstream = ['u:secret@x.example/simple']", "'****@x.example/simple': expected"),
        (
            "upstream = ['https://x.example', 'https://x.example/']",
            "a second upstream named 'x-example'",
        ),
        ("no-upstream = true\nupstream = ['https://x.example']", "contradicts the upstreams"),
        ("no-upstream = true", "nothing to serve"),
        ("upstream = []", "nothing to serve"),
        ("unix-socket = '/run/x'\nport = 1", "contradicts unix-socket"),
        ("tls-key = 'key.pem'", "needs tls-cert beside it"),
        ("offline = true\ncache-dir = 'gone'", "there is no cache at"),
        ("[[upstream]]\nurl = 'https://x.example'\nclient-key = 'k'", "needs a client-cert"),
    ],
)
def test_mistake_in_a_file_names_the_file_and_says_what_is_wrong(
    text: str, said: str, toml: Callable[[str], Path]
) -> None:
    path = toml(text)
    found = mistakes_of({"config": str(path)})
    assert all(mistake.startswith(str(path)) for mistake in found)
    assert any(said in mistake for mistake in found), found
    assert "secret" not in "\n".join(found)


def test_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "huge.toml").write_bytes(b"#" * (1024 * 1024 + 1))
    for name, said in [
        ("gone.toml", "no such file"),
        ("", "is a directory"),
        ("binary.toml", "not UTF-8"),
        ("huge.toml", "at most 1 MiB"),
    ]:
        (mistake,) = mistakes_of({"config": str(tmp_path / name)})
        assert said in mistake


@pytest.mark.parametrize(
    "flags",
    [
        {"folders": ("gone",)},
        {"folders": (__file__,)},
        {"tls_cert": "gone", "tls_key": __file__},
    ],
)
def test_missing_path_is_told_apart_from_a_mistake(flags: dict[str, object]) -> None:
    with pytest.raises(NotReady):
        load(flags)
    with pytest.raises(ConfigError) as caught:
        load(flags | {"port": "x"})
    assert not isinstance(caught.value, NotReady)
    assert len(caught.value.mistakes) == 2


@pytest.mark.parametrize("other", ["corp.a", "corp_a"])
def test_upstreams_whose_credentials_have_the_same_variables_are_refused(
    toml: Callable[[str], Path], other: str
) -> None:
    path = toml(f"""
        [[upstream]]
        name = "corp-a"
        url = "https://a.example/simple"
        [[upstream]]
        name = "{other}"
        url = "https://b.example/simple"
    """)
    (mistake,) = mistakes_of({"config": str(path)})
    assert mistake == (
        f"{path}: upstream[2]: '{other}' and 'corp-a' share the variables "
        "PROXYINDEX_UPSTREAM_CORP_A_USERNAME and …_PASSWORD; give one another name."
    )


def test_address_of_a_lower_layer_does_not_contradict_a_socket() -> None:
    environ = {"PROXYINDEX_HOST": "0.0.0.0"}
    assert load({"unix_socket": "/run/x.sock"}, environ).settings.unix_socket
    assert mistakes_of({"unix_socket": "/run/x.sock", "host": "::1"})


def test_upstream_flag_wins_over_no_upstream_of_the_environment() -> None:
    flags: dict[str, object] = {"upstream": ("https://one.example",)}
    settings = load(flags, {"PROXYINDEX_NO_UPSTREAM": "1"}).settings
    assert [upstream.name for upstream in settings.upstreams] == ["one-example"]


def test_variables_set_by_kubernetes_and_others_are_left_alone() -> None:
    environ = {
        "PROXYINDEX_PORT": "tcp://10.0.0.1:8080",
        "PROXYINDEX_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "PROXYINDEX_PORT_8080_TCP_ADDR": "10.0.0.1",
        "PROXYINDEX_SERVICE_HOST": "10.0.0.1",
        "PROXYINDEX_SERVICE_PORT": "8080",
        "PROXYINDEX_VENV": "/venv",
        "PROXYINDEX_HOST": "",
    }
    assert load({}, environ).settings == load().settings


@example({"config": "\0"})
@given(st.dictionaries(st.sampled_from(sorted(BY_KEY)), st.text(max_size=20), max_size=4))
def test_any_flags_load_or_raise_config_error(flags: dict[str, str]) -> None:
    given_flags = {key: as_flag(BY_KEY[key], text) for key, text in flags.items()}
    with contextlib.suppress(ConfigError):
        assert isinstance(load(given_flags), Loaded)


def shown_example(tmp_path: Path, toml: Callable[[str], Path]) -> Loaded:
    path = toml("""
        offline = true
        merge = ["acme"]
        public-url = "https://packages.example"
        [policy]
        deny = ["torch<2.1"]
        [[upstream]]
        name = "corp"
        url = "https://user:secret@corp.example/simple"
        proxy = "http://user:secret@proxy.example"
        policy.reserved = ["acme"]
        [[upstream]]
        url = "https://other.example/simple"
    """)
    return load({"config": str(path), "folders": (str(tmp_path),), "page_ttl": "90"})


@pytest.mark.parametrize("text", ["no-upstream = true", "upstream = []"])
@pytest.mark.parametrize("tables", ["folders = ['.']", "[index.own]\nfolders = ['.']"])
def test_a_server_without_upstreams_has_none_when_shown_and_loaded_again(
    toml: Callable[[str], Path], text: str, tables: str
) -> None:
    loaded = load({"config": str(toml(f"{text}\n{tables}\n"))})
    assert loaded.settings.upstreams == ()
    again = load({"config": str(toml(as_toml(loaded)))})
    assert replace(again.settings, config_file=None) == replace(loaded.settings, config_file=None)


def test_shown_configuration_can_be_loaded_again(
    tmp_path: Path, toml: Callable[[str], Path]
) -> None:
    loaded = shown_example(tmp_path, toml)
    text = as_toml(loaded)
    assert "secret" not in text
    # what is masked cannot be read back
    text = text.replace('password = "****"', 'password = "secret"')
    text = text.replace('proxy = "****"', 'proxy = "http://user:secret@proxy.example"')
    again = load({"config": str(toml(text))})
    assert again.settings == loaded.settings


def test_every_shown_value_tells_its_source(tmp_path: Path, toml: Callable[[str], Path]) -> None:
    lines = as_toml(shown_example(tmp_path, toml)).splitlines()
    assert 'page-ttl = "1m30s"  # flag --page-ttl' in lines
    assert "port = 8080  # default" in lines
    assert f"offline = true  # {tmp_path}/proxyindex.toml:offline" in lines
    assert f'password = "****"  # {tmp_path}/proxyindex.toml:upstream[1].url' in lines
    assert all("  # " in line for line in lines if " = " in line)


def test_json_has_numbers_sources_and_no_secrets(
    tmp_path: Path, toml: Callable[[str], Path]
) -> None:
    text = as_json(shown_example(tmp_path, toml))
    assert "secret" not in text
    document = json.loads(text)
    assert document["settings"]["page_ttl"] == {"value": 90.0, "source": "flag --page-ttl"}
    assert document["settings"]["cache_size"] == {"value": 50_000_000_000, "source": "default"}
    assert document["upstreams"][0]["password"]["value"] == "****"
    assert document["upstreams"][1]["username"] == {"value": None, "source": "default"}


def test_a_path_that_cannot_even_be_looked_at_is_a_mistake_and_no_crash() -> None:
    long = "x" * 300
    found = mistakes_of({"folders": (long,), "tls_cert": long, "tls_key": long})
    assert len(found) == 3
    assert all(text.endswith("this path cannot be reached (file name too long).") for text in found)


def test_no_upstream_is_shown_as_such(tmp_path: Path) -> None:
    text = as_toml(load({"folders": (str(tmp_path),), "no_upstream": True}))
    assert "no-upstream = true  # flag --no-upstream" in text
    assert "[[upstream]]" not in text


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_document_has_a_row_for_every_option(option: Option) -> None:
    flag = "FOLDER…" if option.key == "folders" else option.flag
    key = f"`{option.toml}`" if option.in_file else "-"
    texts = f"`{flag}` | `{option.variable}`" if option.is_text else "- | -"
    row = f"| {key} | {texts} | {shown_default(option) or '-'} |"
    assert [line for line in DOCUMENT.read_text().splitlines() if line.startswith(row)], row


@pytest.mark.parametrize("option", INHERITANCE_OPTIONS, ids=lambda option: option.key)
def test_document_has_a_row_for_every_key_of_an_index_only(option: Option) -> None:
    row = f"| `{option.toml}` | {shown_default(option) or '-'} |"
    assert [line for line in DOCUMENT.read_text().splitlines() if line.startswith(row)], row


@pytest.mark.parametrize("option", UPSTREAM_OPTIONS, ids=lambda option: option.key)
def test_document_has_a_row_for_every_upstream_key(option: Option) -> None:
    row = f"| `{option.toml}` | {shown_default(option) or '-'} |"
    assert [line for line in DOCUMENT.read_text().splitlines() if line.startswith(row)], row
