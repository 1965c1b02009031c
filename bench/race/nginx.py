"""nginx as a peer: mutual TLS, one caller allowed, with or without a scan in Lua.

nginx has no variable for a URI name, so the caller is known by the subject. The
Lua scan looks for each pattern in the request's body, as text, case and all;
`both` looks in the reply too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from race import payload
from race.peers import Absent, Peer
from race.site import Site, free_port

_LUA_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")

CONFIGURATION = """\
{modules}
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_body_buffer_size 128k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {inside}
}}
"""

_PROXY = """\
  ssl_certificate {server.chain};
  ssl_certificate_key {server.key};
  ssl_client_certificate {server.bundle};
  ssl_verify_client on;
  ssl_verify_depth 2;
  ssl_protocols TLSv1.3;
  ssl_session_tickets off;
  ssl_conf_command NumTickets 0;
  map_hash_bucket_size 128;
  map $ssl_client_s_dn $is_agent {{ default 0; "CN={agent}" 1; }}
  upstream server {{
    server 127.0.0.1:{upstream};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  {init}
  server {{
    listen 127.0.0.1:{port} ssl {http2}backlog=4096;
    location / {{
      if ($is_agent = 0) {{ return 403; }}
      {scan}
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Client-Id $ssl_client_s_dn;
      proxy_pass http://server;
    }}
  }}
"""

_LUA_INIT = """\
init_by_lua_block {{
    patterns = {{}}
    for line in io.lines("{patterns}") do patterns[#patterns + 1] = line end
    function finds(text)
      local find = string.find
      for i = 1, #patterns do
        if find(text, patterns[i], 1, true) then return true end
      end
      return false
    end
  }}
"""

_LUA_REQUEST = """\
access_by_lua_block {
        ngx.req.read_body()
        if finds(ngx.req.get_body_data() or "") then return ngx.exit(403) end
      }
"""

_LUA_REPLY = """\
body_filter_by_lua_block {
        if finds(ngx.arg[1]) then return ngx.ERROR end
      }
"""


def plain(site: Site) -> Peer:
    """Return nginx without a scan."""
    return _peer(site, "nginx", modules="", init="", scan="")


def lua(site: Site) -> Peer:
    """Return nginx with a scan of requests."""
    return _scanning(site, "nginx-lua", _LUA_REQUEST)


def lua_both(site: Site) -> Peer:
    """Return nginx with a scan of requests and replies."""
    return _scanning(site, "nginx-lua-both", _LUA_REQUEST + "      " + _LUA_REPLY)


def _scanning(site: Site, name: str, scan: str) -> Peer:
    patterns = site.write("patterns.txt", "\n".join(payload.PATTERNS) + "\n")
    init = _LUA_INIT.format(patterns=patterns)
    return _peer(site, name, modules=_lua_modules(), init=init, scan=scan)


def _peer(site: Site, name: str, *, modules: str, init: str, scan: str) -> Peer:
    binary = find()
    port = free_port()
    inside = _PROXY.format(
        server=site.identities.server,
        agent=payload.AGENT,
        upstream=site.upstream_port,
        port=port,
        http2="http2 " if "--with-http_v2_module" in _verbose(binary) else "",
        init=init,
        scan=scan,
    )
    path = write(site, name, inside, modules)
    return Peer(
        name=name,
        command=(binary, "-c", str(path)),
        port=port,
        version=_version(binary),
        scans_requests=bool(scan),
        scans_replies=_LUA_REPLY in scan,
    )


def find() -> str:
    """Return the nginx binary; raise Absent if there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Absent("nginx is not installed")
    return found


def write(site: Site, name: str, inside: str, modules: str = "") -> Path:
    """Write a configuration of nginx whose `http` block holds *inside*."""
    folder = site.folder / name
    folder.mkdir(mode=0o700, exist_ok=True)
    # A worker that gives up root could not read the site's files.
    user = "user root;" if os.geteuid() == 0 else ""
    text = CONFIGURATION.format(modules=modules, user=user, folder=folder, inside=inside)
    return site.write(f"{name}/nginx.conf", text)


def _lua_modules() -> str:
    matched = re.search(r"--modules-path=(\S+)", _verbose(find()))
    folder = Path(matched[1] if matched else "/usr/lib/nginx/modules")
    if not (folder / _LUA_MODULES[-1]).exists():
        raise Absent("nginx has no Lua module (Debian: libnginx-mod-http-lua)")
    present = [folder / name for name in _LUA_MODULES if (folder / name).exists()]
    return "\n".join(f"load_module {path};" for path in present)


def _version(binary: str) -> str:
    matched = re.search(r"nginx/(\S+)", _verbose(binary))
    return f"nginx {matched[1]}" if matched else "nginx"


def _verbose(binary: str) -> str:
    return subprocess.run([binary, "-V"], capture_output=True, text=True, timeout=10).stderr
