"""How the bootstrap writes whose certificates are used: its own, and other trust domains' roots.

A CA is a folder on this machine or an https URL, a bundle a file, a URL that the
public web's authorities vouch for, or one that a SPIFFE ID does. Nothing is
looked up or opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ..errors import IdentityError
from ..spiffe.id import SpiffeId
from .bootstrap import BundleEndpoint, Identity
from .documents import FileRef
from .nodes import MapNode, Node, ScalarNode
from .paths import PathForm, PlainPathForm
from .problem import Notes
from .schema import Field, Form, Struct, Support, Unread, Unused
from .values import Duration, Malformed, Read, Text

_SCHEMES: Final = ("https://", "http://")


def _url(text: str) -> str:
    """Return the https URL *text*. Raises Malformed."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or "."
        good = not host.startswith(".") and parts.port != 0 and parts.username is None
    except ValueError:
        good = False
    if not good or not text.isascii() or not text.isprintable() or " " in text:
        raise Malformed(f"`{text}` is not a URL", "write `https://HOST:PORT`")
    if parts.scheme != "https":
        raise Malformed(
            f"`{text}` is not https",
            "write `https://`",
            why="whoever is on the way could say whom to believe",
        )
    return text


def _ca_url(text: str) -> str:
    if urlsplit(_url(text)).path.rstrip("/"):
        raise Malformed(f"`{text}` has a path", "write `https://HOST:PORT` alone")
    return text.rstrip("/")


def _workload(text: str) -> str:
    try:
        return str(SpiffeId.parse(text))
    except IdentityError as error:
        raise Malformed(str(error), "write it like `spiffe://other.test/ca`") from None


@dataclass(frozen=True, slots=True)
class _CaForm(Form[str]):
    """A folder, or where a CA is served."""

    @property
    def name(self) -> str:
        return "path or URL"

    def read(self, node: Node, path: str, notes: Notes) -> str:
        if isinstance(node, ScalarNode) and node.text.startswith(_SCHEMES):
            return Read("URL", _ca_url).read(node, path, notes)
        return PlainPathForm().read(node, path, notes)


def _check_identity(identity: Identity, node: MapNode, path: str, notes: Notes) -> None:
    if identity.ca and node.get("revocations") is not None:
        notes.error(
            "SC0701",
            f"`revocations` in {path} is for a certificate of `certs` alone",
            node.key("revocations"),
            why="a CA's own deny list is followed anyway",
            help="remove it",
        )
    if identity.is_remote or node.get("spiffe") is not None:
        return
    if bool(identity.certs) == bool(identity.ca):
        notes.error(
            "SC0701",
            f"{path} names {'both' if identity.ca else 'neither'} of `certs` and `ca`",
            node,
            help="write `certs: ./certs/NAMESPACE/NAME`, or `ca: ./certs/ca`",
        )
    for name in ("tokenFile", "maxAge"):
        if node.get(name) is not None:
            notes.error(
                "SC0701",
                f"`{name}` in {path} is for a CA on another machine",
                node.key(name),
                help="write `ca: https://HOST:PORT`, or remove it",
            )


IDENTITY: Final = Struct(
    "Identity",
    Identity,
    (
        Field(
            "certs",
            PlainPathForm(),
            "A folder with `svid.pem`, its key and its bundle; with `ca: https://...`, where "
            "they are kept.",
        ),
        Field("ca", _CaForm(), "A local CA's folder, which must exist, or `https://HOST:PORT`."),
        Field(
            "tokenFile",
            PlainPathForm(),
            "The join token's file, for the first certificate of a CA elsewhere.",
        ),
        Field(
            "maxAge",
            Duration(),
            "How old a CA's word on whom to believe may get before the sidecar is not ready.",
            default="1h",
        ),
        Field(
            "revocations",
            PlainPathForm(),
            "With `certs` alone: the deny list of the CA that issued it, a copy of its "
            "`revoked.json`, followed as it changes. A CA that is named is asked for its own.",
        ),
        Unused(
            "spiffe",
            Support.REFUSED,
            "the SPIFFE Workload API is not spoken yet; have its agent write the certificate's "
            "files, and name their folder with `certs`",
        ),
    ),
    check=_check_identity,
    located=True,
)

_ENDPOINT: Final = Struct(
    "BundleEndpoint",
    BundleEndpoint,
    (
        Field("url", Read("URL", _url), "Where the SPIFFE bundle is served.", required=True),
        Field(
            "spiffeId",
            Read("SPIFFE ID", _workload),
            "Who serves it, in that trust domain (`https_spiffe`).",
            default="whoever the public web's authorities vouch for (`https_web`)",
        ),
        Field("bootstrap", PathForm(), "A file with its roots, for the first time it is asked."),
    ),
)


@dataclass(frozen=True, slots=True)
class BundleForm(Form[FileRef | BundleEndpoint]):
    """Where the roots of another trust domain come from."""

    @property
    def name(self) -> str:
        return "path, URL or mapping"

    @property
    def suffix(self) -> str:
        return _ENDPOINT.suffix

    def struct(self) -> Struct[object] | None:
        return _ENDPOINT

    def read(self, node: Node, path: str, notes: Notes) -> FileRef | BundleEndpoint:
        if isinstance(node, MapNode):
            endpoint = _ENDPOINT.read(node, path, notes)
            if bool(endpoint.spiffe_id) != (endpoint.bootstrap is not None):
                notes.error(
                    "SC0707",
                    f"{path} names one of `spiffeId` and `bootstrap`",
                    node,
                    why="an identity is proved by roots that are known before",
                    help="write both, or neither",
                )
                raise Unread
            return endpoint
        if Text().read(node, path, notes).startswith(_SCHEMES):
            return BundleEndpoint(Read("URL", _url).read(node, path, notes))
        return PathForm().read(node, path, notes)
