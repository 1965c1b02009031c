"""What a RequestAuthentication says, as plain data: the form that token rules are compiled from.

`config` fills these from documents and has checked every value. Fields have Istio's
names in snake case and Istio's meaning: an empty one was not written and asks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import Where
from .keys import Keys


@dataclass(frozen=True, slots=True)
class HeaderPlace:
    """A header that carries a token, behind *prefix* if that is not empty."""

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ClaimHeader:
    """A claim of a good token that the server is told in a header."""

    header: str
    claim: str


@dataclass(frozen=True, slots=True)
class JwtRuleSpec:
    """Which tokens one rule accepts, and what becomes of them. `timeout` is in seconds.

    Keys are written (`jwks`), fetched from `jwks_uri`, or, with neither, from where the
    issuer's own discovery document says.
    """

    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks: Keys | None = None
    jwks_uri: str = ""
    from_headers: tuple[HeaderPlace, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimHeader, ...] = ()
    forward_original_token: bool = False
    timeout: float = 5.0
    space_delimited_claims: tuple[str, ...] = ()
    at: Where | None = None


@dataclass(frozen=True, slots=True)
class TokenPolicySpec:
    """One RequestAuthentication that is for the workload."""

    name: str
    namespace: str
    rules: tuple[JwtRuleSpec, ...]
    at: Where | None = None
