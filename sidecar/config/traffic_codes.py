"""The codes of SC06: what can be wrong with the way to a server. `codes` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TRAFFIC: Final[Mapping[str, tuple[str, str]]] = {
    "SC0601": (
        "local failures without the split",
        "`consecutiveLocalOriginFailures` counts failures to reach an endpoint apart from its "
        "answers, which only happens with `splitExternalLocalOriginErrors: true`.",
    ),
    "SC0602": (
        "upgrade and the caller's protocol",
        "`h2UpgradePolicy: UPGRADE` and `useClientProtocol: true` contradict each other.",
    ),
    "SC0603": ("old name", "Istio has renamed this value; the help tells the new name."),
    "SC0604": (
        "ports of a service",
        "Ports of a ServiceEntry have a number and a name of their own each; endpoints name them "
        "by these names; a Unix socket stands for exactly one port and has none.",
    ),
    "SC0605": (
        "retries switched off and set",
        "`attempts: 0` switches retries off, and so does a `retries` without `attempts`, as in "
        "Istio, so that nothing else in it could act.",
    ),
    "SC0606": (
        "destinations without weights",
        "Of several destinations each takes its weight's share of the sum of all; a sum of 0 "
        "shares nothing.",
    ),
    "SC0607": ("two ways to mirror", "A route has `mirror` or `mirrors`, not both."),
    "SC0608": (
        "not a route's header field",
        "Fields that frame a message, tell who called, or mirror the body that was judged "
        "(`Mcp-*`) cannot be edited: the server would act on something else than was decided.",
    ),
    "SC0609": (
        "fault that does nothing",
        "A fault has a delay, an abort or both; an abort has one status.",
    ),
    "SC0610": (
        "TLS settings that contradict their mode",
        "SIMPLE shows no certificate, MUTUAL the one in `clientCertificate` and `privateKey`, "
        "ISTIO_MUTUAL the sidecar's own, which the mesh's roots vouch for.",
    ),
    "SC0611": (
        "said twice",
        "Two settings of one thing contradict each other, or one would be lost.",
    ),
    "SC0612": (
        "nothing to look up",
        "With `resolution: DNS` and without `endpoints` the service's hosts are looked up, so "
        "none of them may be a pattern.",
    ),
    "SC0613": (
        "upgrade without an agreement",
        "`h2UpgradePolicy: UPGRADE` and `useClientProtocol` act over TLS, where both sides agree "
        "on HTTP/2. In plaintext only `h2c: true` of the inbound, or a ServiceEntry's port of "
        "protocol `HTTP2`, says that the server speaks it.",
    ),
}
