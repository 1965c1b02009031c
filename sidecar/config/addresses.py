"""Addresses as they are written: where to listen, where to call, which host.

Everything is an IP address, a path, or the name of a ServiceEntry: no name is
looked up here or later, so that what is written is what is connected to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from .values import Malformed

# What fits the address of a Unix socket (sun_path of Linux, less its NUL).
LONGEST_SOCKET_PATH: Final = 107
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-zA-Z0-9]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9])?"
    r"(\.[a-zA-Z0-9]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9])?)*"
)
_LOCALHOST: Final = "localhost"
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and a port to listen on or connect to, or the path of a Unix socket."""

    ip: str = ""
    port: int = 0
    unix: str = ""

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.unix) or ip_address(self.ip).is_loopback


@dataclass(frozen=True, slots=True)
class Target:
    """Where an inbound's calls go: an address, or the host of a ServiceEntry.

    `address` is `IP:PORT`, `unix:/path` or `stdio:LISTENER` (a program behind that listener),
    empty for a ServiceEntry's host, whose `port` is then 0 if none was written; `authority` is
    what the server sees as Host unless the caller's is preserved.
    """

    host: str
    authority: str
    address: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        """Whether the address is on this machine; False for a ServiceEntry's host."""
        if not self.address or self.address.startswith(("unix:", "stdio:")):
            return bool(self.address)
        return ip_address(self.address.rpartition(":")[0].strip("[]")).is_loopback

    def __str__(self) -> str:
        return self.address or self.authority


def listen_address(text: str) -> Address:
    """Read `IP:PORT`; port 0 lets the system choose."""
    host, port = _host_and_port(text, "127.0.0.1:8443")
    if not host:
        raise Malformed(f"`{text}` has no address", f"write `0.0.0.0{text}` for all interfaces")
    if port is None:
        raise Malformed(f"`{text}` has no port", f"write `{text}:8443`")
    return Address(_ip(host, text), port)


def admin_address(text: str) -> Address:
    """Read `unix:PATH` or a loopback `IP:PORT`."""
    if text.startswith("unix:"):
        return Address(unix=socket_path(text))
    address = listen_address(text)
    if not address.is_local:
        raise Malformed(
            f"`{text}` can be reached from other machines",
            "write `127.0.0.1:15000`, or `unix:` and a path",
            "SC0703",
            why="the admin page tells who calls what",
        )
    return address


def target_of(text: str) -> Target:
    """Read `http://IP:PORT`, `unix:/path`, or the host of a ServiceEntry, also as a URL."""
    if text.startswith("unix:"):
        return Target("localhost", "localhost", f"unix:{socket_path(text)}")
    scheme, separator, rest = text.rpartition("://")
    if scheme == "https":
        raise Malformed(
            f"`{text}`: TLS to the server is not asked for here",
            "have a ServiceEntry with the server's host (`protocol: HTTP`) and address and a "
            "DestinationRule for it with `tls: {mode: SIMPLE}`, and write `http://HOST:PORT`",
            "SC0304",
            why="a DestinationRule says by which roots and name the server is known",
        )
    if separator and scheme != "http":
        raise Malformed(f"`{scheme}://` is not spoken to servers", f"write `http://{rest}`")
    authority, _, path = rest.partition("/")
    if path:
        raise Malformed(
            f"`{text}` has a path", f"write `http://{authority}`", why="calls keep their own path"
        )
    return _host_target(authority, text)


def _host_target(authority: str, text: str) -> Target:
    host, port = _host_and_port(authority, "http://127.0.0.1:9000")
    ip = _LOOPBACK if host == _LOCALHOST else _ip_or_nothing(host)
    if not ip:
        return Target(host_name(host), authority, port=port or 0)
    if port is None and "://" not in text:
        raise Malformed(f"`{text}` has no port", f"write `http://{text}:9000`")
    address = Address(ip, 80 if port is None else port)
    if not address.port:
        raise Malformed(f"`{text}`: nothing listens on port 0", "write the server's port")
    return Target(host, authority, str(address), address.port)


def socket_path(text: str) -> str:
    """Read `unix:/path` and return the path; abstract sockets have none and are refused."""
    path = text.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise Malformed(
            f"`{text}` is not a socket's path", "write an absolute path: `unix:/run/files.sock`"
        )
    if len(path.encode()) > LONGEST_SOCKET_PATH:
        raise Malformed(
            f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes", "choose a shorter folder"
        )
    return path


def host_name(text: str) -> str:
    """Read the name of a host."""
    if _HOST.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not a host's name", "write it like `files.example.com`")
    return text


def host_pattern(text: str) -> str:
    """Read the name of a host, `*`, or a `*` before how a name ends: `*.suffix`, `*-a.suffix`."""
    if text != "*":
        end = text.removeprefix("*")
        host_name(end if end == text or end[:1] not in (".", "-") else end[1:])
    return text


def service_pattern(text: str) -> str:
    """Read what `host_pattern` does, but not `*` alone: no service has all names (Istio)."""
    if text == "*":
        raise Malformed("`*` is every host", "write names, or how they end: `*.example.com`")
    return host_pattern(text)


def overlap(one: str, other: str) -> bool:
    """Whether two patterns of hosts both hold for some name, as Istio sees it."""
    first, second = sorted((one.lower(), other.lower()), key=lambda text: len(text.lstrip("*")))
    if first.startswith("*"):
        return second.lstrip("*").endswith(first[1:])
    return first == second or (second.startswith("*") and first.endswith(second[1:]))


def ip_literal(text: str) -> str:
    """Read an IP address."""
    return _ip(text, text)


def _ip(host: str, text: str) -> str:
    ip = _ip_or_nothing(host)
    if not ip:
        raise Malformed(
            f"`{text}` does not begin with an IP address",
            "write the IP address itself, such as `127.0.0.1`",
            why="names are not looked up: an answer from elsewhere would decide where calls go",
        )
    return ip


def _ip_or_nothing(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def _host_and_port(text: str, example: str) -> tuple[str, int | None]:
    """Split `HOST`, `HOST:PORT`, `[V6]:PORT`; a bare IPv6 address has no port."""
    match = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::([0-9]{1,5}))?", text)
    if match is None and text.count(":") > 1:
        return text, None
    match = match or re.fullmatch(r"([^:\[\]]*)(?::([0-9]{1,5}))?", text)
    if match is None or int(match[2] or 0) > 65535:
        raise Malformed(f"`{text}` is not an address", f"write it like `{example}`")
    return match[1], None if match[2] is None else int(match[2])
