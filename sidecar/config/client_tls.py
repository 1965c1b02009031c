"""A DestinationRule's `tls`: how the way to the server is encrypted. Istio's fields and rules.

What cannot be honoured is an error: the call would go in plaintext, or to whoever answers.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePath
from typing import Final

from ..upstream.cluster import TlsMode, TlsSpec
from .addresses import host_name
from .nodes import MapNode
from .problem import Notes
from .schema import Field, ListOf, Struct, Support, Unused
from .traffic_specs import ClientTls
from .values import Malformed, Read, Text, Word


class _Mode(StrEnum):
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


_NEEDED: Final = {_Mode.MUTUAL: ("clientCertificate", "privateKey")}
_ALLOWED: Final[dict[_Mode, tuple[str, ...]]] = {
    _Mode.DISABLE: ("sni", "subjectAltNames"),
    _Mode.SIMPLE: ("caCertificates", "sni", "subjectAltNames"),
    _Mode.MUTUAL: (
        "caCertificates",
        "sni",
        "subjectAltNames",
        "clientCertificate",
        "privateKey",
    ),
    _Mode.ISTIO_MUTUAL: ("sni", "subjectAltNames"),
}


def _file(text: str) -> str:
    if not PurePath(text).is_absolute() or "\0" in text:
        raise Malformed(f"`{text}` is not a file's path", "write an absolute path")
    return text


_FILE: Final = Read("path", _file)


def _tls(
    mode: _Mode = _Mode.DISABLE,
    sni: str = "",
    names: tuple[str, ...] = (),
    ca: str = "",
    certificate: str = "",
    key: str = "",
) -> ClientTls:
    if mode is _Mode.DISABLE:
        return ClientTls()
    return ClientTls(TlsSpec(TlsMode(mode.value), sni, names, ca, certificate, key))


def _check_tls(tls: ClientTls, node: MapNode, path: str, notes: Notes) -> None:
    mode = _Mode.DISABLE if tls.spec is None else _Mode(tls.spec.mode.value)
    written = {key.text for key, _ in node.entries}
    for name in _ALLOWED[_Mode.MUTUAL]:
        if name in written and name not in _ALLOWED[mode]:
            notes.error(
                "SC0610",
                f"{path} has `{name}`, which {mode} does not use",
                node.key(name),
                help="remove it, or write the mode that uses it",
            )
    for name in _NEEDED.get(mode, ()):
        if name not in written:
            notes.error("SC0610", f"{path} of mode {mode} needs `{name}`", node, help="add it")


TLS: Final = Struct(
    "ClientTLSSettings",
    _tls,
    (
        Field(
            "mode",
            Word(_Mode),
            "`ISTIO_MUTUAL` shows our SVID and asks for a SPIFFE ID, `SIMPLE` asks for a name, "
            "`MUTUAL` shows the certificate of a file besides; `DISABLE` is plaintext.",
            default="DISABLE",
        ),
        Field(
            "sni",
            Read("host", host_name),
            "The name that the server is asked for.",
            default="the service's host",
        ),
        Field(
            "subjectAltNames",
            ListOf(Text(longest=512), least=1, most=64),
            "Names one of which the server's certificate must have: SPIFFE IDs or DNS names.",
            "names",
            default="those of the ServiceEntry; else, but with `ISTIO_MUTUAL`, `sni`",
        ),
        Field(
            "caCertificates",
            _FILE,
            "The file of roots that may vouch for it.",
            "ca",
            default="the system's",
        ),
        Field("clientCertificate", _FILE, "The file of the certificate to show.", "certificate"),
        Field("privateKey", _FILE, "The file of its key.", "key"),
        Unused("credentialName", Support.REFUSED, "It names a Kubernetes secret."),
        Unused("insecureSkipVerify", Support.REFUSED, "Whoever answers would be believed."),
        Unused("caCrl", Support.REFUSED, "Revocation is by deny list and short lives."),
    ),
    check=_check_tls,
)
