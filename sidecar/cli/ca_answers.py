"""How `sidecar ca` writes what it has to say: tables of at most 100 columns, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from ..spiffe.id import SpiffeId

_WIDTH: Final = 36  # columns of an identity: with serial, time and state it makes 99


def as_json(facts: object) -> str:
    """Write *facts* as one line of JSON."""
    return json.dumps(facts)


def as_table(facts: Mapping[str, object]) -> str:
    """Write one thing: a name and a value a line."""
    shown = {name.replace("_", " "): _cell(value) for name, value in facts.items()}
    width = max(map(len, shown), default=0) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in shown.items())


def as_rows(rows: Sequence[Mapping[str, str]], trust_domain: str) -> str:
    """Write the certificates of a trust domain, one a line."""
    lines = [f"{'IDENTITY':<{_WIDTH}} {'SERIAL':<32} {'EXPIRES':<20} STATE"]
    for row in rows:
        name = short(row["spiffe_id"], trust_domain)
        if len(name) > _WIDTH:
            name = name[: _WIDTH - 3] + "..."
        lines.append(f"{name:<{_WIDTH}} {row['serial']:<32} {row['expires']:<20} {row['state']}")
    return "\n".join(lines)


def short(spiffe_id: str, trust_domain: str) -> str:
    """Return `NS/SA` where that says it, or the whole SPIFFE ID."""
    identity = SpiffeId.parse(spiffe_id)
    namespace, account = identity.namespace, identity.service_account
    if identity.trust_domain == trust_domain and namespace and account:
        return f"{namespace}/{account}"
    return spiffe_id


def pairs(counts: Mapping[str, int]) -> dict[str, object]:
    """Return *counts* in the order of their names."""
    return dict(sorted(counts.items()))


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)
