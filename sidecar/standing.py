"""What was let in must still be allowed: open connections are judged again when things change.

A handshake proves an identity once, and a permit is given once. When the rules
change, a token ends, a certificate is revoked or a root is dropped, what passes by
it ends; a caller who is believed no more stays refused on the same connection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from .config.snapshot import Snapshot
from .errors import PermitWithdrawn
from .exchange import still_allowed
from .net.caller import Connection
from .net.listener import Mtls
from .net.tls import Identity

_SET: Final = 1.0  # seconds that the time of day may drift between two looks


def withdraw(
    live: Collection[Connection], snapshot: Snapshot, mode: Callable[[str], Mtls], wall: float
) -> None:
    """End what *snapshot* would not have let begin."""
    for down in list(live):
        if down.peer.identity is None and mode(down.door.inbound) is Mtls.STRICT:
            down.withdraw("callers must now prove who they are")
            continue
        for one in down.exchanges:
            if not still_allowed(one, snapshot, wall):
                one.withdraw("a reload took the permit back")


def end_outlived(live: Collection[Connection], wall: float) -> None:
    """End what passes by a token that has expired since."""
    for down in list(live):
        for one in down.exchanges:
            checked = one.streaming.checked if one.streaming is not None else None
            if checked is not None and checked.until < wall:
                one.withdraw("the token has expired")


def judge_again(live: Collection[Connection], identity: Identity) -> int:
    """Disown whoever on *live* is believed no more by *identity*; return how many were."""
    count = 0
    for down in list(live):
        peer = down.peer
        if peer.identity is None or peer.revoked:
            continue
        why = identity.refuses(peer.identity, peer.serial, peer.signers)
        if why:
            _disown(down, why)
            count += 1
    return count


class ClockWatch:
    """Notices that the time of day was set, and holds open connections against the new one.

    A connection's end is kept on the monotonic clock, which nobody sets.
    """

    def __init__(self, wall: Callable[[], float], now: Callable[[], float]) -> None:
        self._wall = wall
        self._now = now
        self._between = wall() - now()

    def look(self, live: Collection[Connection]) -> None:
        """Act on *live* if the clock was set since the last look."""
        wall, now = self._wall(), self._now()
        if abs(wall - now - self._between) < _SET:
            return
        self._between = wall - now
        for down in list(live):
            down.expires = now + down.peer.not_after - wall
            if down.peer.identity is not None and down.peer.not_after <= wall:
                _disown(down, "the certificate has expired")


def _disown(down: Connection, why: str) -> None:
    # Its certificate counts as ended, which every request is held against anyway.
    down.peer = replace(down.peer, not_after=float("-inf"), revoked=why)
    for one in down.exchanges:
        one.peer = down.peer
        one.wake.throw(PermitWithdrawn(why))
