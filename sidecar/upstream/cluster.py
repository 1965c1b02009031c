"""What a cluster is, before anything is connected: its endpoints and how to treat them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from .affinity import HashOn
from .balance import Algorithm, Warmup
from .endpoint import OutlierSpec, PoolSpec
from .retry import RetryBudget


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One address of a cluster, as written: `host:port` or `unix:/path`.

    With `resolve`, the host is a name, and stands for all the addresses it is found to have.
    """

    address: str
    weight: int = 1
    resolve: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine: a socket, a loopback address or its name."""
        host = self.address.rpartition(":")[0].strip("[]").lower()
        return (
            self.address.startswith(("unix:", "stdio:"))
            or host in ("localhost", "::1")
            or (host.startswith("127.") and not self.resolve)
        )


@dataclass(frozen=True, slots=True)
class NamesSpec:
    """How names are looked up: every `refresh` seconds, and at most `most` addresses of one."""

    refresh: float = 5.0
    most: int = 64


class TlsMode(StrEnum):
    """How a connection to a server is encrypted (Istio's `tls.mode`, less DISABLE)."""

    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """What to ask of a server's certificate, and which one of ours to show.

    SIMPLE shows none, MUTUAL the one in the files `certificate` and `key`, ISTIO_MUTUAL our
    SVID. `ca` is the file of roots (empty: the system's; with ISTIO_MUTUAL the mesh's).
    The server must have one of `names`, which are SPIFFE IDs or DNS names; where none is
    given, `sni`, or the host.
    """

    mode: TlsMode
    sni: str = ""
    names: tuple[str, ...] = ()
    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A named set of endpoints with the limits of its pool and of ejection.

    `outlier` None: nothing is ever ejected. Where fewer than `min_health_percent` of the
    endpoints are in, ejection is ignored. `tls` None: calls go in plaintext, and `plain` says
    that somebody wrote so. `upgrade`: HTTP/2 is asked for, if only for those who speak it
    themselves; with `h2c` in plaintext as well.
    """

    name: str
    endpoints: tuple[EndpointSpec, ...]
    pool: PoolSpec = field(default_factory=PoolSpec)
    outlier: OutlierSpec | None = None
    balance: Algorithm = Algorithm.LEAST_REQUEST
    min_health_percent: int = 0
    hash_on: HashOn | None = None
    warmup: Warmup | None = None
    budget: RetryBudget = field(default_factory=RetryBudget)
    tls: TlsSpec | None = None
    plain: bool = False
    upgrade: bool = False
    h2c: bool = False
    names: NamesSpec = field(default_factory=NamesSpec)

    @property
    def is_spread(self) -> bool:
        """Whether calls may go to more than one address."""
        return len(self.endpoints) > 1 or any(one.resolve for one in self.endpoints)
