"""What is true of a call: one small reader for each thing that a rule may ask.

A reader returns the value; something empty where it is missing, in Istio's sense;
or None where it cannot be determined. The three differ: for what is missing a
positive match fails and a negative one holds, and what cannot be determined never
helps the caller (`attributes.py`). Nothing here knows rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from ..mcp.message import Message
from ..mcp.twins import same_but_for_case
from .call import Call, Peer
from .match import Address, address
from .uri import climbs, settled_uri

Value = TypeVar("Value")
NO_CLAIMS: Final[Mapping[str, object]] = {}
# Claims that hold several words in one string, always (RFC 8693 section 4.2).
SPACED_CLAIMS: Final = frozenset({"scope", "permission"})

# What a reader that decodes would take for NUL, a dot, a slash or a backslash.
_ESCAPES: Final = ("%00", "%2e", "%2f", "%5c")

_VERSION_HEADER: Final = b"mcp-protocol-version"
_VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"


@dataclass(slots=True)
class Facts:
    """What is asked of a call most often, worked out once a call.

    `mcp_method`, `tool`, `prompt` and `resource` are empty where the message has
    none and None where there is no message to tell. `session` is the session's own
    traffic: what every caller of any tool must send, in the way MCP sends it.
    """

    call: Call
    method: str
    path: str
    host: str
    mcp_method: str | None
    tool: str | None
    prompt: str | None
    resource: str | None
    session: bool


def facts_of(call: Call) -> Facts:
    """Work out the facts of *call*."""
    message = call.message
    method = call.method
    host = call.host.lower()
    if message is not None and method == "POST":
        tool = message.tool
        resource = message.resource
        return Facts(
            call,
            method,
            call.path,
            host,
            message.method,
            tool or "",
            message.prompt or "",
            settled_uri(resource) if resource else "",
            tool is None and message.session,
        )
    if call.body or method == "POST":
        # MCP sends messages by POST alone: what a server makes of one in a GET is not known.
        return Facts(call, method, call.path, host, None, None, None, None, False)
    # Nothing was sent, so nothing is named: GET opens a stream, DELETE ends a session.
    return Facts(call, method, call.path, host, "", "", "", "", method in ("GET", "DELETE"))


Read: TypeAlias = Callable[[Facts], Value | None]


def header(name: str) -> Read[tuple[str, ...]]:
    """Return a reader of every value of the header *name*, each apart (CVE-2026-26308)."""
    wanted = name.lower()
    if wanted in (":authority", "host"):
        return lambda facts: (facts.call.host,)
    if wanted == ":method":
        return lambda facts: (facts.method,)
    if wanted == ":path":
        return lambda facts: (_target(facts.call),)
    if wanted == ":scheme":
        return lambda facts: ("https" if facts.call.peer.identity else "http",)
    key = wanted.encode()
    return lambda facts: _header_values(facts.call, key)


def _target(call: Call) -> str:
    return f"{call.path}?{call.query}" if call.query else call.path


def _header_values(call: Call, name: bytes) -> tuple[str, ...]:
    return tuple(
        value.decode("utf-8", "surrogateescape") for known, value in call.headers if known == name
    )


def claims(facts: Facts) -> Mapping[str, object]:
    """Read the verified token's claims; none if there is no token."""
    return facts.call.claims or NO_CLAIMS


def claim(path: Sequence[str], spaced: frozenset[str]) -> Read[tuple[str, ...]]:
    """Return a reader of the claim that *path* leads to: a string, or a list of strings.

    A top-level claim that *spaced* names is a list of words in one string.
    """
    split = len(path) == 1 and path[0] in spaced

    def read(facts: Facts) -> tuple[str, ...]:
        value: object = facts.call.claims
        for name in path:
            if not isinstance(value, Mapping):
                return ()
            value = value.get(name)
        if type(value) is str:
            return tuple(word for word in value.split(" ") if word) if split else (value,)
        if type(value) is list:
            return tuple(item for item in value if type(item) is str)
        return ()

    return read


def addresses(text: str) -> tuple[Address, ...]:
    """Read one address as all that is known of it: none, or one."""
    found = address(text)
    return () if found is None else (found,)


def source_ip(peer: Peer) -> tuple[Address, ...]:
    """Read the address the connection came from."""
    return addresses(peer.ip)


def remote_ip(facts: Facts) -> tuple[Address, ...]:
    """Read the caller's address as trusted hops report it, else the connection's."""
    return addresses(facts.call.remote_ip or facts.call.peer.ip)


def destination_ip(facts: Facts) -> tuple[Address, ...]:
    """Read the address the call came in on."""
    return addresses(facts.call.destination_ip)


def destination_port(facts: Facts) -> int:
    """Read the port the call came in on."""
    return facts.call.port


def uri(peer: Peer) -> str:
    """Read the whole SPIFFE ID."""
    return str(peer)


def trust_domain(peer: Peer) -> str:
    """Read the trust domain of an identity that has a path, as every workload's has."""
    identity = peer.identity
    return identity.trust_domain if identity is not None and identity.path else ""


def protocol_version(facts: Facts) -> str | None:
    """Read the MCP version that header and message agree on; None if they do not."""
    if facts.mcp_method is None:
        return None
    said = set(_header_values(facts.call, _VERSION_HEADER))
    if facts.call.message is not None:
        said |= _version_in(facts.call.message)
    if len(said) > 1:
        return None
    return said.pop() if said else ""


def _version_in(message: Message) -> set[str]:
    meta = message.params.get("_meta")
    said = [meta.get(_VERSION_META)] if isinstance(meta, dict) else []
    if message.method == "initialize":
        said.append(message.params.get("protocolVersion"))
    return {version for version in said if type(version) is str}


def argument(path: Sequence[str]) -> Read[str]:
    """Return a reader of the argument that *path* leads to.

    It cannot be determined where it is no string, where the path leads through
    anything but objects, and where a key is there that some servers would take for
    the one that is asked about.
    """
    return lambda facts: _argument(facts, path)


def argument_path(path: Sequence[str]) -> Read[str]:
    """Return a reader of an argument that names a file, in its one spelling.

    NUL, backslash and `..` cannot be determined; `//` and `/./` are put right.
    """

    def read(facts: Facts) -> str | None:
        text = _argument(facts, path)
        return text if not text else _file(text)

    return read


def _file(text: str) -> str | None:
    if "\0" in text or "\\" in text or climbs(text):
        return None
    if "%" in text and any(escape in text.lower() for escape in _ESCAPES):
        return None
    if "//" not in text and "./" not in text and not text.endswith("."):
        return text
    scheme, mark, rest = text.partition("://")
    return scheme + mark + _tidy(rest) if mark else _tidy(text)


def _tidy(path: str) -> str:
    """Remove empty and `.` segments; a slash at either end stays."""
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if not segments:
        return "/" if path.startswith("/") else "."
    root = "/" if path.startswith("/") else ""
    end = "/" if path.endswith(("/", "/.")) else ""
    return root + "/".join(segments) + end


def _argument(facts: Facts, path: Sequence[str]) -> str | None:
    if facts.tool is None:
        return None
    message = facts.call.message
    value: object = message.arguments if message is not None else None
    if value is None:
        return ""
    for name in path:
        if type(value) is not dict or _has_twin(value, name):
            return None
        if name not in value:
            return ""
        value = value[name]
    return value if type(value) is str else None


def _has_twin(fields: Mapping[str, object], name: str) -> bool:
    """Whether a key differs from *name* in case only: some servers read it as *name*."""
    if len(fields) == 1 and name in fields:
        return False
    return any(same_but_for_case(key, name) for key in fields)
