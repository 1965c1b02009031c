"""sidecar why: what a running sidecar did with a request, and which rule made it so.

A caller that was refused shows its request id; whoever runs the sidecar asks with it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from ..admin.client import addresses, ask
from ..config.report import visible
from ..errors import StartError

UNKNOWN: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "request_id",
        metavar="REQUEST_ID",
        help="the `requestId` of a refusal, or the `x-request-id` of a request",
    )
    parser.add_argument(
        "--admin",
        metavar="ADDRESS",
        default="",
        help="the sidecar's admin listener, `unix:/path` or `HOST:PORT`; by default "
        "$SIDECAR_ADMIN, else every socket in the runtime folder",
    )
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="how it is written"
    )


def run(args: argparse.Namespace) -> int:
    """Say why; 1 if no sidecar remembers the request, 69 if none can be asked."""
    found, remembered = _found(args.request_id, args.admin)
    if found is None:
        print(
            f"error: no such request among the last {remembered} that are remembered\n"
            "  = help: look for the id in the access log; "
            "`limits.rememberedRequestBytes` sets how much is remembered",
            file=sys.stderr,
        )
        return UNKNOWN
    if args.output == "json":
        print(json.dumps(found))
        return 0
    for name, text in told(found):
        print(f"{name:<9} {visible(text)}")
    return 0


def _found(request_id: str, given: str) -> tuple[dict[str, Any] | None, int]:
    """Return the request's line, or None and how many requests are remembered instead."""
    remembered = answered = 0
    unreachable: StartError | None = None
    for address in addresses(given, os.environ, tempfile.gettempdir(), os.getuid()):
        try:
            status, said = _asked_of(address, request_id)
        except StartError as error:
            unreachable = error
            continue
        if status == 200:
            return said, 0
        answered += 1
        remembered += int(said.get("remembered", 0))
    if unreachable is not None and not answered:
        raise unreachable
    return None, remembered


def _asked_of(address: str, request_id: str) -> tuple[int, dict[str, Any]]:
    status, body = ask(address, f"/why?id={quote(request_id, safe='')}")
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if status not in (200, 404) or not isinstance(said, dict):
        raise StartError(f"what answers on `{address}` does not remember requests")
    return status, said


def told(line: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of a request, by an access line: a name and a text each."""
    yield "request", f"{line['request_id']}  at {line['ts']}"
    yield "caller", f"{line['caller'] or 'nobody that proved who it is'}, from {line['peer']}"
    yield "asked", _asked(line)
    words = [line["verdict"], line["status"] or "", line["reason"]]
    yield "verdict", " ".join(str(word) for word in words if word)
    if line["rule"]:
        yield "rule", f"{line['rule']} at {line['at']}" if line["at"] else line["rule"]
    why = line.get("why") or _unexplained(line)
    if why:
        yield "why", why
    for name in ("detail", "finding"):
        if line.get(name):
            yield name, line[name]
    if line.get("audit"):
        yield "audit", ", ".join(line["audit"])
    if "shadow" in line:
        yield "dry run", f"{line['shadow']} {line['shadow_rule']}".rstrip()
    yield "server", line["upstream"] or "never heard of it"
    yield "time", f"{line['overhead_ms']} ms in the sidecar"


def _asked(line: dict[str, Any]) -> str:
    parts = [line["http_method"], line["path"], line["mcp_method"], line["tool"]]
    said = " ".join(part for part in parts if part)
    batch = line.get("batch")
    return f"{said} batch: {', '.join(batch)}" if batch else said or "nothing that could be read"


def _unexplained(line: dict[str, Any]) -> str:
    """Say that the nearest rule is not known, where it could be."""
    if line["reason"] != "denied" or line["rule"] or line.get("detail"):
        return ""
    return "no rule allows it; too many were denied at once to say which came nearest"
