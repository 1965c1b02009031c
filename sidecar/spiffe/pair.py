"""A certificate chain and its private key, as the PEM files of an SVID hold them.

It reads both, checks that they belong together and that the chain is made as an
SVID's must be. It does not say whether anybody believes it: `svid.verify_path`
does, told the time and the bundles.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from ..errors import IdentityError
from .certificate import Certificate
from .svid import MAX_CHAIN, check_leaf


def read_pair(certificates: bytes, key: bytes) -> tuple[bytes, ...]:
    """Return the chain in DER, leaf first, of PEM *certificates* that *key* (PEM) belongs to.

    IdentityError: `no_certificate`, `malformed`, `no_key`, `key_mismatch`, and
    those of `svid.check_leaf` and `Certificate.check_authority`.
    """
    leaf, *signers = _read_certificates(certificates)
    check_leaf(leaf)
    for signer in signers:
        signer.check_authority()
    leaf.check_key()
    if _point(_read_key(key).public_key()) != _point(leaf.opened.public_key()):
        raise IdentityError("key_mismatch", "the private key is not the certificate's")
    return (leaf.der, *(signer.der for signer in signers))


def _read_certificates(pem: bytes) -> list[Certificate]:
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise IdentityError("no_certificate", "there is no PEM certificate")
    certificates = Certificate.all_from_pem(pem)
    if len(certificates) > MAX_CHAIN:
        raise IdentityError("chain_too_long", f"the chain has over {MAX_CHAIN} certificates")
    return certificates


def _read_key(pem: bytes) -> PrivateKeyTypes:
    if b"PRIVATE KEY-----" not in pem:
        raise IdentityError("no_key", "there is no PEM private key")
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise IdentityError(
            "no_key", "the private key has a passphrase: none can be asked"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError("malformed", f"the private key cannot be read: {error}") from None


def _point(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
