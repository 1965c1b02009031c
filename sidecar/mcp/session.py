"""Which era a request belongs to, and whether its headers say what its body says.

Modern requests (2026-07-28 and later) mirror some of the body into headers, for
those on the way that do not read bodies. Whoever acted on a header that says
something else than the body would act on another request, so both must agree
(Streamable HTTP, "Server Validation"). Rules and connections are not known here.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Final

from ..errors import MessageError
from . import twins
from .message import NOT_A_MESSAGE, REQUEST, JsonObject, Message
from .methods import METHODS, is_modern, version_of

HEADER_MISMATCH: Final = -32020
BATCHING: Final = b"2025-03-26"

_VERSION: Final = b"mcp-protocol-version"
_METHOD: Final = b"mcp-method"
_NAME: Final = b"mcp-name"
_MIRRORS: Final = frozenset({_VERSION, _METHOD, _NAME})
_PARAM: Final = b"mcp-param-"
# What some servers take for the method or the path in the place of the request line's.
_OVERRIDES: Final = frozenset(
    {
        *(b"x-http-method", b"x-http-method-override", b"x-method-override"),
        *(b"x-original-url", b"x-rewrite-url"),
    }
)
_TOLD: Final = _MIRRORS | _OVERRIDES
# The versions of the legacy era, as a header that stands alone tells them.
_LEGACY: Final = frozenset(
    (_VERSION, date) for date in (b"2024-11-05", b"2025-03-26", b"2025-06-18", b"2025-11-25")
)
_INTEGER: Final = re.compile(r"(-?[0-9]{1,20})(?:\.0{1,20})?")
_NAME_REQUIRED: Final = frozenset({"tools/call", "prompts/get", "resources/read"})


def check_headers(message: Message, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise `MessageError` (-32020) if *headers* and *message* do not say the same.

    *headers* are (lower-case name, value). A mirror that is there must agree in
    either era and stand there once; a modern request must have those its method
    needs. A version that only the header gives is left to the server to judge, and so is
    `Mcp-Param-*` where no argument of the call has its name: the server's definition of
    the tool alone says which one it mirrors. Headers that would have some servers read
    another method or path are refused (-32600).
    """
    version = version_of(message.params)
    if version is None and (not headers or (len(headers) == 1 and headers[0] in _LEGACY)):
        return  # as nearly all of the legacy era
    mirrors: dict[bytes, str] = {}
    for name, value in headers:
        if name in _TOLD:
            if name in _OVERRIDES:
                raise MessageError(f"`{name.decode()}` would make another request", NOT_A_MESSAGE)
            if name in mirrors:
                raise _mismatch(name, "is there more than once")
            mirrors[name] = value.decode("latin-1")
    if not mirrors and version is None:
        return
    _check_version(mirrors.get(_VERSION), version)
    modern = is_modern(mirrors.get(_VERSION, ""))
    _check_mirrors(message, mirrors, required=modern and message.kind is REQUEST)
    if modern and message.arguments:
        _check_params(message.arguments, headers)


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


def _check_params(arguments: JsonObject, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Compare each `Mcp-Param-*` with the arguments that it may mirror, by their names."""
    params = [(name, value) for name, value in headers if name.startswith(_PARAM)]
    known = _by_folded_name(arguments) if params else {}
    for name, value in params:
        mirrored = known.get(twins.fold(name[len(_PARAM) :].decode("latin-1")), ())
        said = decode_mirror(value.decode("latin-1"))
        if mirrored and not any(_agrees(said, argument) for argument in mirrored):
            raise _mismatch(name, "is not the argument of that name")


def _by_folded_name(arguments: JsonObject) -> dict[str, list[object]]:
    """Return what headers can mirror: only objects may lie around it ("Schema Extension")."""
    found: dict[str, list[object]] = {}
    objects: list[JsonObject] = [arguments]
    for fields in objects:
        for key, value in fields.items():
            if type(value) is dict:
                objects.append(value)
            elif type(value) is not list:
                found.setdefault(twins.fold(key), []).append(value)
    found.pop("", None)  # keys that are too long to be told apart
    return found


def _agrees(said: str | None, argument: object) -> bool:
    """Whether a header that says *said* mirrors *argument*; for null it may not stand."""
    if said is None or type(argument) is str:
        return said is not None and said == argument
    if type(argument) is bool:
        return said == ("true" if argument else "false")
    number = _INTEGER.fullmatch(said)
    return number is not None and int(number[1]) == argument


def _mismatch(name: bytes, what: str) -> MessageError:
    return MessageError(f"the header `{name.decode()}` {what}", HEADER_MISMATCH)
