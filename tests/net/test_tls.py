"""TLS in memory: which handshakes succeed, who is then known, and why the others fail."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from support.mint import Files, Mint

from sidecar.errors import IdentityError, StartError
from sidecar.net.tls import Identity, Pair, asked_name, client_context, make_identity, reason_of
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.svid import verify

NOW = time.time()
UNKNOWN = x509.ObjectIdentifier("1.2.3.4")  # of an extension that nobody knows


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory) -> Mint:
    return Mint(tmp_path_factory.mktemp("mint"), now=NOW)


def pair_of(files: Files) -> Pair:
    return Pair(files.cert.read_bytes(), files.key.read_bytes())


def bundles_of(*mints: Mint) -> Bundles:
    return Bundles.of([TrustBundle.from_pem(one.root_pem, one.trust_domain) for one in mints])


def identity_of(mint: Mint, *others: Mint, files: Files | None = None) -> Identity:
    files = files or mint.leaf("mcp-prod/files")
    bundles = bundles_of(mint, *others)
    return make_identity(verify(files.chain, bundles, NOW), bundles, pair_of(files), NOW)


def shake(
    identity: Identity, client: ssl.SSLContext, name: str | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory; return our end and the caller's, or raise what our end raises."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = identity.context.wrap_bio(there, back, server_side=True)
    theirs = client.wrap_bio(back, there, server_hostname=name)
    for _ in range(6):
        for end in (theirs, ours):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                if end is ours:
                    raise
    return ours, theirs


def caller(mint: Mint, files: Files | None) -> ssl.SSLContext:
    """A caller's context, with a certificate or without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=mint.root_pem.decode())
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


def refused(identity: Identity, client: ssl.SSLContext) -> str:
    """Return the reason for which our end refuses this caller, at the handshake or after it."""
    try:
        identity.peer(shake(identity, client)[0], NOW)
    except (ssl.SSLError, IdentityError) as error:
        return reason_of(error)
    raise AssertionError("it was let in")


def test_who_has_a_certificate_of_the_mesh_is_known_by_it(mint: Mint) -> None:
    identity, alice = identity_of(mint), mint.leaf("agent/alice")
    ours, theirs = shake(identity, caller(mint, alice), "files.local")
    svid = identity.peer(ours, NOW)
    assert str(svid.id) == "spiffe://cluster.local/ns/agent/sa/alice"
    assert svid.serial == alice.leaf.serial_number
    assert asked_name(ours) == "files.local"
    assert ours.version() == theirs.version() == "TLSv1.3"
    assert ours.selected_alpn_protocol() is None


def test_who_asks_for_no_name_has_none(mint: Mint) -> None:
    ours, _ = shake(identity_of(mint), caller(mint, mint.leaf()))
    assert asked_name(ours) == ""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("expired", "expired"),
        ("not_yet_valid", "not_yet_valid"),
        ("two_uri_sans", "two_uri_sans"),
        ("no_uri_san", "no_uri_san"),
        ("other_trust_domain", "other_trust_domain"),
        ("wrong_purpose", "wrong_purpose"),
        ("unknown_ca", "unknown_ca"),
    ],
)
def test_a_certificate_that_is_wrong_is_refused_by_its_reason(
    mint: Mint, fault: str, reason: str
) -> None:
    assert refused(identity_of(mint), caller(mint, mint.wrong(fault))) == reason


@pytest.mark.parametrize("fault", ["ca_leaf", "no_digital_signature", "no_path", "not_a_spiffe_id"])
def test_what_is_not_quite_an_svid_is_refused_too(mint: Mint, fault: str) -> None:
    assert refused(identity_of(mint), caller(mint, mint.wrong(fault)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"uri": ["spiffe://cluster.local/ca"]}, "ca_path"),
        ({"uri": ["spiffe://cluster.local", "spiffe://a.test"]}, "two_uri_sans"),
        ({"usage": None}, "not_a_ca"),
        ({"extension": x509.NameConstraints([x509.DNSName("test")], None)}, "critical_extension"),
        ({"extension": x509.UnrecognizedExtension(UNKNOWN, b"\x05\x00")}, "critical_extension"),
        ({"not_after": -10}, "expired"),
    ],
)
def test_a_wrong_intermediate_is_refused_as_in_a_file(
    mint: Mint, wrong: dict[str, Any], reason: str
) -> None:
    files = mint.leaf(signer=mint.authority(mint.root, **wrong), dns=["a.test"])
    assert refused(identity_of(mint), caller(mint, files)) == reason


def test_more_cas_than_one_above_allows_are_a_chain_too_long(mint: Mint) -> None:
    files = mint.leaf(signer=mint.authority(mint.intermediate))
    assert refused(identity_of(mint), caller(mint, files)) == "chain_too_long"


def test_without_a_certificate_there_is_no_handshake(mint: Mint) -> None:
    assert refused(identity_of(mint), caller(mint, None)) == "no_certificate"


def test_older_protocols_are_not_spoken(mint: Mint) -> None:
    client = caller(mint, mint.leaf())
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refused(identity_of(mint), client) == "old_protocol"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 40, b"SSH-2.0-x\r\n"])
def test_what_is_no_handshake_at_all_is_refused(mint: Mint, data: bytes) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = identity_of(mint).context.wrap_bio(there, back, server_side=True)
    there.write(data)
    with pytest.raises(ssl.SSLError) as error:
        ours.do_handshake()
    assert reason_of(error.value) in ("plaintext", "tls_error")


def test_no_session_can_be_taken_up_again(mint: Mint) -> None:
    identity, client = identity_of(mint), caller(mint, mint.leaf())
    ours, theirs = shake(identity, client)
    ours.write(b"a word, behind which a ticket would have come")
    assert theirs.read(100)
    assert theirs.session is None or not theirs.session.has_ticket
    again, _ = shake(identity, client)
    assert not again.session_reused


def test_a_chain_that_was_judged_is_asked_for_its_time_again(mint: Mint) -> None:
    identity, alice = identity_of(mint), mint.leaf("agent/alice", not_after=600)
    ours, _ = shake(identity, caller(mint, alice))
    first = identity.peer(ours, NOW)
    assert identity.peer(ours, NOW + 599) is first
    for wrong in (NOW + 601, NOW - 3600):
        with pytest.raises(IdentityError):
            identity.peer(ours, wrong)


def test_only_so_many_chains_are_remembered(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.net.tls._MAX_SEEN", 2)
    identity = identity_of(mint)
    for name in ("agent/a", "agent/b", "agent/c", "agent/a"):
        ours, _ = shake(identity, caller(mint, mint.leaf(name)))
        assert str(identity.peer(ours, NOW).id).endswith(name.rpartition("/")[2])
        assert len(identity._seen) <= 2


def test_another_trust_domain_is_known_by_its_own_root_alone(mint: Mint, tmp_path: Path) -> None:
    other = Mint(tmp_path, "other.test", NOW)
    bob = other.leaf("agent/bob")
    ours, _ = shake(both := identity_of(mint, other), caller(mint, bob))
    assert str(both.peer(ours, NOW).id) == "spiffe://other.test/ns/agent/sa/bob"
    forged = other.leaf(uri=["spiffe://cluster.local/ns/agent/sa/alice"])
    assert refused(both, caller(mint, forged)) in ("other_trust_domain", "unknown_ca")
    assert refused(identity_of(mint), caller(mint, bob)) == "unknown_ca"


def test_a_pair_that_tls_does_not_take_is_never_used(mint: Mint) -> None:
    good, other = mint.leaf("mcp-prod/files"), mint.leaf("mcp-prod/files")
    bundles = bundles_of(mint)
    svid = verify(good.chain, bundles, NOW)
    for pair in (
        Pair(good.cert.read_bytes(), other.key.read_bytes()),
        Pair(b"", good.key.read_bytes()),
        Pair(good.cert.read_bytes(), b"no key"),
    ):
        with pytest.raises(StartError) as error:
            make_identity(svid, bundles, pair, NOW)
        assert "mcp-prod/sa/files" in str(error.value)


def test_we_call_others_with_the_same_certificate(mint: Mint) -> None:
    files, bundles = mint.leaf("mcp-prod/files"), bundles_of(mint)
    identity = identity_of(mint)
    ours, theirs = shake(identity, client_context(pair_of(files), bundles))
    assert str(identity.peer(ours, NOW).id).endswith("/sa/files")
    assert theirs.version() == "TLSv1.3"


def test_the_key_is_left_in_no_file(
    mint: Mint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    files = mint.leaf("mcp-prod/files")
    identity_of(mint, files=files)
    assert list(tmp_path.iterdir()) == []
    open_files = [str(fd.resolve()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
    assert not [name for name in open_files if "memfd:pair" in name]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (IdentityError("two_uri_sans", "x"), "two_uri_sans"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "closed"),
        (OSError(), "closed"),
    ],
)
def test_every_failure_has_a_word(error: BaseException, word: str) -> None:
    assert reason_of(error) == word
