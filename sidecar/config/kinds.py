"""The kinds of documents: their apiVersions, and the struct each is read with.

A kind that is known and not read yet is an error: leaving it out would let more
through than its author meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from . import (
    authorization,
    bootstrap_fields,
    inspections,
    peers,
    rate_limits,
    request_authentication,
    services,
    traffic,
    virtual_services,
)
from .bootstrap import Sidecar
from .documents import (
    AuthorizationPolicy,
    DestinationRule,
    Document,
    Inspection,
    PeerAuthentication,
    RateLimit,
    RequestAuthentication,
    ServiceEntry,
    VirtualService,
    WasmPlugin,
)
from .metadata import METADATA
from .nodes import ListNode, MapNode, Node, ScalarNode
from .problem import Notes
from .schema import Field, Struct, Support, Unread, Unused, as_map, closest

OURS: Final = ("sidecar/v1",)
SECURITY: Final = ("security.istio.io/v1", "security.istio.io/v1beta1")
NETWORKING: Final = (
    "networking.istio.io/v1",
    "networking.istio.io/v1beta1",
    "networking.istio.io/v1alpha3",
)
EXTENSIONS: Final = ("extensions.istio.io/v1alpha1",)

Anything: TypeAlias = Document | Sidecar


@dataclass(frozen=True)
class Kind:
    """A kind that is read."""

    name: str
    versions: tuple[str, ...]
    doc: str
    struct: Struct[Anything]


@dataclass(frozen=True)
class LaterKind:
    """A kind that is known and not read yet; *lets_more* is why leaving it out is an error."""

    name: str
    versions: tuple[str, ...]
    doc: str
    lets_more: str


def _kind(
    name: str,
    versions: tuple[str, ...],
    doc: str,
    make: Callable[..., Anything],
    spec: Struct[object],
    check: Callable[..., None] | None = None,
) -> Kind:
    fields = (
        Unused("apiVersion", Support.INERT, f"One of {', '.join(f'`{one}`' for one in versions)}."),
        Unused("kind", Support.INERT, f"`{name}`."),
        Field("metadata", METADATA, "Name, namespace and labels.", required=True),
        Field("spec", spec, "What it says.", required=True),
        Unused("status", Support.INERT, "Written by Kubernetes."),
    )
    return Kind(name, versions, doc, Struct(name, make, fields, check, located=True))


KINDS: Final = (
    _kind(
        "Sidecar",
        OURS,
        "The bootstrap: who this sidecar is, where it listens, what it reads.",
        bootstrap_fields.sidecar,
        bootstrap_fields.SPEC,
    ),
    _kind(
        "PeerAuthentication",
        SECURITY,
        "Whether callers must prove who they are.",
        PeerAuthentication,
        peers.SPEC,
    ),
    _kind(
        "RequestAuthentication",
        SECURITY,
        "Which tokens (JWT) of callers are accepted, and what the server is told of them. A call "
        "without a token passes: to require one, write an AuthorizationPolicy that asks for it.",
        RequestAuthentication,
        request_authentication.SPEC,
        request_authentication.check_metadata,
    ),
    _kind(
        "AuthorizationPolicy",
        SECURITY,
        "Who may call what, down to the tool and its arguments.",
        AuthorizationPolicy,
        authorization.SPEC,
        authorization.check_policy,
    ),
    _kind(
        "Inspection",
        OURS,
        "What messages are scanned for, and what a finding does.",
        Inspection,
        inspections.INSPECTION,
    ),
    _kind(
        "WasmPlugin",
        EXTENSIONS,
        "Istio's plugin, honoured through its `pluginConfig` by the built-in scan.",
        WasmPlugin,
        inspections.PLUGIN,
    ),
    _kind(
        "RateLimit",
        OURS,
        "How often which calls are let through. Limits are per sidecar: each one counts the calls "
        "that it sees, in its own memory, and a restart begins anew.",
        RateLimit,
        rate_limits.SPEC,
    ),
    _kind(
        "DestinationRule",
        NETWORKING,
        "How the way to a server is kept healthy: limits, ejection, balancing.",
        DestinationRule,
        traffic.SPEC,
    ),
    _kind(
        "ServiceEntry",
        NETWORKING,
        "A service by name, with the addresses of its endpoints.",
        ServiceEntry,
        services.SPEC,
    ),
    _kind(
        "VirtualService",
        NETWORKING,
        "Which calls go where, and what happens to them on the way.",
        VirtualService,
        virtual_services.SPEC,
    ),
)

LATER_KINDS: Final = (
    LaterKind(
        "McpGateway",
        OURS,
        "Many servers behind one listener.",
        "What it keeps from callers would not be kept.",
    ),
    LaterKind(
        "ToolPins",
        OURS,
        "Which definitions of tools are trusted.",
        "A changed definition would reach callers.",
    ),
)

_BY_NAME: Final = {kind.name: kind for kind in (*KINDS, *LATER_KINDS)}


_ENVELOPE: Final = frozenset({"apiVersion", "kind", "metadata", "items"})


def members(node: Node) -> tuple[Node, ...]:
    """Return the documents in *node*: of a list its items, and of Kubernetes' `List`; else itself.

    A `List` is what `kubectl get -o yaml` prints of several documents. There is no list in a list.
    """
    if isinstance(node, ListNode):
        return node.items
    if isinstance(node, MapNode) and {key.text for key, _ in node.entries} <= _ENVELOPE:
        kind, items = node.get("kind"), node.get("items")
        if isinstance(kind, ScalarNode) and kind.text == "List" and isinstance(items, ListNode):
            return items.items
    return (node,)


def is_bootstrap(node: Node) -> bool:
    """Return whether *node* says it is a bootstrap, and not Istio's kind of that name."""
    if not isinstance(node, MapNode):
        return False
    kind, version = node.get("kind"), node.get("apiVersion")
    named = isinstance(kind, ScalarNode) and kind.text == "Sidecar"
    return named and isinstance(version, ScalarNode) and version.text in OURS


def read_document(node: Node, namespace: str, notes: Notes) -> Anything | None:
    """Read one document; None, with the reason noted, if it cannot be used.

    *namespace* is that of documents that name none.
    """
    before = notes.errors
    try:
        table = as_map(node, "", notes)
        kind = _kind_of(table, notes)
        if isinstance(kind, LaterKind):
            _note_later(kind, table, notes)
            return None
        document = kind.struct.read(table, "", notes)
    except Unread:
        return None
    if notes.errors > before:
        return None
    if isinstance(document, Sidecar) or document.metadata.namespace:
        return document
    return replace(document, metadata=replace(document.metadata, namespace=namespace))


def _kind_of(table: MapNode, notes: Notes) -> Kind | LaterKind:
    name, version = (_word(table, field, notes) for field in ("kind", "apiVersion"))
    kind = _BY_NAME.get(name.text)
    if kind is None:
        meant = closest(name.text, _BY_NAME)
        notes.error(
            "SC0301",
            f"`{name.text}` is not a kind that is read here",
            name,
            help=f"did you mean `{meant}`?"
            if meant
            else f"known are {', '.join(f'`{one}`' for one in _BY_NAME)}",
        )
        raise Unread
    if version.text not in kind.versions:
        known = ", ".join(f"`{one}`" for one in kind.versions)
        notes.error(
            "SC0302",
            f"`{kind.name}` of `{version.text}` is not read here",
            version,
            help=f"write {known}" if len(kind.versions) == 1 else f"write one of {known}",
        )
        raise Unread
    return kind


def _word(table: MapNode, name: str, notes: Notes) -> ScalarNode:
    node = table.get(name)
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return node
    if node is None:
        example = "sidecar/v1" if name == "apiVersion" else "Sidecar"
        notes.error(
            "SC0202",
            f"the document has no `{name}`",
            table,
            help=f"begin it with `{name}:`, such as `{name}: {example}`",
        )
    elif not (isinstance(node, ScalarNode) and node.broken):
        notes.error("SC0203", f"`{name}` must be text", node)
    raise Unread


def _note_later(kind: LaterKind, table: MapNode, notes: Notes) -> None:
    notes.error(
        "SC0304",
        f"`{kind.name}` cannot be honoured yet",
        table.get("kind") or table,
        why=kind.lets_more,
        help="remove the document, and say what you need with kinds that act",
    )
