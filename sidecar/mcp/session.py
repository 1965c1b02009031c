"""Which era a request belongs to, and whether its headers say what its body says.

Modern requests (2026-07-28 and later) mirror some of the body into headers, for
those on the way that do not read bodies. Whoever acted on a header that says
something else than the body would act on another request, so both must agree
(Streamable HTTP, "Server Validation"). Rules and connections are not known here.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Final

from ..errors import MessageError
from .message import REQUEST, Message
from .methods import METHODS, is_modern, version_of

HEADER_MISMATCH: Final = -32020
BATCHING: Final = b"2025-03-26"

_VERSION: Final = b"mcp-protocol-version"
_METHOD: Final = b"mcp-method"
_NAME: Final = b"mcp-name"
_MIRRORS: Final = frozenset({_VERSION, _METHOD, _NAME})
_NAME_REQUIRED: Final = frozenset({"tools/call", "prompts/get", "resources/read"})


def check_headers(message: Message, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise `MessageError` (-32020) if *headers* and *message* do not say the same.

    *headers* are (lower-case name, value). A mirror that is there must agree in
    either era and stand there once; a modern request must have those its method
    needs. A version that only the header gives is left to the server to judge.
    """
    mirrors: dict[bytes, str] = {}
    for name, value in headers:
        if name in _MIRRORS:
            if name in mirrors:
                raise _mismatch(name, "is there more than once")
            mirrors[name] = value.decode("latin-1")
    version = version_of(message.params)
    if not mirrors and version is None:
        return
    _check_version(mirrors.get(_VERSION), version)
    modern = is_modern(mirrors.get(_VERSION, ""))
    _check_mirrors(message, mirrors, required=modern and message.kind is REQUEST)


def takes_batches(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request with *headers* may hold an array of messages.

    That is so in version 2025-03-26 alone, which a request that names no version is of
    (2025-06-18, "Protocol Version Header").
    """
    return all(value == BATCHING for name, value in headers if name == _VERSION)


def decode_mirror(value: str) -> str | None:
    """Return what a mirrored header *value* stands for, None if it stands for nothing.

    Plain printable ASCII, or `=?base64?...?=` around the Base64 of UTF-8.
    """
    if not (value.startswith("=?base64?") and value.endswith("?=") and len(value) >= 11):
        return value if value.isascii() and value.isprintable() else None
    encoded = value[9:-2]
    try:
        decoded = b64decode(encoded)
        # Only the canonical spelling: others may or may not drop what is surplus.
        return decoded.decode() if b64encode(decoded).decode() == encoded else None
    except ValueError:
        return None


def _check_version(header: str | None, version: object) -> None:
    if version is None:
        return
    if header is None:
        # The legacy era told the version once, when the session began.
        if type(version) is str and not is_modern(version):
            return
        raise _mismatch(_VERSION, "is missing")
    if header != version:
        raise _mismatch(_VERSION, "is not the version in the body's `_meta`")


def _check_mirrors(message: Message, mirrors: dict[bytes, str], *, required: bool) -> None:
    method = mirrors.get(_METHOD)
    if method is None:
        if required:
            raise _mismatch(_METHOD, "is missing")
    elif method != message.method:
        raise _mismatch(_METHOD, "is not the body's method")
    name = mirrors.get(_NAME)
    if name is None:
        if required and message.method in _NAME_REQUIRED:
            raise _mismatch(_NAME, "is missing")
        return
    named = _named(message)
    if named is not None and decode_mirror(name) != named:
        raise _mismatch(_NAME, "is not what the body names")


def _named(message: Message) -> str | None:
    """What `Mcp-Name` mirrors; a completion's reference is not mirrored."""
    known = METHODS.get(message.method)
    if known is None or known.subject == "reference":
        return None
    return message.tool or message.prompt or message.resource or message.task


def _mismatch(name: bytes, what: str) -> MessageError:
    return MessageError(f"the header `{name.decode()}` {what}", HEADER_MISMATCH)
