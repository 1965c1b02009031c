"""What the bridge answers by itself: refusals, always JSON-RPC errors, in the sidecar's words."""

from __future__ import annotations

from typing import Final

from ..mcp.edit import error_reply
from ..mcp.message import Id
from ..policy.verdict import STATUS, Reason
from .wire import Answer

_NO_SESSION: Final = -32001  # what servers of the legacy era say of a session that is no more


def fault(id: Id, reason: Reason, message: str) -> bytes:
    """Return the JSON-RPC error to *id* that says *message*."""
    return error_reply(id, STATUS[reason][1], message, {"reason": reason.value})


def refuse(answer: Answer, id: Id, reason: Reason, message: str, wait: float = 0.0) -> None:
    """Refuse a question; the asker may try again after *wait* seconds, if that is not 0."""
    again = ((b"retry-after", b"%d" % max(1, round(wait))),) if wait else ()
    answer.whole(STATUS[reason][0], fault(id, reason, message), again)


def no_session(answer: Answer) -> None:
    """Say that the session is none, so that its client begins another (404)."""
    answer.whole(404, error_reply(None, _NO_SESSION, "Session not found"))


def not_here(answer: Answer, status: int, message: str, allow: bytes = b"") -> None:
    """Refuse what HTTP has words for."""
    headers = ((b"allow", allow),) if allow else ()
    answer.whole(status, error_reply(None, STATUS[Reason.INVALID][1], message), headers)
