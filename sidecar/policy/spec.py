"""What an AuthorizationPolicy says, as plain data: the form that rules are compiled from.

`config` fills these from documents and has checked every value; `authz` compiles
them. Fields have Istio's names in snake case and Istio's meaning: an empty tuple
is a field that was not written and asks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import Where


class Action(StrEnum):
    """What a policy does with a call that one of its rules matches."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Who calls: all fields that are written must match."""

    principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """What is called: all fields that are written must match."""

    hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    mcp_methods: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()
    not_mcp_methods: tuple[str, ...] = ()
    not_tools: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    not_prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """One `when`: *key* has one of *values* and none of *not_values*."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule: one of its sources, one of its operations, and all of its conditions."""

    sources: tuple[SourceSpec, ...] = ()
    operations: tuple[OperationSpec, ...] = ()
    conditions: tuple[ConditionSpec, ...] = ()
    at: Where | None = None


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """One policy that applies to the workload; its rules are alternatives."""

    name: str
    namespace: str
    action: Action
    rules: tuple[RuleSpec, ...]
    at: Where | None = None
    dry_run: bool = False
