"""One call on its way to a server: the times that its route sets, and its reply's head.

A reply's head says three things here: whether the route has the call tried again,
which session has begun or ended, and what is edited of it. Of a stream of events the
route's timeout ends with the head: what follows may take as long as it takes.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from .config.limits import Limits
from .errors import DeadlinePassed, UpstreamError
from .http.head import ReplyHead
from .net.caller import Caller
from .net.lease import Lease
from .policy.call import Call
from .upstream.edit import edited, named
from .upstream.repeat import IDEMPOTENT, repeats
from .upstream.retry import Failure
from .upstream.route import Way
from .upstream.sessions import Binding
from .ways import SESSION

if TYPE_CHECKING:
    from .exchange import World


class TryTimedOut(UpstreamError):
    """One try took longer than its route allows; another one may not."""


class Unwelcome(UpstreamError):
    """A reply that its route takes for a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"the server answered {failure.status}", sent=True)
        self.failure = failure


class Trip:
    """What a route watches over while one call goes its way."""

    __slots__ = (
        "_call",
        "_down",
        "_lease",
        "_limits",
        "_loop",
        "_total",
        "_try",
        "_way",
        "_world",
        "tries",
    )

    def __init__(self, way: Way, call: Call, down: Caller, world: World, limits: Limits) -> None:
        self._way = way
        self._call = call
        self._down = down
        self._world = world
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._lease: Lease | None = None
        self._try: asyncio.TimerHandle | None = None
        self._total: asyncio.TimerHandle | None = None
        self.tries = 0
        timeout = way.action.timeout
        if timeout:
            down.allow(timeout + 1)
            late = DeadlinePassed("the route's timeout has passed")
            self._total = self._loop.call_later(timeout, self._throw, late)

    def begin(self, lease: Lease) -> None:
        """A try begins."""
        self._lease = lease
        self.tries += 1
        limit = self._way.action.retry.per_try_timeout
        if limit:
            late = TryTimedOut("one try took too long", sent=True, status=504)
            self._try = self._loop.call_later(limit, self._throw, late)

    def rest(self) -> None:
        """A try is over."""
        if self._try is not None:
            self._try.cancel()
        if isinstance(self._down.wake.fault, TryTimedOut):
            self._down.wake.fault = None

    def end(self) -> None:
        """The call is over."""
        self.rest()
        if self._total is not None:
            self._total.cancel()

    def _throw(self, fault: Exception) -> None:
        if self._down.wake.fault is None:  # who has left stays gone
            self._down.wake.throw(fault)

    def judge(self, head: ReplyHead) -> ReplyHead:
        """Return the head to pass on. Raises Unwelcome where the call is to be tried again."""
        self._refuse_unwelcome(head)
        self.rest()  # a try that has answered is not late any more, as in Envoy
        if head.content_type.partition(b";")[0].strip().lower() == b"text/event-stream":
            self.end()
        self._learn(head)
        if not self._way.reply:
            return head
        return replace(head, forward=edited(head.forward, *self._way.reply))

    @property
    def edited(self) -> frozenset[bytes]:
        """The names of the reply's fields that its route edits."""
        return named(*self._way.reply)

    def _refuse_unwelcome(self, head: ReplyHead) -> None:
        named = head.status >= 400 or head.status in self._way.action.retry.statuses
        if not named and not any(name == b"grpc-status" for name, _ in head.pairs):
            return
        values = dict(head.pairs)
        failure = Failure(
            head.status,
            grpc=values.get(b"grpc-status", b"").decode("latin-1"),
            ratelimited=b"x-envoy-ratelimited" in values,
        )
        if may_try_again(failure, self.tries, self._way, self._call, self._world):
            raise Unwelcome(failure)

    def _learn(self, head: ReplyHead) -> None:
        """Remember where a session lives that has begun, and forget one that has ended."""
        sessions, way, now = self._world.sessions, self._way, self._world.now()
        life = self._limits.session_lifetime
        if way.session and (
            head.status == 404 or (self._call.method == "DELETE" and head.status < 300)
        ):
            sessions.forget(way.host, way.session)
            return
        begun = next((value for name, value in head.pairs if name == SESSION), b"")
        if not begun or head.status >= 300 or self._lease is None:
            return
        # What is known already is not another server's to say.
        if sessions.find(way.host, begun, now, life) is None:
            binding = Binding(way.cluster, self._lease.endpoint.address, now)
            sessions.bind(way.host, begun, binding, most=self._limits.sessions, life=life)


def failure_of(fault: UpstreamError) -> Failure:
    """Return what became of the try that ended in *fault*."""
    if isinstance(fault, Unwelcome):
        return fault.failure
    return Failure(sent=fault.sent, stale=fault.stale)


def may_try_again(failure: Failure, tries: int, way: Way, call: Call, world: World) -> bool:
    """Whether *call* is tried again after *failure*, its *tries* so far counted.

    What was sent is sent again only if its route names the failure, or if most likely nobody
    read it, and in both cases only if doing it twice does what doing it once does. A call that
    may has its part of the cluster's budget until that is told to `redeem` it.
    """
    policy = way.action.retry
    if tries > policy.attempts:
        return False
    messages = call.batch or (() if call.message is None else (call.message,))
    unread = failure.stale and (bool(messages) or call.method in IDEMPOTENT)
    if not (unread or policy.wants(failure)):
        return False
    if failure.sent and not repeats(call.method, call.body, messages, policy):
        return False
    return world.clusters.may_retry(way.cluster, again=tries > 1)
