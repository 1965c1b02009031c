"""What the tests of configuration share: reading text, and Istio's test data where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.loaded import Loaded, parse_documents
from sidecar.config.problem import Problem

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
SEEDS = VECTORS.parent / "seeds"

Codes = Callable[[str], list[str]]


def loaded(text: str | bytes) -> Loaded:
    data = text.encode() if isinstance(text, str) else text
    return parse_documents(data, "f.yaml", namespace="prod")


@pytest.fixture
def load() -> Callable[[str | bytes], Loaded]:
    """Read text as the file `f.yaml`."""
    return loaded


@pytest.fixture
def codes() -> Codes:
    """Return the codes of all problems of a text, in their order."""
    return lambda text: [problem.code for problem in loaded(text).problems]


@pytest.fixture
def problem() -> Callable[[str], Problem]:
    """Return the only problem of a text."""

    def only(text: str) -> Problem:
        (found,) = loaded(text).problems
        return found

    return only


@pytest.fixture
def document() -> Callable[..., Loaded]:
    """Read one document, given as values: kind, spec, and annotations."""

    def read(kind: str, spec: Any, version: str = "", **metadata: Any) -> Loaded:
        groups = {
            "PeerAuthentication": "security.istio.io/v1",
            "RequestAuthentication": "security.istio.io/v1",
            "AuthorizationPolicy": "security.istio.io/v1",
            "DestinationRule": "networking.istio.io/v1",
            "ServiceEntry": "networking.istio.io/v1",
            "VirtualService": "networking.istio.io/v1",
            "WasmPlugin": "extensions.istio.io/v1alpha1",
        }
        written = {
            "apiVersion": version or groups.get(kind, "sidecar/v1"),
            "kind": kind,
            "metadata": {"name": "one", "namespace": "prod", **metadata},
            "spec": spec,
        }
        return loaded(json.dumps(written))

    return read


@pytest.fixture
def vectors() -> Callable[[str], dict[str, Any]]:
    """Return a file of test data by name; skip where there is none."""

    def read(name: str) -> dict[str, Any]:
        path = VECTORS / name
        if not path.exists():
            pytest.skip(f"no test data: {name}")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    return read


@pytest.fixture
def seed() -> Callable[[str], list[str]]:
    """Return the lines of a seed by the beginning of its name; skip where there is none."""

    def read(prefix: str) -> list[str]:
        for path in SEEDS.glob(f"{prefix}*.txt"):
            return path.read_text().splitlines()
        pytest.skip(f"no seed: {prefix}")

    return read
