"""Does a proxy do the job? Asked before the race: the figure of one that does not is void.

Each trial is one request on a connection of its own, with the proxy's certificate
verified. A refusal is a status of 400 or more, or a connection that was closed.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from race import payload
from race.certs import Identity
from race.generator import is_whole
from race.peers import Peer
from race.site import Site

REFUSED = 0
"""What stands for the status where there is none: the connection was closed."""

_TIMEOUT_SECONDS = 3.0
_MOST_REPLY = 1 << 20


@dataclass(frozen=True, slots=True)
class Trial:
    """One request, by whom, and whether it must be answered or refused."""

    what: str
    caller: Identity | None
    admitted: bool
    body: str
    path: str = payload.PATH

    def fault(self, status: int) -> str:
        """Return what is wrong with an answer of *status*, or nothing."""
        if self.admitted and status != 200:
            return f"{self.what} was refused ({status or 'closed'})"
        if not self.admitted and 200 <= status < 400:
            return f"{self.what} was let through ({status})"
        return ""


def trials(peer: Peer, site: Site) -> Iterator[Trial]:
    """Yield what *peer* must be seen to do."""
    agent, stranger = site.identities.agent, site.identities.stranger
    allowed = payload.call(1024)
    yield Trial("an allowed call", agent, True, allowed)
    yield Trial("a caller without a certificate", None, False, allowed)
    yield Trial("a caller that no rule allows", stranger, False, allowed)
    if peer.knows_tools:
        other = payload.call(1024, tool=payload.FORBIDDEN_TOOL)
        yield Trial("a tool that no rule allows", agent, False, other)
    if peer.scans_requests:
        for pattern in (payload.PATTERNS[0], payload.PATTERNS[-1]):
            body = payload.call(1024, text=f"Please {pattern}. ")
            yield Trial(f"a request with `{pattern}`", agent, False, body)
    if peer.scans_replies:
        path = payload.POISONED_PATH
        yield Trial("a reply with a pattern", agent, False, allowed, path)


def fault_of(peer: Peer, site: Site) -> str:
    """Return what *peer* does wrong, or nothing."""
    for trial in trials(peer, site):
        request = payload.single(trial.path, trial.body)
        fault = trial.fault(answer(peer.port, request, trial.caller, site))
        if fault:
            return fault
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
    try:
        with dial(port, caller, site.identities.agent.bundle) as secured:
            secured.sendall(request)
            return _status(_reply(secured))
    except OSError:
        return REFUSED


@contextmanager
def dial(
    port: int, caller: Identity | None, bundle: Path, *protocols: str
) -> Iterator[ssl.SSLSocket]:
    """Connect as *caller*, offering *protocols*; verify the proxy's certificate by *bundle*."""
    context = ssl.create_default_context(cafile=bundle)
    if caller:
        context.load_cert_chain(caller.chain, caller.key)
    if protocols:
        context.set_alpn_protocols(protocols)
    with (
        socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        yield secured


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
    return int(reply[9:12]) if is_whole(reply) and reply.startswith(b"HTTP/1.1 ") else REFUSED
