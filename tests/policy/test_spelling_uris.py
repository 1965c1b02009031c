"""No spelling of a resource's URI passes as another: not to those who decode it themselves, nor
to the URL library of the official Python SDK."""

from __future__ import annotations

from posixpath import normpath
from random import Random
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, ValidationError
from support.decisions import NOW, asked, policy
from support.long import times
from support.policies import allow, deny, rule

from sidecar.policy.decide import Scans, decide
from sidecar.policy.spec import Action
from sidecar.policy.verdict import Permit

FILE, WEB = "file:///etc/shadow", "https://internal/a"
SECRETS = ["file:///etc/*", "https://internal/*"]
POLICIES = {
    "never": policy([deny(rule(resources=SECRETS))], Scans(), default=Action.ALLOW),
    "all but": policy([allow(rule(mcp_methods=["*"], not_resources=SECRETS))], Scans()),
    "only": policy([allow(rule(resources=["file:///srv/*", "https://public/*"]))], Scans()),
}

SWAPS = {
    "/": ["/", "/", "/", "//", "/./", "/x/../", "\\", "%2f", "%2F", "/%2e/", "%5C", ""],
    ":": [":", ":", ":", "%3A"],
}
BEFORE = ["", "", "", "", " ", "\t", "file:", "x"]
BEHIND = ["", "", "", "", "?", "#", "?a=/srv", "/", "/.", "%00", " ", "\\", ":443", "."]
HOSTS = {"https://": ["u@", "u:p@", "", "", ""], "file://": ["localhost", "h", "", "", "", ""]}


def spelled(chance: Random, uri: str) -> str:
    """*uri* with some of its characters written otherwise, and things put around it."""
    out = []
    for one in uri:
        how = chance.random()
        if one in SWAPS and how < 0.25:
            out.append(chance.choice(SWAPS[one]))
        elif how < 0.08:
            out.append(f"%{ord(one):02x}")
        elif how < 0.16:
            out.append(one.upper())
        elif how < 0.17:
            out.append(chr(ord(one) + 0xFEE0))  # its full-width twin
        else:
            out.append(one)
    text = "".join(out)
    for scheme, hosts in HOSTS.items():
        if text.startswith(scheme):
            text = scheme + chance.choice(hosts) + text.removeprefix(scheme)
    return chance.choice(BEFORE) + text + chance.choice(BEHIND)


URIS = st.tuples(
    st.sampled_from([FILE, WEB, "file:///srv/../etc/shadow", "file:///srv/a", "https://public/a"]),
    st.integers(0, 2**64),
).map(lambda chosen: spelled(Random(chosen[1]), chosen[0]))


def opened(uri: str) -> set[str]:
    """What servers may open or fetch for *uri*."""
    readings = [uri, unquote(uri), uri.strip(), unquote(uri).replace("\\", "/")]
    try:
        readings.append(str(AnyUrl(uri)))
    except ValidationError:
        pass  # the SDK refuses it
    return {found for one in readings for found in _targets(one)}


def _targets(uri: str) -> set[str]:
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
    except ValueError:
        return set()
    if parts.scheme == "file":
        path = unquote(parts.path).partition("\0")[0].replace("\\", "/")
        return {"file " + normpath("/" + path.lstrip("/"))}
    return {f"{parts.scheme} {host.rstrip('.')}"}


def is_secret(targets: set[str]) -> bool:
    return any(one.startswith("file /etc/") or one == "https internal" for one in targets)


def permits(name: str, uri: str) -> bool:
    body = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": uri}}
    return isinstance(decide(asked(body), POLICIES[name], NOW), Permit)


@settings(max_examples=times(400, 20_000), deadline=None)
@given(st.sampled_from(sorted(POLICIES)), URIS)
def test_what_passes_is_to_no_reader_a_secret(name: str, uri: str) -> None:
    if permits(name, uri):
        assert not is_secret(opened(uri)), uri


@pytest.mark.parametrize("uri", ["file:///srv/a", "https://public/a"])
def test_what_is_honest_passes(uri: str) -> None:
    assert all(permits(name, uri) for name in POLICIES)
    assert not is_secret(opened(uri))


@pytest.mark.parametrize(
    "uri",
    [
        "FILE:/etc/shadow",
        "file:///%65tc/shadow",
        "file://localhost/etc/shadow",
        "https://u@INTERNAL:443/a",
        "https:\\\\internal\\a",
    ],
)
def test_some_spellings_would_fool_who_compares_them_as_they_are(uri: str) -> None:
    assert is_secret(opened(uri))
    assert not any(uri.startswith(value.removesuffix("*")) for value in SECRETS)
    assert not any(permits(name, uri) for name in POLICIES)
