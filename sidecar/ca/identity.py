"""An identity on disk: `svid.pem`, `svid_key.pem` and `svid_bundle.pem` in one folder.

The three are replaced as one, so that no reader here sees for good a key that is
not the certificate's; a reader that meets a change half-way looks again. The
key must be its owner's alone, and nobody else may change the rest.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import IdentityError, StartError
from ..spiffe.bundle import Bundles, TrustBundle
from ..spiffe.certificate import Certificate
from ..spiffe.pair import read_pair
from ..spiffe.svid import X509Svid, check_leaf, verify_path
from .files import (
    PRIVATE,
    PUBLIC,
    check_folder,
    install,
    locked,
    make_path,
    newest,
    read_private,
    read_public,
)

CERTIFICATE: Final = "svid.pem"
KEY: Final = "svid_key.pem"
BUNDLE: Final = "svid_bundle.pem"

_LOOKS: Final = 5
_PAUSE: Final = 0.02  # seconds between two looks
# What a reader may see while another program writes the files one by one.
_PASSING: Final = frozenset({"key_mismatch", "unknown_ca", "malformed", "no_certificate", "no_key"})


class Identity(NamedTuple):
    """A proved identity and the PEM bytes that prove it: chain, key, own trust bundle."""

    svid: X509Svid
    certificate: bytes
    key: bytes
    bundle: bytes


def write_identity(folder: Path, certificate: bytes, key: bytes, bundle: bytes) -> None:
    """Write the three files into *folder* as one set, in place of what is there."""
    make_path(folder)
    check_folder(folder, private=False)
    files = {CERTIFICATE: (certificate, PUBLIC), KEY: (key, PRIVATE), BUNDLE: (bundle, PUBLIC)}
    with locked(folder):
        install(folder, files, replace=True)


def load_identity(folder: Path, now: float) -> Identity:
    """Read and check the identity in *folder*; it may wait 0.1 s for a writer to finish.

    StartError if a file is missing, 77 if others may read the key or change
    anything; IdentityError, with its reason, if the files prove no identity at *now*.
    """
    for _ in range(_LOOKS - 1):
        try:
            return _look(folder, now)
        except IdentityError as error:
            if error.reason not in _PASSING:
                raise
        time.sleep(_PAUSE)
    return _look(folder, now)


def identity_in(folder: Path) -> str:
    """Return the SPIFFE ID whose certificate is in *folder*, or "" if none can be read."""
    try:
        pem = newest(folder, CERTIFICATE, read_public)
        return str(check_leaf(Certificate.from_pem(pem)))
    except (OSError, StartError, IdentityError):
        return ""


def _look(folder: Path, now: float) -> Identity:
    try:
        check_folder(folder, private=False)
        key = newest(folder, KEY, read_private)
        certificate = newest(folder, CERTIFICATE, read_public)
        bundle = newest(folder, BUNDLE, read_public)
    except FileNotFoundError as error:
        raise StartError(
            f"there is no identity in `{folder}`: `{error.filename}` is missing",
            help=f"make one with `sidecar issue-cert NAMESPACE/ACCOUNT --out {folder}`",
        ) from None
    chain = read_pair(certificate, key)
    trust_domain = check_leaf(Certificate.from_der(chain[0])).trust_domain
    bundles = Bundles.of([TrustBundle.from_pem(bundle, trust_domain)])
    return Identity(verify_path(chain, bundles, now), certificate, key, bundle)
