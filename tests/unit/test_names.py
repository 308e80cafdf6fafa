"""Names, file names and version keys: tables and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from proxyindex.names import (
    MAX_NAME,
    FileName,
    InvalidName,
    is_reserved,
    is_safe_filename,
    is_same_file,
    is_same_version,
    matches_pattern,
    normalize,
    parse_filename,
    pattern_fault,
    version_key,
)


@pytest.mark.parametrize(
    ("name", "normalized"),
    [
        ("foo", "foo"),
        ("A", "a"),
        ("7", "7"),
        ("Foo.Bar", "foo-bar"),
        ("FOO__bar", "foo-bar"),
        ("a-_.b", "a-b"),
        ("ruamel.yaml.clib", "ruamel-yaml-clib"),
        ("0-._.-._.-0", "0-0"),
        ("x" * MAX_NAME, "x" * MAX_NAME),
    ],
)
def test_valid_names_are_normalized(name, normalized):
    assert normalize(name) == normalized


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-foo",
        "foo-",
        "Idna_",
        ".",
        "..",
        "foo\n",
        "föo",
        "fo\u017f",
        "\u212a",
        "a b",
        "../x",
        "a/b",
        "a\\b",
        "a%2fb",
        "a\x00",
        "x" * (MAX_NAME + 1),
    ],
)
def test_invalid_names_are_refused_before_they_are_normalized(name):
    with pytest.raises(InvalidName):
        normalize(name)


@given(st.text(max_size=30))
def test_normalization_agrees_with_packaging(name):
    try:
        expected = canonicalize_name(name, validate=True)
    except ValueError:
        with pytest.raises(InvalidName):
            normalize(name)
    else:
        # packaging's pattern ignores case the Unicode way and lets a trailing newline pass
        if name.isascii() and not name.endswith("\n"):
            assert normalize(name) == expected
            assert normalize(expected) == expected


@pytest.mark.parametrize(
    "filename",
    [
        "foo-1.0-py3-none-any.whl",
        "torch-2.6.0+cu126-cp311-cp311-linux_x86_64.whl",
        "foo-1!1.0.tar.gz",
        "Foo_Bar-1.0.zip",
        "foo-1.0.win32-py2.7.exe",
        "foo-1.0-variants.json",
        "_foo~1@x=2.tar.bz2",
        "console.tar.gz",
        "x" * 248 + ".tar.gz",
    ],
)
def test_safe_file_names_pass(filename):
    assert is_safe_filename(filename)


@pytest.mark.parametrize(
    "filename",
    [
        "",
        ".whl",
        "-foo-1.0.whl",
        ".foo.whl",
        "foo..bar.whl",
        "a/b.whl",
        "a\\b.whl",
        "c:foo.whl",
        "foo%2f.whl",
        "foo bar.whl",
        "foö.whl",
        "foo.whl\n",
        "foo\x00.whl",
        "foo.txt",
        "foo",
        "foo.whl.metadata",
        "foo.tar.gz.asc",
        "CON.tar.gz",
        "nul.whl",
        "Com1.zip",
        "index.html",
        "x" * 249 + ".tar.gz",
        "foo.json",
        "simple.js",
        '"x".whl',
        "<b>.whl",
    ],
)
def test_unsafe_file_names_do_not_pass(filename):
    assert not is_safe_filename(filename)


@pytest.mark.parametrize(
    ("filename", "project", "expected"),
    [
        ("foo-1.0-py3-none-any.whl", None, ("foo", "1.0", "wheel")),
        ("Foo_Bar-1.0+x.1-2abc-py3-none-any.whl", "foo-bar", ("foo-bar", "1.0+x.1", "wheel")),
        ("foo-bar-1.0-py3-none-any.whl", "foo-bar", ("foo", "bar", "wheel")),
        ("foo-bar-x1.0-py3-none-any.whl", "foo-bar", (None, None, "wheel")),
        ("foo.whl", "foo", (None, None, "wheel")),
        ("foo-1.0.tar.gz", None, ("foo", "1.0", "sdist")),
        ("foo-1.0.tar.gz", "foo", ("foo", "1.0", "sdist")),
        ("foo-bar-1.0.zip", "foo-bar", ("foo-bar", "1.0", "sdist")),
        ("Foo.Bar-1.0.zip", "foo-bar", ("foo-bar", "1.0", "sdist")),
        ("foo-bar-1.0.zip", "foo", ("foo-bar", "1.0", "sdist")),
        ("foo-2-1.0.tar.bz2", None, ("foo-2", "1.0", "sdist")),
        ("foo-2-1.0.tar.bz2", "foo-2", ("foo-2", "1.0", "sdist")),
        ("docutils-0.15.1-post1.tar.gz", "docutils", ("docutils", "0.15.1-post1", "sdist")),
        ("docutils-0.15.1-post1.tar.gz", None, ("docutils", "0.15.1-post1", "sdist")),
        ("foo-1.0-beta-x.tar.gz", None, ("foo", "1.0-beta-x", "sdist")),
        ("foo-dev.tgz", "foo", ("foo", "dev", "sdist")),
        ("foo-dev-r12.tgz", "foo", ("foo", "dev-r12", "sdist")),
        ("foo.tar.gz", "foo", (None, None, "sdist")),
        ("foo-.tar.gz", "foo", (None, None, "sdist")),
        ("foo-1.0.linux-x86_64.tar.gz", "foo", ("foo", "1.0", "other")),
        ("foo-1.0.win32.zip", "foo", ("foo", "1.0", "other")),
        ("foo-1.0.win-amd64-py2.7.exe", "foo", ("foo", "1.0", "other")),
        ("foo_bar-1.0-py2.7-linux-x86_64.egg", "foo-bar", ("foo-bar", "1.0", "other")),
        ("foo-1.0.win32.msi", None, (None, None, "other")),
        ("foo-1.0-variants.json", "foo", ("foo", "1.0", "other")),
        ("bar-1.0-py2.7.egg", "foo", (None, None, "other")),
        ("README", "foo", (None, None, "other")),
    ],
)
def test_file_names_tell_project_version_and_kind(filename, project, expected):
    assert parse_filename(filename, project) == FileName(*expected)


@given(st.text(max_size=60), st.sampled_from(["foo", "a-b", None]))
def test_no_file_name_raises(filename, project):
    for suffix in ("", ".whl", ".tar.gz", ".exe", "-variants.json"):
        parse_filename(filename + suffix, project)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("foo-1.0-py3-none-any.whl", True),
        ("evil-1.0-py3-none-any.whl", False),
        ("foo-1.0.tar.gz", True),
        ("foo-bar-1.0.tar.gz", False),
        ("evil-1.0.zip", False),
        ("evil-1.0.exe", True),
        ("unparsable.whl", True),
    ],
)
def test_only_wheels_and_sdists_of_others_do_not_belong(filename, expected):
    foo = normalize("foo")
    assert parse_filename(filename, foo).is_foreign_to(foo) is not expected


def test_versions_of_all_ages_have_one_order():
    versions = ["2.0", "1.0", "1.0.0", "10", "2004b", "dev-r12", "1.0rc1", "9" * 5000, None, "a"]
    ordered = sorted(versions, key=version_key)
    assert ordered[:4] == [None, "9" * 5000, "a", "dev-r12"]
    assert ordered[4:] == ["1.0rc1", "1.0", "1.0.0", "2.0", "10", "2004b"]


@given(st.lists(st.text(max_size=12) | st.sampled_from(["1.0", "1.0.0", "v1", "1!2", "1.0+a"])))
def test_the_order_of_versions_does_not_depend_on_their_input_order(versions):
    assert sorted(versions, key=version_key) == sorted(reversed(versions), key=version_key)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("1.0", "1.0.0", True),
        ("v1.0", "1.0", True),
        ("1.0", "1.0.post1", False),
        ("dev-r12", "dev-r12", True),
        ("dev-r12", "dev-r13", False),
        ("1.0", None, False),
        (None, None, True),
    ],
)
def test_a_version_is_the_same_in_any_spelling(one, other, is_same):
    assert is_same_version(one, other) is is_same
    assert is_same_version(other, one) is is_same


def test_versions_of_any_length_are_compared_and_not_remembered():
    """Clients send such, and folders in wheels are called so."""
    version_key.cache_clear()
    for number in range(3):
        long = f"1.{number}" + "0" * 60_000
        assert is_same_version(long, long)
        assert not is_same_version(long, "1.0")
        assert not is_same_version(None, long)
    assert version_key.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("acme-*", True),
        ("Acme_*", True),
        ("*", True),
        ("acme-?ools", True),
        ("acme-[a-t]ools", True),
        ("acme", False),
        ("acme-", False),
        ("tools", False),
        ("acme-[!t]ools", False),
    ],
)
def test_patterns_are_globs_over_normalized_names(pattern, matches):
    assert matches_pattern(normalize("acme-tools"), pattern) is matches


@pytest.mark.parametrize(
    ("name", "patterns", "expected"),
    [
        ("acme", ["acme"], True),
        ("acme-tools", ["Acme"], True),
        ("acmeist", ["acme"], False),
        ("acmeist", ["other", "acme*"], True),
        ("acme", ["acme-*"], False),
        ("a-b-c", ["A.b"], True),
        ("foo", [], False),
    ],
)
def test_a_reserved_name_covers_its_namespace(name, patterns, expected):
    assert is_reserved(normalize(name), patterns) is expected


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("acme-", "ends with a separator: write acme or acme-*"),
        ("acme_", "ends with a separator: write acme or acme-*"),
        ("acme._-", "ends with a separator: write acme or acme-*"),
        ("-x", "begins with a separator: write x or *-x"),
        ("acme-*-", "ends with a separator"),
        ("-*", "begins with a separator"),
        ("-", "begins with a separator"),
        ("evil-[ab", "go together"),
        ("evil]", "go together"),
        ("[!]", "stands for no letter"),
        ("!evil", "directly behind ["),
        ("ev!il*", "directly behind ["),
        ("[a!b]", "directly behind ["),
        ("a[z-a]", "stands for no letter"),
        ("[._]x", "stands for no letter"),
        ("[!a-z0-9-]", "stands for no letter"),
    ],
)
def test_a_pattern_that_covers_nothing_is_told(pattern, told):
    assert told in (pattern_fault(pattern) or "")
    assert not is_reserved(normalize("acme"), [pattern])


@pytest.mark.parametrize(
    "pattern",
    ["acme", "Acme.Lib__x", "*", "?", "acme-*", "*-acme", "[!a]*", "x[-a]y", "a[]b]", "[A]"],
)
def test_a_pattern_that_can_cover_something_is_fine(pattern):
    assert pattern_fault(pattern) is None


@given(st.text("ab-_.*?[]!", min_size=1, max_size=8), st.text("ab-", min_size=1, max_size=6))
def test_what_covers_a_name_has_no_fault(pattern, name):
    try:
        name = normalize(name)
    except InvalidName:
        return
    if matches_pattern(name, pattern) or is_reserved(name, [pattern]):
        assert pattern_fault(pattern) is None or "!" in pattern


PROJECT = canonicalize_name("acme-lib")
WHEEL = "acme_lib-1.0-py2.py3-none-any.whl"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WHEEL, WHEEL),
        (WHEEL, "Acme.Lib-1.0-py2.py3-none-any.whl"),
        (WHEEL, "acme__lib-1.0-py2.py3-none-any.whl"),
        (WHEEL, "acme_lib-1.0.0.0-py2.py3-none-any.whl"),
        (WHEEL, "acme_lib-1.0-py3.py2-NONE-any.whl"),
        ("acme_lib-1.0+a.b-py3-none-any.whl", "acme_lib-1.0+A_b-py3-none-any.whl"),
        ("acme_lib-1.0-1x-py3-none-any.whl", "acme_lib-1.0-01X-py3-none-any.whl"),
        ("acme_lib-1.0.tar.gz", "acme.lib-1.0.tar.gz"),
        ("acme_lib-1.0.tar.gz", "acme-lib-1.0.0.zip"),
    ],
)
def test_a_file_is_the_same_in_any_spelling(one: str, other: str) -> None:
    assert is_same_file(one, other, PROJECT)
    assert is_same_file(other, one, PROJECT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WHEEL, "acme_lib-1.0-py3-none-any.whl"),
        (WHEEL, "acme_lib-1.0.1-py2.py3-none-any.whl"),
        (WHEEL, "acme_lib-1.0-1-py2.py3-none-any.whl"),
        (WHEEL, "acme_lib-1.0.tar.gz"),
        (WHEEL, "acme-lib.whl"),
        ("a.whl", "b.whl"),
        ("acme_lib-1.0-1-py3-none-any.whl", "acme_lib-1.0-10-py3-none-any.whl"),
        ("acme_lib-1.0-1-py3-none-any.whl", "acme_lib-1.0-2-py3-none-any.whl"),
        ("acme_lib-1.0.tar.gz", "acme_lib-1.0.post1.tar.gz"),
        ("acme_lib-1.0.win32.exe", "acme_lib-1.0.win-amd64.exe"),
    ],
)
def test_other_files_are_others(one: str, other: str) -> None:
    assert not is_same_file(one, other, PROJECT)
    assert not is_same_file(other, one, PROJECT)
