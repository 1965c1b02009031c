"""A CA that lives in a folder: made once and whole, opened with care, never mixed up.

The folder is 0700 and its keys 0600, or it is not opened. One process at a time
writes. What is issued stands in the log before anybody gets it. The root's key
is not needed to issue: it may have a passphrase, or be kept somewhere else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ..errors import IdentityError, StartError
from ..spiffe.bundle import Bundles, TrustBundle
from ..spiffe.certificate import Certificate
from ..spiffe.id import SpiffeId
from ..spiffe.svid import X509Svid, verify_path
from .authority import (
    CA_LIFE,
    SERIAL_BYTES,
    Issuer,
    PrivateKey,
    PublicKey,
    Span,
    check_ttl,
    make_intermediate,
    make_root,
    sign_leaf,
    trust_domain_of,
)
from .files import (
    PRIVATE,
    PUBLIC,
    check_folder,
    check_private,
    install,
    locked,
    make_path,
    read_private,
    read_public,
    settle,
    strangers,
)
from .issue_log import LOG, append
from .log import line_after, rfc3339

ROOT: Final = "root.pem"
ROOT_KEY: Final = "root_key.pem"
INTERMEDIATE: Final = "intermediate.pem"
INTERMEDIATE_KEY: Final = "intermediate_key.pem"
SERVER_PATH: Final = "/ca"  # of the SPIFFE ID that the CA's own server has, and nobody else

_OWN_NAMES: Final = (x509.DNSName("localhost"),)
_NEEDED: Final = (ROOT, INTERMEDIATE, INTERMEDIATE_KEY, LOG)


class RotatedAway(StartError):
    """The CA got another intermediate or root since it was opened; nothing was issued."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One new SVID; `chain` is PEM, the leaf and the intermediate, `bundle` the root."""

    svid: X509Svid
    chain: bytes
    bundle: bytes


@dataclass(frozen=True, slots=True)
class LocalCa:
    """An opened CA; `bundle` is the PEM of its root, which is all that others need of it.

    More roots may follow the CA's own there: those of the CA that it follows, or that
    will follow it.
    """

    folder: Path
    trust_domain: str
    bundle: bytes
    intermediate: bytes
    issuer: Issuer
    root_sha256: str

    def issue(
        self,
        identity: SpiffeId,
        public_key: PublicKey,
        *,
        names: Sequence[x509.GeneralName] = (),
        ttl: float,
        now: float,
        how: Mapping[str, str] | None = None,
    ) -> Issued:
        """Sign and log an SVID for *identity* that holds *ttl* seconds, less if the CA ends sooner.

        *how* it came to that goes into the log, too. IdentityError if the identity
        is not of this trust domain, `reserved` if it is the CA's, `ttl` if the time
        is out of range, `expired` or `not_yet_valid` if the CA's is.
        """
        if identity.path == SERVER_PATH:
            raise IdentityError("reserved", f"`{identity}` is the CA's own: choose another")
        return self._issue(identity, public_key, names, ttl, now, how or {})

    def issue_own(self, public_key: PublicKey, *, ttl: float, now: float) -> Issued:
        """Sign and log an SVID for the CA's own server: who joins must tell it from workloads."""
        return self._issue(self.server_id, public_key, _OWN_NAMES, ttl, now, {"by": "server"})

    @property
    def server_id(self) -> SpiffeId:
        """The SPIFFE ID of the CA's own server."""
        return SpiffeId(self.trust_domain, SERVER_PATH)

    def _issue(
        self,
        identity: SpiffeId,
        public_key: PublicKey,
        names: Sequence[x509.GeneralName],
        ttl: float,
        now: float,
        how: Mapping[str, str],
    ) -> Issued:
        check_ttl(ttl)
        self._check_own_time(now)
        span = Span.of(now, ttl, end=self.issuer.certificate.not_after)
        leaf = sign_leaf(
            self.issuer, public_key, identity, names=names, span=span, entropy=entropy()
        )
        svid = self._proved(leaf, now)
        self._record(svid, names, now, how)
        return Issued(svid, leaf.public_bytes(Encoding.PEM) + self.intermediate, self.bundle)

    def _check_own_time(self, now: float) -> None:
        try:
            self.issuer.certificate.check_time(now)
        except IdentityError as error:
            said = (
                "the CA's own certificate does not hold now: set the clock, or `sidecar ca rotate`"
            )
            raise IdentityError(error.reason, said) from None

    def _proved(self, leaf: x509.Certificate, now: float) -> X509Svid:
        # What a peer would refuse is not given out: a CA in a bad state is found here.
        chain = (leaf.public_bytes(Encoding.DER), self.issuer.certificate.der)
        bundles = Bundles.of([TrustBundle.from_pem(self.bundle, self.trust_domain)])
        return verify_path(chain, bundles, now)

    def record(self, event: str, facts: Mapping[str, object], now: float) -> None:
        """Write an *event* down in the log; it is on the disk when this returns."""
        with locked(self.folder):
            append(self.folder, event, facts, now)

    @property
    def is_current(self) -> bool:
        """Whether the CA in the folder is still the one that was opened."""
        return (
            read_public(self.folder / INTERMEDIATE) == self.intermediate
            and read_public(self.folder / ROOT) == self.bundle
        )

    def _record(
        self,
        svid: X509Svid,
        names: Sequence[x509.GeneralName],
        now: float,
        how: Mapping[str, str],
    ) -> None:
        facts: dict[str, object] = {
            "spiffe_id": str(svid.id),
            "serial": f"{svid.serial:032x}",
            "not_after": rfc3339(svid.not_after),
            "sha256": svid.sha256,
            "names": [str(name.value) for name in names],
            **how,
        }
        with locked(self.folder):
            if not self.is_current:  # looked at under the lock that a rotation holds
                raise RotatedAway(f"the CA in `{self.folder}` has changed: open it anew")
            append(self.folder, "issued", facts, now)


def new_key() -> PrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Write *key* as PKCS #8 in PEM, encrypted if there is a *passphrase*."""
    protection: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        protection = BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def make_ca(
    folder: Path,
    trust_domain: str,
    now: float,
    *,
    passphrase: bytes | None = None,
    life: float = CA_LIFE,
    below_life: float = CA_LIFE,
) -> LocalCa:
    """Make a CA in *folder*, which must not hold one; *passphrase* encrypts the root's key.

    *life* is the root's in seconds, *below_life* that of the CA which issues.
    """
    with held(folder, make=True):
        if _present(folder):
            raise StartError(f"`{folder}` holds a CA already", help="name another folder")
        _make(folder, trust_domain, now, passphrase, life, below_life)
        return _open(folder)


def open_ca(folder: Path) -> LocalCa:
    """Open the CA in *folder*; StartError if there is none, half of one, or 77 if it is exposed."""
    if not folder.is_dir():
        raise _no_ca(folder)
    with held(folder):
        if not _present(folder):
            raise _no_ca(folder)
        return _open(folder)


def open_or_make_ca(folder: Path, trust_domain: str, now: float) -> tuple[LocalCa, bool]:
    """Open the CA in *folder*, or make one for *trust_domain*; the bool says if it was made."""
    with held(folder, make=True):
        made = not _present(folder)
        if made:
            _make(folder, trust_domain, now, None, CA_LIFE, CA_LIFE)
        return _open(folder), made


def _no_ca(folder: Path) -> StartError:
    return StartError(
        f"there is no CA in `{folder}`",
        help="check the path: a CA that is named is never made, "
        "so that two machines do not become two meshes",
    )


@contextmanager
def held(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Hold the CA's folder, settled; with *make*, it is made, and an empty one closed to others."""
    if make:
        make_path(folder)
        if not strangers(folder):
            folder.chmod(0o700)
    check_folder(folder, private=True)
    with locked(folder):
        # In a CA that is whole, what is ready is its next intermediate, and takes its place.
        settle(folder, replace=set(_NEEDED) <= set(strangers(folder)))
        yield


def _present(folder: Path) -> bool:
    """Tell whether *folder* holds a CA: True if whole, False if empty, StartError between."""
    found = strangers(folder)
    missing = [name for name in _NEEDED if name not in found]
    if not missing:
        return True
    if not found:
        return False
    raise StartError(
        f"`{folder}` holds no whole CA: {', '.join(f'`{name}`' for name in missing)} "
        f"missing, {', '.join(f'`{name}`' for name in found[:8])} there",
        help="restore what is missing from a backup, or name an empty folder",
    )


def _make(
    folder: Path,
    trust_domain: str,
    now: float,
    passphrase: bytes | None,
    life: float,
    below_life: float,
) -> None:
    span, root_key, key = Span.of(now, life), new_key(), new_key()
    root = make_root(trust_domain, root_key, span=span, entropy=entropy())
    opened = Certificate.of(root)
    below = make_intermediate(
        Issuer(opened, root_key),
        key.public_key(),
        span=Span.of(now, below_life, end=span.not_after),
        entropy=entropy(),
    )
    facts: dict[str, object] = {"trust_domain": trust_domain, "root": opened.sha256}
    files = {
        ROOT: (root.public_bytes(Encoding.PEM), PUBLIC),
        ROOT_KEY: (key_pem(root_key, passphrase), PRIVATE),
        INTERMEDIATE: (below.public_bytes(Encoding.PEM), PUBLIC),
        INTERMEDIATE_KEY: (key_pem(key), PRIVATE),
        LOG: (line_after(b"", "made", facts, now), PRIVATE),
    }
    install(folder, files, replace=False)


def _open(folder: Path) -> LocalCa:
    root_pem, below_pem = read_public(folder / ROOT), read_public(folder / INTERMEDIATE)
    if (folder / ROOT_KEY).exists():
        check_private(folder / ROOT_KEY)
    key = _load_key(folder / INTERMEDIATE_KEY)
    try:
        root, below = Certificate.from_pem(root_pem), Certificate.from_pem(below_pem)
        trust_domain = _check_pair(root, below, key)
    except IdentityError as error:
        raise StartError(f"the CA in `{folder}` is not usable: {error}") from None
    return LocalCa(folder, trust_domain, root_pem, below_pem, Issuer(below, key), root.sha256)


def _load_key(path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise StartError(f"`{path}` is not a private key without passphrase: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StartError(f"`{path}` is not an elliptic-curve key")
    return key


def _check_pair(root: Certificate, below: Certificate, key: PrivateKey) -> str:
    """Return the trust domain if the three belong together, or raise IdentityError."""
    root.check_authority()
    below.check_authority()
    trust_domain = trust_domain_of(root)
    if trust_domain_of(below) != trust_domain:
        raise IdentityError("other_trust_domain", f"`{ROOT}` and `{INTERMEDIATE}` differ")
    if key.public_key() != below.opened.public_key():
        raise IdentityError("key_mismatch", f"`{INTERMEDIATE_KEY}` is another certificate's")
    try:
        below.opened.verify_directly_issued_by(root.opened)
    except (ValueError, TypeError, InvalidSignature):
        raise IdentityError("unknown_ca", f"`{INTERMEDIATE}` is not signed by `{ROOT}`") from None
    return trust_domain


def entropy() -> bytes:
    """Draw a serial."""
    return secrets.token_bytes(SERIAL_BYTES)
