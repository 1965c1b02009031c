"""The systemd units, as text: the one source of `systemd/` and of `sidecar export unit`.

A unit runs as a user of its own with nothing but its state and its configuration,
may not gain privileges, and may call what a network service needs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INSTALLED: Final = "/opt/sidecar/bin/sidecar"  # where the files in `systemd/` look for it
CONFIGURATION: Final = "/etc/sidecar"
STATE: Final = "/var/lib/sidecar"
RUNTIME: Final = "/run/sidecar"
CACHE: Final = "/var/cache/sidecar"
CA_STATE: Final = "/var/lib/sidecar-ca"

# What all kinds of service are kept from: all that a network service does not need.
_HARDENING: Final = """\
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateTmp=yes
PrivateUsers=yes
DevicePolicy=closed
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077
"""

# What programs that a sidecar starts (`stdio`) cannot do without: JavaScript makes code as it
# runs, package runners keep what they fetched and run it. The end is the sidecar's to make, and
# what is still there after it is killed.
_PROGRAMS: Final = """\
CacheDirectory=sidecar/{who}
CacheDirectoryMode=0700
Environment=HOME={cache}/{who} XDG_CACHE_HOME={cache}/{who}
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Secrets for the program, if it needs any: NAME=value, handed on where `inheritEnv` has the name.
EnvironmentFile=-{configuration}/{who}.env
# Runtimes try for more than they need, such as a higher limit, and go on without it.
SystemCallErrorNumber=EPERM
KillMode=mixed
TasksMax=4096
"""
# Else all instances of a template would share one: they could speak to each other's admin sockets
# and end each other. No unit that is printed for a name, nor the CA's, has a user of such a name.
_OWN_USER: Final = "User=sidecar_%i\n"
_NO_CODE_AT_RUN_TIME: Final = "MemoryDenyWriteExecute=yes\n"

_SERVICE: Final = """\
[Unit]
Description={description}
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
{start}\
WatchdogSec=30
Restart=on-failure
RestartSec=1
# Usage, permission and configuration: starting again would change nothing.
RestartPreventExitStatus=2 77 78
TimeoutStopSec=45
LimitNOFILE=65536
# A core would hold the keys.
LimitCORE=0
{state}\
{hardening}
[Install]
WantedBy=multi-user.target
"""

_SOCKET: Final = """\
[Unit]
Description={description}

[Socket]
ListenStream={listen}
NoDelay=yes
Backlog=1024
Service={service}

[Install]
WantedBy=sockets.target
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit file: its name and what stands in it."""

    name: str
    text: str


def service(name: str = "", *, program: str = INSTALLED) -> Unit:
    """Return the unit of the sidecar *name* (`/etc/sidecar/NAME.yaml`); a template without one."""
    return _sidecar("sidecar", name, program, "mTLS and rules in front of an MCP server")


def stdio(name: str = "", *, program: str = INSTALLED) -> Unit:
    """Return the unit of a sidecar that starts its server as a program (`stdio`).

    It differs from `service` in what such programs need: a cache of their own, and leave to
    make code while they run.
    """
    about = "mTLS and rules in front of a program that speaks MCP"
    return _sidecar("sidecar-stdio", name, program, about, programs=True)


def _sidecar(kind: str, name: str, program: str, about: str, *, programs: bool = False) -> Unit:
    who = name or "%i"
    start = (
        f"ExecStart={program} run -c {CONFIGURATION}/{who}.yaml\n"
        "ExecReload=/bin/sh -c 'kill -HUP $$MAINPID'\n"
    )
    # A join token may be there for the first start; without a file `none` stands.
    state = (
        f"StateDirectory=sidecar/{who}\nStateDirectoryMode=0700\n"
        f"RuntimeDirectory=sidecar/{who}\nRuntimeDirectoryMode=0700\n"
        f"Environment=XDG_RUNTIME_DIR=/run/sidecar/{who}\n"
        f"LoadCredential=join-token:{CONFIGURATION}/{who}.token\nSetCredential=join-token:none\n"
    )
    if not name:
        state += _OWN_USER
    hardening = _HARDENING
    if programs:
        state += _PROGRAMS.format(who=who, cache=CACHE, configuration=CONFIGURATION)
        hardening = hardening.replace(_NO_CODE_AT_RUN_TIME, "")
    text = _SERVICE.format(
        description=f"sidecar {who}: {about}", start=start, state=state, hardening=hardening
    )
    return Unit(f"{kind}-{name}.service" if name else f"{kind}@.service", text)


def socket(name: str = "", listen: str = "0.0.0.0:8443") -> Unit:
    """Return the socket unit of the sidecar *name*: *listen* stays open while it restarts."""
    of = f"sidecar-{name}" if name else "sidecar@"
    text = _SOCKET.format(
        description=f"the socket of sidecar {name or '%i'}",
        listen=listen,
        service=f"{of}.service" if name else "sidecar@%i.service",
    )
    return Unit(f"{of}.socket", text)


def authority(*, program: str = INSTALLED, listen: str = "0.0.0.0:8444") -> Unit:
    """Return the unit of the CA, whose keys are in its state and nowhere else."""
    text = _SERVICE.format(
        description="the CA of the sidecars",
        start=(f"ExecStart={program} ca serve --ca {CA_STATE} --listen {listen}\n"),
        state="StateDirectory=sidecar-ca\nStateDirectoryMode=0700\n",
        hardening=_HARDENING,
    )
    return Unit("sidecar-ca.service", text)
