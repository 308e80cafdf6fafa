"""Whom the server speaks to, and of what: the rules on confusion, forged links and leaks.

The server here has a name server and a network of the tests' own, in which every question and
every connection is written down (`tests/support/names`). `ROWS` says where each rule is proven;
the rules are those of the specification the project was built to, in its order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.builders import put_sdist
from tests.support.fixtures import ServerFactory, start_server
from tests.support.pages import JSON_TYPE, FileSpec, sdist_spec, wheel_spec
from tests.support.reply import Reply, redirect
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, html_reply, json_reply

ROOT = Path(__file__).parents[2]
JSON = {"Accept": JSON_TYPE}

ROWS = {
    "confusion: a local name is local only, and not asked for": (
        "tests/conformance/test_local_names.py::test_103_a_local_name_is_never_asked_of_an_upstream"
    ),
    "confusion: a reserved name is not asked for": (
        "tests/e2e/test_private_names.py::test_reserved_names_are_unknown_without_asking"
    ),
    "confusion: a prefix covers foo and foo-*, not foobar": (
        "tests/unit/test_names.py::test_a_reserved_name_covers_its_namespace"
    ),
    "confusion: sources are merged by setting only": (
        "tests/web/test_pages.py::test_merging_is_by_setting_only"
    ),
    "confusion: merged, the earlier source's file wins": (
        "tests/unit/test_priority.py::test_merging_joins_all_owners_in_order"
    ),
    "confusion: the first upstream that has the project answers alone": (
        "tests/conformance/test_local_names.py::"
        "test_108_the_first_that_has_the_project_answers_alone"
    ),
    "confusion: a failing upstream promotes no later one": (
        "tests/conformance/test_local_names.py::test_107_a_failing_upstream_never_promotes_the_next"
    ),
    "confusion: a page redirected to another origin is not found": (
        "tests/conformance/test_local_names.py::test_109_a_page_redirect_off_the_origin_is_not_found"
    ),
    "confusion: spellings of a name are one": "test_every_spelling_of_a_private_name_is_private",
    "confusion: no private name in any request of the end-to-end tests": (
        "tests/e2e/test_support_privacy.py::test_the_suite_is_watched"
    ),
    "forged: other schemes, credentials, ports and hosts": "test_a_forged_link_connects_nowhere",
    "forged: an address in a closed network": "test_a_name_in_a_closed_network_is_not_connected",
    "forged: the address judged is the one connected": (
        "test_a_second_answer_of_the_name_server_changes_nothing"
    ),
    "forged: the next judged address is tried": "test_the_next_address_of_a_name_is_tried",
    "forged: each redirect is judged": "test_a_chain_of_redirects_is_judged_at_every_hop",
    "forged: five redirects at most, loops end": (
        "tests/unit/test_upstream_client.py::test_five_redirects_are_followed_and_no_sixth"
    ),
    "forged: no downgrade to http": (
        "tests/unit/test_border.py::test_everything_else_is_objected_to"
    ),
    "forged: neighbours below a shared suffix are strangers": (
        "tests/unit/test_border.py::test_neighbours_below_a_shared_domain_are_strangers"
    ),
    "forged: provenance is told and not fetched": "test_a_provenance_link_is_never_fetched",
    "forged: no cookies": (
        "tests/unit/test_upstream_client.py::test_cookies_are_neither_kept_nor_sent_back"
    ),
    "forged: clients name no URL": "test_no_request_makes_the_server_ask_another_host",
    "forged: nothing else is opened or connected": (
        "tests/faults/test_openings.py::test_nothing_outside_the_stores_is_opened"
    ),
    "integrity: wrong bytes are neither delivered nor stored": (
        "tests/conformance/test_transfers.py::"
        "test_078_wrong_bytes_are_never_delivered_whole_nor_stored"
    ),
    "integrity: the strongest digest decides": (
        "tests/unit/test_writing.py::test_the_strongest_digest_decides"
    ),
    "integrity: damage on disk is noticed": (
        "tests/contract/test_proofs.py::test_damage_is_noticed_told_and_removed"
    ),
    "integrity: a claimed size is held to": (
        "tests/faults/test_hostile_http.py::test_a_false_size_costs_no_other_project_its_file"
    ),
    "integrity: changed bytes raise an alarm, the first stay": (
        "tests/conformance/test_invariants.py::test_the_bytes_of_a_url_never_change"
    ),
    "archives: a bomb": "tests/unit/archives/test_sdist.py::test_a_bomb_is_refused",
    "archives: a declared size that lies": (
        "tests/unit/archives/test_wheel.py::test_a_declared_size_that_lies_is_refused"
    ),
    "hosts: a forged host or forwarding header leaves no trace": (
        "tests/conformance/test_security.py::test_127_a_forged_host_leaves_no_trace"
    ),
    "hosts: the absolute form is no way around": (
        "tests/faults/test_abuse.py::test_a_request_in_absolute_form_is_ours_whatever_its_host"
    ),
    "limits: a page too large or too deep": (
        "tests/conformance/test_json_content.py::"
        "test_047_a_page_too_large_or_too_deep_is_refused_in_bounded_memory"
    ),
    "limits: heads, targets, bodies": (
        "tests/faults/test_abuse.py::test_what_is_no_ordinary_request_is_answered_or_closed"
    ),
    "limits: eviction spares what a lie would cost": (
        "tests/faults/test_hostile_http.py::test_a_claimed_size_evicts_nothing"
    ),
    "secrets: credentials go to the index alone": (
        "tests/conformance/test_security.py::test_129_credentials_stay_with_whom_they_are_for"
    ),
    "secrets: not to relatives of the index either": "test_credentials_do_not_go_to_relatives",
    "secrets: logs and answers tell none": (
        "tests/conformance/test_security.py::test_131_logs_and_answers_tell_no_secrets"
    ),
    "secrets: masked in every log line": (
        "tests/unit/test_logs.py::test_credentials_and_queries_are_masked"
    ),
}


@pytest.mark.parametrize("rule", ROWS)
def test_each_rule_has_its_test(rule: str) -> None:
    place, _, name = ROWS[rule].rpartition("::")
    text = (ROOT / (place or "tests/faults/test_border.py")).read_text()
    assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), ROWS[rule]


INDEX, RELATIVE, HOP, TWO, MOVING = (
    f"{name}.corp.example" for name in ("pypi", "files", "hop", "two", "moving")
)
OWN_LETTERS = "xn--bcher-kva.corp.example"  # bücher
OWN_ADDRESS = "10.0.0.1"
PUBLIC, DEAD = "192.0.2.7", "192.0.2.8"
INSIDE = "10.0.0.80"  # the index, which the operator named, may be there
CLOSED = {
    "loopback": ["127.0.0.1"],
    "loopback-far": ["127.8.8.8"],
    "unspecified": ["0.0.0.0"],
    "private-a": ["10.1.2.3"],
    "private-b": ["172.31.0.1"],
    "private-c": ["192.168.0.1"],
    "shared": ["100.100.100.200"],
    "metadata": ["169.254.169.254"],
    "multicast": ["224.0.0.1"],
    "broadcast": ["255.255.255.255"],
    "agent": ["168.63.129.16"],
    "six-loopback": ["::1"],
    "six-local": ["fe80::1%eth0"],
    "six-private": ["fd00:ec2::254"],
    "six-mapped": ["::ffff:169.254.169.254"],
    "six-compatible": ["::127.0.0.1"],
    "six-nat64": ["64:ff9b::a9fe:a9fe"],
    "six-to-four": ["2002:7f00:1::"],
    "six-teredo": ["2001:0:7f00:1::"],
    "one-of-two": [PUBLIC, "10.0.0.1"],
    "unknown": [],
}


@dataclass(frozen=True, slots=True)
class House:
    """A server, its upstream under the name `pypi.corp.example`, and what it asked the network."""

    server: ProxyIndex
    upstream: FakeUpstream
    log: Path

    def asked(self) -> list[tuple[object, ...]]:
        """Questions and connections so far, apart from those for the index."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        asked = [tuple(json.loads(line)) for line in lines]
        return [one for one in asked if one[1] not in (INDEX, INSIDE)]

    def connected(self) -> set[tuple[object, ...]]:
        """Whom it connected to, apart from the index."""
        return {one for one in self.asked() if one[0] == "connected"}

    def resolved(self) -> set[object]:
        return {one[1] for one in self.asked() if one[0] == "resolved"}

    def forget(self) -> None:
        self.log.write_text("")


def networked(
    home: Path, upstream: FakeUpstream, index_url: str = f"http://{INDEX}/simple/"
) -> House:
    names = {f"{name}.corp.example": [answer] for name, answer in CLOSED.items()}
    names |= {
        INDEX: [[INSIDE]],
        RELATIVE: [[PUBLIC]],
        HOP: [[PUBLIC]],
        TWO: [[DEAD, PUBLIC]],
        MOVING: [[PUBLIC], ["127.0.0.1"]],
        OWN_LETTERS: [[OWN_ADDRESS]],
    }
    log = home / "network.log"
    network = {"names": names, "port": upstream.port, "dead": [DEAD], "log": str(log)}
    env = {
        "PYTHONPATH": str(ROOT / "tests" / "support" / "names"),
        "TEST_NETWORK": json.dumps(network),
    }
    config = home / "proxyindex.toml"
    config.write_text(f'[[upstream]]\nurl = "{index_url}"\nretries = 0\n')
    made = start_server(home / "server", "--config", config, env=env)
    made.args.remove("--no-upstream")
    return House(made.start(), upstream, log)


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with FakeUpstream() as upstream:
        made = networked(tmp_path_factory.mktemp("border"), upstream)
        try:
            yield made
        finally:
            made.server.kill()


@pytest.fixture
def house(shared_house: House) -> House:
    """The server, its network log empty; every test uses names of its own."""
    shared_house.forget()
    return shared_house


def place(house: House, name: str, url: str, way: str) -> FileSpec:
    """A project whose only file is at `url`, which is told in one of the ways an upstream has."""
    plain = wheel_spec(name)
    linked = wheel_spec(name, url=url.format(file=plain.filename))
    page = f"/simple/{name}/"
    if way in ("json", "html"):
        house.upstream.project(name, linked, form=way)  # type: ignore[arg-type]
    elif way == "base":
        near = FileSpec(filename=plain.filename, body=plain.body, url=plain.filename)
        body = html_reply(name, near).body
        assert isinstance(body, bytes)
        base = f'<base href="{linked.href.rpartition("/")[0]}/">'.encode()
        reply = html_reply(name).with_(body=body.replace(b"<head>", b"<head>" + base))
        house.upstream.script(page, reply)
    elif way == "page":
        house.upstream.script(page, redirect(linked.href))
    else:
        house.upstream.project(name, plain)
        suffix = ".metadata" if way == "metadata" else ""
        house.upstream.script(plain.path + suffix, redirect(linked.href))
    if way != "redirect":
        house.upstream.script(plain.path, Reply(body=plain.body))
    return plain


def ask_all(house: House, name: str, spec: FileSpec) -> list[int]:
    """Statuses of page, metadata, signature and file."""
    ends = ["", spec.filename + ".metadata", spec.filename + ".asc", spec.filename]
    return [house.server.get(f"/simple/{name}/{end}", JSON).status for end in ends]


WAYS = ["json", "html", "base", "redirect", "metadata", "page"]
FORGED = {
    "stranger": "http://evil.example/{file}",
    "stranger-with-our-name": "http://pypi.corp.example.evil.example/{file}",
    "stranger-in-user": "http://pypi.corp.example@evil.example/{file}",
    "stranger-behind-backslash": "http://evil.example\\\\@pypi.corp.example/{file}",
    "almost-a-relative": "http://filescorp.example/{file}",
    "credentials": "http://user:word@files.corp.example/{file}",
    "other-port": "http://pypi.corp.example:22/{file}",
    "relative-other-port": "http://files.corp.example:8080/{file}",
    "port-zero": "http://files.corp.example:0/{file}",
    "address": "http://169.254.169.254/latest/{file}",
    "address-of-loopback": "http://127.0.0.1/{file}",
    "address-decimal": "http://2130706433/{file}",
    "address-octal": "http://0177.0.0.1/{file}",
    "address-hex": "http://0x7f000001/{file}",
    "address-short": "http://127.1/{file}",
    "address-six": "http://[::1]/{file}",
    "address-zone": "http://[fe80::1%25eth0]/{file}",
    "localhost": "http://localhost/{file}",
    "file": "file:///etc/{file}",
    "ftp": "ftp://files.corp.example/{file}",
    "gopher": "gopher://files.corp.example/{file}",
    "javascript": "javascript:alert(1)//{file}",
    "unix": "http+unix://%2Frun%2Fdocker.sock/{file}",
}


@pytest.mark.parametrize("link", FORGED)
def test_a_forged_link_connects_nowhere(house: House, link: str) -> None:
    for way in WAYS:
        if way == "base" and (link == "credentials" or not FORGED[link].startswith("http:")):
            continue  # what is no base is ignored, and links are the page's own
        name = f"px-{link}-{way}"
        spec = place(house, name, FORGED[link], way)
        statuses = ask_all(house, name, spec)
        assert all(status in (200, 404, 502, 503) for status in statuses)
        assert statuses[-1] != 200 or way == "metadata"
    assert house.connected() == set()
    assert house.resolved() == set()


@pytest.mark.parametrize("closed", CLOSED)
def test_a_name_in_a_closed_network_is_not_connected(house: House, closed: str) -> None:
    for way in ("json", "html", "redirect", "metadata"):
        name = f"px-{closed}-{way}"
        spec = place(house, name, f"http://{closed}.corp.example/{{file}}", way)
        refused = 503 if closed == "unknown" else 502
        assert ask_all(house, name, spec)[-1] == (200 if way == "metadata" else refused)
    assert house.connected() == set()
    assert house.resolved() == {f"{closed}.corp.example"}, "it was the address that was refused"


def test_a_relative_of_the_index_is_asked_at_its_judged_address(house: House) -> None:
    spec = place(house, "px-relative", f"http://{RELATIVE}/files/{{file}}", "json")
    assert house.server.get(f"/simple/px-relative/{spec.filename}").body == spec.body
    assert house.connected() == {("connected", PUBLIC, 80)}
    assert house.resolved() == {RELATIVE}


def test_an_index_named_in_letters_of_its_own_is_the_one_that_answers(tmp_path: Path) -> None:
    spec = wheel_spec("px-letters")
    page = json_reply("px-letters", replace(spec, url=f"../../{spec.filename}"))
    with FakeUpstream() as upstream:
        upstream.script("/r%C3%A9po/simple/px-letters/", page)
        upstream.script(f"/r%C3%A9po/{spec.filename}", Reply(body=spec.body))
        house = networked(tmp_path, upstream, "http://b\u00fccher.corp.example/r\u00e9po/simple/")
        try:
            assert house.server.get(f"/simple/px-letters/{spec.filename}").body == spec.body
        finally:
            house.server.kill()
        assert {one.header("host") for one in upstream.requests()} == {OWN_LETTERS}
    assert house.resolved() == {OWN_LETTERS}
    assert house.connected() == {("connected", OWN_ADDRESS, 80)}


def test_the_next_address_of_a_name_is_tried(house: House) -> None:
    spec = place(house, "px-two", f"http://{TWO}/files/{{file}}", "json")
    assert house.server.get(f"/simple/px-two/{spec.filename}").body == spec.body
    wanted = [("resolved", TWO), ("connected", DEAD, 80), ("connected", PUBLIC, 80)]
    assert house.asked() == wanted


def test_a_second_answer_of_the_name_server_changes_nothing(house: House) -> None:
    spec = place(house, "px-moving", f"http://{MOVING}/files/{{file}}", "json")
    house.upstream.file(spec, close=True)
    assert house.server.get(f"/simple/px-moving/{spec.filename}").body == spec.body
    assert [one for one in house.asked() if one[1] == MOVING] == [("resolved", MOVING)]
    other = place(house, "px-moved", f"http://{MOVING}/files/{{file}}", "json")
    assert house.server.get(f"/simple/px-moved/{other.filename}").status == 502
    assert house.connected() == {("connected", PUBLIC, 80)}, "judged anew, and refused"


def test_a_chain_of_redirects_is_judged_at_every_hop(house: House) -> None:
    for number, last in enumerate(("http://evil.example/x", "http://loopback.corp.example/x")):
        name = f"px-chain-{number}"
        spec = sdist_spec(name)
        house.upstream.project(name, spec)
        house.upstream.script(spec.path, redirect(f"http://{HOP}/hop/{number}"))
        house.upstream.script(f"/hop/{number}", redirect(last))
        assert house.server.get(f"/simple/{name}/{spec.filename}").status in (404, 502, 503)
        assert house.upstream.count(f"/hop/{number}") >= 1
    assert house.connected() == {("connected", PUBLIC, 80)}


def test_a_provenance_link_is_never_fetched(house: House) -> None:
    link = f"http://{RELATIVE}/integrity/px/provenance"
    spec = wheel_spec("px-proven", provenance=link)
    house.upstream.project("px-proven", spec)
    ask_all(house, "px-proven", spec)
    house.server.get(f"/simple/px-proven/{spec.filename}.provenance")
    assert house.connected() == set()
    assert house.upstream.count("/integrity/px/provenance") == 0


def test_no_request_makes_the_server_ask_another_host(house: House) -> None:
    house.upstream.project("px-asked", wheel_spec("px-asked"))
    for target in (
        "http://evil.example/simple/px-asked/",
        "http://127.0.0.1:22/simple/px-asked/",
        "//evil.example/simple/px-asked/",
        "/simple/http://evil.example/px-asked/",
        "/simple/px-asked/http://evil.example/px_asked-1.0-py3-none-any.whl",
        "/simple/px-asked/?url=http://evil.example/&upstream=http://evil.example/",
        "/simple/@evil.example/",
        "/simple/evil.example:80/",
        "/http://evil.example/",
    ):
        headers = {
            "X-Forwarded-Host": "evil.example",
            "Forwarded": "host=evil.example",
            "X-Original-URL": "http://evil.example/",
            "Referer": "http://evil.example/",
            "Location": "http://evil.example/",
        }
        assert house.server.get(target, headers, host="evil.example").status in (200, 400, 404)
    assert house.connected() == set()
    assert house.resolved() == set()
    assert not [one for one in house.upstream.requests() if "evil" in f"{one.target}{one.headers}"]


def test_credentials_do_not_go_to_relatives(tmp_path: Path) -> None:
    with FakeUpstream() as upstream:
        house = networked(tmp_path, upstream, f"http://robot:secret-word@{INDEX}/simple/")
        try:
            spec = place(house, "px-kept", f"http://{RELATIVE}/files/{{file}}", "json")
            assert house.server.get(f"/simple/px-kept/{spec.filename}").body == spec.body
            by_host = {
                (one.header("host"), one.header("authorization")) for one in upstream.requests()
            }
        finally:
            house.server.kill()
        assert {auth for host, auth in by_host if host == RELATIVE} == {None}
        assert {auth is not None for host, auth in by_host if host == INDEX} == {True}


SPELLINGS = ("px-own", "PX-OWN", "px_own", "px.own", "Px.-_oWn", "px%2Down", "px%5Fown", "p%78-own")


def test_every_spelling_of_a_private_name_is_private(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    put_sdist(packages, "px-own")
    for name in ("px-own", "px-mine-too"):
        upstream.project(name, wheel_spec(name, "99.0"))
    running = server(packages, "--policy-reserved", "px-mine", upstream=upstream)
    lure = "/px_own-99.0-py3-none-any.whl"
    for spelling in SPELLINGS:
        for name in (spelling, spelling.lower().replace("own", "mine-too")):
            for end in ("", "/", lure, lure + ".metadata"):
                answer = running.get(f"/simple/{name}{end}", JSON)
                assert answer.status in (200, 301, 400, 404)
                assert answer.status == 404 or b"99.0" not in answer.body
    assert upstream.count() == 0
