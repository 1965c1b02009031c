"""Which endpoint a session belongs to: a bounded table that outlives reloads.

A server of the legacy era keeps a session in its memory, so the session's calls
go where it began. Of a session's id only a digest is kept. What has not been
used for long is forgotten, and what was used longest ago where the table is full.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

_DIGEST = 16


@dataclass(slots=True)
class Binding:
    """Where a session lives: an address, and the cluster it was reached through."""

    cluster: str
    address: str
    used: float  # seconds


class Sessions:
    """Sessions by the service they are of and their id; told the time."""

    def __init__(self) -> None:
        self._bindings: OrderedDict[bytes, Binding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bindings)

    def bind(self, host: str, session: bytes, binding: Binding, *, most: int, life: float) -> None:
        """Let *session* of *host* live where *binding* says.

        At most *most* are kept, each for *life* seconds after its last use.
        """
        bindings = self._bindings
        bindings[_key(host, session)] = binding
        bindings.move_to_end(_key(host, session))
        while len(bindings) > most or next(iter(bindings.values())).used < binding.used - life:
            bindings.popitem(last=False)

    def find(self, host: str, session: bytes, now: float, life: float) -> Binding | None:
        """Return where *session* of *host* lives, None if that is not known."""
        key = _key(host, session)
        found = self._bindings.get(key)
        if found is None:
            return None
        if found.used < now - life:
            del self._bindings[key]
            return None
        found.used = now
        self._bindings.move_to_end(key)
        return found

    def forget(self, host: str, session: bytes) -> None:
        """Forget *session*: it has ended."""
        self._bindings.pop(_key(host, session), None)


def _key(host: str, session: bytes) -> bytes:
    return blake2b(host.encode() + b"\0" + session, digest_size=_DIGEST).digest()
