"""Checks of a running sidecar: is it ready, and does it show the newest certificate."""

from __future__ import annotations

import http.client
import socket
import ssl
from hashlib import sha256
from typing import Final

from ..config.documents import MtlsMode
from ..config.snapshot import Snapshot
from ..errors import IdentityError, StartError
from ..rotation import IdentitySpec
from ..spiffe.pair import read_pair
from .network import split
from .outcome import Outcome, bad, good, skipped

_PATIENCE: Final = 5.0


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def ready(admin: str) -> Outcome:
    """Ask the sidecar whose admin listener is at *admin* whether it is ready."""
    if admin.startswith("unix:"):
        connection: http.client.HTTPConnection = _Local(admin.removeprefix("unix:"))
    else:
        connection = http.client.HTTPConnection(*split(admin), timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        said = reply.read(1024).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error)
        return bad("ready", f"nobody answers on {admin}: {why}", "start it: `sidecar run -c FILE`")
    finally:
        connection.close()
    if reply.status == 200:
        return good("ready", f"says so on {admin}")
    return bad("ready", f"it says: {said}", "mend what it names; this page changes within a second")


def certificate(snapshot: Snapshot, spec: IdentitySpec | None) -> Outcome:
    """Say whether what callers are shown is what is on disk."""
    secure = [s.listen for s in snapshot.services.values() if s.mtls is not MtlsMode.DISABLE]
    if spec is None or not secure:
        return skipped("certificate", "no inbound shows one")
    try:
        chain = read_pair(
            (spec.folder / "svid.pem").read_bytes(), (spec.folder / "svid_key.pem").read_bytes()
        )
        shown = _shown(*split(secure[0]))
    except (OSError, StartError, IdentityError) as error:
        return bad("certificate", f"{secure[0]}: {error}", "see the sidecar's own log")
    if sha256(shown).digest() != sha256(chain[0]).digest():
        return bad(
            "certificate",
            f"{secure[0]} shows another one than {spec.folder}/svid.pem",
            "a running sidecar loads a changed file within a second: see its log for why not",
        )
    return good("certificate", f"{secure[0]} shows the one on disk")


def _shown(host: str, port: int) -> bytes:
    """Return the certificate (DER) that the server shows; who it is, is judged by its bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked
    with (
        socket.create_connection((address, port), _PATIENCE) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""
