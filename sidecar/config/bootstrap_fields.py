"""How the bootstrap is written: its fields, and what follows from them.

Closed by default where Istio is open; `compat: istio` brings Istio's defaults
back. Paths are relative to the folder of the bootstrap's file and come out so
joined. Nothing here is looked up or opened.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from ..errors import IdentityError, Where
from ..policy.origin import canonical
from ..policy.path import Normalisation
from ..spiffe.id import DEFAULT_TRUST_DOMAIN, parse_trust_domain
from .addresses import Address, Target, admin_address, host_name, listen_address, target_of
from .bootstrap import (
    ROOT_NAMESPACE,
    Admin,
    Compat,
    DefaultAction,
    HostMode,
    Inbound,
    Log,
    Sidecar,
    SidecarSpec,
)
from .documents import Metadata, MtlsMode
from .identity import IDENTITY, BundleForm
from .limits import LIMITS
from .metadata import DEFAULT_NAMESPACE, name_of, namespace_of
from .nodes import MapNode, Node, ScalarNode
from .outbound import MOST_OUTBOUNDS, OUTBOUND
from .paths import PathForm, beside
from .problem import Notes
from .schema import Field, Form, ListOf, MapOf, Struct, Unread
from .stdio import STDIO, StdioSpec, target_at
from .values import Flag, Malformed, Read, Text, Whole, Word

MOST_INBOUNDS: Final = 64
MOST_PROXIES: Final = 16


class _Mode(StrEnum):
    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


@dataclass(frozen=True, slots=True)
class _ModeForm(Form[MtlsMode]):
    """A mode that is one: at the top there is nothing to inherit."""

    @property
    def name(self) -> str:
        return Word(_Mode).name

    def read(self, node: Node, path: str, notes: Notes) -> MtlsMode:
        return MtlsMode(Word(_Mode).read(node, path, notes).value)


@dataclass(frozen=True, slots=True)
class _AccessForm(Form[str]):
    """`stdout`, `stderr`, `none`, or a file's path."""

    @property
    def name(self) -> str:
        return "`stdout`, `stderr`, `none` or path"

    def read(self, node: Node, path: str, notes: Notes) -> str:
        if isinstance(node, ScalarNode) and node.broken and node.text.lower() == "off":
            raise Unread  # its problem tells to quote it
        text = Text().read(node, path, notes)
        if text in ("stdout", "stderr", "none"):
            return text
        return "none" if text == "off" else beside(node.at.file, text)


def _trust_domain(text: str) -> str:
    try:
        return parse_trust_domain(text)
    except IdentityError as error:
        raise Malformed(str(error), "write it like `cluster.local`") from None


def _plain_path(text: str) -> str:
    if not text.startswith("/") or "*" in text:
        raise Malformed(f"`{text}` is not a path", "write the whole path, such as `/metrics`")
    return text


def _origin(text: str) -> str:
    try:
        return canonical(text)
    except ValueError:
        raise Malformed(
            f"`{text}` is not an origin", "write it like `https://app.example` or `*`"
        ) from None


def _account(service_account: str = "") -> str:
    return service_account


def _inbound(
    listen: Address,
    at: Where,
    to: Target | None = None,
    stdio: StdioSpec | None = None,
    host: HostMode | None = None,
    service: str = "",
    plain_paths: tuple[str, ...] = (),
    allowed_origins: tuple[str, ...] = (),
    http2: bool = True,
    h2c: bool = False,
) -> Inbound:
    to = to or target_at(listen)
    host = host or (HostMode.UPSTREAM if to.is_local else HostMode.PRESERVE)
    return Inbound(listen, to, host, service, plain_paths, allowed_origins, http2, h2c, at, stdio)


def _check_inbound(inbound: Inbound, node: MapNode, path: str, notes: Notes) -> None:
    written = [name for name in ("to", "stdio") if node.get(name) is not None]
    if len(written) != 1:
        notes.error(
            "SC0710",
            f"{path} has {'both `to` and `stdio`' if written else 'neither `to` nor `stdio`'}",
            node.key(written[-1]) if written else node,
            help="write `to:` for a server that listens, or `stdio:` for a program to start",
        )
    if inbound.to.address and not inbound.to.is_local:
        notes.warning(
            "SC0704",
            f"calls to `{inbound.to}` leave this machine in plaintext",
            node.get("to") or node,
            why="whoever is on the way can read and change them, and the server can be "
            "reached around this sidecar",
            help="put a sidecar beside the server, and name a loopback address or a socket",
        )


INBOUND: Final = Struct(
    "Inbound",
    _inbound,
    (
        Field(
            "listen",
            Read("address", listen_address),
            "`IP:PORT` for callers; port 0: any that is free.",
            required=True,
        ),
        Field(
            "to",
            Read("address", target_of),
            "The server: `http://IP:PORT`, `unix:/path`, or the host of a ServiceEntry.",
        ),
        Field(
            "stdio",
            STDIO,
            "In the place of `to`: a program that speaks over its standard streams, started for "
            "each session and for each caller.",
        ),
        Field(
            "host",
            Word(HostMode),
            "Which Host the server sees: its own address, or the caller's.",
            default="`upstream` for an address on this machine, else `preserve`",
        ),
        Field(
            "service",
            Read("host", host_name),
            "The name by which a DestinationRule speaks of the server.",
            default="the host of `to`; `metadata.name` for a socket",
        ),
        Field(
            "plainPaths",
            ListOf(Read("path", _plain_path), least=1),
            "Whole paths whose bodies need not be MCP.",
        ),
        Field(
            "allowedOrigins",
            ListOf(Read("origin", _origin), least=1, most=256),
            "Web pages that may call from a browser, such as `https://app.example`; `*`: any.",
            default="those of this machine: loopback, and the address of `listen`",
        ),
        Field("http2", Flag(), "Offer HTTP/2 to callers over TLS.", default="true"),
        Field(
            "h2c",
            Flag(),
            "Speak HTTP/2 without TLS: with callers who begin with it, and with the server where "
            "`h2UpgradePolicy: UPGRADE` or `useClientProtocol` is for it.",
            default="false",
        ),
    ),
    check=_check_inbound,
    located=True,
)


def _spec(**written: Any) -> SidecarSpec:
    if written.get("compat") is Compat.ISTIO:
        written = {"mtls": MtlsMode.PERMISSIVE, "default_action": DefaultAction.ALLOW, **written}
    return SidecarSpec(**written)


def _check_spec(spec: SidecarSpec, node: MapNode, path: str, notes: Notes) -> None:
    written = node.get("defaultAction")
    if written is not None and spec.default_action is DefaultAction.ALLOW:
        notes.warning(
            "SC0702",
            "`defaultAction: ALLOW` admits every caller where no ALLOW policy is for the workload",
            written,
            why="a policy that is lost or selects nothing then opens the server",
            help="leave it out, and write a policy that allows whom you mean",
        )
    if spec.trust_domain in spec.trust_bundles:
        notes.error(
            "SC0706",
            f"{path}.trustBundles names the sidecar's own trust domain",
            node.key("trustBundles"),
            help="its roots come with `identity`; list only other trust domains",
        )
    if not spec.inbound and not spec.outbound:
        notes.error(
            "SC0202",
            f"neither `inbound` nor `outbound` is in {path}",
            node,
            help="add `inbound:`, or `outbound:`, or both",
        )
    addresses = [*(one.listen for one in spec.inbound), *(one.listen for one in spec.outbound)]
    listeners = Counter(str(one) for one in addresses if one.port or one.unix)
    listeners.update([str(spec.admin.listen)] if spec.admin.listen else [])
    for address, count in listeners.items():
        if count > 1:
            notes.error("SC0705", f"{count} listeners have the address {address}", node)


SPEC: Final = Struct(
    "SidecarSpec",
    _spec,
    (
        Field(
            "trustDomain",
            Read("trust domain", _trust_domain),
            "The trust domain of its identity.",
            default=DEFAULT_TRUST_DOMAIN,
        ),
        Field(
            "trustDomainAliases",
            ListOf(Read("trust domain", _trust_domain), least=1, most=64),
            "Other names that policies may use for it.",
        ),
        Field(
            "trustBundles",
            MapOf(Read("trust domain", _trust_domain), BundleForm(), most=64),
            "Files or URLs with the roots of other trust domains, whose callers are then known.",
        ),
        Field(
            "rootNamespace",
            Read("name", namespace_of),
            "The namespace whose documents reach all others.",
            default=ROOT_NAMESPACE,
        ),
        Field("identity", IDENTITY, "Its certificate.", default="`certs: ./certs/NAMESPACE/NAME`"),
        Field(
            "workload",
            Struct(
                "Workload",
                _account,
                (
                    Field(
                        "serviceAccount",
                        Read("name", name_of),
                        "The account of its identity.",
                        default="`metadata.name`",
                    ),
                ),
            ),
            "What it stands beside; its labels are those of `metadata`.",
            attr="service_account",
        ),
        Field("compat", Word(Compat), "`istio` brings Istio's open defaults.", default="none"),
        Field(
            "mtls",
            _ModeForm(),
            "What listeners ask of callers where no PeerAuthentication says it.",
            default="STRICT; PERMISSIVE with `compat: istio`",
        ),
        Field(
            "defaultAction",
            Word(DefaultAction),
            "What becomes of a call where no ALLOW policy is for the workload.",
            default="DENY; ALLOW with `compat: istio`",
        ),
        Field(
            "allowEmpty",
            Flag(),
            "Take a reload that leaves the workload without the ALLOW policies it had.",
            default="false",
        ),
        Field(
            "pathNormalization",
            Word(Normalisation),
            "How paths are spelled before they are matched and forwarded.",
            default="BASE",
        ),
        Field(
            "numTrustedProxies",
            Whole(0, MOST_PROXIES),
            "How many proxies before this one are trusted to say, in `X-Forwarded-For`, where a "
            "call came from.",
            default="0: only the connection says it",
            attr="trusted_proxies",
        ),
        Field(
            "inbound",
            ListOf(INBOUND, least=1, most=MOST_INBOUNDS),
            "Listeners, each with the server behind it.",
            default="none; there must be one of either kind",
        ),
        Field(
            "outbound",
            ListOf(OUTBOUND, least=1, most=MOST_OUTBOUNDS),
            "Listeners for processes of this machine, each with the service that they call.",
        ),
        Field(
            "admin",
            Struct(
                "Admin",
                Admin,
                (
                    Field(
                        "listen",
                        Read("address", admin_address),
                        "`unix:/path`, or a loopback `IP:PORT`.",
                        default="a socket in the runtime folder",
                    ),
                ),
            ),
            "The admin interface.",
        ),
        Field(
            "documents",
            ListOf(PathForm(), least=1, most=256),
            "Files and folders with the documents it follows.",
        ),
        Field("limits", LIMITS, "How much anything may be, last or hold."),
        Field(
            "log",
            Struct(
                "Log", Log, (Field("access", _AccessForm(), "Access lines.", default="stdout"),)
            ),
            "Where logs go.",
        ),
    ),
    check=_check_spec,
)


def sidecar(metadata: Metadata, spec: SidecarSpec, at: Where) -> Sidecar:
    """Return the bootstrap with what follows from its name filled in."""
    metadata = replace(metadata, namespace=metadata.namespace or DEFAULT_NAMESPACE)
    identity = spec.identity
    if not identity.certs and (not identity.ca or identity.is_remote):
        folder = beside(at.file, f"certs/{metadata.namespace}/{metadata.name}")
        identity = replace(identity, certs=folder)
    inbound = tuple(
        replace(one, service=one.service or _service_of(one.to, metadata.name))
        for one in spec.inbound
    )
    account = spec.service_account or metadata.name
    return Sidecar(
        metadata, replace(spec, identity=identity, inbound=inbound, service_account=account), at
    )


def _service_of(to: Target, name: str) -> str:
    return name if to.address.startswith(("unix:", "stdio:")) else to.host
