"""Names for exchanges: in the log, in refusals, towards the server."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import count


def request_ids() -> Callable[[], str]:
    """Return a source of ids that no other process and no later start repeats."""
    start = secrets.token_hex(8)
    numbers = count(1)
    return lambda: f"{start}-{next(numbers):08x}"
