"""One program as a server: who asks gets one of their own, and nobody another's.

In the legacy era each session has a program, in the stateless one each caller has. Both
belong to the caller that the proxy names; a session of somebody else is none. How many
there are is bounded, by caller and in all, and what nobody uses is ended.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..config.stdio import StdioSpec
from ..errors import MessageError
from ..mcp.edit import error_reply
from ..mcp.message import BAD_PARAMS, NOTIFICATION, REQUEST, Message, parse, refused_id
from ..mcp.methods import VERSION_META, is_modern, version_of
from ..net.tasks import Tasks
from ..policy.verdict import Reason
from .answers import no_session, not_here, refuse
from .backoff import Backoff
from .child import Child, Nursery
from .session import DEEPEST, Session
from .stateless import Stateless
from .stderr import Stderr
from .wire import Answer, Carrier, Question

PATH: Final = b"/mcp"
_NOT_FOUND: Final = -32601
_SHOWN: Final = 80  # bytes of a line that is no message
_LONG: Final = "it said nothing for too long"
_IDLE: Final = "nobody uses it"

Tenant: TypeAlias = Session | Stateless


@dataclass(slots=True)
class Counts:
    """What has happened, for metrics."""

    started: int = 0
    ended: int = 0
    failed: int = 0  # before they said a word
    refused: int = 0  # sessions and calls for which there was no room
    left_out: int = 0  # lines of programs that were no message, or nobody's


class Bridge:
    """All programs behind one listener. *session_id* makes ids that nobody guesses."""

    def __init__(
        self, spec: StdioSpec, nursery: Nursery, tasks: Tasks, session_id: Callable[[], str]
    ) -> None:
        self.spec = spec
        self.counts = Counts()
        self._nursery, self._tasks, self._session_id = nursery, tasks, session_id
        self._sessions: dict[bytes, Session] = {}
        self._stateless: dict[str, Stateless] = {}
        self._children: dict[Child, Tenant] = {}
        self._backoff = Backoff()
        self._oddities = Stderr()

    @property
    def children(self) -> int:
        """How many programs there are, those that are ending among them."""
        return len(self._children)

    @property
    def sessions(self) -> int:
        """How many sessions of the legacy era there are."""
        return len(self._sessions)

    # -- questions

    def connect(self) -> socket.socket:
        """Return a connection to this server."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._tasks.spawn(self._welcome(ours), "a connection to programs")
        return theirs

    async def _welcome(self, sock: socket.socket) -> None:
        spec, now = self.spec, self._nursery.now
        carrier = Carrier(self.ask, now, spec.line_bytes, spec.queue_bytes)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: carrier, sock)

    def ask(self, question: Question, answer: Answer) -> None:
        """Have *question* answered, now or later."""
        if question.path != PATH:
            not_here(answer, 404, f"there is nothing but `{PATH.decode()}`")
            return
        match question.method:
            case b"POST":
                self._post(question, answer)
            case b"GET" | b"DELETE" if not _modern(question):
                self._use(question, answer)
            case _:
                not_here(answer, 405, "not in this version", b"POST")

    def _post(self, question: Question, answer: Answer) -> None:
        body = question.body
        try:
            message = parse(body, DEEPEST)
        except MessageError as error:
            answer.whole(400, error_reply(refused_id(body), error.code, str(error)))
            return
        has_session = b"mcp-session-id" in question.headers
        # A version that nobody knows is for the program to refuse, which names those it has.
        told = version_of(message.params) is not None and not has_session
        if told or _modern(question):
            self._stand_alone(question, message, answer)
        elif has_session:
            session = self._session(question)
            if session is None:
                no_session(answer)
            elif message.kind is REQUEST:
                session.ask(message, body, answer)
            else:
                session.tell(message, body, answer)
        elif message.method == "initialize":
            self._begin(question, message, answer)
        else:
            refuse(answer, message.id, Reason.INVALID, "`Mcp-Session-Id` is missing")

    def _use(self, question: Question, answer: Answer) -> None:
        """Listen to a session (GET), or end it (DELETE)."""
        if b"mcp-session-id" not in question.headers:
            not_here(answer, 400, "`Mcp-Session-Id` is missing")
            return
        session = self._session(question)
        if session is None:
            no_session(answer)
        elif question.method == b"GET":
            session.listen(question.headers.get(b"last-event-id", b""), answer)
        else:
            session.close("its caller has ended it")
            answer.whole(200)

    def _session(self, question: Question) -> Session | None:
        found = self._sessions.get(question.headers[b"mcp-session-id"])
        return found if found is not None and found.caller == question.caller else None

    def _begin(self, question: Question, message: Message, answer: Answer) -> None:
        if not self._has_room(question, message, answer):
            return
        id, caller, now = self._session_id(), question.caller, self._nursery.now
        session = Session(id, caller, self.spec, now, self._forget, self._odd)
        self._sessions[id.encode()] = session
        self._start(session)
        session.ask(message, question.body, answer)

    def _stand_alone(self, question: Question, message: Message, answer: Answer) -> None:
        if message.kind is not REQUEST:
            # Who cancels closes the connection; ids are not what the program knows them by.
            known = message.kind is NOTIFICATION
            answer.whole(202) if known else not_here(answer, 400, "nothing was asked")
            return
        # A program serves the era that its first request is of: it must not be another's.
        if version_of(message.params) is None:
            text = f"`_meta` lacks `{VERSION_META}`"
            answer.whole(400, error_reply(message.id, BAD_PARAMS, text))
            return
        if message.method == "initialize":
            answer.whole(404, error_reply(message.id, _NOT_FOUND, "Method not found"))
            return
        tenant = self._stateless.get(question.caller)
        if tenant is None or tenant.spec != self.spec:
            if not self._has_room(question, message, answer):
                return
            args = (self.spec, self._nursery.now, self._retire, self._odd)
            tenant = self._stateless[question.caller] = Stateless(question.caller, *args)
            self._start(tenant)
        tenant.ask(message, question.body, answer)

    # -- programs

    def _start(self, tenant: Tenant) -> None:
        child: Child
        child = Child(self.spec, self._nursery, tenant.heard, lambda why: self._ended(child, why))
        tenant.child = child
        self._children[child] = tenant
        self.counts.started += 1
        self._tasks.spawn(child.start(), "a program")

    def _ended(self, child: Child, why: str) -> None:
        tenant = self._children.pop(child)
        self.counts.ended += 1
        if child.spoke:
            self._backoff.spoke(tenant.caller)
        elif child.failed or child.ending == _LONG:
            self.counts.failed += 1
            self._backoff.failed(tenant.caller, self._nursery.now())
        if not tenant.over:
            self._nursery.say(f"[{child.pid}] {why}")
        tenant.ended(why)

    def _has_room(self, question: Question, message: Message, answer: Answer) -> bool:
        """Whether another program may be started for who asks; if not, they are told."""
        now = self._nursery.now()
        wait = self._backoff.wait(question.caller, now)
        text = "the server does not start" if wait else ""
        if not wait and not self._make_room(question.caller):
            wait, text = 1.0, "as many sessions as there may be are in use"
        if text:
            self.counts.refused += 1
            refuse(answer, message.id, Reason.OVERLOADED, text, wait)
        return not text

    def _make_room(self, caller: str) -> bool:
        """Whether there is room for a program of *caller*, who may lose an idle one for it.

        Those that are ending take room too, but no more than as much again.
        """
        spec = self.spec
        theirs = [one for one, tenant in self._children.items() if tenant.caller == caller]
        living = [self._children[one] for one in theirs if not self._children[one].over]
        full = len(self._children) >= spec.children or len(theirs) >= 2 * spec.children_per_caller
        if not full and len(living) < spec.children_per_caller:
            return True
        idle = [tenant for tenant in living if not tenant.busy]
        if idle:
            min(idle, key=lambda tenant: tenant.used_at).close("its caller needs another one")
        return bool(idle) and not full  # where all is full, there is room once that one has ended

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.id.encode(), None)

    def _retire(self, tenant: Stateless) -> None:
        if self._stateless.get(tenant.caller) is tenant:
            del self._stateless[tenant.caller]

    def _odd(self, why: str, line: bytes) -> None:
        """Count a line of a program that nobody gets, and say so where that helps."""
        self.counts.left_out += 1
        # What is no object is most often meant for a person; anything else may be anybody's.
        shown = b": " + line[:_SHOWN] if line[:1] not in b"{[" else b""
        text = b"left out %d bytes, %b%b\n" % (len(line), why.encode(), shown)
        for said in self._oddities.feed(text, self._nursery.now()):
            self._nursery.say(said)

    # -- time, and the end

    def look(self, now: float) -> None:
        """Do what is due at *now*."""
        for child, tenant in list(self._children.items()):
            child.look(now)
            if tenant.over:
                continue
            tenant.look(now)
            waited = now - child.started_at
            if not child.spoke and waited > self.spec.start_timeout and tenant.busy:
                child.end(_LONG, at_once=True)
                tenant.ended(_LONG, Reason.TIMEOUT)
            elif not tenant.busy and self._is_idle(tenant, now):
                tenant.close(_IDLE)

    def _is_idle(self, tenant: Tenant, now: float) -> bool:
        if isinstance(tenant, Stateless) and tenant.spec != self.spec:
            return True
        return now - tenant.used_at > self.spec.idle_timeout

    def stop(self, why: str) -> None:
        """End all programs, without asking first."""
        for child, tenant in list(self._children.items()):
            child.end(why, at_once=True)
            tenant.ended(why)


def _modern(question: Question) -> bool:
    return is_modern(question.headers.get(b"mcp-protocol-version", b"").decode("latin-1"))
