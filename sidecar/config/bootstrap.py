"""The bootstrap, kind `Sidecar`: who this sidecar is, where it listens, what it reads.

Paths are already relative to where the program runs, and defaults that follow
from others are filled in. How it is written is `bootstrap_fields`' to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ..errors import Where
from ..policy.path import Normalisation
from ..spiffe.id import DEFAULT_TRUST_DOMAIN
from .addresses import Address, Target
from .documents import FileRef, Metadata, MtlsMode
from .limits import Limits
from .stdio import StdioSpec

ROOT_NAMESPACE: Final = "istio-system"


class DefaultAction(StrEnum):
    """What becomes of a call where no ALLOW policy is for the workload."""

    DENY = "DENY"
    ALLOW = "ALLOW"


class Compat(StrEnum):
    """Whose defaults hold."""

    ISTIO = "istio"


class HostMode(StrEnum):
    """Which Host the server sees: its own address, or what the caller asked for."""

    UPSTREAM = "upstream"
    PRESERVE = "preserve"


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the certificate comes from: a folder that holds it, a local CA's, or a CA's URL.

    With a URL, `certs` is where it is kept, `token_file` what it joins with, and
    `max_age` (seconds) how old the CA's word on whom to believe may get. With a folder
    that holds it, `revocations` is a deny list's file.
    """

    certs: str = ""
    ca: str = ""
    at: Where | None = None
    token_file: str = ""
    max_age: float = 3600.0
    revocations: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether the CA is on another machine."""
        return self.ca.startswith("https://")


@dataclass(frozen=True, slots=True)
class BundleEndpoint:
    """Where another trust domain serves its bundle (SPIFFE Federation section 5).

    With `spiffe_id`, the roots in the file `bootstrap` prove who serves it, at first.
    """

    url: str
    spiffe_id: str = ""
    bootstrap: FileRef | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """One listener, and the server behind it.

    `service` is the name by which documents speak of it. On `plain_paths` bodies
    need not be MCP. Pages of `allowed_origins` may call from a browser, of this machine
    if there are none. `http2` is offered over TLS; `h2c` is spoken without
    TLS, by callers who begin with it and to a server where an upgrade is asked for.
    With `stdio` the server is a program, and `to` what stands for it.
    """

    listen: Address
    to: Target
    host: HostMode = HostMode.UPSTREAM
    service: str = ""
    plain_paths: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    http2: bool = True
    h2c: bool = False
    at: Where | None = None
    stdio: StdioSpec | None = None


@dataclass(frozen=True, slots=True)
class Outbound:
    """A listener for processes of this machine, and the service that they reach over it.

    Who may connect are the users `allow_uids` (none: the sidecar's own), or any process.
    """

    listen: Address
    to: Target
    allow_uids: tuple[int, ...] = ()
    any_process: bool = False
    at: Where | None = None


@dataclass(frozen=True, slots=True)
class Admin:
    """Where the admin interface listens; None is a socket in the runtime folder."""

    listen: Address | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """Where access lines go: `stdout`, `stderr`, `none`, or a file's path."""

    access: str = "stdout"


@dataclass(frozen=True, slots=True)
class SidecarSpec:
    """Everything the bootstrap says; see the reference for each field."""

    trust_domain: str = DEFAULT_TRUST_DOMAIN
    trust_domain_aliases: tuple[str, ...] = ()
    trust_bundles: Mapping[str, FileRef | BundleEndpoint] = field(
        default_factory=lambda: MappingProxyType({})
    )
    root_namespace: str = ROOT_NAMESPACE
    identity: Identity = field(default_factory=Identity)
    service_account: str = ""
    compat: Compat | None = None
    mtls: MtlsMode = MtlsMode.STRICT
    default_action: DefaultAction = DefaultAction.DENY
    allow_empty: bool = False
    path_normalization: Normalisation = Normalisation.BASE
    trusted_proxies: int = 0
    spaced_claims: tuple[str, ...] = ()
    inbound: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    admin: Admin = field(default_factory=Admin)
    documents: tuple[FileRef, ...] = ()
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The bootstrap of one sidecar."""

    metadata: Metadata
    spec: SidecarSpec
    at: Where | None = None

    @property
    def spiffe_id(self) -> str:
        """The identity that this sidecar is to have."""
        spec, namespace = self.spec, self.metadata.namespace
        return f"spiffe://{spec.trust_domain}/ns/{namespace}/sa/{spec.service_account}"
