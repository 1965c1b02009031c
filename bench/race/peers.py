"""What a peer is, and how one says that this machine does not have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class Absent(Exception):
    """A peer cannot take part; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A configured proxy, ready to start, and what it is said to do.

    What it is said to do is tried before the race: a peer that lets through what
    it should refuse is not measured.
    """

    name: str
    command: tuple[str, ...]
    port: int
    version: str
    knows_tools: bool = False
    scans_requests: bool = False
    scans_replies: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
