"""Connections to servers: opened, and over TLS only to those who are meant.

Not a byte of a call goes out before that is known: in the mesh by SPIFFE ID, elsewhere by
name. A context is made anew when our identity or a file that it was made of changes, and a
live one is never changed. Who may be called is not decided here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, TypeAlias, cast

from ..errors import IdentityError
from ..upstream.cluster import TlsMode, TlsSpec
from ..upstream.endpoint import Endpoint
from .tls import Identity, client_context, reason_of
from .upstream import Upstream
from .upstream2 import Upstream2

PROTOCOLS: Final = ("http/1.1",)
_LIFE: Final = 0.9  # of what is left of both certificates; the rest is for what still runs
_HOSTNAME_MISMATCH: Final = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_
_BROKEN_OFF: Final = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)

Held: TypeAlias = Upstream | Upstream2  # a connection of a cluster
# What a context was made of; another one is made once this differs.
_Stamp: TypeAlias = object


@dataclass(frozen=True, slots=True)
class Secured:
    """A connection whose server is known: the transport, which does not read yet, the protocol
    that both agreed on (empty: none was named), and how many seconds it is good for."""

    transport: asyncio.Transport
    protocol: str
    life: float


@dataclass(slots=True)
class Dialler:
    """Shakes hands with servers; *failed* is told of each that was refused, and why."""

    identity: Callable[[], Identity | None]
    wall: Callable[[], float]  # seconds since the epoch
    failed: Callable[[str, str, str], None]  # endpoint, reason, detail
    _contexts: dict[tuple[TlsSpec, tuple[str, ...]], tuple[_Stamp, ssl.SSLContext]] = field(
        default_factory=dict
    )

    async def connect(self, upstream: Held, spec: TlsSpec, now: Callable[[], float]) -> None:
        """Have *upstream* speak with its endpoint over TLS, as *spec* says; *now* is its clock.

        Raises what `open` does, before *upstream* knows of anything.
        """
        hand_over(await self.open(upstream.endpoint, spec), upstream, spec, now())

    def judge(self, upstream: Held) -> None:
        """Raise IdentityError where the server that *upstream* speaks with is meant no more.

        Where we were revoked, too: it would go on refusing who has joined anew since.
        """
        connection, identity = upstream.secured_by, self.identity()
        if upstream.tls is None or connection is None:
            return
        self._judge(upstream.tls, connection, identity)
        if identity is not None and identity.revoked and _is_mesh(upstream.tls):
            raise IdentityError("revoked", identity.revoked)

    async def open(
        self, endpoint: Endpoint, spec: TlsSpec, protocols: Sequence[str] = PROTOCOLS
    ) -> Secured:
        """Connect to *endpoint* as *spec* says and return who was meant.

        Raises OSError where nobody answers or no handshake comes about, IdentityError where
        somebody else does.
        """
        try:
            return await self._open(endpoint, spec, tuple(protocols))
        except (ssl.SSLError, IdentityError, *_BROKEN_OFF) as error:
            self.failed(endpoint.address, server_reason(error), str(error))
            raise

    async def _open(self, endpoint: Endpoint, spec: TlsSpec, protocols: tuple[str, ...]) -> Secured:
        identity = self.identity()
        context = self._context(spec, protocols, identity)
        transport = await _shake(endpoint, context, spec.sni or endpoint.host or "localhost")
        try:
            connection = transport.get_extra_info("ssl_object")
            ends = self._judge(spec, connection, identity)
            if transport.is_closing():
                raise ConnectionResetError("closed after the handshake")
        except BaseException:
            transport.abort()
            raise
        life = (ends - self.wall()) * _LIFE
        return Secured(transport, connection.selected_alpn_protocol() or "", life)

    def _context(
        self, spec: TlsSpec, protocols: tuple[str, ...], identity: Identity | None
    ) -> ssl.SSLContext:
        stamp = _stamp(spec, identity)
        known = self._contexts.get((spec, protocols))
        if known is not None and known[0] == stamp:
            return known[1]
        context = _mesh_context(identity) if _is_mesh(spec) else _foreign_context(spec)
        context.set_alpn_protocols(list(protocols))
        self._contexts[spec, protocols] = stamp, context
        return context

    def _judge(self, spec: TlsSpec, connection: ssl.SSLObject, identity: Identity | None) -> float:
        """Return when the first of the certificates that were shown ends. Raises IdentityError."""
        if not _is_mesh(spec):
            check_names(connection, spec.names)
            return float("inf")
        if identity is None:
            raise _unknown_self()
        svid = identity.peer(connection, self.wall())
        if str(svid.id) not in spec.names:
            raise IdentityError(
                "other_identity", f"`{svid.id}` answered, which is none of {_listed(spec.names)}"
            )
        return min(svid.not_after, identity.svid.not_after)


def hand_over(secured: Secured, upstream: Held, spec: TlsSpec, now: float) -> None:
    """Let *upstream* speak over a connection that was *secured* as *spec* says."""
    upstream.tls = spec
    upstream.expires = now + secured.life
    secured.transport.set_protocol(upstream)
    upstream.connection_made(secured.transport)
    secured.transport.resume_reading()


async def connect_plain(upstream: Held) -> None:
    """Have *upstream* speak with its endpoint in plaintext. Raises OSError."""
    loop, endpoint = asyncio.get_running_loop(), upstream.endpoint
    if endpoint.unix:
        await loop.create_unix_connection(lambda: upstream, endpoint.unix)
    else:
        await loop.create_connection(lambda: upstream, endpoint.host, endpoint.port)


async def connect_inside(upstream: Held, sock: socket.socket) -> None:
    """Have *upstream* speak with a server in this process over *sock*, which is connected."""
    await asyncio.get_running_loop().create_unix_connection(lambda: upstream, sock=sock)


class _Vestibule(asyncio.Protocol):
    """Holds a connection until it is known who answered; what comes waits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


async def _shake(endpoint: Endpoint, context: ssl.SSLContext, name: str) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    if endpoint.unix:
        transport, _ = await loop.create_unix_connection(
            _Vestibule, endpoint.unix, ssl=context, server_hostname=name
        )
    else:
        transport, _ = await loop.create_connection(
            _Vestibule, endpoint.host, endpoint.port, ssl=context, server_hostname=name
        )
    return transport


def _is_mesh(spec: TlsSpec) -> bool:
    return spec.mode is TlsMode.ISTIO_MUTUAL


def _mesh_context(identity: Identity | None) -> ssl.SSLContext:
    """Our SVID is shown; who answers is judged by SPIFFE's rules once the path is verified."""
    if identity is None or identity.pair is None:
        raise _unknown_self()
    return client_context(identity.pair, identity.bundles)


def _foreign_context(spec: TlsSpec) -> ssl.SSLContext:
    """The server is no workload of a mesh: a public name, and the system's or named roots."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Where names are written they take the place of the one that is asked for.
    context.check_hostname = not spec.names
    if spec.ca:
        context.load_verify_locations(spec.ca)
    else:
        context.load_default_certs()
    if spec.mode is TlsMode.MUTUAL:
        context.load_cert_chain(spec.certificate, spec.key)
    return context


def _unknown_self() -> IdentityError:
    return IdentityError("no_identity", "this sidecar has no certificate yet")


def _stamp(spec: TlsSpec, identity: Identity | None) -> _Stamp:
    if _is_mesh(spec):
        return identity and (identity.pair, identity.bundles)
    return tuple(_changed(path) for path in (spec.ca, spec.certificate, spec.key) if path)


def _changed(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)


def check_names(connection: ssl.SSLObject, names: Sequence[str]) -> None:
    """Raise IdentityError unless the certificate at the other end has one of *names*.

    Without names, OpenSSL has held it against the one that was asked for.
    """
    if not names:
        return
    certificate = connection.getpeercert() or {}
    shown = cast(tuple[tuple[str, str], ...], certificate.get("subjectAltName", ()))
    if not any(_is_named(name, kind, value) for name in names for kind, value in shown):
        raise IdentityError("wrong_name", f"its certificate has none of the names {_listed(names)}")


def _is_named(name: str, kind: str, value: str) -> bool:
    """Whether the alternative name *value* is *name* (RFC 9525 6.3: `*` is one whole label)."""
    if kind == "URI":
        return value == name
    if kind == "IP Address":
        return _ip(name) is not None and _ip(name) == _ip(value)
    if kind != "DNS" or _ip(name) is not None:
        return False
    wanted, shown = name.lower().rstrip("."), value.lower().rstrip(".")
    if not shown.startswith("*."):
        return wanted == shown
    label, _, rest = wanted.partition(".")
    return bool(label) and rest == shown[2:] and "." in rest


def _ip(text: str) -> object:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:4]) or "those that may (none is named)"


def server_reason(error: BaseException) -> str:
    """Return the word under which a failed handshake with a server is logged."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _HOSTNAME_MISMATCH:
        return "wrong_name"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return "refused_by_server"
    return reason_of(error)
