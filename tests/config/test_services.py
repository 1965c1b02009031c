from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import ServiceEntry
from sidecar.config.loaded import Loaded
from sidecar.config.traffic_specs import ServiceEndpoint, ServicePort

Document = Callable[..., Loaded]

HTTP = {"number": 80, "name": "http"}


def entry(*endpoints: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "hosts": ["files.example"],
        "ports": [HTTP],
        "resolution": "STATIC",
        "endpoints": list(endpoints) or [{"address": "127.0.0.1"}],
        **fields,
    }


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def only(loaded: Loaded) -> ServiceEntry:
    assert loaded.errors == ()
    (found,) = loaded.documents
    assert isinstance(found, ServiceEntry)
    return found


def test_endpoints_come_out_with_their_ports_labels_and_weights(document: Document) -> None:
    spec = entry(
        {"address": "127.0.0.1", "ports": {"http": 9001}, "labels": {"v": "1"}, "weight": 3},
        {"address": "::1", "weight": 0},
        ports=[{"number": 80, "name": "http", "protocol": "http", "targetPort": 8080}],
    )
    found = only(document("ServiceEntry", spec)).spec
    assert found.hosts == ("files.example",)
    (port,) = found.ports
    assert port == ServicePort(80, "http", "HTTP", 8080)
    first, second = found.endpoints
    assert (first.ip, first.labels, first.weight) == ("127.0.0.1", {"v": "1"}, 3)
    assert (second.ip, second.weight) == ("::1", 1)
    assert [first.port_for(port), second.port_for(port)] == [9001, 8080]
    assert first.at is not None


@pytest.mark.parametrize("protocol", ["HTTP2", "http2"])
def test_a_port_may_be_of_http_2(protocol: str, document: Document) -> None:
    spec = entry(ports=[{**HTTP, "protocol": protocol}], hosts=["*a.example"])
    (port,) = only(document("ServiceEntry", spec)).spec.ports
    assert port.protocol == "HTTP2"


def test_without_other_ports_an_endpoint_listens_on_the_services(document: Document) -> None:
    found = only(document("ServiceEntry", entry())).spec
    assert found.endpoints[0].port_for(found.ports[0]) == 80


@pytest.mark.parametrize("address", ["unix:/run/files.sock", "unix:///run/files.sock"])
def test_an_endpoint_may_be_a_socket(address: str, document: Document) -> None:
    found = only(document("ServiceEntry", entry({"address": address}))).spec
    assert found.endpoints[0].unix == "/run/files.sock"
    assert found.endpoints[0].port_for(found.ports[0]) == 0


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (entry(hosts=[]), "SC0210"),
        (entry(hosts=["a b"]), "SC0211"),
        (entry(ports=[]), "SC0210"),
        (entry(ports=[{"number": 80}]), "SC0202"),
        (entry(ports=[{"number": 0, "name": "a"}]), "SC0206"),
        (entry(ports=[HTTP, HTTP]), "SC0604"),
        (entry(ports=[{**HTTP, "protocol": "HTTPS"}]), "SC0304"),
        (entry(ports=[{**HTTP, "protocol": "tcp"}]), "SC0304"),
        (entry(ports=[{**HTTP, "protocol": "GRPC"}]), "SC0304"),
        (entry(ports=[{**HTTP, "protocol": "SMTP"}]), "SC0205"),
        (entry(endpoints=[]), "SC0210"),
        (entry({"address": "files.example"}), "SC0211"),
        (entry({"address": "127.0.0.1:80"}), "SC0211"),
        (entry({"address": "unix:files.sock"}), "SC0211"),
        (entry({"address": "unix:/" + "a" * 107}), "SC0211"),
        (entry({"address": "unix:/a", "ports": {"http": 1}}), "SC0604"),
        (entry({"address": "127.0.0.1", "ports": {"htp": 1}}), "SC0604"),
        (entry({"address": "127.0.0.1", "serviceAccount": "x"}), "SC0304"),
        (entry({"address": "unix:/a"}, resolution="DNS"), "SC0211"),
        (entry(hosts=["a", "*"]), "SC0211"),
        (entry(resolution="DNS_ROUND_ROBIN"), "SC0304"),
        (entry(resolution="DYNAMIC_DNS"), "SC0304"),
        (entry({"address": "127.0.0.1.2"}), "SC0211"),
        (entry({"address": "127.0.0.300"}, resolution="DNS"), "SC0211"),
        (entry(resolution="NONE"), "SC0304"),
        (entry(resolution="STATICK"), "SC0205"),
        (entry(subjectAltNames=[]), "SC0210"),
        (entry(subjectAltNames=[""]), "SC0401"),
        (entry({"address": "unix:/a"}, ports=[HTTP, {"number": 81, "name": "b"}]), "SC0604"),
    ],
)
def test_what_a_service_may_not_say(spec: dict[str, Any], code: str, document: Document) -> None:
    loaded = document("ServiceEntry", spec)
    assert code in codes(loaded)
    assert {problem.code for problem in loaded.errors} == {code}
    assert loaded.documents == ()


def test_the_resolution_is_never_guessed(document: Document) -> None:
    spec = entry()
    del spec["resolution"]
    assert codes(document("ServiceEntry", spec)) == ["SC0202"]


@pytest.mark.parametrize("location", ["MESH_INTERNAL", "MESH_EXTERNAL"])
def test_a_service_may_be_of_the_mesh_or_not_and_says_who_may_answer(
    location: str, document: Document
) -> None:
    spec = entry({"address": "10.0.0.1"}, location=location, subjectAltNames=["spiffe://a/b"])
    loaded = document("ServiceEntry", spec)
    assert codes(loaded) == []
    found = only(loaded).spec
    assert (found.internal, found.names) == (location == "MESH_INTERNAL", ("spiffe://a/b",))


@pytest.mark.parametrize(
    "fields",
    [
        {"addresses": ["10.0.0.0/8"]},
        {"exportTo": ["."]},
        {"workloadSelector": {"labels": {}}},
    ],
)
def test_what_has_no_effect_yet_draws_a_warning(fields: dict[str, Any], document: Document) -> None:
    assert codes(document("ServiceEntry", entry(**fields))) == ["SC0303"]


def test_a_mistyped_port_is_told_which_was_meant(document: Document) -> None:
    spec = entry({"address": "127.0.0.1", "ports": {"htp": 1}})
    (problem,) = document("ServiceEntry", spec).problems
    assert problem.help == "did you mean `http`?"


def test_an_endpoints_port_prefers_its_own_over_the_services() -> None:
    port = ServicePort(80, "http", target_port=81)
    assert ServiceEndpoint("127.0.0.1", ports={"http": 82}).port_for(port) == 82
    assert ServiceEndpoint("127.0.0.1", ports={"other": 82}).port_for(port) == 81


def looked_up(**fields: Any) -> dict[str, Any]:
    spec = entry(**{"resolution": "DNS", **fields})
    return {name: value for name, value in spec.items() if value is not None}


def test_names_are_looked_up_where_that_is_asked_for(document: Document) -> None:
    endpoints = [
        {"address": "localhost", "weight": 2, "labels": {"v": "1"}},
        {"address": "127.0.0.2"},
        {"address": "files.example", "ports": {"http": 81}},
    ]
    loaded = document("ServiceEntry", looked_up(endpoints=endpoints))
    assert codes(loaded) == []
    found = only(loaded).spec
    assert [(one.name, one.ip) for one in found.endpoints] == [
        ("localhost", ""),
        ("", "127.0.0.2"),
        ("files.example", ""),
    ]
    assert [one.address(found.ports[0]) for one in found.endpoints] == [
        "localhost:80",
        "127.0.0.2:80",
        "files.example:81",
    ]


def test_without_endpoints_the_services_own_names_are_looked_up(document: Document) -> None:
    spec = looked_up(endpoints=None, hosts=["localhost", "a.example"])
    found = only(document("ServiceEntry", spec)).spec
    assert [one.name for one in found.endpoints] == ["localhost", "a.example"]


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (looked_up(endpoints=None, hosts=["localhost", "*.a"]), "SC0612"),
        (looked_up(endpoints=None, resolution="STATIC"), "SC0202"),
    ],
)
def test_a_service_says_where_it_is_or_what_to_look_up(
    spec: dict[str, Any], code: str, document: Document
) -> None:
    assert [problem.code for problem in document("ServiceEntry", spec).errors] == [code]


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        (ServiceEndpoint("127.0.0.1"), "127.0.0.1:80"),
        (ServiceEndpoint("::1"), "[::1]:80"),
        (ServiceEndpoint(unix="/run/a.sock"), "unix:/run/a.sock"),
        (ServiceEndpoint(name="a.example"), "a.example:80"),
    ],
)
def test_an_endpoint_has_one_address_for_a_port(endpoint: ServiceEndpoint, address: str) -> None:
    assert endpoint.address(ServicePort(80, "http")) == address
