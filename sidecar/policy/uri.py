"""One reading for every resource's URI: what is matched is what any reader takes it for.

Servers read a URI as it stands, or decoded, or through a library that follows the
URL standard; what is forwarded stays as it came. So spellings that all readers take for
one are made one, and a URI that one of them takes for another's is not settled.
Values of rules go through the same, so that both meet. Nothing here knows rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_STRAY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986 section 2.2, and what one reader decodes and another one must not.
_RESERVED: Final = frozenset(":/?#[]@!$&'()*+,;=%\\")
_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_EXPRESSION: Final = re.compile(r"\{[^{}]*\}")  # of a URI template
# The path of a file: no host, no empty segment, nothing that ends it before its end.
_FILE: Final = re.compile(r"//(?:/(?!/)(?:[^/\\?#%]|%(?!2F|5C)|/(?!/))*|x)")
_WEB: Final = re.compile(
    r"//([a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?([/?#].*)?", re.DOTALL
)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def settled_uri(uri: str) -> str | None:
    """Return *uri* in the form that rules match, None if readers could differ on what it is.

    They could where it climbs (`..`, `.`), where an escape stands for what divides a file's
    path, where a file has a host or a query, and where the host of an URL is written in a
    way that the URL standard rewrites. A URI template is read as one of its URIs.
    """
    if uri != uri.strip() or _STRAY.search(uri) or climbs(uri):
        return None
    text = _spelled(uri)
    if text is None or "." in text.split("/"):
        return None
    scheme, _, rest = _EXPRESSION.sub("x", text).partition(":")
    if "%3A" in text and not _SCHEME.match(text):
        return None
    if scheme == "file":
        return text if _FILE.fullmatch(rest) else None
    if scheme in _PORTS:
        found = _WEB.fullmatch(rest)
        if found is None or "\\" in rest or not _is_settled_host(found[1]):
            return None
        if found[2] is not None and (found[2] == _PORTS[scheme] or found[2][0] == "0"):
            return None
        return text if found[3] else text + "/"
    return text


def settled_values(values: Iterable[str]) -> tuple[str, ...]:
    """Return a rule's *values* in the form in which `settled_uri` gives URIs.

    A file is meant with and without a slash behind it, as servers open it.
    """
    found: list[str] = []
    for value in values:
        pattern = value.startswith("*") or value.endswith("*")
        settled = (_spelled(value) if pattern else settled_uri(value)) or value
        found.append(settled)
        of_files = settled.startswith("file:") or (pattern and settled != "*")
        if of_files and not settled.endswith(("/", "*")):
            found.append(settled + "/")
    return tuple(found)


def climbs(text: str) -> bool:
    """Whether *text* has a `..` segment, be it percent-encoded or behind a backslash."""
    if ".." not in text and "%" not in text:
        return False
    plain = text.replace("\\", "/")
    if "%" in plain:
        plain = plain.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/")
    return ".." in plain.split("/")


def _spelled(uri: str) -> str | None:
    """Return *uri* with its scheme, a host of the web and its escapes in one spelling.

    None if an escape stands for a control character or for no character.
    """
    if "%" in uri:
        try:
            uri = _ESCAPES.sub(_unescaped, uri)
        except ValueError:
            return None
    named = _SCHEME.match(uri)
    if named is None:
        return uri
    scheme, rest = named[0].lower(), uri[named.end() :]
    if scheme[:-1] in _PORTS and rest.startswith("//"):
        host = re.match(r"//[^/?#\\]*", rest)
        assert host is not None
        rest = host[0].lower() + rest[host.end() :]
    return scheme + rest


def _unescaped(escapes: re.Match[str]) -> str:
    """Decode what is neither reserved nor a control character (RFC 3986 section 6.2.2.2)."""
    text = bytes.fromhex(escapes[0].replace("%", "")).decode()
    if not text.isprintable():
        raise ValueError
    return "".join(f"%{ord(one):02X}" if one in _RESERVED else one for one in text)


def _is_settled_host(host: str) -> bool:
    """Whether *host* is written as the URL standard writes it: no number stands for an address."""
    if host.startswith("[") or _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(ip_address(host.strip("[]"))) == host.strip("[]")
        except ValueError:
            return False
    return not host.endswith(".")
