"""What the tokens of a call prove: the claims of its caller, or a refusal.

All rules of a workload count together, as in Istio: no token passes without claims; the
first rule that accepts every token in its own places gives the claims, whatever stands in
others. Stricter than there, what no rule has accepted never reaches the server, and what
rules set for it is dropped from outside in any spelling. Tokens are never told on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import Final

from ..call import Call
from ..verdict import Reason, Refusal, RuleRef
from .keys import KeyRing, Keys
from .places import USUAL, Edit, Fields, Kind, Place, folded
from .spec import JwtRuleSpec
from .token import CLOCK_SKEW, TOLD, Fault, Token, parse_token

MOST_TOKENS: Final = 8  # that one call may carry
_MOST_REMEMBERED: Final = 512
_LONGEST_REMEMBERED: Final = 4_096  # characters
_LONGEST_VALUE: Final = 4_096  # bytes of a header that we set
_LONGEST_REALM: Final = 256
# Split into words in every token, as Istio does.
_SPACED: Final = ("scope", "permission")

MISSING: Final = "missing"
ACCEPTED: Final = "accepted"
PREFLIGHT: Final = "preflight"
OUTCOMES: Final = (ACCEPTED, MISSING, PREFLIGHT, *(fault.value for fault in Fault))


@dataclass(frozen=True, slots=True)
class Checked:
    """What the tokens of a call came to. `outcome` is one of OUTCOMES.

    `edit` is what rules and the server are to see; `fields` and `query` are what the
    caller sent, to be looked at again if the rules change. What a token allows ends
    at `until`, in seconds since 1970.
    """

    outcome: str
    fields: Fields
    query: str
    edit: Edit
    claims: Mapping[str, object] | None = None
    refusal: Refusal | None = None
    until: float = inf


class JwtRule:
    """One rule, compiled: what it takes, from where, and with which keys."""

    __slots__ = ("_spaced", "_spec", "audiences", "places", "ref", "ring")

    def __init__(self, spec: JwtRuleSpec, ref: RuleRef, ring: KeyRing) -> None:
        self._spec = spec
        self.ref = ref
        self.ring = ring
        self.places = places_of(spec)
        self.audiences = frozenset(map(_plain, spec.audiences))
        self._spaced = (*_SPACED, *spec.space_delimited_claims)

    @property
    def issuer(self) -> str:
        """Whose tokens it takes; empty for anybody's whose signature fits."""
        return self._spec.issuer

    @property
    def forwards(self) -> bool:
        """Whether the server gets the token too."""
        return self._spec.forward_original_token

    @property
    def outputs(self) -> Iterable[str]:
        """The headers it sets, which nobody else may."""
        if self._spec.output_payload_to_header:
            yield self._spec.output_payload_to_header
        for one in self._spec.output_claim_to_headers:
            yield one.header

    def fault(self, token: Token, now: float) -> Fault | None:
        """Say why *token* is not for this rule, its signature left aside."""
        if self.issuer and token.issuer != self.issuer:
            return Fault.UNKNOWN_ISSUER
        fault = token.time_fault(now)
        if fault is None and self.audiences:
            known = self.audiences.intersection(map(_plain, token.audiences))
            return None if known else Fault.AUDIENCE
        return fault

    def claims(self, token: Token) -> Mapping[str, object]:
        """Return the claims of *token* as rules ask about them."""
        found = dict(token.claims)
        for name in self._spaced:
            value = found.get(name)
            if type(value) is str:
                found[name] = [word for word in value.split(" ") if word]
        return found

    def output(self, token: Token) -> list[tuple[bytes, bytes]]:
        """Return the fields that tell the server of *token*."""
        spec = self._spec
        written = [
            (one.header, _value(_text(_found(token.claims, one.claim))))
            for one in spec.output_claim_to_headers
        ]
        if spec.output_payload_to_header:
            written.append((spec.output_payload_to_header, token.payload.encode("ascii")))
        return [(name.lower().encode("ascii"), value) for name, value in written if value]


class TokenRules:
    """All token rules of a workload; remembers tokens whose signature was good."""

    __slots__ = ("_known", "_nothing", "_outputs", "_places", "rules")

    def __init__(self, rules: Sequence[JwtRule]) -> None:
        self.rules = tuple(rules)
        self._places = tuple(dict.fromkeys(place for rule in rules for place in rule.places))
        self._outputs = frozenset(
            folded(name.encode("ascii")) for rule in rules for name in rule.outputs
        )
        self._nothing = Edit.of((), self._outputs)
        # By the token's digest and the rule: what was proved, and with which keys.
        self._known: dict[tuple[bytes, int], tuple[Token, Keys]] = {}

    @property
    def fetched(self) -> tuple[KeyRing, ...]:
        """The rings whose keys somebody must fetch."""
        rings = (rule.ring for rule in self.rules if rule.ring.source is not None)
        return tuple(dict.fromkeys(rings))

    def check(self, call: Call, now: float) -> Checked:
        """Say what the tokens of *call* prove at *now*, seconds since 1970; *call* stays as
        it is."""
        fields, query = call.headers, call.query
        found = [(one, text) for one in self._places for text in one.find(fields, query)]
        if _is_preflight(call):
            # It carries no credentials of a user (Fetch, CORS preflight): none count.
            return Checked(PREFLIGHT, fields, query, self._edit(one for one, _ in found))
        if not found:
            return Checked(MISSING, fields, query, self._nothing)
        return self._judge(call, found, now)

    def _judge(self, call: Call, found: list[tuple[Place, str]], now: float) -> Checked:
        if len(found) > MOST_TOKENS:
            return self._refused(call, Fault.TOO_MANY, None, found[0][0])
        parsed: dict[str, Token | Fault] = {}
        chosen: tuple[JwtRule, Token] | None = None
        accepted: dict[tuple[Place, str], JwtRule] = {}
        worst: tuple[Fault, JwtRule, Place] | None = None
        for number, rule in enumerate(self.rules):
            proved: list[Token] = []
            mine = [one for one in found if one[0] in rule.places]
            for place, text in mine:
                token = self._verified(number, rule, text, now, parsed)
                if isinstance(token, Fault):
                    worst = _worse(worst, (token, rule, place))
                else:
                    proved.append(token)
                    accepted.setdefault((place, text), rule)
            if chosen is None and proved and len(proved) == len(mine):
                chosen = rule, proved[0]
        # Istio's: one rule whose tokens are all good is enough, whatever others hold.
        if chosen is None:
            fault, of, place = worst or (Fault.SIGNATURE, self.rules[0], found[0][0])
            return self._refused(call, fault, of, place)
        rule, token = chosen
        # What nobody proved goes no further either.
        kept = {place for (place, _), one in accepted.items() if one.forwards}
        removed = [
            place for place, text in found if place not in kept or (place, text) not in accepted
        ]
        edit = self._edit(removed, rule.output(token))
        claims, until = rule.claims(token), token.expires + CLOCK_SKEW
        return Checked(ACCEPTED, call.headers, call.query, edit, claims, until=until)

    def _verified(
        self, number: int, rule: JwtRule, text: str, now: float, parsed: dict[str, Token | Fault]
    ) -> Token | Fault:
        """Return the token in *text* if *rule* accepts it, or why not."""
        keys = rule.ring.keys
        digest = sha256(text.encode("utf-8", "replace")).digest(), number
        known = self._known.get(digest)
        if known is not None and known[1] is keys:
            return rule.fault(known[0], now) or known[0]
        token = parsed.get(text)
        if token is None:
            token = parsed[text] = parse_token(text)
        if isinstance(token, Fault):
            return token
        fault = rule.fault(token, now)
        if fault is None:
            if keys is None or not keys.knows(token.kid):
                rule.ring.ask()
            fault = token.key_fault(keys)
        if fault is not None:
            return fault
        assert keys is not None
        self._remember(digest, text, token, keys)
        return token

    def _remember(self, digest: tuple[bytes, int], text: str, token: Token, keys: Keys) -> None:
        if len(text) > _LONGEST_REMEMBERED:
            return
        while len(self._known) >= _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = token, keys

    def _edit(self, places: Iterable[Place], added: Fields = ()) -> Edit:
        return Edit.of(places, self._outputs, added)

    def _refused(self, call: Call, fault: Fault, rule: JwtRule | None, place: Place) -> Checked:
        refusal = Refusal(
            Reason.DENIED if fault is Fault.AUDIENCE else Reason.UNAUTHENTICATED,
            TOLD[fault],
            rule=rule.ref if rule is not None else None,
            detail=f"the token in {place}: {fault.value}",
            headers=(_challenge(call),),
        )
        return Checked(fault.value, call.headers, call.query, self._nothing, None, refusal)


def authenticate(call: Call, rules: TokenRules, now: float) -> Refusal | None:
    """Verify the tokens of *call*, or refuse it; `call.claims` are then those of its token.

    From here on rules and the server see no token that was not to be forwarded, and no
    header that a rule sets but what was verified. Claims that *call* came with stay
    where it carries no token. Asked again, it begins anew with what the caller sent.
    """
    forget(call)
    call.checked = checked = rules.check(call, now)
    if checked.refusal is not None:
        return checked.refusal
    call.headers = checked.edit.fields(checked.fields)
    call.query = checked.edit.query(checked.query)
    if checked.claims is not None:
        call.claims = checked.claims
    return None


def forget(call: Call) -> None:
    """Undo what `authenticate` has made of *call*."""
    checked = call.checked
    if checked is None:
        return
    call.headers, call.query, call.checked = checked.fields, checked.query, None
    if checked.claims is not None:
        call.claims = None


def places_of(spec: JwtRuleSpec) -> tuple[Place, ...]:
    """Return where the tokens of a rule are taken from: the usual places, if it names none."""
    named = (
        *(Place(Kind.HEADER, one.name.lower(), one.prefix) for one in spec.from_headers),
        *(Place(Kind.PARAM, name) for name in spec.from_params),
        *(Place(Kind.COOKIE, name) for name in spec.from_cookies),
    )
    return named or USUAL


def _worse(
    one: tuple[Fault, JwtRule, Place] | None, other: tuple[Fault, JwtRule, Place]
) -> tuple[Fault, JwtRule, Place]:
    """Choose what the caller is told: another rule's issuer says little."""
    if one is not None and other[0] is Fault.UNKNOWN_ISSUER:
        return one
    return other


def _is_preflight(call: Call) -> bool:
    return (
        call.method == "OPTIONS"
        and bool(call.header(b"origin"))
        and bool(call.header(b"access-control-request-method"))
    )


def _challenge(call: Call) -> bytes:
    """Return Envoy's `www-authenticate` line (RFC 6750 section 3), the query left out: it
    may hold the token."""
    scheme = "https" if call.peer.sha256 or call.peer.identity else "http"
    url = f"{scheme}://{call.host}{call.path}"[:_LONGEST_REALM]
    realm = "".join(one for one in url if one.isascii() and one.isprintable() and one not in '"\\')
    return f'www-authenticate: Bearer realm="{realm}", error="invalid_token"\r\n'.encode("ascii")


def _plain(audience: str) -> str:
    """Return an audience as Envoy compares it: without its scheme and its last slash."""
    for scheme in ("https://", "http://"):
        audience = audience.removeprefix(scheme)
    return audience.removesuffix("/")


def _found(claims: Mapping[str, object], path: str) -> object:
    """Return the claim of this name, or the one that the names between its dots lead to."""
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str:
    """Return a claim as text; nothing for a list, an object or null, as Istio has it."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return str(int(value)) if value.is_integer() and 0 <= value < 2**64 else f"{value:f}"
    return str(value) if type(value) in (str, int) else ""


def _value(text: str) -> bytes:
    """Return *text* as a header's value; nothing if it could be read as more than that."""
    value = text.encode("utf-8", "replace").strip(b" ")
    plain = all(one >= 0x20 and one != 0x7F for one in value)
    return value if plain and len(value) <= _LONGEST_VALUE else b""
