"""What an authorization policy says, as plain values: the compiler's input.

`config` makes these from documents and `authz.RuleSet` compiles them. Values
stand here as they were written (`*admin`, `team-*`, `/store/{**}`). Nothing
here knows YAML or decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import Where


class Action(StrEnum):
    """What a matching policy does."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Who asks: the fields are joined by AND, the values of one field by OR."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """What is asked for: the fields are joined by AND, the values of one field by OR."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()
    mcp_methods: tuple[str, ...] = ()
    not_mcp_methods: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    not_tools: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    not_prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """One `when`: *key* has one of *values*, and none of *not_values*."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule: one of the sources, AND one of the operations, AND every condition."""

    sources: tuple[SourceSpec, ...] = ()
    operations: tuple[OperationSpec, ...] = ()
    conditions: tuple[ConditionSpec, ...] = ()
    at: Where | None = None


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """One policy that selects the workload; without rules it matches nothing.

    `namespace` is the policy's own: a service account written without a
    namespace is one of it. A `dry_run` policy is judged and not enforced.
    """

    name: str
    namespace: str
    action: Action
    rules: tuple[RuleSpec, ...]
    at: Where | None = None
    dry_run: bool = False
