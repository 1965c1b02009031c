"""Checks of addresses: what this sidecar listens on, its servers, and the way around it.

Connections are opened and closed; nothing is asked over them.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from ..config.snapshot import Snapshot
from ..upstream.cluster import TlsMode
from .outcome import Outcome, bad, good

_PATIENCE: Final = 2.0  # seconds for one connection
_MOST: Final = 64  # addresses of this machine that are tried
_START: Final = "start the sidecar, or see why it ended"
_SIOCGIFADDR: Final = 0x8915


def ports(snapshot: Snapshot, *, running: bool) -> Iterator[Outcome]:
    """Say of every inbound whether it is free (before a start) or answers (*running*)."""
    for listen in snapshot.services:
        if listen.startswith("unix:"):  # is put in the place of an old one, so it is always free
            error = unreachable_unix(listen.removeprefix("unix:")) if running else ""
            yield bad("port", f"{listen}: {error}", _START) if error else good("port", listen)
            continue
        host, port = split(listen)
        if running:
            error = unreachable(_own(host), port)
            yield (
                bad("port", f"{listen}: {error}", _START)
                if error
                else good("port", f"{listen} answers")
            )
        else:
            yield _free(listen, host, port)


def _free(listen: str, host: str, port: int) -> Outcome:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            return bad(
                "port", f"{listen}: {error.strerror}", "stop what listens there, or change `listen`"
            )
    return good("port", f"{listen} is free")


def servers(snapshot: Snapshot) -> Iterator[Outcome]:
    """Say of every server whether it can be reached, and whether only by way of us."""
    here = list(own_addresses())
    for cluster in snapshot.clusters:
        # Who asks for our certificate judges callers itself: it may be open to the network.
        mutual = cluster.tls is not None and cluster.tls.mode is not TlsMode.SIMPLE
        for endpoint in cluster.endpoints:
            if endpoint.address.startswith("stdio:"):
                continue  # is looked at as a program
            reached = _reached(endpoint.address)
            yield reached
            if reached.ok and not mutual and not endpoint.address.startswith("unix:"):
                yield _around(endpoint.address, here)


def _reached(address: str) -> Outcome:
    if address.startswith("unix:"):
        error = unreachable_unix(address.removeprefix("unix:"))
    else:
        error = unreachable(*split(address))
    if error:
        return bad("server", f"{address}: {error}", "start the server, or correct `to`")
    return good("server", f"{address} can be reached")


def _around(address: str, here: Iterable[str]) -> Outcome:
    """Whoever reaches the server on another address asks no sidecar for leave."""
    host, port = split(address)
    remedy = "have the server listen on 127.0.0.1 or on a Unix socket (`to: unix:/run/server.sock`)"
    if not _is_loopback(host):
        return bad("last metre", f"{address} is open to the network, around this sidecar", remedy)
    for other in here:
        if not unreachable(other, port):
            return bad("last metre", f"the server also answers on {other}:{port}", remedy)
    return good("last metre", f"{address} answers on loopback only")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own(host: str) -> str:
    """Return where to knock for a listener on *host*."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked, not bound


def split(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[ipv6]:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def unreachable(host: str, port: int) -> str:
    """Return why no connection can be had, empty if one was."""
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def unreachable_unix(path: str) -> str:
    """Return why no connection to the socket at *path* can be had, empty if one was."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(path)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def own_addresses() -> Iterator[str]:
    """Yield the addresses of this machine that are not loopback, as Linux tells them."""
    found = [*_ipv4(), *_ipv6()]
    yield from list(dict.fromkeys(one for one in found if not ip_address(one).is_loopback))[:_MOST]


def _ipv4() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            asked = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, asked)
            except OSError:  # an interface without an address
                continue
            yield socket.inet_ntoa(answer[20:24])


def _ipv6(table: Path = Path("/proc/net/if_inet6")) -> Iterator[str]:
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        address = ip_address(bytes.fromhex(line.split()[0]))
        if not address.is_link_local:  # it would need an interface's name
            yield str(address)
