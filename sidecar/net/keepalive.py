"""Probes on idle connections, as a DestinationRule's `tcpKeepalive` asks the system for them."""

from __future__ import annotations

import asyncio
import socket

from ..upstream.endpoint import Keepalive


def keep_alive(transport: asyncio.BaseTransport, keepalive: Keepalive) -> None:
    """Have the system probe the connection of *transport*; a Unix socket has no probes."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPCNT, keepalive.probes),
        (socket.TCP_KEEPIDLE, keepalive.time),
        (socket.TCP_KEEPINTVL, keepalive.interval),
    ):
        if value:
            sock.setsockopt(socket.IPPROTO_TCP, option, max(1, round(value)))
