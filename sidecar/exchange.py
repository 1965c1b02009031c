"""THE FLOW: the life of one request. Read this first.

understand the request -> decide -> draw on its limits -> lease a connection ->
send -> relay the reply -> record. Refusals are values and travel to the one
place that writes them; faults are exceptions and meet the one `_rescue`.
Nothing else here or below turns an exception into leave to pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .config.snapshot import Service, Snapshot
from .errors import (
    CallerGone,
    DeadlinePassed,
    PathError,
    PermitWithdrawn,
    ProtocolError,
    SidecarError,
    UpstreamError,
)
from .forward import forward
from .http.h1 import Request
from .mirror import Mirrors
from .net.caller import Caller
from .net.clusters import Clusters
from .observe.explainer import Explainer
from .observe.journal import Journal
from .observe.record import Record
from .policy.call import Call, Peer
from .policy.decide import DENIED, decide
from .policy.hops import remote_address
from .policy.limit import Limiter
from .policy.path import normalise
from .policy.tokens.rules import forget
from .policy.verdict import Permit, Reason, Refusal
from .replies import refusal_reply
from .upstream.sessions import Sessions


@dataclass(slots=True)
class World:
    """What an exchange needs of everything around it."""

    snapshot: Snapshot
    clusters: Clusters
    journal: Journal
    now: Callable[[], float]  # seconds, monotonic
    wall: Callable[[], float]  # seconds since the epoch
    next_id: Callable[[], str]
    report: Callable[[str, BaseException], None]  # a bug, told to whoever runs this
    limiter: Limiter = field(default_factory=Limiter)
    explainer: Explainer = field(default_factory=Explainer)
    sessions: Sessions = field(default_factory=Sessions)
    mirrors: Mirrors = field(default_factory=Mirrors)

    def adopt(self, snapshot: Snapshot) -> None:
        """Serve by *snapshot* from now on; endpoints and limits that stay keep their state."""
        self.clusters.replace(snapshot.clusters)
        self.limiter.keep(snapshot.rate_limits, snapshot.limits.rate_limit_buckets)
        self.snapshot = snapshot


async def serve(request: Request, down: Caller, world: World) -> None:
    """The life of one request: from its last byte in to its reply's last byte out."""
    snapshot = world.snapshot  # pinned: a reload changes nothing for this exchange
    record = Record(world.next_id(), down.peer, down.door.inbound, world.now())
    try:
        service = snapshot.services.get(down.door.inbound)
        if service is None:
            raise UpstreamError("its listener is gone", sent=False, status=503)
        if request.head is not None:
            record.call = understand(request, down.peer, down.local_ip, service)
        if request.fault is not None or record.call is None:
            raise request.fault or ProtocolError("no request")
        call = record.call
        verdict = record.verdict = decide(call, service.policy, world.wall())
        record.finding = call.flagged
        if snapshot.rate_limits is not None and type(verdict) is Permit and service.local is None:
            verdict = world.limiter.admit(call, verdict, snapshot.rate_limits, world.now())
            record.verdict = verdict
        if type(verdict) is Permit:
            down.allow(snapshot.limits.call_timeout)
            verdict = record.verdict = await forward(
                request, call, verdict, service, down, record, world, snapshot.limits
            )
        if type(verdict) is Refusal:
            _refuse(verdict, down, record)
            if verdict.by_default:
                record.why = world.explainer.why(call, service.policy.rules, world.now)
    except CallerGone:
        record.broken = record.broken or "the caller left before its reply was whole"
        raise
    except Exception as fault:
        _rescue(fault, down, record, world)
    finally:
        world.journal.write(record, world.now())


def still_allowed(down: Caller, snapshot: Snapshot, wall: float) -> bool:
    """Whether the stream that passes on *down* would be allowed under *snapshot*."""
    call, service = down.streaming, snapshot.services.get(down.door.inbound)
    if call is None:
        return True
    forget(call)
    return service is not None and type(decide(call, service.policy, wall)) is Permit


def understand(request: Request, peer: Peer, local_ip: str, service: Service) -> Call:
    """Return what *peer*, who reached us at *local_ip*, asks with *request*.

    Raises PathError if its path has no one meaning.
    """
    head = request.head
    assert head is not None
    start, mode = head.start, service.normalization
    path = start.known.get(mode)
    if path is None:
        path = start.known[mode] = normalise(start.path, mode)
    call = Call(
        peer,
        start.method,
        path,
        start.query,
        head.host.decode("ascii"),
        head.pairs,
        request.body,
        head.content_type.decode("latin-1"),
        service.port,
        head.content_encoding.decode("latin-1"),
        local_ip,
        head.mirrors,
        head.request_id,
    )
    if head.origin:
        call.origin = head.origin.decode("latin-1")
    if service.trusted_proxies:
        call.remote_ip = remote_address(call.headers, service.trusted_proxies)
    return call


def _refuse(refusal: Refusal, down: Caller, record: Record) -> None:
    """Tell the caller no, unless its stream has passed whole with the no inside it."""
    if record.status:
        return
    record.status = refusal.status
    head, body = refusal_reply(refusal, record)
    asked_head = record.call is not None and record.call.method == "HEAD"
    down.reply(head, len(body), b"" if asked_head else body)


def _rescue(fault: Exception, down: Caller, record: Record, world: World) -> None:
    """The one place where a fault becomes an answer, and never leave to pass."""
    if not down.gone:
        down.wake.fault = None
    refusal = refusal_of(fault)
    if not isinstance(fault, SidecarError):
        world.report(f"request {record.request_id}", fault)
        down.close_after = True
    if isinstance(fault, ProtocolError):
        down.close_after = True
    if record.status:
        record.broken = refusal.detail
        down.abort()
        return
    record.verdict = refusal
    _refuse(refusal, down, record)


def refusal_of(fault: Exception) -> Refusal:
    """Return what the caller is told of *fault*."""
    detail = str(fault)
    match fault:
        case ProtocolError(status=413):
            return Refusal(Reason.TOO_LARGE, detail, detail=detail)
        case ProtocolError():
            return Refusal(Reason.INVALID, detail, status=fault.status, detail=detail)
        case PathError():
            return Refusal(Reason.INVALID, detail, detail=detail)
        case PermitWithdrawn():
            return Refusal(Reason.DENIED, DENIED, detail=detail)
        case DeadlinePassed():
            return Refusal(Reason.TIMEOUT, "the server took too long", detail=detail)
        case UpstreamError():
            return Refusal(
                Reason.UPSTREAM, "the server cannot be reached", status=fault.status, detail=detail
            )
    return Refusal(Reason.INTERNAL, "an internal fault", detail=type(fault).__name__)
