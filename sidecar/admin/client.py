"""Asking a running sidecar: where its admin listener is, and one question to it.

Every answer is bounded in size and time. What cannot be reached is a StartError with
exit code 69, which says what to try.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Mapping
from typing import Final

from ..errors import StartError
from .server import default_socket

UNREACHABLE: Final = 69
UNITS: Final = "/run/sidecar"
_PATIENCE: Final = 10.0  # seconds
_MOST_BYTES: Final = 16 * 1024 * 1024
_MOST_SOCKETS: Final = 64
_HELP: Final = "name it as it says at its start (`admin on ...`): `--admin ADDRESS`"


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(address: str, path: str) -> tuple[int, bytes]:
    """Return status and body of *path* at *address*, `unix:/path` or `host:port`."""
    connection = _connection(address)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StartError(
            f"no sidecar answers on `{address}`: {why}", UNREACHABLE, help=_HELP
        ) from None
    finally:
        connection.close()


def _connection(address: str) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return _Unix(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StartError(
            f"`{address}` is no address of an admin listener",
            code=2,
            help="write `unix:/path/to.sock`, or `127.0.0.1:15000`",
        )
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_PATIENCE)


def addresses(
    given: str, environment: Mapping[str, str], temporary: str, uid: int, units: str = UNITS
) -> list[str]:
    """Return where sidecars may be asked: at *given*, else at every default socket there is.

    `SIDECAR_ADMIN` of *environment* stands for *given*; below *units* each systemd unit has
    a folder. Raises StartError if there is none.
    """
    named = given or environment.get("SIDECAR_ADMIN", "")
    if named:
        return [named]
    folder = os.path.dirname(default_socket(environment, "any", temporary, uid)[len("unix:") :])
    found = _sockets(folder)
    for name in _names(units):
        found += _sockets(f"{units}/{name}")
    if not found:
        where = f"`{folder}`, nor below `{units}`"
        raise StartError(f"no sidecar has a socket in {where}", UNREACHABLE, help=_HELP)
    return [f"unix:{path}" for path in dict.fromkeys(found)][:_MOST_SOCKETS]


def _sockets(folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in _names(folder) if name.endswith(".sock")]


def _names(folder: str) -> list[str]:
    """Return what is in *folder*, as far as this user may look."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
