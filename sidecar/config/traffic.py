"""DestinationRule: Istio's fields and rules of validity.

What would leave a connection in plaintext that was meant to be encrypted is an
error; the little that does not act draws a warning that says so.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import Final

from ..upstream.retry import RetryBudget
from .addresses import host_pattern
from .balancers import BALANCER
from .client_tls import TLS
from .metadata import LABELS
from .nodes import ListNode, MapNode
from .pools import OUTLIER, POOL
from .problem import Notes
from .route_actions import Percent, subset_name
from .schema import AnyField, Field, ListOf, Struct, Support, Unused
from .traffic_specs import DestinationRuleSpec, Subset, TrafficPolicy
from .values import Read, Whole

_MOST_SUBSETS: Final = 256


_BUDGET: Final = Struct(
    "RetryBudget",
    lambda percent=20.0, least=3: RetryBudget(percent=percent, least=least),
    (
        Field("percent", Percent(), "The share of calls under way.", default="20"),
        Field("minRetryConcurrency", Whole(0), "As many in any case.", "least", default="3"),
    ),
)


# -- policies


_BLOCKS: Final[tuple[AnyField, ...]] = (
    Field("loadBalancer", BALANCER, "How calls are spread."),
    Field("connectionPool", POOL, "Limits of connections and requests."),
    Field("outlierDetection", OUTLIER, "When an endpoint is ejected; never, without this block."),
    Field("tls", TLS, "How the way to the server is encrypted."),
    Field("retryBudget", _BUDGET, "How many retries may be under way, in `maxRetries`' place."),
)


def _check_port_policy(
    made: tuple[int, TrafficPolicy], node: MapNode, path: str, notes: Notes
) -> None:
    if len(node.entries) < 2:
        notes.error("SC0210", f"{path} says nothing of its port", node, help="write a block")


def _port_policy(port: int, **blocks: object) -> tuple[int, TrafficPolicy]:
    return port, TrafficPolicy(**blocks)  # type: ignore[arg-type]


_PORT_SETTINGS: Final = Struct(
    "PortTrafficPolicy",
    _port_policy,
    (
        Field(
            "port",
            Struct(
                "PortSelector",
                lambda number: number,
                (Field("number", Whole(1, 65535), "The port.", required=True),),
            ),
            "The port they are for.",
            required=True,
        ),
        *_BLOCKS,
    ),
    check=_check_port_policy,
)


def _policy(ports: tuple[tuple[int, TrafficPolicy], ...] = (), **blocks: object) -> TrafficPolicy:
    return TrafficPolicy(ports=MappingProxyType(dict(ports)), **blocks)  # type: ignore[arg-type]


def _check_policy(policy: TrafficPolicy, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        notes.error("SC0210", f"{path} is empty", node, help="write one of its blocks")
    settings = node.get("portLevelSettings")
    if isinstance(settings, ListNode) and len(policy.ports) < len(settings.items):
        notes.error(
            "SC0611",
            f"{path}.portLevelSettings has a port twice",
            settings,
            help="join what is said of one port",
        )


_POLICY: Final = Struct(
    "TrafficPolicy",
    _policy,
    (
        *_BLOCKS,
        Field(
            "portLevelSettings",
            ListOf(_PORT_SETTINGS),
            "The same blocks for single ports, in the place of all of these.",
            attr="ports",
        ),
        Unused("tunnel", Support.LATER, "Calls are HTTP and go to the endpoint directly."),
        Unused("proxyProtocol", Support.LATER, "The server is told the caller in a header."),
    ),
    check=_check_policy,
)

_SUBSET: Final = Struct(
    "Subset",
    Subset,
    (
        Field("name", Read("name", subset_name), "Its name.", required=True),
        Field("labels", LABELS, "Labels that its endpoints have.", default="all endpoints"),
        Field("trafficPolicy", _POLICY, "Its blocks, in the place of the destination's."),
    ),
    located=True,
)


def _spec(
    host: str, traffic_policy: TrafficPolicy | None = None, subsets: tuple[Subset, ...] = ()
) -> DestinationRuleSpec:
    return DestinationRuleSpec(host, traffic_policy or TrafficPolicy(), subsets)


def _check_spec(spec: DestinationRuleSpec, node: MapNode, path: str, notes: Notes) -> None:
    for name, times in Counter(subset.name for subset in spec.subsets).items():
        if times > 1:
            notes.error(
                "SC0611",
                f"{path} has the subset `{name}` {times} times",
                node.key("subsets"),
                help="give each a name of its own",
            )


SPEC: Final = Struct(
    "DestinationRuleSpec",
    _spec,
    (
        Field(
            "host",
            Read("host", host_pattern),
            "The service that calls go to, or `*.suffix`.",
            required=True,
        ),
        Field("trafficPolicy", _POLICY, "Its settings."),
        Field(
            "subsets",
            ListOf(_SUBSET, most=_MOST_SUBSETS),
            "Parts of its endpoints, for the routes of a VirtualService.",
        ),
        Unused("exportTo", Support.LATER, "Every sidecar that is given the document uses it."),
        Unused("workloadSelector", Support.LATER, "Every sidecar that is given it uses it."),
    ),
    check=_check_spec,
)
