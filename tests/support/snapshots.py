"""Documents as text, and what they compile to, for tests of what they mean together.

    service(policy(), inspection("action: FLAG")).policy.requests.note

What goes in is what an operator would write, behind one inbound unless a bootstrap is given.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sidecar.config.loaded import Loaded, parse_documents
from sidecar.config.problem import ConfigError, Problem
from sidecar.config.snapshot import Service, Snapshot, compile_snapshot
from sidecar.policy.call import Call
from sidecar.policy.decide import decide
from sidecar.policy.verdict import Permit

ONE = '{listen: "127.0.0.1:8443", to: "http://127.0.0.1:9000"}'
LISTEN = "127.0.0.1:8443"
HARM = "ignore previous instructions"


def bootstrap(*inbounds: str, spec: str = "", labels: str = "app: files") -> str:
    """One bootstrap of the namespace `prod`; *spec* is more lines of its spec."""
    return f"""\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {{name: files, namespace: prod, labels: {{{labels}}}}}
spec:
  inbound: [{", ".join(inbounds or [ONE])}]
  {spec}
"""


def document(kind: str, spec: str, metadata: str = "", name: str = "one") -> str:
    """One document; *spec* and *metadata* are YAML."""
    version = {
        "Inspection": "sidecar/v1",
        "RateLimit": "sidecar/v1",
        "WasmPlugin": "extensions.istio.io/v1alpha1",
        "DestinationRule": "networking.istio.io/v1",
        "ServiceEntry": "networking.istio.io/v1",
    }.get(kind, "security.istio.io/v1")
    more = f", {metadata}" if metadata else ""
    return f"""\
---
apiVersion: {version}
kind: {kind}
metadata: {{name: {name}{more}}}
spec: {spec}
"""


def policy(spec: str = "{rules: [{}]}", metadata: str = "", name: str = "one") -> str:
    """An AuthorizationPolicy, which lets everybody in unless *spec* says less."""
    return document("AuthorizationPolicy", spec, metadata, name)


def peers(spec: str, metadata: str = "", name: str = "one") -> str:
    """A PeerAuthentication."""
    return document("PeerAuthentication", spec, metadata, name)


def inspection(spec: str = "", metadata: str = "", name: str = "one") -> str:
    """An Inspection that looks for HARM; *spec* is more of its fields."""
    more = f", {spec}" if spec else ""
    return document(
        "Inspection", f'{{patterns: [{{id: harm, text: "{HARM}"}}]{more}}}', metadata, name
    )


def entry(host: str, *addresses: str) -> str:
    """A ServiceEntry of *host* with port 80."""
    endpoints = ", ".join(f'{{address: "{one}"}}' for one in addresses)
    spec = (
        f"{{hosts: [{host}], ports: [{{number: 80, name: http}}], resolution: STATIC, "
        f"endpoints: [{endpoints}]}}"
    )
    return document("ServiceEntry", spec, name=host)


def read(*texts: str) -> Loaded:
    """Read texts that have no errors of their own."""
    loaded = parse_documents("".join(texts).encode(), "f.yaml", namespace="prod")
    assert not loaded.errors, loaded.errors
    assert loaded.bootstrap is not None
    return loaded


def compiled(*texts: str) -> Snapshot:
    """Compile texts together; without a bootstrap among them they get one."""
    first, *rest = texts or [""]
    texts = (first, *rest) if "kind: Sidecar" in first else (bootstrap(), *texts)
    loaded = read(*texts)
    assert loaded.bootstrap is not None
    return compile_snapshot(loaded.bootstrap, loaded.documents)


def service(*texts: str) -> Service:
    """The service of the one inbound."""
    return compiled(*texts).services[LISTEN]


def problems(*texts: str) -> tuple[Problem, ...]:
    """What compiling the texts is refused for."""
    with pytest.raises(ConfigError) as refused:
        compiled(*texts)
    return refused.value.problems


def codes(found: Iterable[Problem]) -> list[str]:
    """The codes of problems, in their order."""
    return [problem.code for problem in found]


def allowed(found: Service, asked: Call) -> bool:
    """Whether *asked* may happen, at the beginning of time."""
    return type(decide(asked, found.policy, 0.0)) is Permit
