"""HAProxy as a peer: mutual TLS, one caller allowed, with or without its own scan.

HAProxy 2 has no fetch for a URI name, so the caller is known by the bytes of its
SPIFFE ID in the certificate. The scan is HAProxy's `-m sub` over the body, case
and all; `both` looks in the reply too.
"""

from __future__ import annotations

import shutil
import subprocess

from race import payload
from race.peers import Absent, Peer
from race.site import Site, free_port

_CONFIGURATION = """\
global
    nbthread 1
    maxconn 8000
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout http-keep-alive 3600s
    http-reuse always
frontend callers
    bind 127.0.0.1:{port} backlog 4096 ssl crt {server.both} ca-file {server.bundle} \
verify required alpn h2,http/1.1
    http-request deny unless {{ ssl_c_der,hex -m sub {agent_hex} }}
    {scan}
    http-request set-header X-Client-Id %[ssl_c_s_dn(cn)]
    default_backend server
backend server
    server upstream 127.0.0.1:{upstream} pool-max-conn 1000 pool-purge-delay 3600s
"""

_SCAN_REQUEST = """\
option http-buffer-request
    http-request deny if {{ req.body -m sub -f {patterns} }}
"""

_SCAN_REPLY = """\
    http-response wait-for-body time 5s
    http-response deny if {{ res.body -m sub -f {patterns} }}
"""


def plain(site: Site) -> Peer:
    """Return HAProxy without a scan."""
    return _peer(site, "haproxy", "")


def scan(site: Site) -> Peer:
    """Return HAProxy with a scan of requests."""
    return _peer(site, "haproxy-scan", _SCAN_REQUEST)


def scan_both(site: Site) -> Peer:
    """Return HAProxy with a scan of requests and replies."""
    return _peer(site, "haproxy-scan-both", _SCAN_REQUEST + _SCAN_REPLY)


def _peer(site: Site, name: str, scan: str) -> Peer:
    binary = find()
    port = free_port()
    patterns = site.write("patterns.txt", "\n".join(payload.PATTERNS) + "\n")
    text = _CONFIGURATION.format(
        port=port,
        server=site.identities.server,
        agent_hex=payload.AGENT.encode().hex().upper(),
        scan=scan.format(patterns=patterns),
        upstream=site.upstream_port,
    )
    path = site.write(f"{name}/haproxy.cfg", text)
    return Peer(
        name=name,
        command=(binary, "-db", "-f", str(path)),
        port=port,
        version=_version(binary),
        scans_requests=bool(scan),
        scans_replies=_SCAN_REPLY in scan,
    )


def find() -> str:
    """Return the HAProxy binary; raise Absent if there is none."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Absent("haproxy is not installed")
    return found


def _version(binary: str) -> str:
    run = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=10)
    words = run.stdout.split()
    return f"HAProxy {words[2]}" if len(words) > 2 else "HAProxy"
