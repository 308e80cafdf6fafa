"""Conformance checks 49-54: what the HTML page says."""

from __future__ import annotations

import re

import pytest

from tests.support.builders import make_zip
from tests.support.fixtures import Index
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.reading import (
    AS_HTML,
    html_of,
    html_text_reply,
    json_of,
    last_segment,
    offer,
    page_reply,
    read_html,
)
from tests.support.reply import sha256_of

HOSTILE = "</title></a>\"'><script>alert(1)</script><b onclick=x>&lt;&amp;&#0;"
OURS = {"html", "head", "meta", "title", "body", "h1", "a", "br"}


@pytest.mark.parametrize("accept", [AS_HTML, {"Accept": "text/html"}])
def test_049_a_page_has_its_doctype_version_and_one_link_per_file(
    index: Index, accept: dict[str, str]
) -> None:
    name = index.new_name()
    specs = [wheel_spec(name, "1.0+local.1"), sdist_spec(name), wheel_spec(name, "2.0")]
    index.project(*specs, name=name)
    response = index.get(f"/simple/{name}/", accept)
    assert response.text.startswith("<!DOCTYPE html>")
    page = read_html(response.text)
    assert page.metas["pypi:repository-version"] == "1.4"
    assert sorted(anchor.text for anchor in page.anchors) == sorted(s.filename for s in specs)
    for anchor in page.anchors:
        assert last_segment(anchor.href) == anchor.text
    assert set(page.elements) <= OURS


def test_049_the_list_has_the_same_frame_and_links_to_normalized_names(index: Index) -> None:
    response = index.get("/simple/", AS_HTML)
    assert response.text.startswith("<!DOCTYPE html>")
    page = read_html(response.text)
    assert page.metas["pypi:repository-version"] == "1.4"
    assert "local-lib" in [anchor.text for anchor in page.anchors]
    for anchor in page.anchors:
        assert re.fullmatch(r"(?:/simple/)?[a-z0-9-]+/", anchor.href)


def test_050_a_specifier_is_escaped(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, requires_python=">=3.8,<4")
    text = html_of(index, index.project(spec, name=name)).text
    assert 'data-requires-python="&gt;=3.8,&lt;4"' in text
    assert read_html(text).link(spec.filename).attributes["data-requires-python"] == ">=3.8,<4"


@pytest.mark.parametrize("told", [True, ""])
def test_051_yanked_without_a_reason_has_its_equals_sign(index: Index, told: object) -> None:
    name = index.new_name()
    spec = wheel_spec(name, entry={"yanked": told})
    page = html_of(index, index.project(spec, name=name))
    assert 'data-yanked=""' in page.text  # without the value pip reads "not yanked"
    assert page.link(spec.filename).attributes["data-yanked"] == ""


@pytest.mark.parametrize("reason", ['bad "<b>', "it's <i>&amp; more", HOSTILE, "ünïcode ☃", "a\nb"])
def test_051_a_reason_survives_and_makes_no_markup(index: Index, reason: str) -> None:
    name = index.new_name()
    spec = wheel_spec(name, yanked=reason)
    page = html_of(index, index.project(spec, name=name))
    assert page.link(spec.filename).attributes["data-yanked"] == reason
    assert set(page.elements) <= OURS


def test_051_what_is_not_yanked_has_no_such_attribute(index: Index) -> None:
    page = html_of(index, "foo-bar")
    assert "data-yanked" not in page.link(index.wheel.filename).attributes
    assert page.link(index.yanked.filename).attributes["data-yanked"] == 'bad "<b>'


def wheels_of_all_kinds(name: str) -> list[FileSpec]:
    """Wheels whose metadata upstream advertises, keeps quiet about, or does not have."""
    return [
        wheel_spec(name, "1.0"),
        wheel_spec(name, "2.0", core_metadata=False),
        wheel_spec(name, "3.0", metadata=None),
        wheel_spec(name, "4.0", metadata=None, core_metadata=True),
        wheel_spec(name, "5.0", core_metadata={"md5": "0" * 32}),  # a hash we do not pass on
        sdist_spec(name, "1.0"),
        sdist_spec(name, "2.0", metadata=b"Name: x\n"),
    ]


def check_metadata(index: Index, name: str) -> None:
    """Both attributes are equal, true, and there iff the sidecar is."""
    for anchor in html_of(index, name).anchors:
        offered = anchor.attributes.get("data-core-metadata", "absent")
        assert anchor.attributes.get("data-dist-info-metadata", "absent") == offered
        sidecar = index.get(f"/simple/{name}/{anchor.url}.metadata")
        assert sidecar.status == (404 if offered == "absent" else 200), anchor.text
        assert offered in ("absent", "true", f"sha256={sha256_of(sidecar.body)}")
        assert anchor.text.endswith(".whl") or offered == "absent"


def test_052_metadata_is_advertised_iff_it_is_served(index: Index) -> None:
    name = index.new_name()
    index.project(*wheels_of_all_kinds(name), name=name)
    check_metadata(index, name)  # nothing held yet
    check_metadata(index, name)  # all of it held
    check_metadata(index, "local-lib")
    page = html_of(index, name)
    offers = [anchor.attributes.get("data-core-metadata") for anchor in page.anchors]
    assert len([offer for offer in offers if offer and offer.startswith("sha256=")]) == 5


def test_052_what_turned_out_to_have_no_metadata_is_not_advertised_again(index: Index) -> None:
    name = index.new_name()
    body = make_zip([("README", b"no wheel at all")])
    spec = wheel_spec(name, body=body, metadata=None)
    index.project(spec, name=name)
    assert index.get(f"/simple/{name}/{spec.filename}.metadata").status == 404
    assert "data-core-metadata" not in html_of(index, name).link(spec.filename).attributes
    assert json_of(index, name)["files"][0]["core-metadata"] is False


def test_053_the_fragment_is_the_sha256_and_nothing_else(index: Index) -> None:
    name = index.new_name()
    stem = name.replace("-", "_")
    good = "a" * 64
    text = "".join(
        f'<a href="/files/{stem}-{number}.0.tar.gz#{fragment}">x</a>'
        for number, fragment in enumerate(
            [
                f"sha256={good}",
                f"sha256={good}&egg={stem}",
                f"egg={stem}&sha256={good}",
                f"sha256={good}&subdirectory=x",
                f"sha256={good.upper()}",
                f"md5={'b' * 32}&sha256={good}",
            ]
        )
    )
    base = f'<base href="{index.upstream.url}/">'
    name = offer(index, html_text_reply(f"{base}<h1>Links for {name}</h1>{text}"), name)
    page = html_of(index, name)
    assert [anchor.fragment for anchor in page.anchors] == [f"sha256={good}"] * 6
    assert "base" not in page.elements
    for anchor in html_of(index, "foo-bar").anchors + html_of(index, "local-lib").anchors:
        assert re.fullmatch(r"sha256=[0-9a-f]{64}", anchor.fragment)


def test_054_a_status_reason_makes_no_markup(index: Index) -> None:
    name = index.new_name()
    status = {"status": "archived", "reason": "</title><script>"}
    offer(index, page_reply(name, wheel_spec(name), project_status=status), name)
    page = html_of(index, name)
    assert page.metas["pypi:project-status-reason"] == "</title><script>"
    assert set(page.elements) <= OURS


def test_054_no_text_of_an_upstream_makes_markup(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(
        name,
        requires_python=">=3" + HOSTILE,
        entry={
            "provenance": "https://upstream.example/" + HOSTILE,
            "upload-time": HOSTILE,
            "hashes": {"sha256": HOSTILE, HOSTILE: "a" * 64},
            "core-metadata": {"sha256": HOSTILE},
        },
    )
    status = {"status": HOSTILE, "reason": HOSTILE}
    evil = wheel_spec(name, "2.0", filename=f"{name}-2.0-py3-none-any{HOSTILE}.whl")
    reply = page_reply(HOSTILE, spec, evil, project_status=status, versions=[HOSTILE])
    page = html_of(index, offer(index, reply, name))
    assert set(page.elements) <= OURS
    assert [anchor.text for anchor in page.anchors] == [spec.filename]
    found = page.link(spec.filename).attributes
    assert found["data-requires-python"] == ">=3" + HOSTILE
    assert not any(key.startswith("on") for anchor in page.anchors for key in anchor.attributes)
