"""What can go wrong, as a small tree; everything else that is raised is a bug.

Refusals are values (`policy.verdict`); these are faults. Each carries what its
rescuer needs and a message for a person: lower case, no full stop, the thing
named in backticks, and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in a file: line and column count from 1."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        if not self.column:
            return f"{self.file}:{self.line}"
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def short(self) -> str:
        """`file:line`, as logs and verdicts name it."""
        return f"{self.file}:{self.line}" if self.line else self.file


class SidecarError(Exception):
    """The root of all faults that this program expects."""


class StartError(SidecarError):
    """The program cannot start or go on: a person must act. `code` is the exit code."""

    def __init__(self, message: str, code: int = 1, help: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.help = help


class IdentityError(SidecarError):
    """A SPIFFE ID, bundle or certificate is not acceptable; `reason` is a stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DownstreamError(SidecarError):
    """The caller, or the way to it, failed."""


class ProtocolError(DownstreamError):
    """The caller's bytes are not a request we read; `status` is what it is told."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class PathError(DownstreamError):
    """A request's path has no one meaning."""


class CallerGone(DownstreamError):
    """The caller has left, or its connection is of no more use."""


class PermitWithdrawn(SidecarError):
    """What was allowed is allowed no more: the rules or the caller's standing changed."""


class DeadlinePassed(SidecarError):
    """The exchange took longer than its limit allows."""


class UpstreamError(SidecarError):
    """The server, or the way to it, failed.

    `sent` tells whether a byte of the call may have reached it: what was never
    sent may be tried again elsewhere. `stale`: a connection that had been used before
    ended without a word, as a server's does that no longer wanted it.
    """

    stale = False

    def __init__(self, message: str, *, sent: bool, status: int = 502) -> None:
        super().__init__(message)
        self.sent = sent
        self.status = status


class MessageError(SidecarError):
    """Bytes that should be one JSON-RPC message are not; `code` is JSON-RPC's."""

    def __init__(self, message: str, code: int = -32700) -> None:
        super().__init__(message)
        self.code = code
