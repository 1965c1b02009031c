"""TLS 1.3 with SPIFFE certificates: contexts, and who is at the other end.

A context is made anew whenever files change, tried on itself in memory, and
then handed out; a live one is never changed. There are no session tickets: a
resumed session would accept a certificate that has expired or was revoked.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..errors import IdentityError, StartError
from ..spiffe.bundle import Bundles
from ..spiffe.id import SpiffeId
from ..spiffe.revocation import Revocations
from ..spiffe.svid import X509Svid, verify

HTTP1: Final = "http/1.1"
HTTP2: Final = "h2"
_MAX_SEEN: Final = 1024  # chains remembered as judged
_DER: Final = 2  # _ssl.ENCODING_DER
_NO_CHECK_TIME: Final = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME

# OpenSSL's X509_V_ERR_* codes and what they mean to an operator.
_VERIFY_REASONS: Final[dict[int, str]] = {
    2: "unknown_ca",
    7: "unknown_ca",  # a signature that does not fit the issuer of that name
    9: "not_yet_valid",
    10: "expired",
    18: "unknown_ca",
    19: "unknown_ca",
    20: "unknown_ca",
    21: "unknown_ca",
    22: "chain_too_long",
    24: "unknown_ca",  # an issuer that is no CA
    25: "chain_too_long",  # a CA's path length allows no further CA below it
    26: "wrong_purpose",
    32: "unknown_ca",  # an issuer that may not sign
    34: "critical_extension",
    66: "weak_key",
    67: "weak_key",
    68: "weak_signature",
    79: "unknown_ca",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Our SVID, the bundles we trust, whom we believe no more, and a server context."""

    svid: X509Svid
    bundles: Bundles
    context: ssl.SSLContext
    http1_context: ssl.SSLContext  # the same without an offer of HTTP/2
    denied: Revocations | None = None
    _seen: dict[tuple[bytes, ...], X509Svid] = field(default_factory=dict, compare=False)
    pair: Pair | None = field(default=None, repr=False, compare=False)  # to call others with

    def peer(self, connection: ssl.SSLObject, now: float) -> X509Svid:
        """Return the SVID at the other end of *connection*. Raises IdentityError.

        OpenSSL has verified the path, anew each time. What is asked beyond it depends on
        nothing but the chain, our bundles and the time, so a chain that was judged is
        remembered as long as this identity is, and asked only for its time again.
        """
        chain = tuple(verified_chain(connection))
        svid = self._seen.get(chain)
        if svid is not None and svid.not_before <= now < svid.not_after:
            return svid
        svid = judge_chain(chain, self.bundles, now)
        why = self.refuses(svid.id, svid.serial, svid.signers)
        if why:
            raise IdentityError("revoked", why)
        while len(self._seen) >= _MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[chain] = svid
        return svid

    def refuses(self, identity: SpiffeId, serial: int, signers: Sequence[str]) -> str:
        """Return why who was believed once is believed no more, or "".

        *signers* name the certificates above the one that was shown, the root last.
        """
        bundle = self.bundles.bundle_of(identity.trust_domain)
        roots = () if bundle is None else bundle.fingerprints
        if signers and signers[-1] not in roots:
            return "the root that vouched for the certificate is trusted no more"
        return self.denied.why(identity, serial, signers) if self.denied is not None else ""

    @property
    def revoked(self) -> str:
        """Why the deny list speaks of this very identity, or ""."""
        svid = self.svid
        return self.denied.why(svid.id, svid.serial, svid.signers) if self.denied else ""

    def denying(self, denied: Revocations) -> Identity:
        """Return the same identity, which judges everybody anew by the list *denied*."""
        return replace(self, denied=denied, _seen={})


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, as PEM; kept in memory only."""

    certificate: bytes
    key: bytes


def make_identity(svid: X509Svid, bundles: Bundles, pair: Pair, now: float) -> Identity:
    """Return an identity of a *pair* that was checked. Raises StartError if TLS refuses it."""
    try:
        context = _server_context(pair, bundles, (HTTP2, HTTP1))
        _try(context, pair, bundles, now)
        http1_context = _server_context(pair, bundles)
    except (ssl.SSLError, OSError, IdentityError) as error:
        raise StartError(
            f"TLS does not take the certificate of `{svid.id}`: {error}",
            help="issue a new pair with `sidecar issue-cert`",
        ) from None
    return Identity(svid, bundles, context, http1_context, pair=pair)


def _server_context(
    pair: Pair, bundles: Bundles, protocols: Sequence[str] = (HTTP1,)
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols(list(protocols))
    _load(context, pair)
    _trust(context, bundles)
    context.verify_mode = ssl.CERT_REQUIRED
    context.sni_callback = _note_name
    return context


def _note_name(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    """Keep the name that the caller asked for, for rules to read; nothing is switched by it."""
    connection.asked_name = name or ""  # type: ignore[attr-defined]


def asked_name(connection: ssl.SSLObject) -> str:
    """Return the server name that the caller sent (SNI), empty if it sent none."""
    return str(getattr(connection, "asked_name", ""))


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    """Give *context* exactly the bytes that were checked: ssl reads only files.

    The key never touches a disk here: the file is the kernel's, and ours alone.
    """
    with open(os.memfd_create("pair"), "wb") as file:
        file.write(pair.certificate + b"\n" + pair.key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def _trust(context: ssl.SSLContext, bundles: Bundles) -> None:
    # All domains' roots let OpenSSL build the path; `identify` then asks that a chain
    # ends in the bundle of its own trust domain.
    for root in bundles.roots:
        context.load_verify_locations(cadata=root)


def client_context(pair: Pair | None, bundles: Bundles) -> ssl.SSLContext:
    """Return a context for calling other meshed services; who answers is checked by SPIFFE ID.

    Without a *pair* the caller stays unknown.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    if pair is not None:
        _load(context, pair)
    _trust(context, bundles)
    return context


def ca_context(pair: Pair, bundles: Bundles) -> ssl.SSLContext:
    """Return the context of a CA's server: who joins has no certificate yet.

    Times are not checked here, so that who could not renew because the CA was away
    may still do so: `ca.desk` checks them, and says for how long.
    """
    context = _server_context(pair, bundles)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    return context


def unproved_context() -> ssl.SSLContext:
    """Return a context that believes whoever answers: only to fetch what is pinned by its hash."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _try(context: ssl.SSLContext, pair: Pair, bundles: Bundles, now: float) -> None:
    """Shake hands with ourselves in memory: a context that can't is never used."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(there, back, server_side=True)
    client = client_context(pair, bundles).wrap_bio(back, there)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    judge_chain(verified_chain(server), bundles, now)


def judge_chain(chain: Sequence[bytes], bundles: Bundles, now: float) -> X509Svid:
    """Return the SVID that a verified *chain* proves by SPIFFE's rules. Raises IdentityError."""
    if not chain:
        raise IdentityError("no_certificate", "no certificate was presented")
    return verify(chain, bundles, now)


def verified_chain(connection: ssl.SSLObject) -> Sequence[bytes]:
    """Return the chain that OpenSSL verified, in DER, leaf first.

    Python offers it publicly from 3.13 on; before, only below the surface.
    """
    public = getattr(connection, "get_verified_chain", None)
    if public is not None:
        return list(public())
    below: Any = connection._sslobj  # type: ignore[attr-defined]
    return [certificate.public_bytes(_DER) for certificate in below.get_verified_chain() or ()]


def reason_of(error: BaseException) -> str:
    """Return the word under which a failed handshake is logged."""
    if isinstance(error, IdentityError):
        return error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_REASONS.get(error.verify_code, "unknown_ca")
    if isinstance(error, ssl.SSLError):
        library = error.reason or ""
        if library == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "no_certificate"
        if library in ("HTTP_REQUEST", "WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL"):
            return "plaintext"
        if library == "UNSUPPORTED_PROTOCOL":
            return "old_protocol"
        return "tls_error"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "closed"
