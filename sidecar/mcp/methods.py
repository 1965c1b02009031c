"""Which MCP methods there are and what each one acts on.

One table for both eras (legacy: up to 2025-11-25; modern: 2026-07-28). It says
which field of `params` names what a rule is asked about, and which methods are a
session's own traffic. A method that is not here acts on nothing we know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

# What a method acts on, and where it stands: `tool` and `prompt` in params.name,
# `resource` in params.uri, `reference` in params.ref (a prompt or a resource),
# `subscriptions` in params.notifications.resourceSubscriptions, `task` in params.taskId.
Subject: TypeAlias = Literal[
    "nothing", "tool", "prompt", "resource", "reference", "subscriptions", "task"
]
NOTIFICATIONS: Final = "notifications/"

FIRST_MODERN: Final = "2026-07-28"
VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"  # in a message's `_meta`


@dataclass(frozen=True, slots=True)
class Method:
    """One method: its subject, whether a session cannot do without it, and its eras."""

    name: str
    subject: Subject = "nothing"
    session: bool = False
    legacy: bool = True
    modern: bool = True


_ALL: Final = (
    Method("tools/call", "tool"),
    Method("prompts/get", "prompt"),
    Method("resources/read", "resource"),
    Method("resources/subscribe", "resource", modern=False),
    Method("resources/unsubscribe", "resource", modern=False),
    Method("completion/complete", "reference"),
    Method("subscriptions/listen", "subscriptions", legacy=False),
    Method("tasks/get", "task"),
    Method("tasks/update", "task", legacy=False),
    Method("tasks/cancel", "task"),
    Method("tasks/result", "task", modern=False),
    Method("tasks/list", session=True, modern=False),
    Method("tools/list", session=True),
    Method("prompts/list", session=True),
    Method("resources/list", session=True),
    Method("resources/templates/list", session=True),
    Method("server/discover", session=True, legacy=False),
    Method("initialize", session=True, modern=False),
    Method("ping", session=True, modern=False),
    Method("logging/setLevel", modern=False),
    # From the server to the caller; in the modern era they stand inside results instead.
    Method("sampling/createMessage", modern=False),
    Method("elicitation/create", modern=False),
    Method("roots/list", modern=False),
)

METHODS: Final[Mapping[str, Method]] = MappingProxyType({method.name: method for method in _ALL})


def is_modern(version: str) -> bool:
    """Whether *version*, a date, is of the stateless era; a word that is no date is not."""
    return version >= FIRST_MODERN and version[:4].isdigit()


def version_of(params: Mapping[str, object]) -> object:
    """Return the protocol's version that a message with *params* says it is of, or None."""
    meta = params.get("_meta")
    return meta.get(VERSION_META) if type(meta) is dict else None


def is_session(method: str) -> bool:
    """Whether *method* is a session's own traffic: what every caller of any tool must send.

    Asked of the method's name alone; an answer of the caller's has none and is
    session traffic too (`Message.session` knows both).
    """
    known = METHODS.get(method)
    return known.session if known is not None else method.startswith(NOTIFICATIONS)
