"""What is written in one turn of the loop goes out at its end, all of it together.

Whoever reads it is woken once and finds several messages, instead of being woken for
each: waking is most of what a write costs. Only whole messages wait here, and never
longer than until all that came in the same turn was looked at.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """Whole messages for their transports; `turn` counts how often they have gone out."""

    __slots__ = ("_waiting", "turn")

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self.turn = 0

    def put(self, transport: asyncio.Transport, message: bytes) -> None:
        """Write *message* to *transport* at the end of this turn, unless that closes first."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((transport, message))

    def flush(self) -> None:
        """Write now what waits, in its order: before anything that must come after it."""
        if not self._waiting:
            return
        self.turn += 1
        waiting, self._waiting = self._waiting, []
        rest = iter(waiting)
        try:
            for transport, message in rest:
                if not transport.is_closing():
                    transport.write(message)
        finally:
            for transport, message in rest:  # nothing is left here but after a fault
                self.put(transport, message)
