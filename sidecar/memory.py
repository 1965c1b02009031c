"""Memory that callers' connections took, given back once many of them have come or gone.

A connection over TLS ends as a ring of objects that only the collector frees, each with
tens of KiB of OpenSSL's behind it, and the C library keeps what was freed. Without this,
every wave of callers takes more than the one before. It counts and cleans; it closes nothing.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MANY: Final = 500  # connections that came or went: about 10 MiB
_SELDOM: Final = 5.0  # seconds between two times at least
_M_MMAP_THRESHOLD: Final = -3  # mallopt(3)
_BIG: Final = 1_048_576  # bytes; larger ones come from the kernel and go straight back


def settle() -> None:
    """Set what is there after the start aside, so that the collector looks only at what comes.

    The loop makes room for 256 KiB to read what a server says over TLS, each time: below this
    mark the C library has it at hand, above it asks the kernel.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BIG)
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Free what nobody holds any more, and return it to the system (glibc only)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@dataclass(slots=True)
class Housekeeping:
    """Has *clean* done now and then, by how many connections have come and gone."""

    clean: Callable[[], None] = give_back
    _came: int = 0
    _gone: int = 0
    _not_before: float = 0.0

    def tend(self, came: int, open_now: int, now: float) -> None:
        """Look whether it is time, with *came* connections so far, of which some are open.

        *now* is seconds, monotonic.
        """
        gone = came - open_now
        moved = came - self._came + abs(gone - self._gone)
        if moved < _MANY or now < self._not_before:
            return
        self._came, self._gone = came, gone
        self._not_before = now + _SELDOM
        self.clean()
