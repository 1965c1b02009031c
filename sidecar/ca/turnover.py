"""A new intermediate in the CA's folder: the old one stays trusted until nothing needs it.

The new certificate and key take the old ones' place as one set of files. What
the old one signed holds until the longest of it has ended; then `retire` has it
dropped. The root's key is needed for a moment, and may be kept elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ..errors import StartError
from ..spiffe.certificate import Certificate
from .authority import BACKDATE, Issuer, PrivateKey, Span, make_intermediate
from .files import PRIVATE, PUBLIC, install, read_private, read_public
from .issue_log import append
from .ledger import certificates
from .log import rfc3339
from .revocations import drop_authorities
from .store import (
    INTERMEDIATE,
    INTERMEDIATE_KEY,
    ROOT,
    ROOT_KEY,
    LocalCa,
    entropy,
    held,
    key_pem,
    new_key,
    open_ca,
)

RETIRED: Final = "retired.json"


@dataclass(frozen=True, slots=True)
class Retired:
    """An intermediate that issues no more; it is dropped at `until` (seconds, the epoch)."""

    sha256: str
    signed: str  # `Certificate.signed_sha256`; empty where an older version wrote it down
    until: float

    @property
    def names(self) -> set[str]:
        """By what the deny list is to name it."""
        return {self.sha256, self.signed} - {""}


def load_root_key(folder: Path, elsewhere: Path | None, passphrase: bytes | None) -> PrivateKey:
    """Return the root's key, from the CA's folder or *elsewhere*; StartError if it cannot be."""
    path = elsewhere or folder / ROOT_KEY
    try:
        key = load_pem_private_key(read_private(path), password=passphrase)
    except FileNotFoundError:
        raise StartError(
            f"the root's key is not in `{path}`", help="name it with `--root-key FILE`"
        ) from None
    except (ValueError, TypeError) as error:
        raise StartError(
            f"the root's key in `{path}` cannot be opened: {error}",
            help="give its passphrase in a file with `--passphrase-file FILE`, if it has one",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StartError(f"`{path}` is not an elliptic-curve key")
    return key


def rotate(folder: Path, root_key: PrivateKey, now: float, *, life: float) -> tuple[LocalCa, float]:
    """Give the CA a new intermediate of *life* seconds; return it, and when the old one goes."""
    with held(folder):
        root = Certificate.from_pem(read_public(folder / ROOT))
        if root_key.public_key() != root.opened.public_key():
            raise StartError("this is another root's key")
        old = Certificate.from_pem(read_public(folder / INTERMEDIATE))
        # Nothing is issued meanwhile: `issue` looks for its intermediate under this lock.
        ends = [one.not_after for one in certificates(folder, now)]
        until = max([now, *ends]) + BACKDATE
        key = new_key()
        new = make_intermediate(
            Issuer(root, root_key),
            key.public_key(),
            span=Span.of(now, life, end=root.not_after),
            entropy=entropy(),
        )
        facts = {"from": old.sha256, "to": Certificate.of(new).sha256, "until": rfc3339(until)}
        append(folder, "rotated", facts, now)
        waiting = [*retired(folder), Retired(old.sha256, old.signed_sha256, until)]
        files = {
            INTERMEDIATE: (new.public_bytes(Encoding.PEM), PUBLIC),
            INTERMEDIATE_KEY: (key_pem(key), PRIVATE),
            RETIRED: (_document(waiting), PUBLIC),
        }
        install(folder, files, replace=True)
    return open_ca(folder), until


def retired(folder: Path) -> list[Retired]:
    """Return the intermediates that issue no more and are not dropped yet."""
    try:
        found = json.loads(read_public(folder / RETIRED))
        return [
            Retired(str(one["sha256"]), str(one.get("signed", "")), float(one["until"]))
            for one in found
        ]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise StartError(f"`{folder / RETIRED}` cannot be read: {error}") from None


def retire(ca: LocalCa, now: float, *, at_once: bool = False) -> list[Retired]:
    """Drop the old intermediates whose time has come, or all *at_once*; return those dropped."""
    due = [one for one in retired(ca.folder) if at_once or one.until <= now]
    if due:
        drop_authorities(ca, {name for one in due for name in one.names}, now)
        with held(ca.folder):
            left = [one for one in retired(ca.folder) if one not in due]
            install(ca.folder, {RETIRED: (_document(left), PUBLIC)}, replace=True)
    return due


def _document(waiting: list[Retired]) -> bytes:
    facts = [asdict(one) for one in waiting]
    return json.dumps(facts).encode() + b"\n"
