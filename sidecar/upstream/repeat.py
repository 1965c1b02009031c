"""Whether a call that was sent may be sent again: does twice what once does.

An answer that was lost says nothing of what was done. So only what reads, or sets
something to a value, is repeated; of tools only those that the operator vouches for.
What a server says of its tools is not believed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import MessageError
from ..mcp.message import REQUEST, Message, parse
from .retry import RetryPolicy

IDEMPOTENT: Final = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}
)  # RFC 9110 9.2.2
_READS: Final = frozenset(
    {
        *("initialize", "ping", "server/discover", "completion/complete", "logging/setLevel"),
        *("tools/list", "prompts/list", "prompts/get", "tasks/get", "tasks/list", "tasks/result"),
        *("resources/list", "resources/templates/list", "resources/read"),
        *("resources/subscribe", "resources/unsubscribe"),
    }
)


def repeats(method: str, body: bytes, messages: Sequence[Message], policy: RetryPolicy) -> bool:
    """Whether the call of HTTP *method* with *body* may be sent again under *policy*.

    *messages* are what the body was read as; where nobody read it, it is read here.
    """
    if method in IDEMPOTENT:
        return True
    if not messages:
        if body.lstrip()[:1] not in (b"{", b"["):
            return True  # no message: what the route's `retryOn` says is all there is
        try:
            messages = [parse(body)]
        except MessageError:
            return False  # some server may read a call in it
    return all(_repeats(one, policy) for one in messages)


def _repeats(message: Message, policy: RetryPolicy) -> bool:
    if message.kind != REQUEST:
        return False
    if message.method == "tools/call":
        return message.tool is not None and policy.repeats_tool(message.tool)
    return message.method in _READS
