"""Make the pages of docs/reference that are read off the code: `python docs/generate.py`.

What a program can list (commands, limits, reasons, fields, counters, pages) is listed
by it; what only a person knows (when it happens, what to do about it) stands here. A
name without its words, or words without their name, is an error. `documents.md` and
`error-codes.md` are made by `sidecar explain --page`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import words

from sidecar.admin.pages import cluster_gauges, cluster_stats, pages
from sidecar.bridge.bridges import bridge_metrics
from sidecar.cli import COMMANDS
from sidecar.config.limits import LIMITS, Limits
from sidecar.config.schema import Field
from sidecar.errors import Where
from sidecar.net.cluster import Cluster
from sidecar.net.clusters import Clusters
from sidecar.net.means import Means
from sidecar.observe.family import Kind
from sidecar.observe.journal import Journal
from sidecar.observe.metrics import Metrics, limiter_metrics
from sidecar.observe.record import Record
from sidecar.policy.call import Call, Peer
from sidecar.policy.limit import Limiter
from sidecar.policy.verdict import STATUS, Decision, Finding, Permit, Reason, Refusal, RuleRef
from sidecar.replies import refusal_message
from sidecar.spiffe.id import SpiffeId

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by `python docs/generate.py`; do not edit. -->"


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (FOLDER / f"{name}.md").write_text(page())


def joined(names: Iterable[str], told: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the words of *names*; ValueError where one is without the other."""
    odd = set(names) ^ set(told)
    if odd:
        raise ValueError(f"words and names differ: {sorted(odd)}")
    return list(told.items())


def page(title: str, *parts: str | Iterable[str]) -> str:
    """Put a page together: a string is a paragraph, anything else is lines."""
    lines = [MADE, f"# {title}", ""]
    for part in parts:
        lines += [part] if isinstance(part, str) else part
        lines.append("")
    return "\n".join(lines)


def table(*titles: str, rows: Iterable[Iterable[object]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


# -- commands


def cli() -> str:
    parts: list[str | Iterable[str]] = [words.CLI]
    for name, line in COMMANDS.items():
        parser = argparse.ArgumentParser()
        import_module(f"sidecar.cli.{name.replace('-', '_')}").add_arguments(parser)
        for spoken, text, one in commands(name, line, parser):
            parts += [f"## sidecar {spoken}", f"{text[0].upper()}{text[1:]}.", arguments(one)]
    codes = table("Code", "Means", rows=words.EXIT_CODES.items())
    return page("Commands", *parts, "## Exit codes", codes)


def commands(
    name: str, line: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield a command, or the commands inside it, each with what it does and its parser."""
    inner = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not inner:
        yield name, line, parser
    for action in inner:
        for below, one in action.choices.items():
            yield f"{name} {below}", str(one.description), one


def arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    shown = [one for one in parser._actions if one.dest != "help"]
    return table("Argument", "Meaning", rows=((spelled(one), told(one)) for one in shown))


def spelled(action: argparse.Action) -> str:
    """Return an argument as one writes it."""
    value = str(action.metavar or "|".join(map(str, action.choices or ()))).replace("|", "\\|")
    if not action.option_strings:
        return f"`{value}`"
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{name}{takes}`" for name in action.option_strings)


def told(action: argparse.Action) -> str:
    text = (action.help or "").replace("|", "\\|")
    return f"{text[:1].upper()}{text[1:]}" + (" *required*" if action.required else "")


# -- limits


def limits() -> str:
    rows = []
    for one in fields(Limits):
        field = LIMITS.known[camel(one.name)]
        assert isinstance(field, Field)
        rows.append((f"`{field.name}`", field.default, one.metadata["doc"]))
    configured = table("Limit", "Default", "Bounds", rows=rows)
    fixed = table("Bound", "Value", "Over it", rows=words.fixed_limits())
    return page("Limits", words.LIMITS, configured, words.FIXED, fixed)


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


# -- refusals


def refusals() -> str:
    rows = []
    for name, text in joined(map(str, Reason), words.REASONS):
        status, code = STATUS[Reason(name)]
        rows.append((f"`{name}`", words.OTHER_STATUSES.get(name, status), code, text))
    call = example_call(b"delete_file")
    refusal = Refusal(Reason.DENIED, "RBAC: access denied", rule=RuleRef("mcp-prod/no-deletes", 0))
    record = Record("1f2e3d4c5b6a7980-0000002a", call.peer, "127.0.0.1:8443", 0.0, call)
    body = json.dumps(json.loads(refusal_message(refusal, record)), indent=2)
    handshakes = table(
        *("Reason", "What it means"),
        rows=((f"`{name}`", text) for name, text in words.HANDSHAKES.items()),
    )
    servers = ((f"`{name}`", text) for name, text in words.SERVER_REASONS.items())
    return page(
        "Refusals",
        *words.REFUSALS,
        ["```json", body, "```"],
        words.REFUSALS_AFTER,
        table("Reason", "HTTP", "JSON-RPC code", "When", rows=rows),
        *words.BROKEN,
        handshakes,
        *words.SERVERS,
        table("Reason", "What it means", rows=servers),
    )


def example_call(tool: bytes) -> Call:
    """Return a call of *tool* as a record may hold it."""
    peer = Peer(SpiffeId.parse("spiffe://cluster.local/ns/agent/sa/alice"), "127.0.0.1", 51234)
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"%b"}}' % tool
    from sidecar.mcp.message import parse

    return Call(peer, "POST", "/mcp", "", "127.0.0.1:8443", (), body, message=parse(body))


# -- what a running sidecar tells


def access_log() -> str:
    call = example_call(b"read_file")
    record = Record("1f2e3d4c5b6a7980-0000002a", call.peer, "127.0.0.1:8443", 1.0, call)
    record.verdict = Permit(RuleRef("mcp-prod/agents", 0, Where("policies/access.yaml", 14)))
    record.status, record.upstream = 200, "127.0.0.1:9001"
    plain = record.line("2026-11-20T12:00:00.123Z", 0.000412)
    record.broken, record.finding = "the caller left", Finding("ignore-previous")
    record.why = "no rule allows it"
    record.cluster, record.retries = "files.local|v2", 1
    call.own_id = b"mine"
    call.audited, call.shadowed = (RuleRef("mcp-prod/watched", 0),), Decision(False)
    assert call.message is not None
    call.message, call.batch = None, (call.message,)
    names = record.line("", 0.0)
    rows = ((f"`{name}`", text) for name, text in joined(names, words.ACCESS))
    events = table("`event`", "When", "Fields", rows=words.EVENTS)
    example = ["```json", json.dumps(plain, indent=2), "```"]
    return page(
        "Access log",
        *words.ACCESS_LOG,
        example,
        table("Field", "Holds", rows=rows),
        *words.ACCESS_EVENTS,
        events,
    )


def metrics_and_stats() -> str:
    metrics = Metrics("0", 1)
    families = [
        *metrics.collect(),
        *cluster_gauges(no_clusters()),
        *limiter_metrics(Limiter()),
        *bridge_metrics({}),
    ]
    rows: list[tuple[str, str, str, str]] = []
    for one in families:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        suffix = "_total" if one.kind is Kind.COUNTER else ""
        rows.append((f"`{one.name}{suffix}`", one.kind.value, labels, one.help))
    rows += [(f"`{name}`", "gauge", "", text) for name, text in words.GAUGES.items()]
    names = {name for name, _ in metrics.stats()}
    own = [(f"`{name}`", text) for name, text in words.STATS.items()]
    missing = names - {name.replace("N", "") for name in words.STATS}
    if missing:
        raise ValueError(f"counters without words: {sorted(missing)}")
    clusters = joined(cluster_stats(cluster()), words.CLUSTER_STATS)
    return page(
        "Metrics and counters",
        *words.METRICS,
        table("Metric", "Type", "Labels", "Meaning", rows=rows),
        *words.METRICS_AFTER,
        table("Counter", "Meaning", rows=own),
        words.CLUSTERS,
        table("Counter", "Meaning", rows=((f"`{name}`", text) for name, text in clusters)),
    )


def no_means() -> Means:
    none: Any = None
    return Means(none, none, none, none, lambda: 0.0, lambda: 0.0, none)


def no_clusters() -> Clusters:
    return Clusters(no_means())


def cluster() -> Cluster:
    from sidecar.upstream.cluster import ClusterSpec, EndpointSpec

    return Cluster(ClusterSpec("files", (EndpointSpec("127.0.0.1:9001"),)), no_means(), 0.0)


def admin() -> str:
    journal = Journal(Metrics("0", 1), lambda: 0.0, writes=True)
    found = pages(journal, no_clusters(), lambda: "", list)
    rows = ((f"`{name}`", text) for name, text in joined(found, words.PAGES))
    return page("Admin listener", *words.ADMIN, table("Path", "Answers", rows=rows))


PAGES: Mapping[str, Callable[[], str]] = {
    "cli": cli,
    "limits": limits,
    "refusals": refusals,
    "access-log": access_log,
    "metrics-and-stats": metrics_and_stats,
    "admin": admin,
}

if __name__ == "__main__":
    main()
