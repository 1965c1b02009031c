"""What a sidecar asks of a CA on another machine: to join, to renew, whom to believe.

At first contact the CA is known by the fingerprint in the token, later by its
trust bundle; either way it must also be the CA's own server by its SPIFFE ID, for
any workload of the mesh has a certificate of the same CA. A key never leaves this
machine.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import jiter
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ..ca.authority import PrivateKey
from ..ca.store import SERVER_PATH, key_pem, new_key
from ..ca.tokens import Token
from ..errors import IdentityError, SidecarError
from ..net.tls import Pair, client_context, judge_chain, unproved_context, verified_chain
from ..spiffe.bundle import MAX_BUNDLE, Bundles, TrustBundle
from ..spiffe.certificate import Certificate
from ..spiffe.id import SpiffeId
from ..spiffe.pair import read_pair
from ..spiffe.revocation import MAX_DOCUMENT, Revocations
from ..spiffe.svid import verify_path
from .ca_http import Asked, CaAway, ask

_MOST_ANSWER: Final = 256 * 1024  # bytes of a certificate with its chain


class CaRefusal(SidecarError):
    """The CA said no; `reason` is its word for it. Asking again in the same way is of no use."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"the CA refuses ({reason}): {message}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Files:
    """A new identity, as PEM: chain, key and trust bundle. It has been verified."""

    certificate: bytes
    key: bytes
    bundle: bytes


class CaClient:
    """Asks the CA at *url* (`https://HOST:PORT`) of *trust_domain*; `wall` is the time of day."""

    def __init__(
        self, url: str, trust_domain: str, wall: Callable[[], float], seconds: float = 10.0
    ) -> None:
        self._url = url.rstrip("/")
        self._trust_domain = trust_domain
        self._wall = wall
        self._seconds = seconds  # for one question
        self.denied: Revocations | None = None  # whom even the CA's name does not help

    async def join(self, token: Token, identity: SpiffeId) -> Files:
        """Return the first identity, for a *token*. Raises CaAway or CaRefusal."""
        bundle = await self._pinned(token.pin)
        key = new_key()
        question = {"token": str(token), "spiffe_id": str(identity), "csr": _request(key)}
        context = client_context(None, Bundles.of([bundle]))
        answer = await self._asked("/v1/join", context, bundle, question)
        return self._files(answer, key, identity, bundle)

    async def renew(self, pair: Pair, identity: SpiffeId, bundle: TrustBundle) -> Files:
        """Return the next identity for who holds *pair*. Raises CaAway or CaRefusal."""
        key = new_key()
        context = client_context(pair, Bundles.of([bundle]))
        answer = await self._asked("/v1/renew", context, bundle, {"csr": _request(key)})
        return self._files(answer, key, identity, bundle)

    async def bundle(self, known: TrustBundle) -> TrustBundle:
        """Return the CA's trust bundle as it is now, told by a CA that *known* vouches for."""
        data = await self._got("/v1/bundle", known, MAX_BUNDLE)
        try:
            return TrustBundle.from_spiffe(data, self._trust_domain)
        except IdentityError as error:
            raise CaAway(f"its bundle cannot be used: {error}") from None

    async def revocations(self, known: TrustBundle) -> Revocations:
        """Return the CA's deny list as it is now."""
        data = await self._got("/v1/revocations", known, MAX_DOCUMENT)
        try:
            found = Revocations.parse(data)
        except IdentityError as error:
            raise CaAway(f"its deny list cannot be used: {error}") from None
        if found.trust_domain != self._trust_domain:
            raise CaAway(f"its deny list is of the trust domain `{found.trust_domain}`")
        return found

    # -- how it asks

    async def _pinned(self, pin: str) -> TrustBundle:
        """Return the one root whose fingerprint is *pin*, as the CA tells it.

        Whoever answers is asked: of what comes, only what has that fingerprint counts.
        """
        asked = Asked(f"{self._url}/v1/bundle")
        most, seconds = MAX_BUNDLE, self._seconds
        status, data = await ask(
            asked, unproved_context(), lambda _: None, most=most, seconds=seconds
        )
        if status != 200:
            raise CaAway(f"it answers {status} to `/v1/bundle`")
        try:
            offered = TrustBundle.from_spiffe(data, self._trust_domain)
        except IdentityError as error:
            raise CaAway(f"its bundle cannot be used: {error}") from None
        roots = frozenset(root for root in offered.roots if sha256(root).hexdigest() == pin)
        if not roots:
            raise CaRefusal("other_ca", "another CA made the token than the one that is there")
        return TrustBundle(self._trust_domain, roots)

    async def _got(self, path: str, known: TrustBundle, most: int) -> bytes:
        context = client_context(None, Bundles.of([known]))
        asked = Asked(self._url + path)
        status, data = await ask(
            asked, context, self._judge(known), most=most, seconds=self._seconds
        )
        if status != 200:
            raise CaAway(f"it answers {status} to `{path}`")
        return data

    async def _asked(
        self, path: str, context: ssl.SSLContext, bundle: TrustBundle, question: dict[str, str]
    ) -> Any:
        asked = Asked(self._url + path, json.dumps(question).encode())
        status, data = await ask(
            asked, context, self._judge(bundle), most=_MOST_ANSWER, seconds=self._seconds
        )
        answer = _object(data)
        if 400 <= status < 500 and status != 429:
            raise CaRefusal(_text(answer, "reason"), _text(answer, "message"))
        if status != 200:
            raise CaAway(f"it answers {status} to `{path}`")
        return answer

    def _judge(self, bundle: TrustBundle) -> Callable[[ssl.SSLObject], None]:
        def judge(connection: ssl.SSLObject) -> None:
            chain = verified_chain(connection)
            svid = judge_chain(chain, Bundles.of([bundle]), self._wall())
            if svid.id != SpiffeId(self._trust_domain, SERVER_PATH):
                raise IdentityError("not_the_ca", f"`{svid.id}` is not the CA's server")
            # Else who has the key of a dropped intermediate could go on playing the CA.
            denied = self.denied
            why = denied.why(svid.id, svid.serial, svid.signers) if denied is not None else ""
            if why:
                raise IdentityError("revoked", why)

        return judge

    def _files(self, answer: Any, key: PrivateKey, identity: SpiffeId, known: TrustBundle) -> Files:
        """Return what the CA gave, if it is what was asked for: else the old one is better."""
        certificate, written = _text(answer, "certificate").encode(), key_pem(key)
        try:
            chain = read_pair(certificate, written)
            svid = verify_path(chain, Bundles.of([known]), self._wall())
        except IdentityError as error:
            raise CaAway(f"the certificate it gave is refused: {error}") from None
        if svid.id != identity:
            raise CaAway(f"it gave a certificate for `{svid.id}`")
        return Files(certificate, written, pem_of(known))


def pem_of(bundle: TrustBundle) -> bytes:
    """Write the roots of *bundle* as PEM, always in the same order."""
    opened = [Certificate.from_der(root).opened for root in sorted(bundle.roots)]
    return b"".join(one.public_bytes(Encoding.PEM) for one in opened)


def _request(key: PrivateKey) -> str:
    """Return a signing request, which proves that we hold *key* and says nothing else."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _object(data: bytes) -> Any:
    try:
        return jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        raise CaAway("its answer is not JSON") from None


def _text(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str):
        raise CaAway(f"its answer lacks `{name}`")
    return value
