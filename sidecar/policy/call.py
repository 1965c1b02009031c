"""One call as policy sees it: who asks, over which connection, for what.

`Peer` is made once, at the handshake, and never changes. `Call` is made from a
whole request: its path is already normalised and is the one that is forwarded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..mcp.message import Message
from ..spiffe.id import SpiffeId
from .verdict import Decision, Finding, RuleRef

if TYPE_CHECKING:
    from .tokens.rules import Checked


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """The other end of a connection; `identity` is None where nothing was proved."""

    identity: SpiffeId | None
    ip: str
    port: int = 0
    sha256: str = ""
    serial: int = 0
    not_after: float = float("inf")
    sni: str = ""
    signers: tuple[str, ...] = ()  # SHA-256 of the certificates above the one it showed
    revoked: str = ""  # why it is believed no more; `not_after` is then long past
    principal: str = field(init=False, default="")
    standing: str = field(init=False, default="")
    address: str = field(init=False, default="")
    uri: str = field(init=False, default="")

    def __post_init__(self) -> None:
        # `principal` is Istio's form: the SPIFFE ID without its scheme, empty if there is none.
        principal = str(self.identity).removeprefix("spiffe://") if self.identity else ""
        object.__setattr__(self, "principal", principal)
        # Over a Unix socket nobody has an address.
        object.__setattr__(self, "address", f"{self.ip}:{self.port}" if self.ip else "local")
        object.__setattr__(self, "uri", str(self.identity or ""))
        # Everything of a peer that a rule's `from` may ask, as one key.
        object.__setattr__(self, "standing", f"{principal}|{self.ip}|{self.sni}")

    def __str__(self) -> str:
        return self.uri


@dataclass(slots=True)
class Call:
    """One request with its whole body; `headers` are (lower-case name, value) as received."""

    peer: Peer
    method: str
    path: str
    query: str
    host: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    content_type: str = ""
    port: int = 0
    content_encoding: str = ""
    destination_ip: str = ""  # the address where the call came in
    # Of `headers`, those that mirror the body (None: nobody has looked), and the caller's own
    # request id.
    mirrors: Sequence[tuple[bytes, bytes]] | None = None
    own_id: bytes = b""
    message: Message | None = None
    origin: str = ""  # whose page made a browser call, as the browser says
    batch: tuple[Message, ...] = ()  # in the place of one message: all of them, once allowed
    audited: tuple[RuleRef, ...] = ()  # AUDIT rules that it matches
    shadowed: Decision | None = None  # what were said if dry-run policies were in force
    flagged: Finding | None = None  # what a scan saw that does not refuse
    remote_ip: str = ""  # the caller's address as trusted hops report it; empty: the peer's own
    # What its tokens came to, where tokens are accepted: `headers` and `query` are then as
    # the server is to see them.
    checked: Checked | None = None
    # The claims of a verified token; and, behind a trusted delegate, on whose behalf
    # it calls, written as `Peer.principal` is.
    claims: Mapping[str, object] | None = None
    original_principal: str = ""
    # Bytes that are not HTTP: of a rule, only what a connection has can be asked.
    is_tcp: bool = False

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the header *name* (lower case), or None."""
        for known, value in self.headers:
            if known == name:
                return value
        return None
