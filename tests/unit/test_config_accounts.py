"""Keys of users and rights: what is refused, and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyindex.config import NotReady, load
from proxyindex.config.show import as_toml
from proxyindex.errors import ConfigError

WRONG = [
    ('read = ["@relaese"]\n[groups]\nrelease = ["a"]', "did you mean 'release'?"),
    ('read = ["@ops"]', "there is no group 'ops'; there are none"),
    ('[index.dev]\nfolders = ["."]\nupload = ["@ops"]', "index.dev.upload: there is no group"),
    ('read = ["a:b"]', "expected WHO or WHO PROJECT-GLOB"),
    ('read = [""]', "expected WHO"),
    ('upload = ["ci acme-"]', "behind 'ci' a project name or glob such as acme-* (without a"),
    ('read = ["ci a* acme/x"]', "behind 'ci' a project name or glob"),
    ('[index.dev]\nfolders = ["."]\nyank = ["@users [ab"]', "because [ and ] go together"),
    ('upload = ["ci"]', "upload: needs folders beside it"),
    ('yank = ["ci"]', "yank: needs folders beside it"),
    (
        '[index.dev]\nbases = ["own"]\ndelete = ["ci"]\n[index.own]\nfolders = ["."]',
        "index.dev.delete: needs folders beside it",
    ),
    ("[groups]\nusers = []", "none may be called users"),
    ('[groups]\nrelease = "alice"', "a table of lists of user names"),
    ('[groups]\nrelease = ["a b"]', "a table of lists of user names"),
    ("groups = 1", "a table of lists of user names"),
    ('remote-user-header = "Remote-User"', "needs remote-user-from beside it"),
    ('remote-user-from = ["10.0.0.1"]', "needs remote-user-header beside it"),
    ('remote-user-from = ["front"]\nremote-user-header = "X"', "such as 10.0.0.0/8, or unix"),
    ('remote-user-from = ["unix"]\nremote-user-header = "Authorization"', "other than Author"),
    ('remote-user-from = ["unix"]\nremote-user-header = "Remote User"', "name of a header field"),
]


def written(tmp_path: Path, text: str) -> dict[str, object]:
    config = tmp_path / "proxyindex.toml"
    config.write_text(text)
    return {"config": str(config)}


@pytest.mark.parametrize(("text", "told"), WRONG, ids=range(len(WRONG)))
def test_mistakes_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert any(told in mistake for mistake in caught.value.mistakes), caught.value.mistakes


def test_a_password_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="users"):
        load(written(tmp_path, 'htpasswd = ["users"]'))


def test_what_changes_a_folder_needs_one_only_where_it_is_served(tmp_path: Path) -> None:
    text = written(tmp_path, 'upload = ["ci"]\nadmin = ["alice"]\n')
    assert load(text, is_ready=False).settings.upload == ("ci",)
    assert load(text | {"folders": (str(tmp_path),)}).settings.upload == ("ci",)


def test_everybody_reads_and_nobody_changes_unless_told() -> None:
    settings = load({}).settings
    assert (settings.read, settings.fetch) == (("*",), ("*",))
    closed = (settings.upload, settings.delete, settings.yank, settings.admin)
    assert closed == ((), (), (), ())
    assert settings.tokens.name == "tokens.json"


def test_groups_and_grants_are_shown_as_they_can_be_written(tmp_path: Path) -> None:
    text = 'read = ["@release  acme-*", "ci"]\n[groups]\nrelease = ["alice", "bob"]\n'
    loaded = load(written(tmp_path, text))
    assert loaded.settings.read == ("@release acme-*", "ci")
    assert load(written(tmp_path, as_toml(loaded))).settings == loaded.settings
