"""AuthorizationPolicy: Istio's fields and rules of validity, and the attributes of MCP.

What Istio refuses is refused. What Istio accepts and this program could not
enforce is refused too, in every action: a rule that is half understood is worse
than none. What is accepted and can hardly be meant draws a warning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ..policy.match import template_problem
from ..policy.spec import Action, ConditionSpec, OperationSpec, RuleSpec, SourceSpec
from .conditions import (
    FILTERS,
    MOST_ACCOUNTS,
    attribute_of,
    canonical,
    ip_block,
    port,
    principal,
    service_account,
    text,
    trust_domain,
)
from .documents import (
    DRY_RUN,
    FALSE_WORDS,
    TRUE_WORDS,
    AuthorizationPolicy,
    AuthorizationPolicySpec,
)
from .metadata import SELECTOR_FIELD, TARGETS
from .nodes import ListNode, MapNode, Node, ScalarNode
from .problem import Notes, Place
from .schema import Field, ListOf, Struct, Support, Unread, Unused
from .values import Malformed, Read, Word

MOST_RULES: Final = 512  # Istio's own
MOST_PARTS: Final = 512
MOST_VALUES: Final = 1024

_WIDER: Final = "an unknown field would be ignored, and this rule would then match more"
_PATH_LIKE: Final = re.compile(r"(/|\.{1,2}/|~|[A-Za-z]:\\)")


def _path(value: str) -> str:
    problem = template_problem(value) if "{" in text(value) or "}" in value else ""
    if problem:
        raise Malformed(f"`{value}`: {problem}", "write `/a/{*}/b` or `/a/{**}`", "SC0413")
    return value


def _values(
    name: str, doc: str, value: Callable[[str], str] = text, most: int = MOST_VALUES
) -> tuple[Field, Field]:
    """Return the field *name* and its `not` twin."""
    form = ListOf(Read("text", value), least=1, most=most)
    twin = f"not{name[0].upper()}{name[1:]}"
    return Field(name, form, doc), Field(twin, form, f"None of these. Else as `{name}`.")


def _check_source(source: SourceSpec, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        _nothing_asked(node, path, notes)
    accounts = source.service_accounts or source.not_service_accounts
    others = (
        source.principals or source.not_principals or source.namespaces or source.not_namespaces
    )
    if accounts and others:
        notes.error(
            "SC0410",
            f"{path} has service accounts beside principals or namespaces",
            node.key("serviceAccounts") if source.service_accounts else node,
            help="put them in a source of their own: sources of one rule are alternatives",
        )
    _warn_inner_star(node, ("principals", "notPrincipals"), path, notes)
    for item in _items(node, ("requestPrincipals", "notRequestPrincipals")):
        if "/" not in item.text and not (item.text.startswith("*") or item.text.endswith("*")):
            why = "a token's principal is its issuer, a slash and its subject"
            _never(item, path, why, f"{item.text}/*", notes)


def _nothing_asked(node: MapNode, path: str, notes: Notes) -> None:
    notes.error(
        "SC0402",
        f"{path} asks nothing",
        node,
        why="it would match everything",
        help="name what it should match, or remove it with its `from` or `to`",
    )


def _check_operation(operation: OperationSpec, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        _nothing_asked(node, path, notes)
    plain = ("hosts", "methods", "paths", "mcpMethods", "tools", "resources", "prompts")
    twins = tuple(f"not{name[0].upper()}{name[1:]}" for name in plain)
    _warn_inner_star(node, plain + twins, path, notes)
    for item in _items(node, ("methods", "notMethods")):
        if item.text != item.text.upper():
            _never(item, path, "HTTP methods are upper case", item.text.upper(), notes)
    for item in _items(node, ("paths", "notPaths")):
        if not item.text.startswith(("/", "*")):
            _never(item, path, "a path begins with a slash", f"/{item.text}", notes)


def _never(item: ScalarNode, path: str, why: str, fix: str, notes: Notes) -> None:
    notes.warning(
        "SC0416",
        f"`{item.text}` in {path} never matches",
        item,
        why=why,
        help=f"did you mean `{fix}`?",
    )


def _warn_inner_star(node: MapNode, names: tuple[str, ...], path: str, notes: Notes) -> None:
    for item in _items(node, names):
        text = item.text.replace("{*}", "").replace("{**}", "")
        if "*" in (text[1:] if text.startswith("*") else text[:-1]):
            notes.warning(
                "SC0415",
                f"`{item.text}` in {path} holds a `*` that is no wildcard",
                item,
                why="a `*` stands for anything only at the beginning or, failing that, at the end; "
                "elsewhere it is the character itself",
                help="write a prefix `a*`, a suffix `*a`, or several values",
            )


def _items(node: MapNode, names: tuple[str, ...]) -> list[ScalarNode]:
    lists = (node.get(name) for name in names)
    return [
        item
        for found in lists
        if isinstance(found, ListNode)
        for item in found.items
        if isinstance(item, ScalarNode)
    ]


def _check_condition(condition: ConditionSpec, node: MapNode, path: str, notes: Notes) -> None:
    if not condition.values and not condition.not_values:
        notes.error(
            "SC0405",
            f"{path} has neither `values` nor `notValues`",
            node,
            help="add `values: [...]`",
        )
    attribute = attribute_of(condition.key)
    form = Read("text", attribute.value)
    for item in _items(node, ("values", "notValues")):
        try:
            form.read(item, path, notes)
        except Unread:
            continue
        if attribute.name == "mcp.arguments":
            _warn_path_prefix(item, condition.key, notes)
        elif attribute.name == "mcp.argumentPaths":
            _warn_open_prefix(item, notes)
        elif attribute.name == "connection.sni" and item.text != item.text.lower():
            _never(item, path, "names of servers are lower case", item.text.lower(), notes)


def _warn_path_prefix(item: ScalarNode, key: str, notes: Notes) -> None:
    if item.text.endswith("*") and _PATH_LIKE.match(item.text):
        better = key.replace("mcp.arguments[", "mcp.argumentPaths[")
        notes.warning(
            "SC0417",
            f"`{item.text}` looks like the beginning of a path, and `{key}` compares plain text",
            item,
            why=f"`{item.text[:-1]}../../etc/passwd` begins with it as well",
            help=f"write `key: {better}`, which refuses `..` before it compares",
        )


def _warn_open_prefix(item: ScalarNode, notes: Notes) -> None:
    stem = item.text[:-1]
    if item.text.endswith("*") and stem and not stem.endswith("/"):
        notes.warning(
            "SC0418",
            f"`{item.text}` matches more than one folder",
            item,
            why=f"`{stem}-private/x` begins with it as well",
            help=f"write `{stem}/*` for what is in the folder `{stem}`",
        )


SOURCE: Final = Struct(
    "Source",
    SourceSpec,
    (
        *_values("principals", "Identities, `cluster.local/ns/NS/sa/SA`.", principal),
        *_values("requestPrincipals", "`ISSUER/SUBJECT` of a verified token; `*` for any token."),
        *_values("namespaces", "Namespaces of the caller; `*` anywhere stands for anything."),
        *_values(
            "serviceAccounts",
            f"`NAMESPACE/ACCOUNT`, at most {MOST_ACCOUNTS}, of any trust domain.",
            service_account,
            MOST_ACCOUNTS,
        ),
        *_values("ipBlocks", "Addresses or blocks that the connection comes from.", ip_block),
        *_values(
            "remoteIpBlocks",
            "Addresses or blocks that a call came from, as `numTrustedProxies` proxies report it.",
            ip_block,
        ),
        *_values("trustDomains", "Trust domains of the caller.", trust_domain),
    ),
    check=_check_source,
    why_unknown=_WIDER,
)

OPERATION: Final = Struct(
    "Operation",
    OperationSpec,
    (
        *_values("hosts", "Hosts that are asked for, in any case."),
        *_values("ports", "Ports that are called, in quotes.", port),
        *_values("methods", "HTTP methods."),
        *_values("paths", "Paths, exact, `/prefix*`, `*suffix`, or `/a/{*}/b/{**}`.", _path),
        *_values("mcpMethods", "JSON-RPC methods, such as `tools/call`."),
        *_values("tools", "Tools that are called, and may be listed."),
        *_values("resources", "URIs of resources that are read, and may be listed."),
        *_values("prompts", "Prompts that are asked for, and may be listed."),
    ),
    check=_check_operation,
    why_unknown=_WIDER,
)


def _inner_source(source: SourceSpec) -> SourceSpec:
    return source


def _inner_operation(operation: OperationSpec) -> OperationSpec:
    return operation


FROM: Final = Struct(
    "From",
    _inner_source,
    (Field("source", SOURCE, "Who calls; all that is written must hold.", required=True),),
    why_unknown=_WIDER,
)
TO: Final = Struct(
    "To",
    _inner_operation,
    (
        Field(
            "operation", OPERATION, "What is called; all that is written must hold.", required=True
        ),
    ),
    why_unknown=_WIDER,
)
CONDITION: Final = Struct(
    "Condition",
    ConditionSpec,
    (
        Field("key", Read("attribute", canonical), "An attribute, see below.", required=True),
        *_values("values", "It has one of these."),
    ),
    check=_check_condition,
    why_unknown=_WIDER,
)
RULE: Final = Struct(
    "Rule",
    RuleSpec,
    (
        Field("from", ListOf(FROM, 1, MOST_PARTS), "Sources, one of which calls.", "sources"),
        Field("to", ListOf(TO, 1, MOST_PARTS), "Operations, one of which is called.", "operations"),
        Field(
            "when", ListOf(CONDITION, 1, MOST_PARTS), "Conditions, all of which hold.", "conditions"
        ),
    ),
    why_unknown=_WIDER,
    located=True,
)


def _check_spec(spec: AuthorizationPolicySpec, node: MapNode, path: str, notes: Notes) -> None:
    if spec.action is Action.DENY and not spec.rules:
        notes.error(
            "SC0403",
            "a DENY policy without rules denies nothing",
            node.key("action"),
            help="write `rules: [{}]` to deny everything, or add rules",
        )
    for rule in spec.rules:
        _note_filters(rule, spec.action, Place(rule.at or node.at), notes)


def _note_filters(rule: RuleSpec, action: Action, place: Place, notes: Notes) -> None:
    """Note conditions on what an Envoy filter says, which is nothing here.

    One that would then let more through cannot be honoured.
    """
    for one in rule.conditions:
        if not one.key.startswith(FILTERS):
            continue
        # With `values` beside them, `notValues` open nothing: the condition never holds.
        opens = one.values if action is Action.DENY else one.not_values and not one.values
        note = notes.error if opens and action is not Action.AUDIT else notes.warning
        note(
            "SC0422",
            f"`{one.key}` is always missing here",
            place,
            why="no Envoy filter runs here that could say it, so `values` never hold and "
            "`notValues` always do",
            help="remove the condition, and with it the rule if it must not hold without",
        )


SPEC: Final = Struct(
    "AuthorizationPolicySpec",
    AuthorizationPolicySpec,
    (
        SELECTOR_FIELD,
        *TARGETS,
        Field(
            "action",
            Word(
                Action,
                refused=(
                    ("CUSTOM", "No outside authorizer is asked, so all would be let through."),
                ),
            ),
            "What a match does.",
            default="ALLOW",
        ),
        Field(
            "rules",
            ListOf(RULE, most=MOST_RULES),
            "Alternatives; none at all match nothing, an empty one (`{}`) everything.",
        ),
        Unused("provider", Support.REFUSED, "No outside authorizer (action CUSTOM) is asked."),
    ),
    check=_check_spec,
    why_unknown="an unknown field would be ignored, and the policy would then reach further",
)


def check_policy(policy: AuthorizationPolicy, node: MapNode, path: str, notes: Notes) -> None:
    """Check what concerns the policy's metadata: the dry run."""
    written = policy.metadata.annotations.get(DRY_RUN)
    if written is None:
        return
    spot = _annotation(node, DRY_RUN)
    if written not in TRUE_WORDS | FALSE_WORDS:
        notes.error(
            "SC0412", f"`{written}` is not true or false", spot, help='write `"true"` or `"false"`'
        )
    elif policy.spec.action is Action.AUDIT:
        notes.error(
            "SC0412",
            f"`{DRY_RUN}` is for ALLOW and DENY",
            spot,
            help="remove it: AUDIT only records anyway",
        )


def _annotation(node: MapNode, name: str) -> Node:
    metadata = node.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, MapNode) else None
    return found.key(name) if isinstance(found, MapNode) else node
