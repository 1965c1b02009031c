"""Which sockets are open: at the start, from one configuration to the next, and at the end.

What is new is bound before anything is given up, so that a configuration is taken whole or
not at all. What connections do once they are let in is no matter of this module.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from .config.snapshot import Locals, Service, Snapshot
from .errors import StartError
from .net.caller import Door
from .net.listener import Gate, Listener, bind
from .net.local import LocalListener, bind_local, discard
from .net.tasks import Tasks
from .systemd import Inherited

_UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class _Socket:
    """A socket that nobody listens on yet; *lent* if it was handed over and is not ours."""

    sock: socket.socket
    lent: bool


Bound: TypeAlias = dict[str, _Socket]


@dataclass(slots=True)
class Doors:
    """All listeners, by the address that is written; *door* makes what their connections share."""

    gate: Gate
    tasks: Tasks
    inherited: Inherited
    door: Callable[[Service, Snapshot], Door]
    listeners: dict[str, Listener] = field(default_factory=dict)

    def bind(self, snapshot: Snapshot) -> Bound:
        """Bind what *snapshot* has and is not open yet. Raises StartError, and then keeps none."""
        bound: Bound = {}
        try:
            for name, service in snapshot.services.items():
                if name not in self.listeners:
                    bound[name] = self._bind(service)
        except StartError:
            for name, one in bound.items():
                one.sock.close() if one.lent else discard(one.sock, name)
            raise
        return bound

    def _bind(self, service: Service) -> _Socket:
        lent = self.inherited.take(service.listen)
        if lent is not None:
            return _Socket(lent, lent=True)
        if service.listen.startswith(_UNIX):
            return _Socket(bind_local(service.listen, _uids(service.local)), lent=False)
        return _Socket(bind(service.listen), lent=False)

    def take(self, snapshot: Snapshot, bound: Bound) -> None:
        """Listen as *snapshot* says from now on, with what was *bound* for it."""
        for name in [name for name in self.listeners if name not in snapshot.services]:
            self.listeners.pop(name).stop()
        for name, service in snapshot.services.items():
            door = self.door(service, snapshot)
            known = self.listeners.get(name)
            if known is None:
                self.listeners[name] = self._open(service, bound[name], door)
                continue
            known.door = door
            if isinstance(known, LocalListener):
                known.allow(_uids(service.local))

    def _open(self, service: Service, bound: _Socket, door: Door) -> Listener:
        listener: Listener
        if service.listen.startswith(_UNIX):
            uids = _uids(service.local)
            listener = LocalListener(bound.sock, door, self.gate, self.tasks, uids, lent=bound.lent)
        else:
            listener = Listener(bound.sock, door, self.gate, self.tasks)
        listener.start()
        return listener

    @property
    def shaking(self) -> int:
        """How many were accepted and are not let in yet."""
        return sum(listener.shaking for listener in self.listeners.values())

    def stop(self) -> None:
        """Accept nothing more anywhere."""
        for listener in self.listeners.values():
            listener.stop()


def _uids(local: Locals | None) -> Collection[int] | None:
    """Return whose processes may connect; a socket that is nobody's is the sidecar's own."""
    uids = () if local is None else local.uids
    return uids if uids is None else frozenset(uids or {os.geteuid()})
