"""Listening on a Unix socket: only for those processes of this machine that may.

The kernel says who connected (SO_PEERCRED), and not the file's mode alone decides. The
socket is made beside its place with its mode set, then moved there: nobody ever finds it
open wider, and a stale one is replaced without a gap. What is not ours is never removed.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Final

from ..errors import StartError
from .caller import Door
from .listener import Gate, Listener
from .tasks import Tasks

_BACKLOG: Final = 1024
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_OWNER: Final = 0o600
_ALL: Final = 0o666  # the kernel is asked about everybody all the same
_LONGEST_PATH: Final = 107  # bytes, `sun_path` of Linux less its closing NUL
_PATIENCE: Final = 0.5  # seconds for whoever listens already to be reached
_HELP: Final = "name a path in a folder that is this sidecar's own, such as `/run/sidecar/x.sock`"


def uid_of(sock: socket.socket) -> int:
    """Return the user id of the process that connected over the Unix socket *sock*."""
    told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(told)[1])


class LocalListener(Listener):
    """Listens on a Unix socket, the one of `bind_local` or one that was handed over (*lent*).

    *uids* are those who may connect; None is everybody on this machine.
    """

    def __init__(
        self,
        sock: socket.socket,
        door: Door,
        gate: Gate,
        tasks: Tasks,
        uids: Collection[int] | None,
        *,
        lent: bool = False,
    ) -> None:
        super().__init__(sock, door, gate, tasks)
        self._uids = uids
        self._path = door.inbound.removeprefix("unix:")
        self._made = None if lent else _file_of(self._path)

    @property
    def address(self) -> str:
        """`unix:` and its path."""
        return f"unix:{self._path}"

    def allow(self, uids: Collection[int] | None) -> None:
        """Let *uids* connect from now on, and nobody else."""
        self._uids = uids
        if self._still_ours():
            os.chmod(self._path, _mode(uids))

    def stop(self) -> None:
        """Accept no more, and remove the socket if it is still the one that was made."""
        if self._still_ours():
            os.unlink(self._path)
        self._made = None
        super().stop()

    def _still_ours(self) -> bool:
        return self._made is not None and _file_of(self._path) == self._made

    def _admit(self, sock: socket.socket, ip: str, port: int) -> None:
        uid = uid_of(sock)
        if self._uids is not None and uid not in self._uids:
            sock.close()
            self._gate.failed(f"uid {uid}", "other_uid", f"{self.address} is not for this user")
            return
        super()._admit(sock, ip, port)


def bind_local(address: str, uids: Collection[int] | None) -> socket.socket:
    """Return a socket that listens on *address* (`unix:/path`) for *uids*. Raises StartError."""
    path = Path(address.removeprefix("unix:"))
    beside = path.with_name(f".{os.getpid():x}")  # short: a socket's path may not be long
    sock = socket.socket(socket.AF_UNIX)
    try:
        _check_folder(path.parent)
        _check_place(path)
        beside.unlink(missing_ok=True)
        _bind_beside(sock, beside, _mode(uids))
        beside.rename(path)
    except OSError as error:
        sock.close()
        beside.unlink(missing_ok=True)
        raise StartError(f"cannot listen on `{address}`: {error}", help=_HELP) from None
    sock.setblocking(False)
    return sock


def discard(sock: socket.socket, address: str) -> None:
    """Close a socket that `bind_local` or `bind` made and nobody listens on, and remove it."""
    sock.close()
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _mode(uids: Collection[int] | None) -> int:
    return _OWNER if uids is not None and set(uids) == {os.geteuid()} else _ALL


def _bind_beside(sock: socket.socket, beside: Path, mode: int) -> None:
    # The mode is on the file before anybody can connect: a bound socket refuses until `listen`.
    sock.bind(str(beside))
    beside.chmod(mode)
    sock.listen(_BACKLOG)


def _check_folder(folder: Path) -> None:
    """Raise OSError where others could put a socket of theirs in the place of ours."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    status = folder.stat()
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared and not status.st_mode & stat.S_ISVTX:
        raise OSError(f"others may write to `{folder}`")
    if status.st_uid not in (0, os.geteuid()):
        raise OSError(f"`{folder}` belongs to another user")


def _check_place(path: Path) -> None:
    """Raise OSError where something is that is not a socket which nobody listens on."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OSError("its path is too long for anybody to connect to")
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(f"`{path}` is no socket, and is not replaced")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return  # stale: whoever made it is gone
    raise OSError("another process listens on it")


def _file_of(path: str) -> tuple[int, int] | None:
    """Return what tells the socket at *path* from another one that was put there."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
