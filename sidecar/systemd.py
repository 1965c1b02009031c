"""What a service manager is told and what it hands over: sd_notify(3), sd_listen_fds(3).

Nothing here needs systemd: without its environment every word goes nowhere and no
socket is inherited. Telling never blocks and never fails a sidecar.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

_FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
_MAX_FDS: Final = 256
_MAX_STATUS: Final = 200


class Manager:
    """The service manager that started this process, if one did."""

    def __init__(self, environment: Mapping[str, str], pid: int | None = None) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._pid = os.getpid() if pid is None else pid
        self._environment = environment

    @property
    def watchdog(self) -> float:
        """Seconds between two signs of life, half of what the manager waits; 0 for none."""
        written = self._environment.get("WATCHDOG_USEC", "")
        for_whom = self._environment.get("WATCHDOG_PID", str(self._pid))
        if not self._address or not written.isdigit() or for_whom != str(self._pid):
            return 0.0
        return int(written) / 2_000_000

    def ready(self, status: str) -> None:
        """Tell that what was started, or reloaded, is in force."""
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """Tell that a reload has begun; `ready` ends it."""
        self._tell(
            "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
        )

    def stopping(self, status: str) -> None:
        """Tell that the end has begun."""
        self._tell("STOPPING=1", _status(status))

    def status(self, status: str) -> None:
        """Tell a person how things are, in one line."""
        self._tell(_status(status))

    def alive(self) -> None:
        """Give a sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), address)

    def sockets(self) -> list[socket.socket]:
        """Return the listening sockets that were handed over, each once; none for others' fds."""
        written = self._environment.get("LISTEN_FDS", "")
        if self._environment.get("LISTEN_PID") != str(self._pid) or not written.isdigit():
            return []
        found: list[socket.socket] = []
        for fd in range(_FIRST_FD, _FIRST_FD + min(int(written), _MAX_FDS)):
            with suppress(OSError):
                sock = socket.socket(fileno=fd)
                sock.set_inheritable(False)
                sock.setblocking(False)
                found.append(sock)
        return found


def _status(text: str) -> str:
    """One line, whatever is in *text*."""
    return "STATUS=" + " ".join(text.split())[:_MAX_STATUS]


class Inherited:
    """Sockets that were handed over, until somebody listens on their address."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = {address_of(sock): sock for sock in sockets}

    def take(self, address: str) -> socket.socket | None:
        """Return the socket that is bound to *address* (`host:port`), or None."""
        return self._sockets.pop(address, None)

    def close(self) -> list[str]:
        """Close those that nobody took, and return their addresses."""
        left = list(self._sockets)
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        return left


def address_of(sock: socket.socket) -> str:
    """Return where *sock* listens: `host:port`, `[ipv6]:port` or `unix:/path`."""
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
