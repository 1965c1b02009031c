"""One token: its parts read strictly, and whether it is good for a rule.

Parsing trusts nothing; whatever is wrong is a `Fault`, in Envoy's words for the
caller. A token in which two readers could see two things is no token: duplicate
keys, padding, an extension that must be understood. (RFC 7515, RFC 7519.)
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ...errors import MessageError
from ...mcp.message import parse_value
from .keys import ALGORITHMS, Keys

LONGEST_TOKEN: Final = 16_384  # characters
CLOCK_SKEW: Final = 60.0  # seconds, Envoy's
_MOST_DEPTH: Final = 16
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_LATEST: Final = 2**53  # seconds: what a float tells apart


class Fault(StrEnum):
    """Why a token is not accepted: a stable word for metrics and logs."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    UNKNOWN_ISSUER = "unknown_issuer"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    AUDIENCE = "audience"
    NO_KEYS = "no_keys"
    SIGNATURE = "signature"
    TOO_MANY = "too_many"


# What the caller is told. Envoy's words, which clients know, where it has them.
TOLD: Final[Mapping[Fault, str]] = {
    Fault.MALFORMED: "Jwt is not in the form of Header.Payload.Signature with two dots "
    "and 3 sections",
    Fault.ALGORITHM: "Jwt header [alg] is not supported",
    Fault.UNKNOWN_ISSUER: "Jwt issuer is not configured",
    Fault.NOT_YET_VALID: "Jwt not yet valid",
    Fault.EXPIRED: "Jwt is expired",
    Fault.AUDIENCE: "Audiences in Jwt are not allowed",
    Fault.NO_KEYS: "Jwks remote fetch is failed",
    Fault.SIGNATURE: "Jwt verification fails",
    Fault.TOO_MANY: "too many Jwts in one request",
}


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A token's parts, of which nothing is proved yet. Times are seconds since 1970."""

    algorithm: str
    kid: str
    issuer: str
    audiences: tuple[str, ...]
    not_before: float
    expires: float
    claims: Mapping[str, object]
    payload: str  # as it was sent: base64url without padding
    content: bytes  # what is signed
    signature: bytes

    def time_fault(self, now: float) -> Fault | None:
        """Say what is wrong with the time *now*; clocks may differ by `CLOCK_SKEW`."""
        if now + CLOCK_SKEW < self.not_before:
            return Fault.NOT_YET_VALID
        return Fault.EXPIRED if now > self.expires + CLOCK_SKEW else None

    def key_fault(self, keys: Keys | None) -> Fault | None:
        """Say why none of *keys* has signed it; None if one has."""
        if keys is None:
            return Fault.NO_KEYS
        for key in keys.fitting(self.kid, self.algorithm):
            if key.signed(self.algorithm, self.content, self.signature):
                return None
        return Fault.SIGNATURE


def parse_token(text: str) -> Token | Fault:
    """Return the token in *text*, or what is wrong with its form."""
    form = _FORM.fullmatch(text) if len(text) <= LONGEST_TOKEN else None
    if form is None:
        return Fault.MALFORMED
    header, claims = _object(form[1]), _object(form[2])
    signature = _decoded(form[3])
    if header is None or claims is None or signature is None:
        return Fault.MALFORMED
    # `crit` names extensions that must be understood, and none is; `b64` would change
    # what is signed (RFC 7797).
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if type(algorithm) is not str or type(kid) is not str or "crit" in header or "b64" in header:
        return Fault.MALFORMED
    if algorithm not in ALGORITHMS:
        return Fault.ALGORITHM
    issuer, audiences = claims.get("iss", ""), _audiences(claims.get("aud", []))
    times = [_time(claims.get(name, least)) for name, least in _TIMES]
    if type(issuer) is not str or type(claims.get("sub", "")) is not str or audiences is None:
        return Fault.MALFORMED
    not_before, expires, issued = times
    if not_before is None or expires is None or issued is None:
        return Fault.MALFORMED
    content = text.rpartition(".")[0].encode("ascii")
    return Token(
        *(algorithm, kid, issuer, audiences, not_before, expires, claims),
        payload=form[2],
        content=content,
        signature=signature,
    )


# Claims that are times, and what one that is missing stands for.
_TIMES: Final = (("nbf", 0), ("exp", _LATEST), ("iat", 0))


def _time(value: object) -> float | None:
    """Read a NumericDate; None for what is none."""
    if type(value) not in (int, float):
        return None
    assert isinstance(value, int | float)
    return float(value) if 0 <= value <= _LATEST else None


def _audiences(value: object) -> tuple[str, ...] | None:
    if type(value) is str:
        return (value,)
    if type(value) is not list or not all(type(one) is str for one in value):
        return None
    return tuple(value)


def _object(part: str) -> dict[str, object] | None:
    data = _decoded(part)
    try:
        value = None if data is None else parse_value(data, _MOST_DEPTH)
    except MessageError:
        return None
    return value if type(value) is dict else None


def _decoded(part: str) -> bytes | None:
    """Undo base64url in its one spelling: no padding, no bits that say nothing."""
    if len(part) % 4 == 1:
        return None
    data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    spare = len(part) * 6 % 8
    return None if spare and _VALUES[part[-1]] & ((1 << spare) - 1) else data


_VALUES: Final = {
    character: value
    for value, character in enumerate(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )
}
