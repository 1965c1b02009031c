"""One caller's program for the stateless era: requests that stand alone, many at once.

Callers choose their ids, so each request gets one of ours on its way in, and what comes
back the one it had. Who leaves cancels, and the program is told so. What the program may
not do in this era, such as asking its caller, is refused in the caller's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from ..config.stdio import StdioSpec
from ..errors import MessageError
from ..mcp.edit import error_reply
from ..mcp.lines import as_line
from ..mcp.message import REQUEST, RESPONSE, Id, Message, parse, refused_id
from ..mcp.rename import (
    CANCELLED,
    ID,
    PROGRESS,
    SUBSCRIBED,
    SUBSCRIPTION,
    TOKEN,
    Path,
    found,
    renamed,
    span,
)
from ..policy.verdict import Reason
from .answers import fault, refuse
from .child import Child
from .session import DEEPEST, QUIET_AFTER, STREAM_AFTER
from .wire import Answer

_LISTEN: Final = "subscriptions/listen"
_NOT_FOUND: Final = -32601
# The status of an error's code, as the transport has it; any other one is a result like any.
_STATUS: Final[Mapping[object, int]] = {
    _NOT_FOUND: 404,
    **dict.fromkeys((-32700, -32600, -32602, -32020, -32021, -32022), 400),
}


@dataclass(slots=True, eq=False)
class _Call:
    """A request under way: what it is called by its caller, as it was written."""

    number: int
    id: Id
    text: str
    token: str
    listens: bool
    answer: Answer


class Stateless:
    """A program and the requests of one caller. *closed* and *odd* are as a `Session`'s."""

    def __init__(
        self,
        caller: str,
        spec: StdioSpec,
        now: Callable[[], float],
        closed: Callable[[Stateless], None],
        odd: Callable[[str, bytes], None],
    ) -> None:
        self.caller, self.spec = caller, spec
        self.child: Child
        self.over = False
        self._now = now
        self._closed, self._odd = closed, odd
        self._calls: dict[int, _Call] = {}
        self._last = 0
        self.used_at = now()

    @property
    def busy(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._calls)

    # -- what its caller asks

    def ask(self, message: Message, body: bytes, answer: Answer) -> None:
        """Put a request to the program; *answer* gets what comes of it."""
        self.used_at = self._now()
        number = self._last = self._last + 1
        token = span(body, TOKEN)
        call = _Call(number, message.id, span(body, ID), token, message.method == _LISTEN, answer)
        ours = renamed(body, {ID: str(number), TOKEN: str(number)})
        if len(self._calls) >= self.spec.calls or not self.child.tell(as_line(ours)):
            text = "the server does not keep up with what it is asked"
            refuse(answer, message.id, Reason.OVERLOADED, text, 1.0)
            return
        self._calls[number] = call
        answer.gone = partial(self._left, call)
        answer.eased = self._eased

    def _left(self, call: _Call) -> None:
        if self._calls.pop(call.number, None) is not None:
            reason = b'"reason":"the caller has left"'
            said = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d,'
            self.child.tell(as_line(said % call.number + reason + b"}}"))
            self._eased()

    def _eased(self) -> None:
        if not any(call.answer.behind for call in self._calls.values()):
            self.child.hold(False)

    # -- what its program says

    def heard(self, line: bytes) -> None:
        """Hand on what the program says to whom it is for."""
        if self.over:
            return
        line = line.replace(b"\r", b" ")
        try:
            message = parse(line, DEEPEST)
        except MessageError as error:
            self._odd(str(error), line)
            self._fail_unread(line)
            return
        self.used_at = self._now()
        if message.kind is RESPONSE:
            self._finish(message, line)
        elif message.kind is REQUEST:
            self._odd("a request, which servers of this era may not send", line)
            refusal = error_reply(message.id, _NOT_FOUND, "the caller takes no requests")
            self.child.tell(as_line(refusal))
        else:
            self._notify(message, line)

    def _finish(self, message: Message, line: bytes) -> None:
        number = message.id
        call = self._calls.pop(number, None) if type(number) is int else None
        if call is None:
            return  # cancelled: who left wants no answer
        line = renamed(line, {ID: call.text, SUBSCRIBED: call.text})
        if call.answer.streaming:
            call.answer.event(line, now=self._now())
            call.answer.end()
            return
        error = message.value.get("error")
        status = _STATUS.get(error.get("code"), 200) if type(error) is dict else 200
        call.answer.whole(status, line)

    def _notify(self, message: Message, line: bytes) -> None:
        call, names = self._related(message)
        if call is None:
            self._odd("a notification of no request", line)
            return
        call.answer.stream()
        call.answer.event(renamed(line, names), now=self._now())
        if call.answer.behind:
            self.child.hold(True)

    def _related(self, message: Message) -> tuple[_Call | None, dict[Path, str]]:
        """Return whose notification it is, and what is to be renamed in it."""
        for path in (SUBSCRIPTION, PROGRESS, CANCELLED):
            number = found(message, path)
            call = self._calls.get(number) if type(number) is int else None
            if call is not None:
                return call, {path: call.token or call.text if path is PROGRESS else call.text}
        calls = [call for call in self._calls.values() if not call.listens]
        return (calls[0] if len(calls) == 1 else None), {}

    def _fail_unread(self, line: bytes) -> None:
        number = refused_id(line)
        if type(number) is int and number in self._calls and b'"method"' not in line:
            text = "the server's answer is no JSON-RPC message"
            self._fail(self._calls.pop(number), Reason.UPSTREAM, text)

    def _fail(self, call: _Call, reason: Reason, message: str) -> None:
        if call.answer.streaming:
            call.answer.event(fault(call.id, reason, message), now=self._now())
            call.answer.end()
        else:
            refuse(call.answer, call.id, reason, message)

    # -- time, and its end

    def look(self, now: float) -> None:
        """Do what is due: a request that takes long gets a stream, and streams stay warm."""
        self._eased()
        for call in self._calls.values():
            since = call.answer.spoke_at
            if now - since > (QUIET_AFTER if call.answer.streaming else STREAM_AFTER):
                call.answer.stream()
                call.answer.quiet(now)

    def close(self, why: str) -> None:
        """End it and its program."""
        self.child.end(why)
        self.ended(why)

    def ended(self, why: str, reason: Reason = Reason.UPSTREAM) -> None:
        """There is no program any more."""
        if self.over:
            return
        self.over = True
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            self._fail(call, reason, f"the server is gone: {why}")
        self._closed(self)
