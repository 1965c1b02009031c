"""PeerAuthentication: Istio's fields and rules of validity."""

from __future__ import annotations

from typing import Final

from .documents import MtlsMode, PeerAuthenticationSpec
from .metadata import SELECTOR_FIELD, TARGETS
from .nodes import MapNode
from .problem import Notes
from .schema import Field, MapOf, Struct
from .values import Malformed, Read, Word


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise Malformed(f"`{text}` is not a port", "write a number from 1 to 65535", "SC0407")
    return int(text)


def _mode(mode: MtlsMode = MtlsMode.UNSET) -> MtlsMode:
    return mode


MTLS: Final = Struct(
    "MutualTLS",
    _mode,
    (
        Field(
            "mode",
            Word(MtlsMode),
            "STRICT asks every caller for a certificate, PERMISSIVE takes plaintext too, DISABLE "
            "takes no TLS, UNSET takes what the namespace, the mesh, or the bootstrap says.",
            default="UNSET",
        ),
    ),
)


def _check(spec: PeerAuthenticationSpec, node: MapNode, path: str, notes: Notes) -> None:
    written = node.get("portLevelMtls")
    if not isinstance(written, MapNode):
        return
    key = node.key("portLevelMtls")
    if not written.entries:
        notes.error(
            "SC0210", f"{path}.portLevelMtls is empty", key, help="name a port, or remove it"
        )
    elif not spec.selector.match_labels:
        notes.error(
            "SC0501",
            f"{path}.portLevelMtls needs a selector",
            key,
            why="ports are a workload's, and this document is for a whole namespace",
            help="add `selector: {matchLabels: ...}`",
        )


SPEC: Final = Struct(
    "PeerAuthenticationSpec",
    PeerAuthenticationSpec,
    (
        SELECTOR_FIELD,
        *TARGETS,
        Field("mtls", MTLS, "What listeners ask of callers.", attr="mode"),
        Field(
            "portLevelMtls",
            MapOf(Read("port", _port), MTLS),
            "The same for single ports of the workload; needs a selector.",
            attr="port_modes",
        ),
    ),
    check=_check,
)
