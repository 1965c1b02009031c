"""`metadata` and `selector`: what every kind of document has in common.

Names are Kubernetes' (RFC 1123), because Istio's documents come from there and
because a name becomes part of an identity, a metric and a log line.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from .documents import Metadata, Selector
from .nodes import MapNode
from .problem import Notes
from .schema import Field, MapOf, Struct, Support, Unused
from .values import Malformed, Read, Text

DEFAULT_NAMESPACE: Final = "default"

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_MOST_LABELS: Final = 256
_LONGEST_ANNOTATION: Final = 262_144  # Kubernetes' own bound; tools put whole documents there
_RULE: Final = "write lower-case letters, digits and `-`, beginning and ending with none of `-` `.`"


def name_of(text: str) -> str:
    """Return *text* if it is a document's name; raise Malformed if not."""
    if _NAME.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not a name", _RULE)
    return text


def namespace_of(text: str) -> str:
    """Return *text* if it is a namespace's name; raise Malformed if not."""
    if _LABEL.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not a namespace", f"{_RULE}; at most 63 characters")
    return text


def _seconds_of(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Malformed(f"`{text}` is not a time", "write it like `2026-01-31T12:00:00Z`")
    return moment.timestamp()


LABELS: Final = MapOf(Text(longest=317), Text(empty=True, longest=253), most=_MOST_LABELS)

METADATA: Final = Struct(
    "Metadata",
    Metadata,
    (
        Field("name", Read("name", name_of), "The document's name.", required=True),
        Field(
            "namespace",
            Read("name", namespace_of),
            "The namespace it belongs to.",
            default="the bootstrap's",
        ),
        Field("labels", LABELS, "Labels, for selectors and people."),
        Field(
            "annotations",
            MapOf(Text(longest=317), Text(empty=True, longest=_LONGEST_ANNOTATION)),
            "Notes; `istio.io/dry-run` is read on an AuthorizationPolicy.",
        ),
        Field(
            "creationTimestamp",
            Read("time", _seconds_of),
            "When it was made; the oldest PeerAuthentication wins a tie.",
            attr="created",
        ),
        Unused("uid", Support.INERT, "Written by Kubernetes."),
        Unused("resourceVersion", Support.INERT, "Written by Kubernetes."),
        Unused("generation", Support.INERT, "Written by Kubernetes."),
        Unused("generateName", Support.INERT, "Written by Kubernetes."),
        Unused("selfLink", Support.INERT, "Written by Kubernetes."),
        Unused("managedFields", Support.INERT, "Written by Kubernetes."),
        Unused("ownerReferences", Support.INERT, "Written by Kubernetes."),
        Unused("finalizers", Support.INERT, "Written by Kubernetes."),
    ),
)


def _check_selector(selector: Selector, node: MapNode, path: str, notes: Notes) -> None:
    if not selector.match_labels and all(key.text == "matchLabels" for key, _ in node.entries):
        notes.warning(
            "SC0411",
            f"{path} names no label",
            node,
            why="it selects every workload of the namespace",
            help="name a label, or remove the selector to say so",
        )
    labels = node.get("matchLabels")
    for key, value in labels.entries if isinstance(labels, MapNode) else ():
        if "*" in key.text or "*" in selector.match_labels.get(key.text, ""):
            notes.error(
                "SC0411",
                f"{path}.matchLabels holds a `*`",
                key if "*" in key.text else value,
                why="labels are compared whole; a `*` would select nothing",
                help="write the label's whole value, or leave the label out",
            )


SELECTOR: Final = Struct(
    "Selector",
    Selector,
    (
        Field(
            "matchLabels",
            LABELS,
            "Labels that a workload must have, all of them, compared whole.",
        ),
    ),
    check=_check_selector,
    why_unknown="the selector would then select more workloads than it says",
)

SELECTOR_FIELD: Final = Field(
    "selector",
    SELECTOR,
    "The workloads it is for, by their labels.",
    default="every workload of the namespace; of all namespaces, in the root namespace",
)

TARGETS: Final = (
    Unused(
        "targetRef",
        Support.REFUSED,
        "It names a Kubernetes Gateway or Service; without it the document would reach further.",
    ),
    Unused(
        "targetRefs",
        Support.REFUSED,
        "They name Kubernetes Gateways or Services; without them the document would reach further.",
    ),
)
