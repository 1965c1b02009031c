"""Who is believed no more although a certificate says so: a deny list, as a value.

It denies by SPIFFE ID, by serial, and by the CA that signed. Each change has a
higher sequence, so that an older list is known as one. Reading is bounded. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import jiter

from ..errors import IdentityError
from .id import SpiffeId, parse_trust_domain

MAX_ENTRIES: Final = 20_000  # of serials alone, about as many as fit into the document
MAX_DOCUMENT: Final = 1024 * 1024  # bytes; no file that is kept may be larger
_HINT: Final = 64  # bytes that a refresh hint may add


@dataclass(frozen=True, slots=True)
class Revocations:
    """What one trust domain's CA has taken back.

    `serials` tells when each certificate would have ended (seconds since the
    epoch); `authorities` name CAs below the root, as `svid.signers_of` does.
    """

    trust_domain: str
    sequence: int = 0
    ids: frozenset[str] = frozenset()
    serials: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    authorities: frozenset[str] = frozenset()
    refresh_hint: float | None = None

    @classmethod
    def parse(cls, data: bytes) -> Revocations:
        """Read the document that `document` writes; IdentityError `malformed` or `too_large`."""
        if len(data) > MAX_DOCUMENT:
            raise IdentityError("too_large", f"a deny list is over {MAX_DOCUMENT} bytes")
        try:
            made = _read(jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise IdentityError("malformed", f"a deny list cannot be read: {error}") from None
        made.check_size()
        return made

    def document(self) -> bytes:
        """Return it as JSON."""
        whole = {
            "trust_domain": self.trust_domain,
            "sequence": self.sequence,
            "ids": sorted(self.ids),
            "serials": {f"{serial:032x}": end for serial, end in sorted(self.serials.items())},
            "authorities": sorted(self.authorities),
        }
        if self.refresh_hint is not None:
            whole["refresh_hint"] = self.refresh_hint
        return json.dumps(whole, separators=(",", ":")).encode() + b"\n"

    def check_size(self) -> None:
        """Raise IdentityError `too_large` unless it has few enough entries."""
        if len(self.ids) + len(self.serials) + len(self.authorities) > MAX_ENTRIES:
            raise IdentityError("too_large", f"a deny list has over {MAX_ENTRIES} entries")

    def why(self, identity: SpiffeId, serial: int, signers: Iterable[str]) -> str:
        """Return why *identity* with this certificate is believed no more, or "".

        *signers* are the SHA-256 of the certificates above it. A list speaks of its
        own trust domain alone.
        """
        if identity.trust_domain != self.trust_domain:
            return ""
        if str(identity) in self.ids:
            return f"`{identity}` was revoked"
        if serial in self.serials:
            return f"the certificate {serial:032x} was revoked"
        if not self.authorities.isdisjoint(signers):
            return "the CA that signed the certificate was dropped"
        return ""

    def with_changes(
        self,
        now: float,
        *,
        ids: Iterable[str] | None = None,
        serials: Mapping[int, float] | None = None,
        authorities: Iterable[str] | None = None,
    ) -> Revocations:
        """Return the list that follows this one: what is given replaces what was."""
        changed = replace(
            self,
            # By the clock, so that a CA restored from a backup does not count through
            # numbers that its mesh has seen already.
            sequence=max(self.sequence + 1, int(now)),
            ids=self.ids if ids is None else frozenset(ids),
            serials=self.serials if serials is None else MappingProxyType(dict(serials)),
            authorities=self.authorities if authorities is None else frozenset(authorities),
        )
        changed.check_size()
        if len(changed.document()) > MAX_DOCUMENT - _HINT:  # whoever reads it would refuse it
            raise IdentityError("too_large", f"the deny list would be over {MAX_DOCUMENT} bytes")
        return changed


def _read(document: Any) -> Revocations:
    sequence, hint = document["sequence"], document.get("refresh_hint")
    if type(sequence) is not int or sequence < 0:
        raise ValueError("`sequence` is not a whole number")
    if hint is not None and (type(hint) not in (int, float) or hint <= 0):
        raise ValueError("`refresh_hint` is not a number of seconds")
    return Revocations(
        parse_trust_domain(_text(document["trust_domain"])),
        sequence,
        frozenset(str(SpiffeId.parse(_text(one))) for one in _list(document["ids"])),
        MappingProxyType({int(k, 16): float(v) for k, v in document["serials"].items()}),
        frozenset(_text(one) for one in _list(document["authorities"])),
        hint,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text is expected")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return value
