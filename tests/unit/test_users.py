"""Password files, tokens, and the slowing of guesses."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
import time
from pathlib import Path

import bcrypt
import pytest
from passlib.hash import apr_md5_crypt, argon2, ldap_sha1, sha256_crypt, sha512_crypt
from passlib.hash import bcrypt as bcrypt_hash

from proxyindex.access import Action, Scope
from proxyindex.disk import signature
from proxyindex.users import htpasswd as htpasswd_module
from proxyindex.users.attempts import Attempts, seconds
from proxyindex.users.followed import AccountsError, Followed
from proxyindex.users.hashes import PasswordHashes
from proxyindex.users.htpasswd import Htpasswd
from proxyindex.users.tokens import PREFIX, TokenExpired, TokenFile, is_token
from tests.support.limits import no_descriptors

PASSWORD = "pässwörd with blanks"


def old(path: Path) -> Path:
    """As it is a while after it was written: what is read now is not read again."""
    os.utime(path, ns=(10**18, 10**18))
    return path


def quick(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


# Password hashes

HASHES = {
    "bcrypt": lambda: bcrypt_hash.using(rounds=4).hash(PASSWORD),
    "bcrypt-2y": lambda: quick(PASSWORD).replace("$2b$", "$2y$"),  # as htpasswd -B
    "argon2": lambda: argon2.using(time_cost=1, memory_cost=64).hash(PASSWORD),
    "sha256": lambda: sha256_crypt.using(rounds=1000).hash(PASSWORD),
    "sha512": lambda: sha512_crypt.using(rounds=1000).hash(PASSWORD),
    "apr1": lambda: apr_md5_crypt.hash(PASSWORD),
}


@pytest.mark.parametrize("kind", HASHES)
def test_hashes_of_these_kinds_are_read(kind: str) -> None:
    hashes, hashed = PasswordHashes(), HASHES[kind]()
    assert hashes.is_readable(hashed)
    assert hashes.verify(PASSWORD, hashed)
    assert not hashes.verify(PASSWORD + "x", hashed)
    assert not hashes.verify("", hashed)


@pytest.mark.parametrize(
    "hashed",
    ["", "secret", "rqXexS6ZhobKA", ldap_sha1.hash("secret"), "$2b$", "$1$abc$", "{PLAIN}secret"],
)
def test_hashes_of_other_kinds_let_nobody_in(hashed: str) -> None:
    hashes = PasswordHashes()
    assert not hashes.verify("secret", hashed)
    assert not hashes.verify(hashed, hashed)


def test_a_password_beyond_what_bcrypt_knows_is_let_in_as_apache_does_but_not_made() -> None:
    hashes, longer = PasswordHashes(), "x" * 80
    assert hashes.verify(longer, quick(longer[:72]))
    for password in (longer, "a\0b"):
        with pytest.raises(ValueError, match="72"):
            hashes.hash(password)
    assert not hashes.verify("a\0b", quick("a"))


def test_new_hashes_are_bcrypt_of_today() -> None:
    hashed = PasswordHashes().hash("secret")
    assert hashed.startswith("$2b$12$")


# Password files


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.htpasswd"
    lines = ["# people", "", f"alice:{quick('one')}", f"bob:{quick('two')}:Bob", "eve:plain"]
    path.write_text("\n".join(lines) + "\n")
    return old(path)


def test_a_file_tells_whose_password_is_right(users: Path) -> None:
    file = Htpasswd([users], PasswordHashes())
    right = {("alice", "one"), ("bob", "two")}
    for user in ("alice", "bob", "eve", "nobody", "", "# people"):
        for password in ("one", "two", "plain", ""):
            assert file.verify(user, password)[0] == ((user, password) in right)


def test_lines_that_cannot_be_used_are_told_without_what_is_in_them(
    users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Htpasswd([users], PasswordHashes()).verify("alice", "one")
    assert f"line 5 of {users} is left out" in caplog.text
    assert "plain" not in caplog.text


def test_a_user_nobody_knows_costs_a_hash_like_a_known_one(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes, verified = PasswordHashes(), []
    plain = hashes.verify

    def noted(password: str, hashed: str) -> bool:
        verified.append(hashed)
        return plain(password, hashed)

    monkeypatch.setattr(hashes, "verify", noted)
    file = Htpasswd([users], hashes)
    for user in ("alice", "nobody", "nobody"):
        file.verify(user, "wrong")
    assert len(verified) == 3
    assert verified[1] == verified[2], "the same stand-in for the same name"


def test_the_first_file_that_has_a_user_counts(tmp_path: Path) -> None:
    for number, password in enumerate(("first", "second")):
        (tmp_path / str(number)).write_text(f"alice:{quick(password)}\n")
    file = Htpasswd([tmp_path / "0", tmp_path / "1"], PasswordHashes())
    assert [file.verify("alice", word)[0] for word in ("first", "second")] == [True, False]


def test_behind_a_broken_file_nobody_is_let_in(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    for path, user, password in zip(paths, ("bob", "alice", "alice"), "bno", strict=True):
        path.write_text(f"{user}:{quick(password)}\n")
    file = Htpasswd(paths, PasswordHashes())
    assert file.verify("alice", "n")[0]
    paths[1].write_bytes(b"alice:\xff\xfe\n")
    assert not file.verify("alice", "o")[0], "the older password of the next file"
    assert file.verify("bob", "b")[0]
    paths[1].unlink()
    assert file.verify("alice", "o")[0]


def test_a_change_counts_at_once_however_it_was_written(users: Path) -> None:
    file = Htpasswd([users], PasswordHashes())
    for number in range(20):
        users.write_text(f"alice:{quick(str(number))}\n")  # in place, same size, within a tick
        assert file.verify("alice", str(number))[0]
        assert not file.verify("alice", str(number - 1))[0]
    users.unlink()
    assert not file.verify("alice", "19")[0]


@pytest.mark.parametrize(("age", "is_relied_on"), [(1.9, False), (2.1, True)])
def test_what_may_yet_change_under_the_same_stamp_is_read_again(
    tmp_path: Path, age: float, is_relied_on: bool
) -> None:
    """FAT counts in steps of two seconds, ext3 and HFS+ in whole ones."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    written_ns = path.stat().st_mtime_ns
    file = Followed(path, bytes, clock=lambda: written_ns + int(age * 1e9))
    found, said = file.now()
    assert (said, found == signature(path)) == (b"one", is_relied_on)
    assert file.known() == ((found, said) if is_relied_on else None)


def test_a_broken_file_lets_nobody_in_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"alice:" + quick("one").encode() + b"\n\xff\xfe\n")
    file = Htpasswd([old(path)], PasswordHashes())
    caplog.set_level(logging.ERROR)
    assert not file.verify("alice", "one")[0]
    assert not file.verify("alice", "one")[0]
    assert len(caplog.records) == 1


def test_a_file_that_cannot_be_read_now_is_read_again(users: Path) -> None:
    settled = time.time_ns() + 10**12
    file = Followed(users, bytes, broken=b"nobody", clock=lambda: settled)
    with no_descriptors():
        assert file.now()[1] == b"nobody"
    assert file.now()[1] == users.read_bytes()


def test_users_are_added_changed_and_removed_and_the_rest_stays(users: Path) -> None:
    os.chmod(users, 0o640)
    assert not htpasswd_module.put(users, "carol", "$2b$04$new")
    assert htpasswd_module.put(users, "alice", "$2b$04$other")
    assert htpasswd_module.remove(users, "bob")
    assert not htpasswd_module.remove(users, "bob")
    assert htpasswd_module.names(users) == ["alice", "eve", "carol"]
    lines = users.read_text().splitlines()
    expected = ["# people", "", "alice:$2b$04$other", "eve:plain", "carol:$2b$04$new"]
    assert lines == expected
    assert stat.S_IMODE(users.stat().st_mode) == 0o640
    assert [path.name for path in users.parent.iterdir()] == [users.name], "nothing is left over"


def test_a_link_to_a_password_file_stays_one(users: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(users)
    htpasswd_module.put(link, "carol", "$2b$04$new")
    assert link.is_symlink()
    assert "carol" in htpasswd_module.names(users)


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "users"
    threads = [
        threading.Thread(target=htpasswd_module.put, args=(path, f"user{number}", "x"))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(htpasswd_module.names(path)) == sorted(f"user{number}" for number in range(20))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        said = Followed(path, lambda body: body).now()[1]
        assert said == b""
        with pytest.raises(AccountsError):
            htpasswd_module.names(path)


# Tokens


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "state" / "tokens.json")


def test_a_token_is_found_by_its_text_and_only_a_digest_is_stored(tokens: TokenFile) -> None:
    scope = Scope(("dev",), ("acme-*",), frozenset({Action.UPLOAD}), 2_000_000_000)
    text, made = tokens.create("ci", scope)
    assert is_token(text)
    assert len(text) >= 40
    found = tokens.find(text, 1_999_999_999.0)
    assert found is not None
    assert (found.token, found.token.scope) == (made, scope)
    stored = tokens.path.read_text()
    assert text not in stored
    assert text.removeprefix(PREFIX)[:20] not in stored
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert made.tail == text[-4:]


def test_a_token_ends_when_it_expires_and_when_it_is_revoked(tokens: TokenFile) -> None:
    text, made = tokens.create("ci", Scope(expires=1000.0))
    kept, _ = tokens.create("ci", Scope())
    assert tokens.find(text, 999.9)
    with pytest.raises(TokenExpired) as expired:
        tokens.find(text, 1000.0)
    assert expired.value.at == 1000.0
    assert tokens.revoke(frozenset({made.id, "unknown"})) == [made]
    assert tokens.find(text, 0.0) is None
    assert tokens.find(kept, 1e12)
    assert [token.user for token in tokens.all()] == ["ci"]


def test_another_process_sees_a_new_token_and_a_revoked_one_at_once(tokens: TokenFile) -> None:
    other = TokenFile(tokens.path)
    assert other.find("pxi_unknown", 0.0) is None
    for _ in range(10):
        text, made = tokens.create("ci", Scope())
        assert other.find(text, 0.0)
        tokens.revoke(frozenset({made.id}))
        assert other.find(text, 0.0) is None


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        '{"tokens": [{}]}',
        '{"tokens": "x"}',
        '{"other": []}',
        '{"tokens": [{"id": "a", "digest": "b", "tail": "c", "user": "d", "created": 1, "x": 2}]}',
        '{"tokens":' + "[" * 100_000,
    ],
    ids=lambda body: body[:30],
)
def test_a_broken_file_of_tokens_lets_nobody_in_and_is_not_written_over(
    tokens: TokenFile, body: str
) -> None:
    text, _ = tokens.create("ci", Scope())
    tokens.path.write_text(body)
    assert tokens.find(text, 0.0) is None
    with pytest.raises(AccountsError):
        tokens.create("ci", Scope())
    with pytest.raises(AccountsError):
        tokens.all()
    assert tokens.path.read_text() == body


def test_the_file_of_tokens_is_json_people_can_read(tokens: TokenFile) -> None:
    tokens.create("ci", Scope())
    document = json.loads(tokens.path.read_text())
    assert [sorted(one) for one in document["tokens"]] == [
        sorted(
            ["id", "digest", "tail", "user", "created", "expires", "indexes", "projects", "actions"]
        )
    ]


@pytest.mark.parametrize("user", ["", "a b", "@group", "*"])
def test_a_token_for_no_user_is_refused(tokens: TokenFile, user: str) -> None:
    with pytest.raises(AccountsError):
        tokens.create(user, Scope())


# Attempts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def guesses(attempts: Attempts, address: str, user: str, count: int) -> int:
    return sum(attempts.take(address, user) == 0.0 for _ in range(count))


def test_an_address_that_guesses_is_slowed_whatever_names_it_tries(
    attempts: Attempts, clock: Clock
) -> None:
    assert sum(guesses(attempts, "192.0.2.1", f"user{n}", 1) for n in range(1000)) == 20
    assert seconds(attempts.take("192.0.2.1", "alice")) <= 5
    clock.now += 3600
    done = 0
    for _ in range(3600):
        clock.now += 1
        done += guesses(attempts, "192.0.2.1", "alice", 10)
    assert done <= 20 + 3600 / 5 + 1


def test_a_name_that_is_guessed_at_from_many_addresses_is_slowed(attempts: Attempts) -> None:
    addresses = [f"198.51.100.{n}" for n in range(100)]
    done = sum(guesses(attempts, address, "alice", 15) for address in addresses)
    assert done <= 40 + 2 * len(addresses)


def test_whoever_knows_his_password_is_not_locked_out_by_others(attempts: Attempts) -> None:
    attempts.take("192.0.2.7", "alice")
    attempts.succeeded("192.0.2.7", "alice")
    for n in range(100):
        guesses(attempts, f"198.51.100.{n}", "alice", 50)
    guesses(attempts, "192.0.2.7", "bob", 50)  # a neighbour behind the same address
    assert attempts.take("192.0.2.7", "alice") == 0.0, "known there"
    assert attempts.take("203.0.113.9", "alice") == 0.0, "the first try from elsewhere"


def test_right_passwords_cost_nothing(attempts: Attempts) -> None:
    for n in range(200):
        assert attempts.take("192.0.2.1", f"user{n % 50}") == 0.0
        attempts.succeeded("192.0.2.1", f"user{n % 50}")


def test_who_is_known_may_not_guess_without_end_either(attempts: Attempts) -> None:
    attempts.take("192.0.2.1", "alice")
    attempts.succeeded("192.0.2.1", "alice")
    assert guesses(attempts, "192.0.2.1", "alice", 1000) <= 21


def test_one_network_of_ipv6_is_one_address(attempts: Attempts) -> None:
    assert sum(guesses(attempts, f"2001:db8::{n:x}", f"u{n}", 1) for n in range(100)) == 20
    assert guesses(attempts, "2001:db8:0:1::1", "alice", 1) == 1


def test_who_has_a_site_of_ipv6_guesses_little_more(attempts: Attempts) -> None:
    # each of them forgotten before it comes again
    networks = [f"2001:db8:7:{n:x}::1" for n in range(10_001)]
    assert sum(guesses(attempts, one, "alice", 1) for one in networks * 2) == 100
    assert guesses(attempts, "2001:db8:8::1", "alice", 1) == 1


def test_who_has_sites_without_end_guesses_at_a_name_no_faster(attempts: Attempts) -> None:
    sites = [f"2001:db8:{n:x}::1" for n in range(10_001)]
    assert sum(guesses(attempts, one, "alice", 1) for one in sites * 2) == 440
    assert guesses(attempts, sites[0], "bob", 1) == 1


def test_ipv4_is_told_apart_however_it_is_written(attempts: Attempts) -> None:
    assert guesses(attempts, "::ffff:192.0.2.1", "alice", 50) == 20
    assert guesses(attempts, "192.0.2.1", "alice", 1) == 0
    assert guesses(attempts, "::ffff:192.0.2.2", "alice", 1) == 1


def test_memory_is_bounded() -> None:
    attempts = Attempts()
    for n in range(20_200):
        address, user = f"10.0.{n // 250}.{n % 250}", "x" * 50 + str(n)
        attempts.take(address, user)
        if n % 2:
            attempts.succeeded(address, user)
        attempts.take(address, user)
    held = [attempts._tried, attempts._proven]
    held += [buckets._buckets for buckets in (attempts._addresses, attempts._users)]
    assert max(len(one.items()) for one in held) == 10_000


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("place", ["", "state", "a/b/state"])
def test_what_root_makes_is_the_server_s_if_the_folder_is(tmp_path: Path, place: str) -> None:
    os.chown(tmp_path, 54321, 54321)
    TokenFile(tmp_path / place / "tokens.json").create("ci", Scope())
    htpasswd_module.put(tmp_path / place / "users", "alice", quick("one"))
    made = list(tmp_path.rglob("*"))
    assert {path.stat().st_uid for path in made} == {54321}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} <= {0o700}
