"""DestinationRule: Istio's fields and rules of validity.

Of its blocks, `outlierDetection`, `connectionPool` and the simple balancers act.
What would leave a connection in plaintext that was meant to be encrypted is an
error; the rest of what does not act yet draws a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from .addresses import host_pattern
from .documents import Balance, DestinationRuleSpec, LoadBalancer, TrafficPolicy
from .metadata import LABELS
from .nodes import MapNode, Node
from .pools import OUTLIER, POOL
from .problem import Notes
from .schema import DROPPED, AnyField, Field, Form, ListOf, Struct, Support, Unused
from .values import Read, Text, Whole, Word

T = TypeVar("T")


class _Tls(StrEnum):
    DISABLE = "DISABLE"


_NO_TLS: Final = "The call would go to the server in plaintext."
_OF_TLS: Final = "It concerns TLS to the server."

TLS: Final[Struct[object]] = Struct(
    "ClientTLSSettings",
    dict,
    (
        Field(
            "mode",
            Word(
                _Tls,
                refused=(
                    ("SIMPLE", _NO_TLS),
                    ("MUTUAL", _NO_TLS),
                    ("ISTIO_MUTUAL", _NO_TLS),
                ),
            ),
            "How the way to the server is encrypted: not yet.",
            default="DISABLE",
        ),
        *(
            Unused(name, Support.INERT, _OF_TLS)
            for name in (
                "clientCertificate",
                "privateKey",
                "caCertificates",
                "credentialName",
                "subjectAltNames",
                "sni",
                "insecureSkipVerify",
                "caCrl",
            )
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class _SimpleForm(Form[Balance]):
    """Istio's simple balancers, with the old name of one of them."""

    @property
    def name(self) -> str:
        return self._word.name

    @property
    def _word(self) -> Word[Balance]:
        return Word(
            Balance,
            refused=(("PASSTHROUGH", "There is no other address that a call was sent to."),),
        )

    def read(self, node: Node, path: str, notes: Notes) -> Balance:
        text = Text().read(node, path, notes)
        if text == "UNSPECIFIED":
            return Balance.LEAST_REQUEST
        if text == "LEAST_CONN":
            notes.warning(
                "SC0603", "`LEAST_CONN` is an old name", node, help="write `LEAST_REQUEST`"
            )
            return Balance.LEAST_REQUEST
        return self._word.read(node, path, notes)


_LEAST: Final = "The least loaded endpoint is taken for every call."

BALANCER: Final = Struct(
    "LoadBalancerSettings",
    LoadBalancer,
    (
        Field("simple", _SimpleForm(), "How an endpoint is picked.", default="LEAST_REQUEST"),
        Unused("consistentHash", Support.LATER, _LEAST),
        Unused("localityLbSetting", Support.LATER, _LEAST),
        Unused("warmup", Support.LATER, "A new endpoint takes its full share at once."),
        Unused("warmupDurationSecs", Support.LATER, "A new endpoint takes its full share at once."),
    ),
)

_BLOCKS: Final[tuple[AnyField, ...]] = (
    Field("loadBalancer", BALANCER, "How calls are spread."),
    Field("connectionPool", POOL, "Limits of connections and requests."),
    Field("outlierDetection", OUTLIER, "When an endpoint is ejected; never, without this block."),
    Field("tls", TLS, "How the way to the server is encrypted.", attr=DROPPED),
)

_PORT_SETTINGS: Final[Struct[object]] = Struct(
    "PortTrafficPolicy",
    dict,
    (
        Field(
            "port",
            Struct("PortSelector", dict, (Field("number", Whole(1, 65535), "The port."),)),
            "The port they are for.",
        ),
        *_BLOCKS,
    ),
)


def _check_policy(policy: object, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        notes.error("SC0210", f"{path} is empty", node, help="write one of its blocks")


def _policy_struct(make: Callable[..., T]) -> Struct[T]:
    return Struct(
        "TrafficPolicy",
        make,
        (
            *_BLOCKS,
            Field(
                "portLevelSettings",
                ListOf(_PORT_SETTINGS),
                "The same blocks for single ports.",
                attr=DROPPED,
                later="The settings of the whole destination hold for all of its ports.",
            ),
            Unused("tunnel", Support.LATER, "Calls are HTTP and go to the endpoint directly."),
            Unused("proxyProtocol", Support.LATER, "The server is told the caller in a header."),
        ),
        check=_check_policy,
    )


_SUBSET: Final[Struct[object]] = Struct(
    "Subset",
    dict,
    (
        Field("name", Text(), "Its name.", required=True),
        Field("labels", LABELS, "Labels of its endpoints."),
        Field("trafficPolicy", _policy_struct(dict), "Its own settings."),
    ),
)

SPEC: Final = Struct(
    "DestinationRuleSpec",
    DestinationRuleSpec,
    (
        Field(
            "host",
            Read("host", host_pattern),
            "The service that calls go to, or `*.suffix`.",
            required=True,
        ),
        Field("trafficPolicy", _policy_struct(TrafficPolicy), "Its settings."),
        Field(
            "subsets",
            ListOf(_SUBSET),
            "Parts of its endpoints.",
            attr=DROPPED,
            later="Nothing routes to a subset yet; the settings of the whole host hold.",
        ),
        Unused("exportTo", Support.LATER, "Every sidecar that is given the document uses it."),
        Unused("workloadSelector", Support.LATER, "Every sidecar that is given it uses it."),
    ),
)
