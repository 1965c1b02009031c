"""RequestAuthentications to token rules: all that are for one workload, together.

Rules that fetch their keys from one place share one ring of keys. What asks for tokens
where none are verified is found here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..errors import Where
from ..policy.spec import PolicySpec, RuleSpec
from ..policy.tokens.keys import KeyRing, KeySource
from ..policy.tokens.rules import JwtRule, TokenRules
from ..policy.tokens.spec import JwtRuleSpec, TokenPolicySpec
from ..policy.verdict import RuleRef
from .problem import Notes, Place
from .request_authentication import jwks_uri
from .values import Malformed

_NO_TOKENS: Final = "SC0903"
_DISCOVERY: Final = "/.well-known/openid-configuration"  # OpenID Connect Discovery 4


def token_rules(policies: Iterable[TokenPolicySpec]) -> TokenRules | None:
    """Compile *policies* for one workload; None where no rule accepts anything."""
    rings: dict[KeySource, KeyRing] = {}
    rules = [
        JwtRule(
            spec,
            RuleRef(f"{policy.namespace}/{policy.name}", index, spec.at or policy.at),
            _ring(spec, rings),
        )
        for policy in policies
        for index, spec in enumerate(policy.rules)
    ]
    return TokenRules(rules) if rules else None


def _ring(spec: JwtRuleSpec, rings: dict[KeySource, KeyRing]) -> KeyRing:
    source = key_source(spec)
    if source is None:
        return KeyRing(keys=spec.jwks)
    return rings.setdefault(source, KeyRing(source))


def key_source(spec: JwtRuleSpec) -> KeySource | None:
    """Return where the keys of a rule are fetched from; None if nowhere."""
    if spec.jwks is not None:
        return None
    if spec.jwks_uri:
        return KeySource(spec.jwks_uri, timeout=spec.timeout)
    try:
        issuer = jwks_uri(spec.issuer)
    except Malformed:
        return None
    return KeySource(issuer.rstrip("/") + _DISCOVERY, discover=True, timeout=spec.timeout)


def note_unverified(policies: Sequence[PolicySpec], notes: Notes) -> None:
    """Note each of *policies* that asks for a token; called where no token is verified."""
    for policy in policies:
        asking = next((rule for rule in policy.rules if any(_asked(rule))), None)
        if asking is None:
            continue
        notes.warning(
            _NO_TOKENS,
            f"`{policy.name}` asks for a token, and none is verified here",
            Place(asking.at or policy.at or Where("the documents")),
            why="no RequestAuthentication is for this workload, so nobody's token is looked at",
            help="add one that names the issuer and its keys, for the same workload",
        )


def _asked(rule: RuleSpec) -> Iterator[bool]:
    for source in rule.sources:
        yield bool(source.request_principals or source.not_request_principals)
    for condition in rule.conditions:
        yield condition.key.startswith("request.auth.")
