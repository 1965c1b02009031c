"""Which documents are for a workload, and what its ports ask of callers.

A document reaches its own namespace; one in the root namespace reaches all. The
narrower level wins: workload, then namespace, then mesh (Istio's order).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .documents import Metadata, MtlsMode, PeerAuthentication, Selector

ROOT_NAMESPACE: Final = "istio-system"


@dataclass(frozen=True, slots=True)
class Workload:
    """Whom this sidecar stands beside, as selectors see it."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    root_namespace: str = ROOT_NAMESPACE

    def selects(self, metadata: Metadata, selector: Selector) -> bool:
        """Return whether a document with this *metadata* and *selector* is for this workload."""
        return self.reaches(metadata) and selector.selects(self.labels)

    def reaches(self, metadata: Metadata) -> bool:
        """Return whether a document's namespace reaches this workload."""
        return (metadata.namespace or self.namespace) in (self.namespace, self.root_namespace)


def mtls_of(
    workload: Workload, policies: Iterable[PeerAuthentication], default: MtlsMode
) -> tuple[MtlsMode, Mapping[int, MtlsMode]]:
    """Return the mode of the workload and of the ports that have their own.

    Among policies of one level the oldest wins. A policy of the root namespace with
    a selector is ignored, as Istio's code does; `portLevelMtls` counts only on a
    policy with a selector. UNSET takes what the level above says, *default* at the top.
    """
    mesh, namespace, own = _levels(workload, policies)
    mode = default
    for level in (mesh, namespace, own):
        if level is not None and level.spec.mode is not MtlsMode.UNSET:
            mode = level.spec.mode
    ports: dict[int, MtlsMode] = {}
    if own is not None:
        for port, asked in own.spec.port_modes.items():
            ports[port] = mode if asked is MtlsMode.UNSET else asked
    return mode, ports


def _levels(
    workload: Workload, policies: Iterable[PeerAuthentication]
) -> tuple[PeerAuthentication | None, PeerAuthentication | None, PeerAuthentication | None]:
    mesh: list[PeerAuthentication] = []
    namespace: list[PeerAuthentication] = []
    own: list[PeerAuthentication] = []
    for policy in policies:
        home = policy.metadata.namespace or workload.namespace
        selecting = bool(policy.spec.selector.match_labels)
        if home == workload.root_namespace and not selecting:
            mesh.append(policy)
        elif home == workload.namespace and home != workload.root_namespace:
            if not selecting:
                namespace.append(policy)
            elif policy.spec.selector.selects(workload.labels):
                own.append(policy)
    return _oldest(mesh), _oldest(namespace), _oldest(own)


def _oldest(policies: Sequence[PeerAuthentication]) -> PeerAuthentication | None:
    # A document in a file has no age of its own unless it was written: then order decides.
    return min(policies, key=lambda policy: policy.metadata.created, default=None)
