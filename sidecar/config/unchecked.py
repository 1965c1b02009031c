"""Policies that validation refuses, as Istio's compiler takes what slipped past its own.

Values are taken as they are written, and `policy.rule` does with unsound ones what Istio
does: an ALLOW rule with one is left out, a DENY rule is read without it. Only for asking
what Istio would do: a running sidecar refuses such a policy whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Final

from ..policy.spec import Action, ConditionSpec, OperationSpec, RuleSpec, SourceSpec
from .documents import EVERY_WORKLOAD, AuthorizationPolicy, AuthorizationPolicySpec
from .metadata import METADATA, SELECTOR
from .nodes import ListNode, MapNode, Node, ScalarNode
from .problem import Notes
from .schema import Unread, camel

_KIND: Final = "AuthorizationPolicy"
_SOURCE: Final = {camel(one.name): one.name for one in fields(SourceSpec)}
_OPERATION: Final = {camel(one.name): one.name for one in fields(OperationSpec)}


def unchecked(node: Node, namespace: str) -> AuthorizationPolicy | None:
    """Return the policy in *node*, sound or not; None where it has not a policy's form.

    *namespace* is that of a policy that names none.
    """
    notes = Notes()
    try:
        table = _map(node)
        if _text(table.get("kind")) != _KIND:
            return None
        spec = _map(table.get("spec"))
        metadata = METADATA.read(_map(table.get("metadata")), "metadata", notes)
        written = spec.get("selector")
        selector = SELECTOR.read(written, "selector", notes) if written else EVERY_WORKLOAD
        action = Action(_text(spec.get("action")) or "ALLOW")
        rules = tuple(map(_rule, _items(spec.get("rules"))))
    except (Unread, ValueError):
        return None
    metadata = replace(metadata, namespace=metadata.namespace or namespace)
    read = AuthorizationPolicySpec(selector, action, rules)
    return None if notes.errors else AuthorizationPolicy(metadata, read, node.at)


def _rule(node: Node) -> RuleSpec:
    if isinstance(node, MapNode) and not node.entries:
        return RuleSpec(at=node.at)  # `{}` is said in so many words: it matches everything
    rule = _map(node)
    sources = [_map(_map(one).get("source")) for one in _items(rule.get("from"))]
    operations = [_map(_map(one).get("operation")) for one in _items(rule.get("to"))]
    return RuleSpec(
        tuple(SourceSpec(**_values(one, _SOURCE)) for one in sources),
        tuple(OperationSpec(**_values(one, _OPERATION)) for one in operations),
        tuple(_condition(_map(one)) for one in _items(rule.get("when"))),
        rule.at,
    )


def _condition(condition: MapNode) -> ConditionSpec:
    values = _values(condition, {"values": "values", "notValues": "not_values"}, ("key",))
    if not values:
        raise ValueError("a condition without values")
    return ConditionSpec(_text(condition.get("key")), **values)


def _values(
    table: MapNode, known: dict[str, str], others: Iterable[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the lists of texts in *table*. Raises ValueError for a field that is not known."""
    odd = {key.text for key, _ in table.entries} - {*known, *others}
    if odd:
        raise ValueError(f"fields that are not known: {sorted(odd)}")
    return {
        known[key.text]: tuple(map(_text, _items(value)))
        for key, value in table.entries
        if key.text in known
    }


def _map(node: Node | None) -> MapNode:
    if not isinstance(node, MapNode) or not node.entries:
        raise ValueError("not a mapping with something in it")
    return node


def _items(node: Node | None) -> tuple[Node, ...]:
    if node is None:
        return ()
    if not isinstance(node, ListNode) or not node.items:
        raise ValueError("not a list with something in it")  # which would ask nothing
    return node.items


def _text(node: Node | None) -> str:
    if node is None:
        return ""
    if not isinstance(node, ScalarNode):
        raise ValueError("not a text")
    return node.text
