"""How much of the same is tried: enough each time, and far more where SIDECAR_LONG_TESTS is set."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("SIDECAR_LONG_TESTS"))


def times(short: int, long: int) -> int:
    """Return how often to try: *short*, or *long* in a run that may take its time."""
    return long if LONG else short
