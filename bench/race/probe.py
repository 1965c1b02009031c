"""Does a proxy do the job? Asked before the race: the figure of one that does not is void.

Each trial is one request on a connection of its own, with the proxy's certificate
verified. A refusal is a status of 400 or more, or a connection that was closed.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, sleep

from race import payload
from race.certs import Identity
from race.generator import is_whole
from race.peers import Peer
from race.site import Site

_REFUSED = 0
_TIMEOUT_SECONDS = 3.0
_MOST_REPLY = 1 << 20


@dataclass(frozen=True, slots=True)
class Trial:
    """One request, by whom, and whether it must be answered or refused."""

    what: str
    request: bytes
    caller: Identity | None
    admitted: bool


def trials(peer: Peer, site: Site) -> Iterator[Trial]:
    """Yield what *peer* must be seen to do."""
    agent, stranger = site.identities.agent, site.identities.stranger
    allowed = payload.single(payload.PATH, payload.call(1024))
    yield Trial("an allowed call", allowed, agent, admitted=True)
    yield Trial("a caller without a certificate", allowed, None, admitted=False)
    yield Trial("a caller that no rule allows", allowed, stranger, admitted=False)
    if peer.knows_tools:
        other = payload.call(1024, tool=payload.FORBIDDEN_TOOL)
        yield Trial(
            "a tool that no rule allows",
            payload.single(payload.PATH, other),
            agent,
            admitted=False,
        )
    if peer.scans_requests:
        for pattern in (payload.PATTERNS[0], payload.PATTERNS[-1]):
            body = payload.call(1024, text=f"Please {pattern}. ")
            yield Trial(
                f"a request with `{pattern}`",
                payload.single(payload.PATH, body),
                agent,
                admitted=False,
            )
    if peer.scans_replies:
        poisoned = payload.single(payload.POISONED_PATH, payload.call(1024))
        yield Trial("a reply with a pattern", poisoned, agent, admitted=False)


def fault_of(peer: Peer, site: Site) -> str:
    """Return what *peer* does wrong, or nothing."""
    for trial in trials(peer, site):
        status = answer(peer.port, trial.request, trial.caller, site)
        if trial.admitted and status != 200:
            return f"{trial.what} was refused ({status or 'closed'})"
        if not trial.admitted and 200 <= status < 400:
            return f"{trial.what} was let through ({status})"
    return ""


def wait_until_ready(peer: Peer, site: Site, seconds: float = 20.0) -> float:
    """Wait until an allowed call is answered; return how long it took, in seconds.

    Raises TimeoutError, also when the process has ended.
    """
    begin = monotonic()
    request = payload.single(payload.PATH, payload.call(1024))
    while answer(peer.port, request, site.identities.agent, site) != 200:
        if not site.is_running(peer.name):
            raise TimeoutError(f"{peer.name} ended: {site.log_tail(peer.name)}")
        if monotonic() - begin > seconds:
            raise TimeoutError(f"{peer.name} is not ready: {site.log_tail(peer.name)}")
        sleep(0.01)
    return monotonic() - begin


def answer(port: int, request: bytes, caller: Identity | None, site: Site) -> int:
    """Return the status that *request* is answered with, 0 if the connection is closed."""
    context = ssl.create_default_context(cafile=str(site.identities.agent.bundle))
    if caller:
        context.load_cert_chain(caller.chain, caller.key)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(request)
            return _status(_reply(secured))
    except OSError:
        return _REFUSED


def _reply(secured: ssl.SSLSocket) -> bytes:
    reply = b""
    while not is_whole(reply) and len(reply) < _MOST_REPLY:
        received = secured.recv(65536)
        if not received:
            break
        reply += received
    return reply


def _status(reply: bytes) -> int:
    """Return the status of a whole reply; one that was cut off is no answer."""
    return int(reply[9:12]) if is_whole(reply) and reply.startswith(b"HTTP/1.1 ") else _REFUSED
