"""ServiceEntry: Istio's fields, for services whose addresses are written out or looked up.

Names are looked up only where `resolution: DNS` asks for it; then what answers decides
where calls go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ..errors import Where
from .addresses import host_name, ip_literal, service_pattern, socket_path
from .metadata import LABELS
from .nodes import ListNode, MapNode, Node, ScalarNode
from .problem import Notes, Spot
from .schema import Field, Form, ListOf, MapOf, Struct, Support, Unused, closest
from .traffic_specs import ServiceEndpoint, ServiceEntrySpec, ServicePort
from .values import Malformed, Read, Text, Whole, Word

_PORT: Final = Whole(1, 65535)
_MOST_WEIGHT: Final = 1_000_000


class _Protocol(StrEnum):
    HTTP = "HTTP"
    HTTP2 = "HTTP2"


_TLS: Final = (
    "It means TLS that callers make and nobody reads. With `HTTP`, the `tls` of a "
    "DestinationRule has it made here."
)
_RAW: Final = "Only HTTP is carried, and bytes that are not read cannot be judged."
_GRPC: Final = "A call is read whole before it is judged, and gRPC's are streams."


@dataclass(frozen=True, slots=True)
class _ProtocolForm(Form[str]):
    """Istio's names of protocols, in any case."""

    @property
    def name(self) -> str:
        return "`HTTP` or `HTTP2`"

    def read(self, node: Node, path: str, notes: Notes) -> str:
        text = Text().read(node, path, notes)
        if text.upper() in _Protocol.__members__:
            return _Protocol[text.upper()]
        refused = {"HTTPS": _TLS, "TLS": _TLS, "TCP": _RAW, "MONGO": _RAW}
        refused |= {"GRPC": _GRPC, "GRPC-WEB": _GRPC}
        why = refused.get(text.upper())
        form = Word(_Protocol, refused=((text, why),) if why else ())
        return form.read(node, path, notes)


class _Resolution(StrEnum):
    STATIC = "STATIC"
    DNS = "DNS"


class _Location(StrEnum):
    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


_ALL_ADDRESSES: Final = "All addresses of a name are used: write `DNS`."

PORT: Final = Struct(
    "ServicePort",
    ServicePort,
    (
        Field("number", _PORT, "The port that callers name.", required=True),
        Field("name", Text(longest=256), "Its name, for `endpoints[].ports`.", required=True),
        Field(
            "protocol",
            _ProtocolForm(),
            "What is spoken on it; HTTP2 is, in plaintext as well.",
            default="HTTP",
        ),
        Field("targetPort", _PORT, "Where endpoints listen.", default="`number`"),
    ),
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an endpoint is, in one of three ways."""

    ip: str = ""
    unix: str = ""
    name: str = ""


def _place(text: str) -> _Place:
    if text.startswith("unix:"):
        return _Place(unix=socket_path(text))
    try:
        return _Place(ip_literal(text))
    except Malformed as bad:
        if text.replace(".", "").isdigit():
            raise bad from None  # an address with a typing mistake is nobody's name
    return _Place(name=host_name(text))


@dataclass(frozen=True, slots=True)
class _WeightForm(Form[int]):
    """A weight, of which 0 is read as not written, as Istio does."""

    @property
    def name(self) -> str:
        return "number"

    def read(self, node: Node, path: str, notes: Notes) -> int:
        return Whole(0, _MOST_WEIGHT).read(node, path, notes) or 1


def _endpoint(
    address: _Place,
    at: Where,
    ports: Mapping[str, int] = MappingProxyType({}),
    labels: Mapping[str, str] = MappingProxyType({}),
    weight: int = 1,
) -> ServiceEndpoint:
    return ServiceEndpoint(address.ip, address.unix, ports, labels, weight, at, address.name)


def _check_endpoint(endpoint: ServiceEndpoint, node: MapNode, path: str, notes: Notes) -> None:
    if endpoint.unix and endpoint.ports:
        notes.error(
            "SC0604", f"{path} is a socket and has no ports", node.key("ports"), help="remove them"
        )


ENDPOINT: Final = Struct(
    "ServiceEndpoint",
    _endpoint,
    (
        Field(
            "address",
            Read("address", _place),
            "An IP address, or `unix:/path`; with `resolution: DNS`, a name to look up.",
            required=True,
        ),
        Field("ports", MapOf(Text(longest=256), _PORT, most=128), "Its ports, by their names."),
        Field("labels", LABELS, "Its labels."),
        Field("weight", _WeightForm(), "Its share of the calls.", default="1"),
        Unused("serviceAccount", Support.REFUSED, "Who may answer is said for the whole service."),
        Unused("locality", Support.LATER, "Endpoints are picked by load alone."),
        Unused("network", Support.LATER, "Endpoints are reached directly."),
    ),
    check=_check_endpoint,
    located=True,
)


def _spec(
    hosts: tuple[str, ...],
    ports: tuple[ServicePort, ...],
    endpoints: tuple[ServiceEndpoint, ...] = (),
    location: _Location = _Location.MESH_EXTERNAL,
    resolution: _Resolution = _Resolution.STATIC,
    names: tuple[str, ...] = (),
) -> ServiceEntrySpec:
    if resolution is _Resolution.DNS and not endpoints:
        # As in Istio: the service's own names are what is looked up.
        endpoints = tuple(ServiceEndpoint(name=host) for host in hosts)
    return ServiceEntrySpec(hosts, ports, endpoints, names, location is _Location.MESH_INTERNAL)


def _check_spec(spec: ServiceEntrySpec, node: MapNode, path: str, notes: Notes) -> None:
    _check_ports(spec, node, path, notes)
    looks_up = _says(node, "resolution", _Resolution.DNS)
    written = node.get("endpoints")
    items = written.items if isinstance(written, ListNode) else ()
    if not items:
        _check_own_names(spec, node, path, notes, looks_up=looks_up)
    for index, endpoint in enumerate(spec.endpoints):
        spot = items[index] if items else node.key("hosts")
        _check_names(endpoint, spec, spot, path, notes)
        if endpoint.unix and looks_up:
            notes.error(
                "SC0211",
                f"`unix:{endpoint.unix}` is no name to look up",
                spot,
                help="write `resolution: STATIC`",
            )
        if endpoint.name and not looks_up:
            notes.error(
                "SC0211",
                f"`{endpoint.name}` is not an IP address",
                spot,
                why="names are looked up only with `resolution: DNS`",
                help="write the address itself, or `resolution: DNS`",
            )


def _says(node: MapNode, name: str, word: str) -> bool:
    written = node.get(name)
    return isinstance(written, ScalarNode) and written.value == word


def _check_own_names(
    spec: ServiceEntrySpec, node: MapNode, path: str, notes: Notes, *, looks_up: bool
) -> None:
    """Note a service that says neither where it is nor what to look up."""
    if not looks_up:
        notes.error(
            "SC0202",
            f"`endpoints` is missing in {path}",
            node,
            help="add `endpoints:`, where it is",
        )
    elif any("*" in host for host in spec.hosts):
        notes.error(
            "SC0612",
            f"{path} has a `*` among its hosts, and no endpoints",
            node.key("hosts"),
            why="without endpoints its hosts are looked up, and `*` is no name",
            help="add `endpoints:`, or write the names",
        )


def _check_ports(spec: ServiceEntrySpec, node: MapNode, path: str, notes: Notes) -> None:
    numbers = Counter(port.number for port in spec.ports)
    names = Counter(port.name for port in spec.ports)
    twice = [str(key) for counts in (numbers, names) for key, count in counts.items() if count > 1]
    for key in twice:
        notes.error("SC0604", f"{path}.ports has `{key}` twice", node.key("ports"))
    if len(spec.ports) > 1 and any(endpoint.unix for endpoint in spec.endpoints):
        notes.error(
            "SC0604",
            f"{path} has a socket among its endpoints, and {len(spec.ports)} ports",
            node.key("ports"),
            why="a socket stands for one port",
            help="leave one port",
        )


def _check_names(
    endpoint: ServiceEndpoint, spec: ServiceEntrySpec, node: Spot, path: str, notes: Notes
) -> None:
    known = {port.name: port for port in spec.ports}
    for name in endpoint.ports:
        if name not in known:
            meant = closest(name, known)
            notes.error(
                "SC0604",
                f"`{name}` is not a port of {path}",
                node,
                help=f"did you mean `{meant}`?" if meant else f"known are {', '.join(known)}",
            )


SPEC: Final = Struct(
    "ServiceEntrySpec",
    _spec,
    (
        Field(
            "hosts",
            ListOf(Read("host", service_pattern), least=1, most=256),
            "Names of the service.",
            required=True,
        ),
        Field("ports", ListOf(PORT, least=1, most=256), "Ports that callers name.", required=True),
        Field(
            "endpoints",
            ListOf(ENDPOINT, least=1),
            "Where it is.",
            default="with `resolution: DNS`, its hosts",
        ),
        Field(
            "resolution",
            Word(
                _Resolution,
                refused=(
                    ("NONE", "There is no other address that a call was sent to."),
                    ("DNS_ROUND_ROBIN", _ALL_ADDRESSES),
                    ("DYNAMIC_DNS", _ALL_ADDRESSES),
                ),
            ),
            "How endpoints are found: as written, or by names that are looked up again and again.",
            required=True,
        ),
        Field(
            "location",
            Word(_Location),
            "A MESH_INTERNAL service on another machine is called over mTLS, whatever is not said.",
            default="MESH_EXTERNAL",
        ),
        Unused("addresses", Support.LATER, "Calls are told apart by the listener they come to."),
        Unused("exportTo", Support.LATER, "Every sidecar that is given the document uses it."),
        Field(
            "subjectAltNames",
            ListOf(Text(longest=512), least=1, most=64),
            "Names one of which the server's certificate must have. Where no DestinationRule has "
            "a `tls`, they are SPIFFE IDs, and calls go over mTLS.",
            "names",
        ),
        Unused("workloadSelector", Support.LATER, "Endpoints are those that are written."),
    ),
    check=_check_spec,
)
