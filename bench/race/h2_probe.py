"""The same trials over HTTP/2, asked through a library that the load does not use.

What is refused over HTTP/1.1 must be refused here too, or the figure is void.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from race import payload
from race.certs import Identity
from race.peers import Peer
from race.probe import REFUSED, Trial, dial, trials
from race.site import Site

_MOST_READS = 1000
_OVER = (StreamEnded, StreamReset, ConnectionTerminated)


def fault_of(peer: Peer, site: Site) -> str:
    """Return what *peer* does wrong over HTTP/2, or nothing."""
    agent = site.identities.agent
    if not is_spoken(peer.port, agent):
        return "it does not speak HTTP/2"
    for trial in trials(peer, site):
        fault = trial.fault(answer(peer.port, trial, agent.bundle))
        if fault:
            return fault
    return ""


def is_spoken(port: int, caller: Identity) -> bool:
    """Return whether the proxy takes HTTP/2 when it is offered that or HTTP/1.1."""
    try:
        with dial(port, caller, caller.bundle, "h2", "http/1.1") as secured:
            return secured.selected_alpn_protocol() == "h2"
    except OSError:
        return False


def answer(port: int, trial: Trial, bundle: Path) -> int:
    """Return the status of the answer to *trial*, 0 if there is no whole one."""
    try:
        with dial(port, trial.caller, bundle, "h2") as secured:
            return _ask(secured, trial)
    except (OSError, ProtocolError):
        return REFUSED


def _ask(secured: ssl.SSLSocket, trial: Trial) -> int:
    connection = H2Connection(H2Configuration(header_encoding=None))
    connection.initiate_connection()
    connection.send_headers(1, _head(trial))
    connection.send_data(1, trial.body.encode("ascii"), end_stream=True)
    status = REFUSED
    for _ in range(_MOST_READS):
        secured.sendall(connection.data_to_send())
        events = connection.receive_data(secured.recv(65536))
        status = next(filter(None, map(_status, events)), status)
        if any(isinstance(event, _OVER) for event in events):
            whole = any(isinstance(event, StreamEnded) for event in events)
            return status if whole else REFUSED
    return REFUSED


def _status(event: Event) -> int:
    return int(dict(event.headers)[b":status"]) if isinstance(event, ResponseReceived) else 0


def _head(trial: Trial) -> list[tuple[str, str]]:
    (_, authority), *others = payload.fields()
    token = "a3ce929d0e0e4736"
    return [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", trial.path),
        *((name, value.replace(payload.SLOT, token)) for name, value in others),
        ("content-length", str(len(trial.body))),
    ]
