"""One session of the legacy era: a program of its own, and the streams to its caller.

Pipes do not say which call a message belongs to. An answer goes by its id, progress by its
token; all else goes to the only call under way, else to the stream that was opened for
it (GET), else to the last call. A caller that leaves cancels nothing and may come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final

from ..config.stdio import StdioSpec
from ..errors import MessageError
from ..mcp.edit import error_reply
from ..mcp.lines import as_line
from ..mcp.message import RESPONSE, Id, Message, parse, refused_id
from ..mcp.rename import CANCELLED, PROGRESS, TOKEN, found
from ..policy.verdict import Reason
from .answers import fault, refuse
from .child import Child
from .replay import Replay, read_id
from .wire import Answer, Headers

STREAM_AFTER: Final = 1.0  # seconds; a call that takes longer is answered by a stream
QUIET_AFTER: Final = 15.0
_LAST_WORD: Final = 1.0  # for the answer to a call that is cancelled
DEEPEST: Final = 200  # the proxy has its own limit
_COMMON: Final = 0
_PRIMED: Final = "2025-11-25"  # the first version that has events without data
_FULL: Final = "the server does not keep up with what it is asked"


@dataclass(slots=True, eq=False)
class _Stream:
    """A call's way back, or what was opened by GET; *sent* is the place of its last event."""

    number: int
    id: Id = None
    token: object = None
    answer: Answer | None = None
    sent: int = 0
    cancelled_at: float = inf

    @property
    def read(self) -> bool:
        """Whether somebody is there to read it."""
        return self.answer is not None and self.answer.open


class Session:
    """A program and its caller's streams. *closed* is told once it is no more; *odd* of what
    is left out of what the program says, and why."""

    def __init__(
        self,
        id: str,
        caller: str,
        spec: StdioSpec,
        now: Callable[[], float],
        closed: Callable[[Session], None],
        odd: Callable[[str, bytes], None],
    ) -> None:
        self.id, self.caller = id, caller
        self.child: Child
        self.over = False
        self._spec, self._now = spec, now
        self._closed, self._odd = closed, odd
        self._calls: dict[Id, _Stream] = {}
        self._tokens: dict[object, _Stream] = {}
        self._common = _Stream(_COMMON)
        self._numbers = _COMMON
        self._replay = Replay(spec.replay_bytes)
        self._version = ""
        self._begun = False
        self.used_at = now()

    @property
    def busy(self) -> bool:
        """Whether somebody waits for it or listens to it."""
        return self._common.read or any(call.read for call in self._calls.values())

    # -- what its caller asks

    def ask(self, message: Message, body: bytes, answer: Answer) -> None:
        """Put a request to the program; *answer* gets what comes of it."""
        self.used_at = self._now()
        if message.id in self._calls:
            refuse(answer, message.id, Reason.INVALID, "a call with this id is under way")
            return
        if not self._has_room() or not self.child.tell(as_line(body)):
            refuse(answer, message.id, Reason.OVERLOADED, _FULL, 1.0)
            return
        self._numbers += 1
        call = _Stream(self._numbers, message.id, _token(found(message, TOKEN)), answer)
        self._calls[message.id] = call
        if call.token is not None:
            self._tokens[call.token] = call
        answer.gone = partial(self._left, call)
        answer.eased = self._eased

    def _has_room(self) -> bool:
        """Whether another call may be under way; one that nobody waits for makes room."""
        if len(self._calls) < self._spec.calls:
            return True
        left = next((id for id, call in self._calls.items() if not call.read), None)
        if left is not None:
            self._drop(left)
        return left is not None

    def _drop(self, id: Id) -> _Stream:
        call = self._calls.pop(id)
        self._tokens.pop(call.token, None)
        return call

    def tell(self, message: Message, body: bytes, answer: Answer) -> None:
        """Hand on what has no answer: a notification, or the caller's own answer."""
        self.used_at = self._now()
        if not self.child.tell(as_line(body)):
            refuse(answer, None, Reason.OVERLOADED, _FULL, 1.0)
            return
        answer.whole(202)
        cancelled = found(message, CANCELLED)
        if message.method == "notifications/cancelled" and type(cancelled) in (str, int):
            call = self._calls.get(cancelled)  # type: ignore[call-overload]
            if call is not None:
                call.cancelled_at = self._now()

    def listen(self, last: bytes, answer: Answer) -> None:
        """Let *answer* carry what is of no call, or what came behind the event *last*."""
        self.used_at = self._now()
        place = read_id(last)
        number, since = place or (_COMMON, self._common.sent)
        stream = self._stream(number)
        answer.stream(self._headers())
        answer.eased = self._eased
        for kept in self._replay.after(number, since):
            answer.event(kept.data, kept.id, self._now())
            since = kept.place
        if stream is None:
            answer.end()  # that call is over
            return
        if stream.read and stream.answer is not None:
            stream.answer.end()  # whoever comes back may be seen before the old way is lost
        stream.answer, stream.sent = answer, since
        answer.gone = partial(self._left, stream)
        if place is None:
            self._prime(stream)

    def _stream(self, number: int) -> _Stream | None:
        if number == _COMMON:
            return self._common
        return next((call for call in self._calls.values() if call.number == number), None)

    def _left(self, stream: _Stream) -> None:
        self._eased()
        if not self._begun and stream is not self._common:
            self.close("its caller left before it had begun")

    def _eased(self) -> None:
        streams = (self._common, *self._calls.values())
        if not any(one.answer.behind for one in streams if one.answer is not None):
            self.child.hold(False)

    # -- what its program says

    def heard(self, line: bytes) -> None:
        """Hand on what the program says to whom it is for."""
        if self.over:
            return
        line = line.replace(b"\r", b" ")  # between tokens: it would end a line of an event
        try:
            message = parse(line, DEEPEST)
        except MessageError as error:
            self._odd(str(error), line)
            self._fail_unread(line)
            return
        self.used_at = self._now()
        if message.kind is not RESPONSE:
            self._emit(self._related(message), line)
            return
        if message.id in self._calls:
            self._finish(self._drop(message.id), message, line)
        else:
            self._odd("an answer to nothing that is asked", line)

    def _related(self, message: Message) -> _Stream:
        by_token = self._tokens.get(_token(found(message, PROGRESS)))
        if by_token is not None and message.method == "notifications/progress":
            return by_token
        calls = list(self._calls.values())
        read = [call for call in calls if call.read]
        if len(read) == 1:
            return read[0]
        if self._common.read or not calls:
            return self._common
        return (read or calls)[-1]

    def _emit(self, stream: _Stream, line: bytes) -> None:
        kept = self._replay.add(stream.number, line)
        answer = stream.answer
        if answer is None or not answer.open:
            return
        answer.stream(self._headers())
        answer.event(line, kept.id, self._now())
        stream.sent = kept.place
        if answer.behind:
            self.child.hold(True)

    def _finish(self, call: _Stream, message: Message, line: bytes) -> None:
        if not self._begun:
            self._begin(message)
        answer = call.answer
        if answer is not None and answer.open and not answer.streaming:
            answer.whole(200, line, self._headers())
        else:
            self._emit(call, line)
            if answer is not None:
                answer.end()
        if not self._begun:
            self.close("it refused to begin")

    def _begin(self, message: Message) -> None:
        result = message.value.get("result")
        if type(result) is dict:
            self._begun = True
            self._version = str(result.get("protocolVersion"))

    def _fail_unread(self, line: bytes) -> None:
        """Answer a call whose answer nobody can read: nothing better will come."""
        id = refused_id(line)
        if id in self._calls and b'"method"' not in line:
            self._fail(
                self._drop(id), Reason.UPSTREAM, "the server's answer is no JSON-RPC message"
            )

    def _fail(self, call: _Stream, reason: Reason, message: str) -> None:
        answer = call.answer
        if answer is None or not answer.open:
            return
        if answer.streaming:
            answer.event(fault(call.id, reason, message), now=self._now())
            answer.end()
        else:
            refuse(answer, call.id, reason, message)

    def _headers(self) -> Headers:
        return ((b"mcp-session-id", self.id.encode()),) if self._begun else ()

    # -- time, and its end

    def look(self, now: float) -> None:
        """Do what is due: a call that takes long becomes a stream, and streams stay warm."""
        self._eased()
        for id in [id for id, one in self._calls.items() if now > one.cancelled_at + _LAST_WORD]:
            self._end_cancelled(self._drop(id))
        for stream in (self._common, *self._calls.values()):
            answer = stream.answer
            if answer is None or not answer.open:
                continue
            if answer.streaming and now - answer.spoke_at > QUIET_AFTER:
                answer.quiet(now)
            elif not answer.streaming and self._begun and now - answer.asked_at > STREAM_AFTER:
                answer.stream(self._headers())
                self._prime(stream)

    def _end_cancelled(self, call: _Stream) -> None:
        """Answer a call that its caller has cancelled: most programs say nothing more of it."""
        answer, ended = call.answer, error_reply(call.id, 0, "Request cancelled")
        if answer is None or not answer.open:
            return
        if answer.streaming:
            answer.event(ended, now=self._now())
            answer.end()
        else:
            answer.whole(200, ended)

    def _prime(self, stream: _Stream) -> None:
        """Give a stream its first id, so that its reader can come back (2025-11-25)."""
        if stream.answer is None:
            return
        if self._version >= _PRIMED:
            id = b"%d-%d" % (stream.number, stream.sent)
            stream.answer.event(b"", id, self._now())
        else:
            stream.answer.quiet(self._now())

    def close(self, why: str) -> None:
        """End it and its program."""
        self.child.end(why)
        self.ended("the session has ended")

    def ended(self, why: str, reason: Reason = Reason.UPSTREAM) -> None:
        """There is no program any more."""
        if self.over:
            return
        self.over = True
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            self._fail(call, reason, f"the server is gone: {why}")
        if self._common.answer is not None:
            self._common.answer.end()
        self._closed(self)


def _token(value: object) -> object:
    """Return a progress token that can be looked up: a string or a number, else None."""
    return value if type(value) in (str, int, float) else None
