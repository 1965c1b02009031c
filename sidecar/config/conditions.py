"""The attributes that `when` may ask for, how each is written, and its values.

Istio's attributes as Istio has them, and those of MCP. A key in brackets may be
written with dots instead, because YAML reads brackets between braces as its own;
what comes out is always the bracket form. An attribute that nothing here could
determine is refused: a rule that asks for it would mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..policy.match import network
from .schema import closest
from .values import Malformed

LONGEST_ACCOUNT: Final = 320
MOST_ACCOUNTS: Final = 16
_MOST_STEPS: Final = 16
_HEADER: Final = re.compile(r":?[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STEPS: Final = re.compile(r"(?:\[[^\[\]]+\])+")


def text(value: str) -> str:
    """Return *value* if it is not empty: an empty one would match what is missing."""
    if not value:
        raise Malformed("the value is empty", "write a value, or remove it", "SC0401")
    return value


def principal(value: str) -> str:
    """Return a SPIFFE ID as policies write it: without `spiffe://`."""
    if value.startswith("spiffe://"):
        raise Malformed(
            "a principal is written without `spiffe://`",
            f"write `{value.removeprefix('spiffe://')}`",
            "SC0414",
            why="with it the value would never match",
        )
    return text(value)


def ip_block(value: str) -> str:
    """Return an IP address or CIDR block."""
    try:
        network(text(value))
    except ValueError:
        raise Malformed(
            f"`{value}` is not an IP address or block",
            "write it like `10.1.2.3`, `10.1.0.0/16` or `2001:db8::/32`",
            "SC0406",
        ) from None
    return value


def port(value: str) -> str:
    """Return a port number, as text."""
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535):
        raise Malformed(
            f"`{value}` is not a port", "write a number from 0 to 65535 in quotes", "SC0407"
        )
    return value


def service_account(value: str) -> str:
    """Return `NAMESPACE/ACCOUNT`, or `ACCOUNT` of the policy's own namespace."""
    parts = text(value).split("/")
    if len(parts) > 2 or not all(parts) or "*" in value:
        raise Malformed(
            f"`{value}` is not a service account",
            "write `NAMESPACE/ACCOUNT`, or `ACCOUNT` of the policy's own namespace, without `*`",
            "SC0408",
        )
    if len(value) > LONGEST_ACCOUNT:
        raise Malformed("the service account is too long", "", "SC0408")
    return value


def trust_domain(value: str) -> str:
    """Return a trust domain, with a `*` at most at one end."""
    if "/" in text(value):
        raise Malformed(
            f"`{value}` is not a trust domain",
            "write only its name, such as `cluster.local`",
            "SC0409",
        )
    rest = value.removeprefix("*") if value.startswith("*") else value.removesuffix("*")
    if "*" in rest:
        raise Malformed(
            f"`{value}` has a `*` that is not at one end",
            "write `prefix-*`, `*-suffix` or `*`",
            "SC0409",
        )
    return value


FILTERS: Final = "experimental.envoy.filters"
_OF_FILTER: Final = re.compile(r"experimental\.envoy\.filters\.[^\[\]]+\[[^\[\]]+\]")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; *keyed* ones take a key, *refused* says why one is not read yet."""

    name: str
    doc: str
    value: Callable[[str], str] = text
    keyed: bool = False
    refused: str = ""


ATTRIBUTES: Final = (
    Attribute(
        "request.headers",
        "A header, by name: `request.headers[x-env]`. `*` on one that is there and empty goes "
        "against the caller.",
        keyed=True,
    ),
    Attribute("source.ip", "The caller's address.", ip_block),
    Attribute("remote.ip", "The address that `numTrustedProxies` proxies report.", ip_block),
    Attribute("source.namespace", "The namespace of the caller's identity."),
    Attribute("source.principal", "The caller's identity, without `spiffe://`.", principal),
    Attribute("source.serviceAccount", "The caller's service account.", service_account),
    Attribute("source.trustDomain", "The trust domain of the caller.", trust_domain),
    Attribute(
        "source.originalPrincipal",
        "On whose behalf a trusted delegate calls.",
        principal,
        refused="No delegate is trusted yet to say on whose behalf it calls.",
    ),
    Attribute("request.auth.principal", "`issuer/subject` of a token."),
    Attribute("request.auth.audiences", "Audiences of a token."),
    Attribute("request.auth.presenter", "Presenter of a token."),
    Attribute("request.auth.claims", "A claim of a token, by its path.", keyed=True),
    Attribute("destination.ip", "The address that was called.", ip_block),
    Attribute("destination.port", "The port that was called.", port),
    Attribute("connection.sni", "The server name of the TLS handshake."),
    Attribute(
        FILTERS,
        "What an Envoy filter says, `experimental.envoy.filters.NAME[key]`: always missing here.",
        keyed=True,
    ),
    Attribute("mcp.method", "The JSON-RPC method, such as `tools/call`."),
    Attribute("mcp.tool", "The tool that is called."),
    Attribute("mcp.resource", "The URI of the resource that is read."),
    Attribute("mcp.prompt", "The prompt that is asked for."),
    Attribute("mcp.protocolVersion", "The protocol version of the session or message."),
    Attribute("mcp.arguments", "An argument, by its path: `mcp.arguments[path][to]`.", keyed=True),
    Attribute(
        "mcp.argumentPaths",
        "An argument that is a file's path: NUL, `..` and backslash never match.",
        keyed=True,
    ),
)

_BY_NAME: Final = {attribute.name: attribute for attribute in ATTRIBUTES}
_GONE: Final = {
    "destination.labels": "write a `selector` instead",
    "destination.namespace": "write `metadata.namespace` instead",
    "destination.name": "write a `selector` instead",
    "destination.user": "write a `selector` instead",
    "source.user": "write `source.principal` instead",
}


def attribute_of(key: str) -> Attribute:
    """Return the attribute that the canonical *key* asks for."""
    return _BY_NAME[FILTERS if key.startswith(FILTERS) else key.partition("[")[0]]


def canonical(key: str) -> str:
    """Return *key* in bracket form; Malformed if it is no attribute that is read."""
    if not key:
        raise Malformed("the key is empty", "name an attribute, such as `mcp.tool`", "SC0404")
    attribute, rest = _split(key)
    if attribute.refused:
        raise Malformed(
            f"`{key}` cannot be honoured yet",
            "remove the condition, and with it the rule if it must not hold without",
            "SC0304",
            why=attribute.refused,
        )
    if not attribute.keyed or (attribute.name == FILTERS and _OF_FILTER.fullmatch(key)):
        return key
    steps = _steps(attribute, rest)
    if not steps or len(steps) > _MOST_STEPS or attribute.name == FILTERS:
        raise Malformed(
            f"`{key}` names nothing of {attribute.name}",
            f"write `{attribute.name}[name]`",
            "SC0404",
        )
    return attribute.name + "".join(f"[{step}]" for step in steps)


def _split(key: str) -> tuple[Attribute, str]:
    exact = _BY_NAME.get(key)
    if exact is not None:
        return exact, ""
    for attribute in ATTRIBUTES:
        rest = key.removeprefix(attribute.name)
        if attribute.keyed and rest != key and rest[:1] in ("[", "."):
            return attribute, rest
    name = key.partition("[")[0]
    meant = closest(name, _BY_NAME)
    advice = _GONE.get(name) or (f"did you mean `{meant}`?" if meant else "")
    raise Malformed(
        f"`{key}` is not an attribute",
        advice or f"known are {', '.join(f'`{known}`' for known in _BY_NAME)}",
        "SC0404",
    )


def _steps(attribute: Attribute, rest: str) -> list[str]:
    """Return the names between the brackets or dots of *rest*; none if it is malformed."""
    if rest.startswith("["):
        steps = rest[1:-1].split("][") if _STEPS.fullmatch(rest) else []
    elif attribute.name == "request.headers":
        steps = [rest[1:]]  # dots may stand in a header's name
    else:
        steps = rest[1:].split(".")
    if attribute.name == "request.headers":
        return steps if len(steps) == 1 and _HEADER.fullmatch(steps[0]) else []
    return steps if all(steps) else []
