"""What is published, what is told before anything is sent, and what an upload says."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from itertools import chain
from pathlib import Path

import pytest

from proxyindex.cli.calling import credentials_for
from proxyindex.publishing import credentials, distribution, form, selection, server
from proxyindex.publishing.client import Answer
from proxyindex.publishing.credentials import Credentials
from proxyindex.publishing.distribution import Unpublishable
from proxyindex.publishing.rsync import Remote, looks_remote
from proxyindex.publishing.target import PublishError
from proxyindex.uploads.checks import check_archive, read_form
from proxyindex.uploads.form import Form
from proxyindex.uploads.rejection import UploadRejected
from proxyindex.uploads.stage import Digests
from tests.support.builders import (
    make_sdist,
    make_wheel,
    make_zip,
    metadata,
    put,
    put_sdist,
    put_wheel,
)
from tests.support.hermetic import with_keyring
from tests.support.uploads import attestation_of

URL = "https://index.example/legacy/"
WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


# which files are meant


def test_a_folder_means_its_wheels_and_sdists(tmp_path: Path) -> None:
    wheel, sdist = put_wheel(tmp_path), put_sdist(tmp_path)
    put(tmp_path, "demo-1.0.tar.bz2", b"x")
    put(tmp_path, ".demo-1.0-py3-none-any.whl", b"x")
    put(tmp_path, "notes.txt", b"x")
    (tmp_path / "demo-2.0-py3-none-any.whl").mkdir()
    assert selection.by_paths([str(tmp_path)]) == [wheel, sdist]


def test_globs_are_expanded_where_no_shell_did(tmp_path: Path) -> None:
    wheel, sdist = put_wheel(tmp_path), put_sdist(tmp_path)
    assert selection.by_paths([f"{tmp_path}/*"]) == [wheel, sdist]
    assert selection.by_paths([f"{tmp_path}/*.gz"]) == [sdist]


def test_what_goes_along_may_be_named_as_well(tmp_path: Path) -> None:
    """By `dist/*`, for instance, which a shell expands."""
    wheel = put_wheel(tmp_path)
    beside = [put(tmp_path, wheel.name + end, b"x") for end in (".asc", ".publish.attestation")]
    assert selection.by_paths([str(wheel), *map(str, beside)]) == [wheel]
    with pytest.raises(PublishError, match="Only signatures and attestations"):
        selection.by_paths([str(path) for path in beside])


def test_a_file_named_twice_is_meant_once(tmp_path: Path) -> None:
    wheel = put_wheel(tmp_path)
    assert selection.by_paths([str(wheel), str(tmp_path)]) == [wheel]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    put_wheel(one)
    put_wheel(other)
    with pytest.raises(PublishError, match="Two files have the name"):
        selection.by_paths([str(one), str(other)])


@pytest.mark.parametrize("argument", ["none.whl", "none", "*.whl", "empty"])
def test_an_argument_that_matches_nothing_is_an_error(tmp_path: Path, argument: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PublishError, match="no wheel or sdist"):
        selection.by_paths([str(tmp_path / argument)])


def test_what_is_no_file_is_never_read(tmp_path: Path) -> None:
    """A pipe would be waited for, and a device has no end."""
    sdist = put_sdist(tmp_path)
    for name in (WHEEL, f"{SDIST}.asc", f"{SDIST}.publish.attestation"):
        os.mkfifo(tmp_path / name)
    assert selection.by_paths([str(tmp_path)]) == [sdist]
    assert distribution.read(sdist).attestations == ""
    for path in (tmp_path / WHEEL, "/dev/zero"):
        with pytest.raises(PublishError, match="is neither a file nor a folder"):
            selection.by_paths([str(path)])


def test_a_release_is_found_by_normalized_name_and_parsed_version(tmp_path: Path) -> None:
    wheel = put_wheel(tmp_path, "Acme_Lib", "1.0")
    sdist = put(tmp_path, "acme.lib-1.0.0.tar.gz", b"x")
    put_wheel(tmp_path, "acme-lib", "1.0.post1")
    put_wheel(tmp_path, "acme-lib-more", "1.0")
    put(tmp_path, "acme-lib-odd.tar.gz", b"x")
    assert set(selection.by_release(tmp_path, "acme.LIB", "v1.0")) == {wheel, sdist}


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("demo", "2.0", "no wheel or sdist of demo 2.0"),
        ("other", "1.0", "no wheel or sdist of other 1.0"),
        ("de mo", "1.0", "not a valid project name"),
        ("demo", "one", "'one' is no version"),
    ],
)
def test_a_release_that_is_not_there_is_an_error(
    tmp_path: Path, name: str, version: str, said: str
) -> None:
    put_wheel(tmp_path)
    with pytest.raises(PublishError, match=said):
        selection.by_release(tmp_path, name, version)


# what is checked before anything is sent


def test_a_version_of_thousands_of_digits_is_none(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"^'1{80}' is no version\.$"):
        selection.by_release(tmp_path, "demo", "1" * 5000)


def test_a_distribution_tells_what_an_index_is_told(tmp_path: Path) -> None:
    path = put_wheel(tmp_path, "Acme-Lib", "1.0", requires_python=">=3.9")
    put(tmp_path, path.name + ".asc", b"signed")
    found = distribution.read(path)
    content = path.read_bytes()
    assert (found.project, found.filetype) == ("acme-lib", "bdist_wheel")
    assert found.size == len(content)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.blake2b == hashlib.blake2b(content, digest_size=32).hexdigest()
    assert b"Requires-Python: >=3.9" in found.metadata
    assert found.signature == b"signed"
    assert b"".join(found.pieces()) == content


UNSOUND: list[tuple[str, bytes, str]] = [
    ("demo-1.0.tar.bz2", b"x", "does not end in .tar.gz or .zip, as a sdist must"),
    ("demo-1.0.egg", b"x", "does not end in .tar.gz or .zip, as a sdist must"),
    ("demo.whl", make_wheel(), "cannot be read: Invalid wheel filename"),
    ("de mo-1.0-py3-none-any.whl", make_wheel(), "is not one of a distribution file"),
    ("demo-1.0.linux-x86_64.tar.gz", make_sdist(), "cannot be read: Invalid sdist filename"),
    ("demo-r12-py3-none-any.whl", make_wheel(), "cannot be read: Invalid wheel filename"),
    ("demo-1.0_cu.1-py3-none-any.whl", make_wheel(), "cannot be read: Invalid wheel filename"),
    (WHEEL, b"no zip", "is not a readable zip archive"),
    (WHEEL, make_wheel()[:-30], "is not a readable zip archive"),
    (WHEEL, make_zip([("a.py", b"")]), "0 dist-info/METADATA entries"),
    (
        WHEEL,
        make_zip([("demo-1.0.dist-info/METADATA", metadata())]),
        "has no demo-1.0.dist-info/WHEEL",
    ),
    (
        WHEEL,
        make_zip([("demo-1.0.dist-info/METADATA", metadata())], method=zipfile.ZIP_BZIP2),
        "in an unusual way",
    ),
    ("demo-1.1-py3-none-any.whl", make_wheel(), "holds the metadata of another"),
    (WHEEL, make_wheel(core_metadata=metadata("other")), "is of project 'other'"),
    (WHEEL, make_wheel(core_metadata=metadata(version="2.0")), "is of version '2.0'"),
    (SDIST, b"no gzip", "is not a whole gzip stream"),
    (SDIST, make_sdist()[:-10], "is not a whole gzip stream"),
    (SDIST, make_sdist(pkg_info=False), "has no PKG-INFO"),
    (SDIST, make_sdist(extra={"more/x": b""}), "has 2 top folders"),
    (SDIST, make_sdist(extra={"../x": b""}), "that climbs"),
    ("demo-1.1.tar.gz", make_sdist(), "is of version '1.0'"),
    ("other-1.0.tar.gz", make_sdist(), "is of project 'demo'"),
]


@pytest.mark.parametrize(("filename", "content", "said"), UNSOUND)
def test_what_no_index_would_take_is_told_before(
    tmp_path: Path, filename: str, content: bytes, said: str
) -> None:
    """In the sentence with which the index would refuse it."""
    path = put(tmp_path, filename, content)
    with pytest.raises(Unpublishable) as caught:
        distribution.read(path)
    assert said in str(caught.value)
    assert str(caught.value) == f"{path} cannot be published: {refused_by_the_index(path)}"


def refused_by_the_index(path: Path) -> str:
    """What an upload of the file is told."""
    content, sent = path.read_bytes(), path.name.removesuffix(".whl").removesuffix(".tar.gz")
    digests = Digests(hashlib.sha256(content).hexdigest(), "", "")
    name, _, version = sent.partition("-")
    texts = {
        ":action": "file_upload",
        "filetype": "bdist_wheel" if path.name.endswith(".whl") else "sdist",
        "name": name if name in ("demo", "other") else "demo",
        "version": version[:3] if version.startswith("1.") else "1.0",
        "sha256_digest": digests.sha256,
    }
    try:
        check_archive(read_form(Form(texts, path.name, None), digests), path)
    except UploadRejected as problem:
        return str(problem)
    return "nothing"


def test_local_versions_may_be_as_file_names_have_them(tmp_path: Path) -> None:
    path = put(tmp_path, "demo-1.0+cu.1-py3-none-any.whl", make_wheel(version="1.0+cu.1"))
    assert distribution.read(path).filename == path.name


def attest(path: Path, *words: str) -> list[object]:
    """Puts an attestation beside the file for each of these words."""
    made: list[object] = []
    for word in words:
        made.append(attestation_of(path.name, path.read_bytes()) | {"n": word})
        put(path.parent, f"{path.name}.{word}.attestation", json.dumps(made[-1]).encode())
    return made


def test_attestations_beside_the_file_are_sent(tmp_path: Path) -> None:
    """Those of its own name; twine and uv call the first one `publish`."""
    wheel, sdist = put_wheel(tmp_path), put_sdist(tmp_path)
    made = attest(wheel, "publish", "slsa")
    said = dict(form.fields(distribution.read(wheel)))
    assert json.loads(said["attestations"]) == made
    assert "attestations" not in dict(form.fields(distribution.read(sdist)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nothing", "attestations are not the JSON they should be"),
        (b"\xff", "is not UTF-8"),
        (json.dumps(attestation_of("demo-1.0.tar.gz", b"x")).encode(), "does not speak of"),
        (b" " * (1024**2 + 1), "is over 1048576 bytes"),
    ],
)
def test_attestations_that_an_index_would_refuse_are_told_before(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = put_sdist(tmp_path)
    put(tmp_path, f"{path.name}.publish.attestation", content)
    with pytest.raises(Unpublishable, match=said):
        distribution.read(path)


@pytest.mark.parametrize("change", [b"other bytes", b""])
def test_a_file_that_changes_is_never_sent_whole(tmp_path: Path, change: bytes) -> None:
    path = put_wheel(tmp_path, payload=600_000)
    found = distribution.read(path)
    whole = path.read_bytes()
    for content in (change, whole + b"more", whole[:-1] + b"x", change * 100_000):
        path.write_bytes(content)
        sent = bytearray()
        with pytest.raises(Unpublishable, match="changes while it is read"):
            sent.extend(chain.from_iterable(found.pieces()))
        assert len(sent) < found.size


# the form


def body_of(made: form.Form) -> bytes:
    return b"".join(made.pieces(lambda size: None))


def test_form_says_what_the_metadata_says(tmp_path: Path) -> None:
    told = (
        b"Metadata-Version: 2.4\nName: PxDemo.Pkg\nVersion: 1.0\nSummary: a demo\n"
        b"Keywords: one,two\nClassifier: A\nClassifier: B\nProject-URL: Home, https://px.example\n"
        b"License-File: LICENSE\nPlatform: any\nRequires-Dist: idna\nRequires-Python: >=3.9\n"
        b"\n# The demo\n\xc3\xa4\n"
    )
    wheel = make_wheel("pxdemo_pkg", "1.0", core_metadata=told)
    found = distribution.read(put(tmp_path, "pxdemo_pkg-1.0-cp311-abi3-linux_x86_64.whl", wheel))
    said = form.fields(found)
    assert said[:2] == [(":action", "file_upload"), ("protocol_version", "1")]
    assert dict(said) | {
        "filetype": "bdist_wheel",
        "pyversion": "cp311",
        "sha256_digest": found.sha256,
        "blake2_256_digest": found.blake2b,
        "metadata_version": "2.4",
        "name": "PxDemo.Pkg",  # as it is written there
        "version": "1.0",
        "summary": "a demo",
        "keywords": "one,two",
        "project_urls": "Home, https://px.example",
        "license_file": "LICENSE",
        "platform": "any",
        "requires_dist": "idna",
        "requires_python": ">=3.9",
        "description": "# The demo\nä\n",
    } == dict(said)
    assert [value for name, value in said if name == "classifiers"] == ["A", "B"]


def test_sdists_are_of_no_python(tmp_path: Path) -> None:
    said = dict(form.fields(distribution.read(put_sdist(tmp_path))))
    assert (said["filetype"], said["pyversion"]) == ("sdist", "source")


def test_body_is_as_long_as_it_says_and_ends_with_the_file(tmp_path: Path) -> None:
    path = put_wheel(tmp_path, payload=700_000)
    made = form.make_form(distribution.read(path))
    counted: list[int] = []
    body = b"".join(made.pieces(counted.append))
    assert len(body) == made.length
    assert sum(counted) == path.stat().st_size
    assert body.endswith(path.read_bytes() + f"\r\n--{made.boundary}--\r\n".encode())


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (b"Name: demo\nVersion: 1.0\n", "has no single 'metadata_version'"),
        (b"Version: 1.0\n" + metadata(), "has no single 'version'"),
        (b"Classifier: A\n" * 2000 + metadata(), "more than 2000 fields"),
    ],
)
def test_metadata_that_a_form_cannot_say_is_told(tmp_path: Path, told: bytes, said: str) -> None:
    wheel = make_wheel(core_metadata=told)
    found = distribution.read(put(tmp_path, "demo-1.0-py3-none-any.whl", wheel))
    with pytest.raises(Unpublishable, match=said):
        form.checked(found)


# where to


@pytest.mark.parametrize(
    ("given", "upload", "pages"),
    [
        ("http://h:1/simple/", "http://h:1/legacy/", "http://h:1/simple/"),
        ("http://h:1/simple", "http://h:1/legacy/", "http://h:1/simple/"),
        ("http://h:1/x/dev/simple/", "http://h:1/x/dev/legacy/", "http://h:1/x/dev/simple/"),
        ("http://h:1/legacy/", "http://h:1/legacy/", "http://h:1/simple/"),
        ("http://h:1/dev/legacy", "http://h:1/dev/legacy", "http://h:1/dev/simple/"),
        ("http://h:1", "http://h:1/", "http://h:1/simple/"),
        ("http://h:1/dev/", "http://h:1/dev/", "http://h:1/dev/simple/"),
        ("https://h/api/pypi?x=1", "https://h/api/pypi?x=1", None),
    ],
)
def test_upload_url_and_pages_by_convention(given: str, upload: str, pages: str | None) -> None:
    assert server.address(given, None) == server.Address(upload, pages)


def test_pages_that_are_named_are_those() -> None:
    found = server.address(URL, "https://pages.example/simple")
    assert found == server.Address(URL, "https://pages.example/simple/", is_checked=True)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/legacy/", "http:///legacy/", "http://h:x/", "https://[::1", "http://",
        "http://a..example/", f"http://{'a' * 64}.example/", "http://xn--/", "http://a b/",
        "http://h/\udcff", "http://h/a\tb",
    ],
)  # fmt: skip
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(PublishError):
        server.address(url, None)


@pytest.mark.parametrize("url", ["https://u:sesame@h/", "https://sesame@h/legacy/"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    for given in ((url, None), (URL, url)):
        with pytest.raises(PublishError, match="PROXYINDEX_PUBLISH_TOKEN") as caught:
            server.address(*given)
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_remote"),
    [
        ("host:path", True),
        ("user@host:/path", True),
        ("[::1]:path", True),
        ("./packages", False),
        ("packages", False),
        ("./odd:name", False),
        ("/srv/odd:name", False),
    ],
)
def test_a_colon_before_the_first_slash_means_another_machine(text: str, is_remote: bool) -> None:
    assert looks_remote(text) is is_remote


@pytest.mark.parametrize(
    "text",
    ["-oProxyCommand=x:path", "u@-oX:path", "a b:path", "host:", "h:a\nb", "@h:p"],
)
def test_what_ssh_could_take_for_something_else_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="not of the form host:path"):
        Remote(text, "ssh", tmp_path)


def test_a_password_before_the_host_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="ssh takes no password there") as caught:
        Remote("alice:sesame@host:path", "ssh", tmp_path)
    assert "sesame" not in str(caught.value)


# credentials


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TOKEN": "t"}, Credentials("__token__", "t")),
        ({"TOKEN": "t", "USERNAME": "u"}, Credentials("u", "t")),
        ({"USERNAME": "u", "PASSWORD": "p"}, Credentials("u", "p")),
    ],
)
def test_the_environment_comes_first(
    environ: dict[str, str], expected: Credentials, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine index.example login n password m")
    given = {f"PROXYINDEX_PUBLISH_{name}": value for name, value in environ.items()}
    assert credentials.find(URL, given | {"HOME": str(tmp_path)}) == expected


@pytest.mark.parametrize("names", [("PASSWORD",), ("TOKEN", "PASSWORD")])
def test_variables_that_do_not_fit_are_told_without_their_values(names: tuple[str, ...]) -> None:
    given = {f"PROXYINDEX_PUBLISH_{name}": "sesame" for name in names}
    with pytest.raises(PublishError, match="PROXYINDEX_PUBLISH_PASSWORD") as caught:
        credentials.find(URL, given)
    assert "sesame" not in str(caught.value)


def test_netrc_is_asked_for_this_very_host(tmp_path: Path, no_keyring: None) -> None:
    (tmp_path / ".netrc").write_text("machine index.example login n password m\ndefault login d")
    home = {"HOME": str(tmp_path)}
    assert credentials.find(URL, home) == Credentials("n", "m")
    assert credentials.find("https://other.example/", home) is None


def test_a_broken_netrc_that_is_named_is_told(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="NETRC is set"):
        credentials.find(URL, {"NETRC": str(put(tmp_path, "netrc", b"machine"))})


@pytest.fixture
def no_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring program that has nothing."""
    monkeypatch.setenv("PATH", with_keyring(tmp_path / "bin"))


@pytest.mark.parametrize(
    ("script", "environ", "expected"),
    [
        # a new keyring tells both; an old one does not know the option
        (
            '[ "$*" = "--mode creds --output json get https://index.example/legacy/" ] && '
            """echo '{"username": "k", "password": "s"}'""",
            {},
            Credentials("k", "s"),
        ),
        ('[ "$*" = "get index.example __token__" ] && echo s', {}, Credentials("__token__", "s")),
        (
            '[ "$*" = "get https://index.example/legacy/ u" ] && echo s',
            {"PROXYINDEX_PUBLISH_USERNAME": "u"},
            Credentials("u", "s"),
        ),
        ("echo nonsense >&2; exit 3", {}, None),
        ("exit 0", {}, None),
    ],
)
def test_keyring_is_asked_last_by_its_program(
    script: str,
    environ: dict[str, str],
    expected: Credentials | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", with_keyring(tmp_path / "bin", script))
    assert credentials.find(URL, environ) == expected


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("plain", "x" * 495 + "ses<a> me"),  # cut within it
        ("html", "<p>ses<a> me"),  # looked into for tags
        ("html", "<p>ses&lt;a&gt; me"),
        ("plain", "ses<a>\nme"),
        ("plain", "ses\u00ad<a> me"),
    ],
)
def test_no_part_of_a_password_is_shown_of_what_a_server_says(kind: str, said: str) -> None:
    known = Credentials("u", "ses<a> me")
    answer = Answer(403, "No", said.encode(), headers={"content-type": f"text/{kind}"})
    assert "se" not in answer.said(known)
    assert "me" not in answer.said(known)


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("http://index.example/legacy/", True),
        ("HTTP://index.example/legacy/", True),
        ("http://localhost.evil.example/legacy/", True),
        ("http://127.evil.example/legacy/", True),
        ("http://127.0.0.1.evil.example/legacy/", True),
        ("http://localhost:8000/legacy/", False),
        ("http://LOCALHOST/legacy/", False),
        ("http://127.0.0.2/legacy/", False),
        ("http://[::1]:8000/legacy/", False),
        ("https://index.example/legacy/", False),
    ],
)
def test_a_warning_is_given_where_credentials_can_be_read(
    url: str,
    is_warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PROXYINDEX_PUBLISH_TOKEN", "sesame")
    assert credentials_for(url) == Credentials("__token__", "sesame")
    assert ("over plain http" in capsys.readouterr().err) is is_warned


def test_secrets_do_not_show() -> None:
    known = Credentials("u", "sesame")
    assert "sesame" not in repr(known)
    assert known.hide("Basic dTpzZXNhbWU= was sesame") == "Basic *** was ***"
