"""A deny list in a file: that of a CA on this machine, or one that somebody puts there.

Never an older list for a newer, nor none for one that was known; a copy of our own
outlives a restart while the CA's folder is away. A list that is there and cannot be
read is an error for whoever follows it: who was revoked is then not known.
"""

from __future__ import annotations

from pathlib import Path

from .ca.files import PUBLIC, install, locked
from .ca.revocations import REVOKED, read_revocations
from .errors import StartError
from .spiffe.revocation import Revocations


class DenyListUnread(StartError):
    """It cannot be told who is believed no more."""


class DenyList:
    """The list at *path*. With *kept*, a folder of ours, it need not be there, and has a copy."""

    def __init__(self, path: Path, kept: Path | None) -> None:
        self.path = path
        self.stayed = False  # the last look found an older list than the one known, or none
        self._kept = kept
        self._known: Revocations | None = None

    def read(self, trust_domain: str) -> Revocations:
        """Return whom to believe no more in *trust_domain*. Raises DenyListUnread."""
        try:
            return self._read(trust_domain)
        except OSError as error:
            raise DenyListUnread(f"the deny list `{self.path}` cannot be read: {error}") from None
        except StartError as error:
            raise DenyListUnread(str(error), error.code, help=error.help) from None

    def _read(self, trust_domain: str) -> Revocations:
        known, found = self._known, _at(self.path, trust_domain)
        if known is None and self._kept is not None:
            known = _at(self._kept / REVOKED, trust_domain)
        if found is None and known is None and self._kept is None:
            raise StartError(
                f"there is no deny list in `{self.path}`",
                help="copy `revoked.json` of the CA there, or take `revocations` out",
            )
        self.stayed = known is not None and (found is None or found.sequence < known.sequence)
        taken = known if self.stayed else found
        self._known = taken or Revocations(trust_domain)
        if self._kept is not None and taken is not None and taken != known:
            with locked(self._kept):
                install(self._kept, {REVOKED: (taken.document(), PUBLIC)}, replace=True)
        return self._known


def _at(path: Path, trust_domain: str) -> Revocations | None:
    try:
        return read_revocations(path, trust_domain)
    except FileNotFoundError:
        return None
