"""Whose certificates are used: a folder, a CA here, a CA elsewhere; other domains' roots."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.bootstrap import BundleEndpoint, SidecarSpec
from sidecar.config.documents import FileRef
from sidecar.config.loaded import Loaded

Read = Callable[[str], Loaded]


def text(**spec: Any) -> str:
    document = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": "files", "namespace": "mcp-prod"},
        "spec": {"inbound": [{"listen": "127.0.0.1:8443", "to": "http://127.0.0.1:9000"}], **spec},
    }
    return json.dumps(document)


def spec_of(load: Read, **spec: Any) -> SidecarSpec:
    found = load(text(**spec))
    assert [problem.message for problem in found.problems] == []
    assert found.bootstrap is not None
    return found.bootstrap.spec


def test_a_ca_elsewhere_is_named_by_its_url(load: Read) -> None:
    own = spec_of(load, identity={"ca": "https://ca:8444/", "tokenFile": "t"}).identity
    assert own.is_remote
    assert (own.ca, own.token_file, own.max_age) == ("https://ca:8444", "t", 3600)
    assert own.certs == "certs/mcp-prod/files", "where it is kept"


def test_where_it_is_kept_and_how_old_its_word_may_get_can_be_said(load: Read) -> None:
    identity = {"ca": "https://ca:8444", "certs": "/var/lib/s", "maxAge": "90s"}
    own = spec_of(load, identity=identity).identity
    assert (own.certs, own.max_age, own.token_file) == ("/var/lib/s", 90, "")


def test_a_local_ca_is_a_folder_as_before(load: Read) -> None:
    own = spec_of(load, identity={"ca": "./certs/ca"}).identity
    assert not own.is_remote
    assert (own.ca, own.certs) == ("certs/ca", "")


def test_a_folder_may_have_a_deny_list_beside_it(load: Read) -> None:
    own = spec_of(load, identity={"certs": "./own", "revocations": "./revoked.json"}).identity
    assert (own.certs, own.revocations) == ("own", "revoked.json")


REFUSED = [
    ({"ca": "http://ca:8444"}, "SC0211", "https"),
    ({"ca": "https://"}, "SC0211", "URL"),
    ({"ca": "https://u@ca"}, "SC0211", "URL"),
    ({"ca": "https://ca:99999"}, "SC0211", "URL"),
    ({"ca": "https://ca:8444/v1"}, "SC0211", "path"),
    ({"ca": "./certs/ca", "tokenFile": "t"}, "SC0701", "tokenFile"),
    ({"certs": "./own", "maxAge": "1h"}, "SC0701", "maxAge"),
    ({"ca": "./certs/ca", "revocations": "r"}, "SC0701", "revocations"),
    ({"ca": "https://ca:8444", "revocations": "r"}, "SC0701", "revocations"),
    ({"certs": "./own", "ca": "./certs/ca"}, "SC0701", "both"),
    ({"spiffe": "unix:/run/spire/agent.sock"}, "SC0304", "spiffe"),
    ({"spiffe": "unix:/run/spire/agent.sock", "certs": "./own"}, "SC0304", "spiffe"),
]


@pytest.mark.parametrize(("identity", "code", "word"), REFUSED)
def test_what_cannot_be_is_refused_with_its_reason(
    load: Read, identity: dict[str, str], code: str, word: str
) -> None:
    problem = load(text(identity=identity)).errors[0]
    assert problem.code == code
    assert word in problem.message


def test_the_workload_api_is_refused_and_a_way_round_is_told(load: Read) -> None:
    problem = load(text(identity={"spiffe": "unix:/x", "certs": "./own"})).errors[0]
    assert "not spoken yet" in problem.why
    assert "certs" in problem.why


def test_roots_of_others_come_from_files_and_urls(load: Read) -> None:
    served = {"url": "https://ca.b.test:8444/v1/bundle", "spiffeId": "spiffe://b.test/ca"}
    bundles = {
        "a.test": "./a.pem",
        "b.test": {**served, "bootstrap": "./b.pem"},
        "c.test": "https://c.test/bundle.json",
    }
    found = spec_of(load, trustBundles=bundles).trust_bundles
    a, b = found["a.test"], found["b.test"]
    assert isinstance(a, FileRef)
    assert isinstance(b, BundleEndpoint)
    assert a.path == "a.pem"
    assert (b.spiffe_id, b.bootstrap and b.bootstrap.path) == ("spiffe://b.test/ca", "b.pem")
    assert found["c.test"] == BundleEndpoint("https://c.test/bundle.json")


@pytest.mark.parametrize(
    ("bundle", "code"),
    [
        ("http://c.test/bundle.json", "SC0211"),
        ({"url": "http://c.test/b"}, "SC0211"),
        ({"url": "https://c.test/b", "spiffeId": "spiffe://c.test/ca"}, "SC0707"),
        ({"url": "https://c.test/b", "bootstrap": "./c.pem"}, "SC0707"),
        ({"url": "https://c.test/b", "spiffeId": "c.test", "bootstrap": "c"}, "SC0211"),
        ({"spiffeId": "spiffe://c.test/ca", "bootstrap": "c"}, "SC0202"),
    ],
)
def test_an_endpoint_that_proves_nothing_is_refused(load: Read, bundle: Any, code: str) -> None:
    assert [one.code for one in load(text(trustBundles={"c.test": bundle})).errors] == [code]
