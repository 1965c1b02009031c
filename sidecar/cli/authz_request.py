"""The requests that `sidecar authz check` is asked about, from flags or lines of JSON.

A `Question` says who sends what over which connection. Its HTTP is written out as the
bytes a caller would send, so that they are read as a running sidecar reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import IdentityError
from ..policy.match import address
from ..spiffe.id import SpiffeId

_LOOPBACK: Final = "127.0.0.1"
_HOST: Final = "localhost"
_SOURCE: Final = frozenset({"mtls", "principal", "ip", "remoteIp"})
_DESTINATION: Final = frozenset({"ip", "port"})
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})


class Malformed(ValueError):
    """A request is not written as one; the message says what is wrong.

    `name` is that of the request, where it says one.
    """

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One request, and the connection it comes over.

    `port` 0 is that of the listener; `unproved` is why what was shown is no identity.
    """

    identity: SpiffeId | None
    mtls: bool
    name: str | None = None
    tcp: bool = False
    ip: str = _LOOPBACK
    remote_ip: str = ""
    local_ip: str = _LOOPBACK
    port: int = 0
    sni: str = ""
    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    claims: Mapping[str, object] | None = None
    unproved: str = ""

    @property
    def wire(self) -> bytes:
        """The request as it is sent. Raises Malformed where a part of it would end its line."""
        names = {name.lower() for name, _ in self.headers}
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        if self.host or "host" not in names:
            lines.append(f"host: {self.host or _HOST}")
        lines += (f"{name}: {value}" for name, value in self.headers)
        if self.body and "content-type" not in names:
            lines.append("content-type: application/json")
        framed = bool(names & {"content-length", "transfer-encoding"})
        if not framed and (self.body or self.method not in _BODILESS):
            lines.append(f"content-length: {len(self.body)}")
        if any("\r" in line or "\n" in line for line in lines):
            raise Malformed("a line break stands in the method, path, host or a header")
        head = "\r\n".join(lines).encode("utf-8", "surrogatepass")
        return head + b"\r\n\r\n" + self.body


def identity_of(text: str, trust_domain: str) -> SpiffeId:
    """Return the identity of a SPIFFE ID, or of `NS/SA` in *trust_domain*. Raises Malformed."""
    namespace, slash, account = text.partition("/")
    if slash and namespace and account and "/" not in account:
        text = f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"
    try:
        return SpiffeId.parse(text)
    except IdentityError as error:
        raise Malformed(f"`{text}` is neither NS/SA nor a SPIFFE ID: {error}") from None


def from_line(line: str) -> Question:
    """Read one line of `--requests`. Raises Malformed."""
    try:
        value = json.loads(line, object_pairs_hook=unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not one JSON value: {error}") from None
    request = _object(value, "the line")
    try:
        return from_value(request)
    except Malformed as error:
        name = request.get("name")
        error.name = name if isinstance(name, str) else None
        raise


def from_value(value: Mapping[str, Any]) -> Question:
    """Read a request from its JSON. What is not known here, such as `expect`, is left alone."""
    source = _object(_given(value, "source", {}), "`source`")
    destination = _object(_given(value, "destination", {}), "`destination`")
    for known, found, where in (
        (_SOURCE, source, "source"),
        (_DESTINATION, destination, "destination"),
    ):
        odd = sorted(found.keys() - known)
        if odd:
            raise Malformed(
                f"`{where}.{odd[0]}` is not known; there are {', '.join(sorted(known))}"
            )
    protocol = _text(value, "protocol", "http")
    if protocol not in ("http", "tcp"):
        raise Malformed(f"`protocol` is `{protocol}`, and not `http` or `tcp`")
    named = _text(source, "principal", "", "source.")
    identity, unproved = _shown(named)
    mtls = source.get("mtls", bool(named))
    if type(mtls) is not bool:
        raise Malformed("`source.mtls` is not true or false")
    if named and not mtls:
        raise Malformed("`source.principal` is there without `mtls`: nothing else proves one")
    claims = value.get("jwtClaims")
    message = value.get("mcp")
    return Question(
        identity,
        mtls,
        _text(value, "name", "") or None,
        protocol == "tcp",
        _ip(source, "ip", _LOOPBACK, "source."),
        _ip(source, "remoteIp", "", "source."),
        _ip(destination, "ip", _LOOPBACK, "destination."),
        _port(destination.get("port")),
        _text(value, "sni", ""),
        _text(value, "method", "" if protocol == "tcp" else "GET" if message is None else "POST"),
        _text(value, "path", "/" if message is None else "/mcp"),
        _text(value, "host", ""),
        tuple(_headers(value.get("headers"))),
        _body(message),
        None if claims is None else _object(claims, "`jwtClaims`"),
        unproved,
    )


def _shown(principal: str) -> tuple[SpiffeId | None, str]:
    """Return the identity that a certificate with *principal* proves, or why it proves none."""
    if not principal:
        return None, ""
    try:
        return SpiffeId.parse(principal), ""
    except IdentityError as error:
        return None, f"{error.reason}: {error}"


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of *pairs* of JSON. Raises ValueError where a key stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(word: str) -> object:
    raise ValueError(f"`{word}` is not JSON")


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is not an object")
    return value


def _given(value: Mapping[str, Any], key: str, default: object) -> object:
    found = value.get(key)
    return default if found is None else found


def _text(value: Mapping[str, Any], key: str, default: str, where: str = "") -> str:
    found = value.get(key)
    if found is None:
        return default
    if not isinstance(found, str):
        raise Malformed(f"`{where}{key}` is not a string")
    return found


def _ip(value: Mapping[str, Any], key: str, default: str, where: str) -> str:
    found = _text(value, key, default, where)
    if found and address(found) is None:
        raise Malformed(f"`{where}{key}` is not an IP address: `{found}`")
    return found


def _port(value: object) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 < value <= 65535:
        raise Malformed("`destination.port` is not a port")
    return value


def _headers(value: object) -> Iterable[tuple[str, str]]:
    """Read pairs, or an object whose values are strings or lists of them."""
    if value is None:
        return
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list):
        raise Malformed("`headers` is not a list of [name, value]")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Malformed("`headers` is not a list of [name, value]")
        name, written = pair
        for one in written if isinstance(written, list) else [written]:
            if not isinstance(one, str):
                raise Malformed(f"the header `{name}` is not a string")
            yield name, one


def _body(message: object) -> bytes:
    """Return the body that *message* is: JSON, or, of a string, its own bytes."""
    if message is None:
        return b""
    if isinstance(message, str):
        return message.encode("utf-8", "surrogatepass")
    return json.dumps(message, separators=(",", ":")).encode()
