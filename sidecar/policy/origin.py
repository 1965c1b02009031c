"""Which web pages may have a browser call: the check of `Origin` (Streamable HTTP, "Security").

A page that some browser shows can send requests to whatever that browser can reach,
this machine's own ports included, and a name that its owner points here makes them look
like requests to the page's own server. The browser says in `Origin` whose page it was;
other callers say nothing there, and nothing is asked of them. Not known here: `Host`,
which such a page chooses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

ANY: Final = "*"

_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){0,31})"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_USUAL_PORTS: Final = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins whose pages may call.

    Of `None`, the pages of this machine may: those from a loopback address or from
    `listen_ip`, which no name can be pointed at from outside.
    """

    allowed: frozenset[str] | None = None
    listen_ip: str = ""

    def admit(self, origin: str) -> bool:
        """Whether a page of *origin*, an `Origin` header's value, may call."""
        if self.allowed is None:
            return self._is_own(origin)
        return ANY in self.allowed or _spelled(origin) in self.allowed

    def _is_own(self, origin: str) -> bool:
        match = _ORIGIN.fullmatch(origin.lower())
        if match is None:
            return False
        host = match["host"].strip("[]")
        if host == "localhost":
            return True
        try:
            ip = ip_address(host)
        except ValueError:
            return False
        return ip.is_loopback or (str(ip) == self.listen_ip and not ip.is_unspecified)


def origins(allowed: Iterable[str], listen_ip: str) -> Origins:
    """Return *allowed*, each as `canonical` gives it; this machine's own if there are none."""
    return Origins(frozenset(allowed) or None, listen_ip)


def canonical(origin: str) -> str:
    """Return *origin* as browsers write it, or `*` for any. Raises ValueError if it is none."""
    if origin == ANY:
        return ANY
    spelled = _spelled(origin)
    if not spelled:
        raise ValueError("an origin is a scheme, a host and perhaps a port")
    return spelled


def _spelled(origin: str) -> str:
    """Return *origin* in small letters and without its scheme's own port, empty if it is none."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return ""
    scheme, host, port = match["scheme"], match["host"], match["port"]
    if port is None or port == _USUAL_PORTS[scheme]:
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"
