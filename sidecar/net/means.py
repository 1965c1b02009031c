"""What all clusters are handed by whoever puts the program together."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..http.h1 import Bounds
from ..http.lines import LineTables
from ..upstream.outlier import Events
from .deadlines import Deadlines
from .dial import Dialler
from .names import LookUp, look_up
from .outbox import Outbox
from .tasks import Tasks

# What has the addresses of a name, and what stands there where there are no names.
Addresses: TypeAlias = Callable[[str], Sequence[str]]


def no_addresses(_: str) -> Sequence[str]:
    """Know no name."""
    return ()


def nothing_inside(address: str) -> socket.socket:
    """Know no server within this process."""
    raise ConnectionRefusedError(f"nothing in this process is called `{address}`")


@dataclass(frozen=True, slots=True)
class Means:
    """What all clusters are handed: tasks, clocks, tables, randomness, and whom to tell."""

    tasks: Tasks
    deadlines: Deadlines
    tables: LineTables
    bounds: Bounds
    now: Callable[[], float]  # seconds, monotonic
    random: Callable[[], float]  # from 0 up to 1
    tell: Callable[[str, Events], None]  # cluster's name, what the outlier detection did
    look_up: LookUp = look_up  # of the names of endpoints
    dialler: Dialler | None = None  # without one, nothing that asks for TLS is connected to
    # What has a socket to a server within this process, by its address; raises OSError.
    inside: Callable[[str], socket.socket] = nothing_inside
    outbox: Outbox = field(default_factory=Outbox)
