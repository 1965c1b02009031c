"""A DestinationRule's `loadBalancer`: how an endpoint is picked. Istio's, and `usePrincipal`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isqrt
from typing import Final

from ..upstream.affinity import By, HashOn
from ..upstream.balance import Warmup
from .nodes import MapNode, Node, ScalarNode
from .problem import Notes
from .route_actions import TOKEN, Percent
from .schema import Field, Form, Struct, Support, Unread, Unused
from .traffic_specs import Balance, LoadBalancer
from .values import Duration, Flag, Malformed, Number, Read, Text, Word
from .virtual_services import HEADER_NAME


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


_MOST_MAGLEV: Final = 5_000_011
_COOKIE_PATH: Final = re.compile(r"/[\x21-\x2b\x2d-\x3a\x3c-\x7e]{0,1023}")  # no `,`, no `;`


def _cookie(name: str, path: str = "", ttl: float | None = None) -> HashOn:
    return HashOn(By.COOKIE, name, ttl, path)


def _cookie_path(text: str) -> str:
    if _COOKIE_PATH.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not a cookie's path", "write it like `/mcp`")
    return text


def _cookie_name(text: str) -> str:
    if TOKEN.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not a cookie's name", "write it like `session`")
    return text


_COOKIE: Final = Struct(
    "HTTPCookie",
    _cookie,
    (
        Field("name", Read("name", _cookie_name), "Its name.", required=True),
        Field("path", Read("path", _cookie_path), "The path that it is given for."),
        Field(
            "ttl",
            Duration(zero=True),
            "Callers without it are given one for so long; 0s: until the browser ends.",
            default="none is given",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class _HashForm(Form[HashOn]):
    """`consistentHash`: exactly one thing to hash."""

    @property
    def name(self) -> str:
        return "mapping"

    def struct(self) -> Struct[object] | None:
        return _HASH

    def read(self, node: Node, path: str, notes: Notes) -> HashOn:
        before = notes.errors
        found = [one for one in _HASH.read(node, path, notes).values() if one is not None]
        if notes.errors > before:
            raise Unread
        if len(found) != 1:
            notes.error(
                "SC0203",
                f"{path} must name one thing to hash, not {len(found) or 'none'}",
                node,
                help="write one of `httpHeaderName`, `httpCookie`, `useSourceIp`, "
                "`httpQueryParameterName` and `usePrincipal`",
            )
            raise Unread
        _check_ring(node, path, notes)
        return found[0]


def _check_ring(node: Node, path: str, notes: Notes) -> None:
    """Note a ring that Istio would not take, though there is none here."""
    if not isinstance(node, MapNode):
        return
    written = [name for name in ("minimumRingSize", "ringHash", "maglev") if node.get(name)]
    if len(written) > 1:
        notes.error(
            "SC0611", f"{path} has `{written[0]}` and `{written[1]}`", node, help="keep one"
        )
    maglev = node.get("maglev")
    size = maglev.get("tableSize") if isinstance(maglev, MapNode) else None
    value = size.value if isinstance(size, ScalarNode) else 0
    if maglev is not None and not (isinstance(value, int) and _is_prime(value)):
        notes.error(
            "SC0206",
            f"{path}.maglev.tableSize is {value}",
            size or node,
            help=f"write a prime number under {_MOST_MAGLEV}, or leave `maglev` out",
        )


def _is_prime(number: int) -> bool:
    """Whether *number* is a prime that a table may have as its size."""
    if not 1 < number < _MOST_MAGLEV:
        return False
    return all(number % factor for factor in range(2, isqrt(number) + 1))


@dataclass(frozen=True, slots=True)
class _NameForm(Form[HashOn]):
    """The name of what is hashed."""

    by: By

    @property
    def name(self) -> str:
        return "text"

    def read(self, node: Node, path: str, notes: Notes) -> HashOn:
        form = HEADER_NAME if self.by is By.HEADER else Text(longest=256)
        return HashOn(self.by, form.read(node, path, notes))


@dataclass(frozen=True, slots=True)
class _FlagForm(Form[HashOn | None]):
    """Whether it is hashed."""

    by: By

    @property
    def name(self) -> str:
        return "boolean"

    def read(self, node: Node, path: str, notes: Notes) -> HashOn | None:
        return HashOn(self.by) if Flag().read(node, path, notes) else None


_RANKED: Final = "Endpoints are ranked by hash for every key; there is no ring to size."

_HASH: Final[Struct[dict[str, HashOn | None]]] = Struct(
    "ConsistentHashLB",
    dict,
    (
        Field("httpHeaderName", _NameForm(By.HEADER), "The header that is hashed."),
        Field("httpCookie", _COOKIE, "The cookie that is hashed."),
        Field("useSourceIp", _FlagForm(By.SOURCE_IP), "Hash the caller's address."),
        Field("httpQueryParameterName", _NameForm(By.QUERY), "The query parameter that is hashed."),
        Field(
            "usePrincipal",
            _FlagForm(By.PRINCIPAL),
            "Hash who calls, by principal (ours, not Istio's).",
        ),
        Unused("ringHash", Support.LATER, _RANKED),
        Unused("maglev", Support.LATER, _RANKED),
        Unused("minimumRingSize", Support.LATER, _RANKED),
    ),
)

_WARMUP: Final = Struct(
    "WarmupConfiguration",
    Warmup,
    (
        Field("duration", Duration(), "How long an endpoint is new.", required=True),
        Field("minimumPercent", Percent(), "Its share at the beginning.", default="10"),
        Field("aggression", Number(1, 100), "How its share grows; 1: evenly.", default="1"),
    ),
)


def _balancer(
    simple: Balance = Balance.LEAST_REQUEST,
    hash_on: HashOn | None = None,
    warmup: Warmup | None = None,
    seconds: float = 0.0,
) -> LoadBalancer:
    return LoadBalancer(simple, hash_on, warmup or (Warmup(seconds) if seconds else None))


def _check_balancer(made: object, node: MapNode, path: str, notes: Notes) -> None:
    for one, other in (("simple", "consistentHash"), ("warmup", "warmupDurationSecs")):
        if node.get(one) is not None and node.get(other) is not None:
            notes.error(
                "SC0611", f"{path} has `{one}` and `{other}`", node.key(other), help="keep one"
            )


_LEAST: Final = "The least loaded endpoint is taken, wherever it is."

BALANCER: Final = Struct(
    "LoadBalancerSettings",
    _balancer,
    (
        Field("simple", _SimpleForm(), "How an endpoint is picked.", default="LEAST_REQUEST"),
        Field(
            "consistentHash",
            _HashForm(),
            "Calls that have the same of this go to the same endpoint; others to any.",
            "hash_on",
        ),
        Field("warmup", _WARMUP, "How the share of a new endpoint grows."),
        Field("warmupDurationSecs", Duration(), "Its duration, by the old name.", "seconds"),
        Unused("localityLbSetting", Support.LATER, _LEAST),
    ),
    check=_check_balancer,
)
