"""The CA's deny list, a file in its folder: every change is logged, then put in force whole.

Who is revoked by name stays so until that is undone; a serial is forgotten a
month after its certificate would have ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import IdentityError, StartError
from ..spiffe.id import SpiffeId
from ..spiffe.revocation import Revocations
from .files import PUBLIC, install, read_public
from .issue_log import FORGET_AFTER, append
from .ledger import Certificate, certificates
from .store import LocalCa, held

REVOKED: Final = "revoked.json"


def load_revocations(folder: Path, trust_domain: str) -> Revocations:
    """Return the deny list of the CA in *folder*; an empty one if nothing was ever revoked."""
    try:
        return read_revocations(folder / REVOKED, trust_domain)
    except FileNotFoundError:
        return Revocations(trust_domain)


def read_revocations(path: Path, trust_domain: str) -> Revocations:
    """Return the deny list at *path*; StartError if it is none, or of another *trust_domain*."""
    try:
        found = Revocations.parse(read_public(path))
    except IdentityError as error:
        raise StartError(
            f"`{path}` cannot be read: {error}",
            help="restore it from a backup: without it, revoked workloads would be let in",
        ) from None
    if found.trust_domain != trust_domain:
        raise StartError(f"`{path}` is of the trust domain `{found.trust_domain}`")
    return found


def revocations_stamp(folder: Path) -> object:
    """Return what changes whenever the deny list on the disk does."""
    try:
        found = (folder / REVOKED).stat()
    except FileNotFoundError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)


def revoke_id(ca: LocalCa, identity: SpiffeId, now: float) -> Revocations:
    """Believe *identity* no more, whatever certificate it shows, until that is undone."""
    with held(ca.folder):
        old = load_revocations(ca.folder, ca.trust_domain)
        new = old.with_changes(now, ids={*old.ids, str(identity)}, serials=_kept(old, now))
        _put(ca, new, "revoked", {"spiffe_id": str(identity)}, now)
    return new


def revoke_serial(ca: LocalCa, serial: int, now: float) -> list[Certificate]:
    """Believe one certificate no more, nor any that was renewed from it, by whomever.

    Returns them; StartError if the CA issued none of that serial within the last month.
    """
    with held(ca.folder):
        # One that has ended may still be renewed for a while: so it can be revoked, too.
        found = _descent(certificates(ca.folder, now - FORGET_AFTER), serial)
        if not found:
            raise StartError(
                f"no certificate of the last month has the serial {serial:032x}",
                help="`sidecar ca list` shows those that hold",
            )
        old = load_revocations(ca.folder, ca.trust_domain)
        serials = {**_kept(old, now), **{one.serial: one.not_after for one in found}}
        facts: dict[str, object] = {
            "spiffe_id": found[0].id,
            "serial": f"{serial:032x}",
            "with_renewals": len(found) - 1,
        }
        _put(ca, old.with_changes(now, serials=serials), "revoked", facts, now)
    return found


def _descent(issued: list[Certificate], serial: int) -> list[Certificate]:
    """Return the certificate *serial* and those renewed from it, in the order of issue."""
    found: list[Certificate] = []
    line: set[int] = set()
    for one in issued:
        if one.serial == serial or one.after in line:
            line.add(one.serial)
            found.append(one)
    return found


def restore_id(ca: LocalCa, identity: SpiffeId, now: float) -> int:
    """Let *identity* join again; return how many of its old certificates stay revoked: all."""
    with held(ca.folder):
        old = load_revocations(ca.folder, ca.trust_domain)
        if str(identity) not in old.ids:
            raise StartError(f"`{identity}` is not revoked")
        # What it had may be in the hands of whoever was the reason to revoke it, and may
        # be renewed for a while after its end.
        stale = [
            one for one in certificates(ca.folder, now - FORGET_AFTER) if one.id == str(identity)
        ]
        serials = {**_kept(old, now), **{one.serial: one.not_after for one in stale}}
        new = old.with_changes(now, ids=old.ids - {str(identity)}, serials=serials)
        _put(ca, new, "restored", {"spiffe_id": str(identity)}, now)
    return len(stale)


def drop_authorities(ca: LocalCa, fingerprints: set[str], now: float) -> Revocations:
    """Believe nothing more that the CAs with these SHA-256 fingerprints signed."""
    with held(ca.folder):
        old = load_revocations(ca.folder, ca.trust_domain)
        new = old.with_changes(now, authorities=old.authorities | fingerprints)
        _put(ca, new, "dropped", {"authorities": sorted(fingerprints)}, now)
    return new


def _kept(old: Revocations, now: float) -> dict[int, float]:
    return {serial: end for serial, end in old.serials.items() if end + FORGET_AFTER > now}


def _put(ca: LocalCa, new: Revocations, event: str, facts: dict[str, object], now: float) -> None:
    append(ca.folder, event, {**facts, "sequence": new.sequence}, now)
    install(ca.folder, {REVOKED: (new.document(), PUBLIC)}, replace=True)
