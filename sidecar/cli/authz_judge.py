"""The judge behind `sidecar authz check`: a running sidecar's own way, without the sidecar.

Documents are loaded and compiled as `run` does it, a request's bytes are read by the
same reader, understood by the same flow and put to the same `decide`. What a handshake
would refuse is refused first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..config.bootstrap import Sidecar
from ..config.documents import Document, MtlsMode, PeerAuthentication
from ..config.selection import Workload, mtls_of
from ..config.snapshot import Service, Snapshot, compile_snapshot
from ..errors import SidecarError
from ..exchange import refusal_of, understand
from ..http.h1 import Bounds, RequestReader
from ..http.lines import LineTables
from ..policy.call import Call, Peer
from ..policy.decide import decide
from ..policy.verdict import Permit, Refusal
from .authz_answer import Answer, allowed, not_allowed, refused
from .authz_request import Malformed, Question

# What a handshake refuses is told to nobody in HTTP.
_NO_STATUS: Final = 0


class Judge:
    """Judges questions by one configuration. Raises ConfigError where that is unsound."""

    def __init__(self, bootstrap: Sidecar, documents: tuple[Document, ...]) -> None:
        self.snapshot: Snapshot = compile_snapshot(bootstrap, documents)
        meta, spec = bootstrap.metadata, bootstrap.spec
        workload = Workload(meta.namespace, meta.labels, spec.root_namespace)
        peers = [one for one in documents if isinstance(one, PeerAuthentication)]
        self._mode, self._modes = mtls_of(workload, peers, spec.mtls)
        self._tables = LineTables(spec.limits.remembered_line_bytes, spec.limits.remembered_peers)

    def answer(self, question: Question, now: float) -> Answer:
        """Return what becomes of *question* at *now*, in seconds since the epoch."""
        service = self._service(question.port)
        mode = self._modes.get(service.port, self._mode)
        why = _at_the_door(question, mode)
        if why:
            return refused(why, _NO_STATUS, question.name)
        try:
            call = self._call(question, service)
            verdict = decide(call, service.policy, now)
        except SidecarError as fault:
            return not_allowed(refusal_of(fault), None, question.name, http=True)
        except Malformed as error:
            return refused(str(error), 400, question.name)
        return _told(call, service, verdict, question)

    def _service(self, port: int) -> Service:
        """Return the inbound that listens on *port*; where none does, the first as if it did."""
        services = tuple(self.snapshot.services.values())
        for service in services:
            if service.port == port or not port:
                return service
        return replace(services[0], port=port)

    def _call(self, question: Question, service: Service) -> Call:
        peer = Peer(question.identity, question.ip, sni=question.sni)
        if question.tcp:
            local = question.local_ip
            call = Call(peer, "", "", "", "", (), b"", port=service.port, destination_ip=local)
            call.is_tcp = True
        else:
            call = self._http(question, peer, service)
        call.remote_ip = question.remote_ip or call.remote_ip
        call.claims = question.claims
        return call

    def _http(self, question: Question, peer: Peer, service: Service) -> Call:
        limits = self.snapshot.limits
        bounds = Bounds(
            limits.request_head_bytes,
            limits.request_fields,
            service.body_bytes,
            limits.write_buffer_bytes,
        )
        reader = RequestReader(self._tables.of(peer.principal), bounds)
        request = reader.take(question.wire)
        if request is not None and request.fault is not None:
            raise request.fault
        if request is None or reader.waiting:
            raise Malformed("the headers speak of another body than the one that is there")
        return understand(request, peer, question.local_ip, service)


def _at_the_door(question: Question, mode: MtlsMode) -> str:
    """Return why no connection comes about, or nothing."""
    if mode is MtlsMode.DISABLE:
        return "the listener speaks no TLS (mTLS DISABLE)" if question.mtls else ""
    if question.unproved:
        return question.unproved
    if question.mtls:
        return "" if question.identity is not None else "no_certificate: TLS must prove an identity"
    return "plaintext: callers must prove who they are (mTLS STRICT)" * (mode is MtlsMode.STRICT)


def _told(call: Call, service: Service, verdict: Permit | Refusal, question: Question) -> Answer:
    http = not question.tcp
    if isinstance(verdict, Permit):
        return allowed(verdict, question.name, http=http)
    if call.checked is not None and call.checked.refusal is verdict:
        return refused(verdict.detail, verdict.status, question.name, verdict.rule)
    explanation = service.policy.rules.explain(call) if verdict.by_default else None
    return not_allowed(verdict, explanation, question.name, http=http)
