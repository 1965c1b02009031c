"""The attributes that rules ask about: how each is read, and what its values mean.

An `Attribute` makes one question of a rule's values. What cannot be determined is
answered as the asker says beforehand, so that it can always go against the caller.
Nothing here knows how questions make a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Final, Generic, TypeAlias, TypeVar

from . import facts, match
from .call import Peer
from .facts import Facts
from .match import Matches, Paths
from .uri import settled_values

Subject = TypeVar("Subject")
Value = TypeVar("Value")
# Values, whether they are the negative ones, and what to answer when the attribute
# cannot be determined -> the question. Raises ValueError if a value means nothing.
Make: TypeAlias = Callable[[Sequence[str], bool, bool], Callable[[Subject], bool]]
Read: TypeAlias = Callable[[Subject], Value | None]


class Kind(Enum):
    """How an attribute differs between calls: what a listing must know of it."""

    FIXED = "the same for all calls of one method on one path of one host"
    VARYING = "may differ from call to call"
    SUBJECT = "names what is called"
    ARGUMENT = "is an argument of the call"


@dataclass(frozen=True, slots=True)
class Mesh:
    """What values mean here: our trust domain, its other names, claims that are split."""

    trust_domain: str = match.CLUSTER_LOCAL
    aliases: tuple[str, ...] = ()
    space_delimited_claims: tuple[str, ...] = ()

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """Our trust domain, then its aliases."""
        return (self.trust_domain, *self.aliases)


def _hidden(_: object) -> str:
    """Show nothing: the value may be a secret."""
    return ""


@dataclass(frozen=True, slots=True)
class Attribute(Generic[Subject]):
    """Something a rule can ask; `http` if only HTTP has it; `shown` is its value for people."""

    name: str
    make: Make[Subject]
    kind: Kind = Kind.VARYING
    http: bool = True
    shown: Callable[[Subject], str] = _hidden

    def accepts(self, value: str) -> bool:
        """Whether *value* means something for this attribute."""
        try:
            self.make((value,), False, False)
        except ValueError:
            return False
        return True


OfCall: TypeAlias = Attribute[Facts]
OfPeer: TypeAlias = Attribute[Peer]


def _asking(
    read: Read[Subject, Value], compiled: Callable[[Sequence[str]], Callable[[Value], bool]]
) -> Make[Subject]:
    """Join a reader of an attribute with a compiler of values for it."""

    def make(values: Sequence[str], negated: bool, unknown: bool) -> Callable[[Subject], bool]:
        matches = compiled(values)

        def holds(subject: Subject) -> bool:
            value = read(subject)
            return unknown if value is None else matches(value) is not negated

        return holds

    return make


def _hosts(values: Iterable[str]) -> Matches:
    return match.strings(match.lowered(values))


def _paths(values: Iterable[str]) -> Matches:
    return Paths.of(values).matches


def _uris(values: Iterable[str]) -> Matches:
    return match.strings(settled_values(values))


def _any_of(values: Iterable[str]) -> Callable[[tuple[str, ...]], bool]:
    matches = match.strings(values)
    return lambda known: any(map(matches, known))


def _files(values: Iterable[str]) -> Matches:
    """Compile names of files: a directory's holds with and without its last slash."""
    matches = match.strings(values)
    return lambda name: matches(name) or (name[-1:] == "/" and matches(name[:-1]))


def _fact(
    name: str, field: str, compiled: Callable[[Sequence[str]], Matches], kind: Kind
) -> OfCall:
    """Make an attribute of what stands in the facts under *field*."""
    read: Read[Facts, str] = attrgetter(field)
    return Attribute(name, _asking(read, compiled), kind, shown=lambda one: read(one) or "")


HOST: Final = _fact("host", "host", _hosts, Kind.FIXED)
METHOD: Final = _fact("method", "method", match.strings, Kind.FIXED)
PATH: Final = _fact("path", "path", _paths, Kind.FIXED)
MCP_METHOD: Final = _fact("mcp.method", "mcp_method", match.strings, Kind.FIXED)
TOOL: Final = _fact("mcp.tool", "tool", match.strings, Kind.SUBJECT)
PROMPT: Final = _fact("mcp.prompt", "prompt", match.strings, Kind.SUBJECT)
RESOURCE: Final = _fact("mcp.resource", "resource", _uris, Kind.SUBJECT)
PROTOCOL_VERSION: Final[OfCall] = Attribute(
    "mcp.protocolVersion",
    _asking(facts.protocol_version, match.strings),
    shown=lambda one: facts.protocol_version(one) or "",
)
PORT: Final[OfCall] = Attribute(
    "destination.port",
    _asking(facts.destination_port, match.ports),
    Kind.FIXED,
    http=False,
    shown=lambda one: str(one.call.port),
)
DESTINATION_IP: Final[OfCall] = Attribute(
    "destination.ip",
    _asking(facts.destination_ip, match.ip_blocks),
    http=False,
    shown=lambda one: one.call.destination_ip,
)
REMOTE_IP: Final[OfCall] = Attribute(
    "remote.ip",
    _asking(facts.remote_ip, match.ip_blocks),
    http=False,
    shown=lambda one: one.call.remote_ip or one.call.peer.ip,
)
REQUEST_PRINCIPAL: Final[OfCall] = Attribute(
    "request.auth.principal", _asking(facts.claims, match.request_principals)
)
SOURCE_IP: Final[OfPeer] = Attribute(
    "source.ip",
    _asking(facts.source_ip, match.ip_blocks),
    http=False,
    shown=lambda peer: peer.ip,
)
SNI: Final[OfPeer] = Attribute(
    "connection.sni",
    _asking(lambda peer: peer.sni.lower(), match.strings),  # as Envoy keeps it
    http=False,
    shown=lambda peer: peer.sni,
)
NAMESPACE: Final[OfPeer] = Attribute(
    "source.namespace", _asking(facts.uri, match.namespaces), http=False, shown=facts.uri
)


def source_principal(mesh: Mesh) -> OfPeer:
    """The peer's SPIFFE ID without its scheme."""
    return Attribute(
        "source.principal",
        _asking(lambda peer: peer.principal, _principals(mesh)),
        http=False,
        shown=lambda peer: peer.principal,
    )


def original_principal(mesh: Mesh) -> OfCall:
    """On whose behalf a trusted delegate calls, written as a principal is."""
    return Attribute(
        "source.originalPrincipal",
        _asking(lambda one: one.call.original_principal, _principals(mesh)),
        shown=lambda one: one.call.original_principal,
    )


def service_account(namespace: str) -> OfPeer:
    """The peer's service account; without a namespace it is one of *namespace*."""
    return Attribute(
        "source.serviceAccount",
        _asking(facts.uri, lambda values: match.service_accounts(values, namespace)),
        http=False,
        shown=facts.uri,
    )


def trust_domain(mesh: Mesh) -> OfPeer:
    """The peer's trust domain."""
    return Attribute(
        "source.trustDomain",
        _asking(facts.trust_domain, lambda values: match.trust_domains(values, mesh.trust_domains)),
        http=False,
        shown=facts.trust_domain,
    )


def _principals(mesh: Mesh) -> Callable[[Sequence[str]], Matches]:
    return lambda values: match.principals(values, mesh.trust_domains)


def of_peer(key: str, mesh: Mesh, namespace: str) -> OfPeer | None:
    """Return the attribute of a connection that a `when` key names, or None."""
    match key:
        case "source.ip":
            return SOURCE_IP
        case "source.namespace":
            return NAMESPACE
        case "source.principal":
            return source_principal(mesh)
        case "source.serviceAccount":
            return service_account(namespace)
        case "source.trustDomain":
            return trust_domain(mesh)
        case "connection.sni":
            return SNI
    return None


_OF_CALL: Final = {
    one.name: one
    for one in (
        *(REMOTE_IP, DESTINATION_IP, PORT, REQUEST_PRINCIPAL),
        *(MCP_METHOD, TOOL, PROMPT, RESOURCE, PROTOCOL_VERSION),
    )
}


def of_call(key: str, mesh: Mesh) -> OfCall:
    """Return the attribute of a call that a `when` key names. Raises ValueError for no key."""
    if key in _OF_CALL:
        return _OF_CALL[key]
    spaced = facts.SPACED_CLAIMS.union(mesh.space_delimited_claims)
    if key == "source.originalPrincipal":
        return original_principal(mesh)
    if key == "request.auth.audiences":
        return _listed(key, facts.claim(["aud"], spaced))
    if key == "request.auth.presenter":
        return _listed(key, facts.claim(["azp"], spaced))
    stem, names = bracketed(key)
    match stem:
        case "request.headers" if len(names) == 1:
            return _header(key, facts.header(names[0]))
        case "request.auth.claims" if names:
            return _listed(key, facts.claim(names, spaced))
        case "mcp.arguments" if names:
            return _argument(key, facts.argument(names), match.strings)
        case "mcp.argumentPaths" if names:
            return _argument(key, facts.argument_path(names), _files)
    if stem.startswith("experimental.envoy.filters.") and len(names) == 1:
        # No filter of Envoy's runs here, so its metadata is always missing.
        return Attribute(key, _asking(_nothing, _any_of), http=False)
    raise ValueError(f"`{key}` is not an attribute")


def bracketed(key: str) -> tuple[str, tuple[str, ...]]:
    """Divide `stem[a][b]` into its stem and names; `request.headers.a` is read too.

    Raises ValueError where the brackets are not in pairs or hold nothing.
    """
    header = key.removeprefix("request.headers.")
    if header not in ("", key):
        return "request.headers", (header,)
    stem, bracket, rest = key.partition("[")
    if not bracket:
        return stem, ()
    names = tuple(rest.removesuffix("]").split("]["))
    if not rest.endswith("]") or not all(names) or any(set("[]") & set(name) for name in names):
        raise ValueError(f"`{key}`: names stand in brackets, as in `mcp.arguments[path]`")
    return stem, names


def _nothing(_: Facts) -> tuple[str, ...]:
    return ()


def _listed(key: str, read: Read[Facts, tuple[str, ...]]) -> OfCall:
    return Attribute(key, _asking(read, _any_of))


def _header(key: str, read: Read[Facts, tuple[str, ...]]) -> OfCall:
    """Make the attribute of a header. One that is there and empty cannot be determined by `*`.

    Istio's words call it missing (not empty), Istio's proxy calls it present.
    """

    def make(values: Sequence[str], negated: bool, unknown: bool) -> Callable[[Facts], bool]:
        matches, presence = _any_of(values), "*" in values

        def holds(one: Facts) -> bool:
            found = read(one) or ()
            if presence and found and not any(found):
                return unknown
            return matches(found) is not negated

        return holds

    return Attribute(key, make)


def _argument(
    key: str, read: Read[Facts, str], compiled: Callable[[Sequence[str]], Matches]
) -> OfCall:
    return Attribute(key, _asking(read, compiled), Kind.ARGUMENT)
