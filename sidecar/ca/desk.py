"""What the CA's server answers, over the files of one CA: to join, to renew, what to believe.

A token is spent, on the disk, before anything is signed for it; what is signed
stands in the log before it is given out; every refusal stands there, too, up to
a bound. Of a signing request only the key counts. It knows no sockets.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import jiter
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import IdentityError
from ..spiffe.bundle import Bundles, TrustBundle
from ..spiffe.certificate import Certificate
from ..spiffe.id import SpiffeId
from ..spiffe.revocation import Revocations
from ..spiffe.svid import X509Svid, signers_of, verify_path
from .authority import MAX_REQUEST, PublicKey, host_name, public_key_of
from .revocations import load_revocations, revocations_stamp
from .store import SERVER_PATH, Issued, LocalCa, RotatedAway, open_ca
from .tokens import Token, TokenStore
from .turnover import retire

MAX_BODY: Final = 2 * MAX_REQUEST  # bytes of a question
_WINDOW: Final = 60.0  # seconds in which refusals are counted
_MOST_OF_ONE: Final = 20  # refusals in it, from one address; then it waits
_MOST_LOGGED: Final = 120  # refusals in it that are written down
_MOST_ISSUED: Final = 120  # certificates in it, for one identity
_MOST_NAMES: Final = 4096

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: a status of HTTP, and JSON."""

    status: int
    body: bytes


@dataclass(slots=True)
class _Tally:
    """How often something happened lately, in all and to each of a bounded number of names."""

    most: int  # to one name within the window
    since: float = 0.0
    total: int = 0
    by: dict[str, int] = field(default_factory=dict)

    def is_full(self, name: str, now: float) -> bool:
        """Whether it happened too often to *name*; those beyond the table share its fate."""
        if not self.since <= now < self.since + _WINDOW:
            self.since, self.total = now, 0
            self.by.clear()
        return self.by.get(name, 0) >= self.most or (
            name not in self.by and len(self.by) >= _MOST_NAMES
        )

    def count(self, name: str) -> None:
        self.total += 1
        self.by[name] = self.by.get(name, 0) + 1


class Desk:
    """The answers of the CA in *folder*; times are seconds since the epoch.

    *ttl* is the life of a workload's certificate, *grace* how long after its end it
    may still be renewed, *refresh* how soon others should look again.
    """

    def __init__(self, folder: Path, *, ttl: float, grace: float, refresh: float) -> None:
        self._ca = open_ca(folder)
        self._ttl, self._grace, self._refresh = ttl, grace, refresh
        self._refusals = _Tally(_MOST_OF_ONE)
        self._given = _Tally(_MOST_ISSUED)
        self._denied: tuple[object, Revocations] | None = None

    @property
    def ca(self) -> LocalCa:
        """The CA as it is now: a rotation is seen at once."""
        if not self._ca.is_current:
            self._ca = open_ca(self._ca.folder)
        return self._ca

    def revocations(self) -> Revocations:
        """Return the deny list as it is now."""
        stamp = revocations_stamp(self._ca.folder)
        if self._denied is None or self._denied[0] != stamp:
            found = load_revocations(self._ca.folder, self._ca.trust_domain)
            self._denied = stamp, replace(found, refresh_hint=self._refresh)
        return self._denied[1]

    def tend(self, now: float) -> list[str]:
        """Do what has come due; return what a person should know of it."""
        dropped = retire(self.ca, now)
        return [f"the old intermediate {one.sha256[:16]} is trusted no more" for one in dropped]

    # -- what is asked

    def bundle(self) -> Answer:
        """Return the trust bundle as a SPIFFE bundle document."""
        sequence = self.revocations().sequence
        return Answer(200, spiffe_bundle(self.ca.bundle, sequence, self._refresh))

    def denied(self) -> Answer:
        """Return the deny list."""
        return Answer(200, self.revocations().document())

    def join(self, body: bytes, address: str, now: float) -> Answer:
        """Spend a token for a first certificate; *address* is who asks."""
        asked = ""
        try:
            token, identity, request = _join_of(body)
            asked = str(identity)
            self._check_standing(asked)
            store = TokenStore(self.ca.folder, self.ca.root_sha256)
            store.check(token, identity, now)
            key = public_key_of(request)  # before the token is spent on what cannot be signed
            grant = store.spend(token, identity, now)
            how = {"by": "token", "token": token.hash[:16], "peer": address}
            return self._give(identity, key, grant.names, now, how)
        except IdentityError as error:
            return self._refuse("join_refused", error, asked, address, now)

    def renew(self, chain: Sequence[bytes], body: bytes, address: str, now: float) -> Answer:
        """Give a new certificate to who holds the one that *chain* (DER, leaf first) proves.

        OpenSSL has checked its signatures, and not its times.
        """
        asked = ""
        try:
            svid = self._proved(chain, now)
            asked = str(svid.id)
            why = self.revocations().why(svid.id, svid.serial, signers_of(chain))
            if why:
                raise IdentityError("revoked", why)
            key = public_key_of(_renewal_of(body))
            names = _names_in(Certificate.from_der(chain[0]))
            how = {"by": "renewal", "after": f"{svid.serial:032x}", "peer": address}
            return self._give(svid.id, key, names, now, how)
        except IdentityError as error:
            return self._refuse("renew_refused", error, asked, address, now)

    def _proved(self, chain: Sequence[bytes], now: float) -> X509Svid:
        """Return what *chain* proves; it may have ended a while ago, while we were away."""
        if not chain:
            raise IdentityError("no_certificate", "renewal needs the certificate to be renewed")
        end = Certificate.from_der(chain[0]).not_after
        moment = end if end < now <= end + self._grace else now
        bundle = TrustBundle.from_pem(self.ca.bundle, self.ca.trust_domain)
        svid = verify_path(chain, Bundles.of([bundle]), moment)
        if svid.id.path == SERVER_PATH:
            raise IdentityError("reserved", "the CA's own certificate is renewed by the CA alone")
        return svid

    def _check_standing(self, identity: str) -> None:
        if identity in self.revocations().ids:
            raise IdentityError("revoked", f"`{identity}` was revoked")

    def _give(
        self,
        identity: SpiffeId,
        key: PublicKey,
        names: Sequence[str],
        now: float,
        how: dict[str, str],
    ) -> Answer:
        if self._given.is_full(str(identity), now):
            return _no(429, "too_many_certificates", "wait a minute")
        self._given.count(str(identity))
        issued = self._issued(identity, key, names, now, how)
        document = {"certificate": issued.chain.decode(), "bundle": issued.bundle.decode()}
        return Answer(200, json.dumps(document).encode() + b"\n")

    def _issued(
        self,
        identity: SpiffeId,
        key: PublicKey,
        names: Sequence[str],
        now: float,
        how: dict[str, str],
    ) -> Issued:
        hosts = [host_name(name) for name in dict.fromkeys([*_LOOPBACK, *names])]
        try:
            return self.ca.issue(identity, key, names=hosts, ttl=self._ttl, now=now, how=how)
        except RotatedAway:  # between the look and the lock
            return self.ca.issue(identity, key, names=hosts, ttl=self._ttl, now=now, how=how)

    def _refuse(
        self, event: str, error: IdentityError, asked: str, address: str, now: float
    ) -> Answer:
        # What is good was given: nobody else at that address keeps its holder from it.
        if self._refusals.is_full(address, now):
            return _no(429, "too_many_refusals", "wait a minute")
        self._refusals.count(address)
        if self._refusals.total <= _MOST_LOGGED:
            facts = {"reason": error.reason, "spiffe_id": asked, "peer": address}
            self.ca.record(event, facts, now)
        return _no(_STATUS.get(error.reason, 403), error.reason, str(error))


_STATUS: Final = {"malformed": 400, "weak_key": 400, "no_certificate": 401}


def _no(status: int, reason: str, message: str) -> Answer:
    return Answer(status, json.dumps({"reason": reason, "message": message}).encode() + b"\n")


def _join_of(body: bytes) -> tuple[Token, SpiffeId, bytes]:
    found = _object(body)
    token = Token.parse(_text(found, "token"))
    try:
        identity = SpiffeId.parse(_text(found, "spiffe_id"))
    except IdentityError as error:
        raise IdentityError("malformed", str(error)) from None
    return token, identity, _text(found, "csr").encode()


def _renewal_of(body: bytes) -> bytes:
    return _text(_object(body), "csr").encode()


def _object(body: bytes) -> Any:
    try:
        found = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        raise IdentityError("malformed", "the question is not JSON") from None
    if not isinstance(found, dict):
        raise IdentityError("malformed", "the question is not a JSON object")
    return found


def _text(found: Any, name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise IdentityError("malformed", f"`{name}` is missing or not text")
    return value


def _names_in(leaf: Certificate) -> list[str]:
    """Return the host names of a certificate that this CA signed."""
    try:
        found = leaf.opened.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    hosts = found.get_values_for_type(x509.DNSName)
    return [*hosts, *map(str, found.get_values_for_type(x509.IPAddress))]


def spiffe_bundle(bundle: bytes, sequence: int, refresh_hint: float | None) -> bytes:
    """Write the roots in the PEM *bundle* as a SPIFFE bundle document (section 4)."""
    document: dict[str, object] = {
        "keys": [_jwk(root) for root in Certificate.all_from_pem(bundle)],
        "spiffe_sequence": sequence,
    }
    if refresh_hint is not None:
        document["spiffe_refresh_hint"] = max(1, int(refresh_hint))
    return json.dumps(document).encode() + b"\n"


def _jwk(root: Certificate) -> dict[str, object]:
    """Write a root as the JWK of a SPIFFE bundle (X509-SVID section 6.2)."""
    key = root.opened.public_key()
    document: dict[str, object] = {"use": "x509-svid"}
    if isinstance(key, ec.EllipticCurvePublicKey):
        numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
        document |= {
            "kty": "EC",
            "crv": f"P-{key.curve.key_size}",
            "x": _base64url(numbers.x, size),
            "y": _base64url(numbers.y, size),
        }
    document["x5c"] = [base64.b64encode(root.der).decode()]
    return document


def _base64url(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
