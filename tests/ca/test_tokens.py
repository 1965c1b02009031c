"""A join token is for one identity, works once and for ten minutes, and is nowhere in clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.ca.tokens import LIFE, Token, TokenStore
from sidecar.errors import IdentityError, StartError
from sidecar.spiffe.id import SpiffeId

NOW = 1_790_000_000.0
PIN = "ab" * 32
FILES = SpiffeId.of_short("mcp-prod/files")
ALICE = SpiffeId.of_short("agent/alice")


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path, PIN)


def refused(store: TokenStore, token: Token, now: float = NOW, who: SpiffeId = FILES) -> str:
    with pytest.raises(IdentityError) as caught:
        store.spend(token, who, now)
    assert token.secret not in str(caught.value)
    return caught.value.reason


def test_a_token_is_read_back_as_it_was_written(store: TokenStore) -> None:
    token = store.make(FILES, NOW)
    assert Token.parse(f"{token}\n") == token
    assert len(token.secret) * 4 == 128
    assert token.pin == PIN


def test_no_two_tokens_are_the_same(store: TokenStore) -> None:
    assert len({store.make(FILES, NOW).secret for _ in range(20)}) == 20


def test_it_grants_what_it_was_made_for(store: TokenStore) -> None:
    token = store.make(FILES, NOW, names=["files.test"])
    grant = store.spend(token, FILES, NOW + 1)
    assert (grant.identity, grant.names) == (FILES, ("files.test",))


def test_it_works_once(store: TokenStore) -> None:
    token = store.make(FILES, NOW)
    store.spend(token, FILES, NOW)
    assert refused(store, token) == "used"


def test_looking_at_it_does_not_spend_it(store: TokenStore) -> None:
    token = store.make(FILES, NOW)
    store.check(token, FILES, NOW)
    store.spend(token, FILES, NOW)


@pytest.mark.parametrize(("after", "works"), [(LIFE - 1, True), (LIFE, False), (LIFE + 1, False)])
def test_it_holds_ten_minutes(store: TokenStore, after: float, works: bool) -> None:
    token = store.make(FILES, NOW)
    if works:
        store.spend(token, FILES, NOW + after)
    else:
        assert refused(store, token, NOW + after) == "expired"


@pytest.mark.parametrize("life", [0, -1, LIFE + 1])
def test_it_cannot_be_made_to_hold_longer(store: TokenStore, life: float) -> None:
    with pytest.raises(StartError):
        store.make(FILES, NOW, life=life)


def test_it_is_for_one_identity_and_stays_so(store: TokenStore) -> None:
    token = store.make(FILES, NOW)
    assert refused(store, token, who=ALICE) == "other_identity"
    assert refused(store, token, who=SpiffeId.parse(f"{FILES}/more")) == "other_identity"
    store.spend(token, FILES, NOW)  # a mistake does not use it up


def test_another_cas_token_is_told_from_one_that_is_not_known(store: TokenStore) -> None:
    assert refused(store, Token("cd" * 32, "00" * 16)) == "other_ca"
    assert refused(store, Token(PIN, "00" * 16)) == "unknown"


def test_only_its_hash_is_on_the_disk(store: TokenStore, tmp_path: Path) -> None:
    token = store.make(FILES, NOW)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert all(token.secret not in f"{path}{path.read_text()}" for path in kept)
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert (tmp_path / "tokens").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_tokens_that_others_may_enter_is_refused(
    store: TokenStore, tmp_path: Path
) -> None:
    store.make(FILES, NOW)
    (tmp_path / "tokens").chmod(0o750)
    with pytest.raises(StartError, match="entered by others"):
        store.make(FILES, NOW)


def test_a_spent_token_is_remembered_a_day_and_then_forgotten(
    store: TokenStore, tmp_path: Path
) -> None:
    old = store.make(FILES, NOW)
    store.spend(old, FILES, NOW)
    store.make(FILES, NOW + 3600)
    assert refused(store, old, NOW + 3600) == "used"
    store.make(FILES, NOW + 2 * 86400)
    assert len(list((tmp_path / "tokens").glob("*.*"))) - 1 == 1, "one token and the lock"


def test_a_file_that_was_cut_short_grants_nothing(store: TokenStore, tmp_path: Path) -> None:
    token = store.make(FILES, NOW)
    (path,) = (tmp_path / "tokens").glob("*.open")
    path.write_text(path.read_text()[:20])
    with pytest.raises(StartError, match="cannot be read"):
        store.spend(token, FILES, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "v2.{pin}.{secret}",
        "v1.{pin}.{secret}0",
        "v1.{pin}.{secret}x",
        "v1.{PIN}.{secret}",
    ],
)
def test_what_is_no_token_is_not_repeated(text: str) -> None:
    secret = "0123456789abcdef" * 2
    written = text.format(pin=PIN, PIN=PIN.upper(), secret=secret)
    with pytest.raises(IdentityError) as caught:
        Token.parse(written)
    assert caught.value.reason == "malformed"
    assert secret not in str(caught.value)
