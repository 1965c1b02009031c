"""Istio's own cases of tokens, run through documents, rules and the whole flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.flow import OK, Flow
from support.memory import in_memory

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "jwt_request_auth.json"
pytestmark = pytest.mark.skipif(not VECTORS.exists(), reason="jwt_request_auth.json is not here")
DATA: dict[str, Any] = json.loads(VECTORS.read_text()) if VECTORS.exists() else {"suites": []}

# Where no keys come from: nobody fetches any here, as if the answer were late or a 404.
_URIS = {
    "@JWKS_URI_DELAY_500MS": "http://127.0.0.1:9/late",
    "@JWKS_URI_404": "http://127.0.0.1:9/missing",
}


def resolved(text: str) -> str:
    """Return *text* with the tokens that it names."""
    for name in sorted(DATA["tokens"], key=len, reverse=True):
        text = text.replace(f"@{name}", DATA["tokens"][name]["jwt"])
    return text


def with_keys(value: Any) -> Any:
    """Return a document with the keys that it names."""
    if isinstance(value, dict):
        return {name: with_keys(one) for name, one in value.items()}
    if isinstance(value, list):
        return [with_keys(one) for one in value]
    return json.dumps(DATA["jwks"]) if value == "@JWKS" else _URIS.get(value, value)


_LISTS = {
    "RequestAuthentication": "requestAuthentications",
    "AuthorizationPolicy": "authorizationPolicies",
}


def documents(suite: dict[str, Any]) -> str:
    """Return the documents of *suite*, for the workload that a flow has."""
    written = [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": kind,
            "metadata": {"name": f"{kind.lower()}-{index}", "namespace": "mcp-prod"},
            "spec": with_keys(spec),
        }
        for kind, name in _LISTS.items()
        for index, spec in enumerate(suite[name])
    ]
    return "".join(f"---\n{json.dumps(document)}\n" for document in written)


def request(asked: dict[str, Any]) -> bytes:
    """Return the bytes of a case's request."""
    headers = {"host": "files.local"} | dict(asked["headers"])
    lines = [f"{name}: {resolved(value)}" for name, value in headers.items()]
    start = f"{asked['method']} {resolved(asked['path'])} HTTP/1.1"
    return "\r\n".join([start, *lines, "", ""]).encode()


CASES = [(suite, request) for suite in DATA["suites"] for request in suite["requests"]]


@pytest.mark.parametrize(
    ("suite", "asked"),
    CASES,
    ids=[f"{suite['id']}-{request['name']}".replace(" ", "_") for suite, request in CASES],
)
@in_memory
async def test_a_case_ends_as_it_says(suite: dict[str, Any], asked: dict[str, Any]) -> None:
    flow = Flow(documents(suite), spec="compat: istio")
    caller = flow.callers.connect()
    caller.say(request(asked))
    await flow.settle()
    heard = flow.heard_by_servers()
    if asked["status"] == 200:
        await flow.answer(OK)
    status, headers = answered(caller.heard())
    assert status == asked["status"]
    assert bool(heard) is (status == 200)
    assert ("www-authenticate" in headers) is (status == 401 or asked["name"] == "invalid-aud")
    seen = answered(heard)[1] if heard else {}
    for name, value in asked.get("upstreamHeaders", {}).items():
        assert seen.get(name) == resolved(value)
    for name in asked.get("upstreamHeadersAbsent", ()):
        assert name not in seen
    whole = b"".join(line for line in flow.journal.take().splitlines())
    for token in DATA["tokens"].values():
        assert token["jwt"].encode() not in whole
        if suite["id"] != "forward" and token["signatureValid"]:
            assert token["jwt"].encode() not in heard


def answered(heard: bytes) -> tuple[int, dict[str, str]]:
    """Return the status of a reply (0 of a request), and the headers."""
    start, *lines = heard.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    status = int(start.split(" ")[1]) if start.startswith("HTTP/") else 0
    return status, {name.lower(): value for name, _, value in pairs}


def test_every_case_of_the_file_is_here() -> None:
    assert len(CASES) == DATA["counts"]["requests"] == 36
