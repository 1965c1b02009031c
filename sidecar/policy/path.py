"""One spelling for every path: what is matched is what is forwarded.

Four modes, as Istio's mesh setting has them, each doing what the one before does
and more. A path that could still be read in two ways is refused, never passed on.
The query is never touched and never matched. Nothing here knows rules.
"""

from __future__ import annotations

import re
from enum import StrEnum
from string import ascii_letters, digits
from typing import Final

from ..errors import PathError


class Normalisation(StrEnum):
    """How far a path is normalised before it is matched and forwarded."""

    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


_UNRESERVED: Final = frozenset(ascii_letters + digits + "-._~")  # RFC 3986 section 2.3
_TRIPLET: Final = re.compile("%([0-9A-Fa-f]{2})")
_SLASHES: Final = re.compile("//+")
# A stray `%` whose next characters would become hex digits when they are decoded:
# `%2%45` would come out as `%2E`, which the next reader decodes again.
_FORGED: Final = re.compile("%[0-9A-Fa-f]?%(?:3[0-9]|[46][1-6])")
# A path without any of these is normal already.
_ODD: Final = {
    Normalisation.BASE: re.compile(r"[%\\]|/\.|^[^/]"),
    Normalisation.MERGE_SLASHES: re.compile(r"[%\\]|/\.|^[^/]|//"),
    Normalisation.DECODE_AND_MERGE_SLASHES: re.compile(r"[%\\]|/\.|^[^/]|//"),
}


def normalise(target: str, mode: Normalisation = Normalisation.BASE) -> str:
    """Return the request target *target* with its path in the one spelling of *mode*.

    A fragment is dropped, a query kept byte for byte. Raises `PathError`
    for NUL and for percent signs that would make a new escape when decoded.
    """
    if "#" in target:
        target = target[: target.index("#")]
    path, mark, query = target.partition("?")
    if "\0" in path or "%00" in path:
        raise PathError("the path holds NUL")
    if mode is Normalisation.NONE or _ODD[mode].search(path) is None or path == "*":
        return target
    return _normal(path, mode) + mark + query


def without_query(target: str) -> str:
    """Return the part of *target* that rules match: no query, no fragment."""
    return target.partition("#")[0].partition("?")[0]


def merge_slashes(target: str) -> str:
    """Return *target* with runs of slashes in its path made one; the query stays."""
    path, mark, query = target.partition("?")
    return _SLASHES.sub("/", path) + mark + query


def _normal(path: str, mode: Normalisation) -> str:
    if _FORGED.search(path):
        raise PathError("a percent sign in the path would make a new escape when decoded")
    decoded = _UNRESERVED
    if mode is Normalisation.DECODE_AND_MERGE_SLASHES:
        decoded = _UNRESERVED | {"/", "\\"}
    path = _TRIPLET.sub(lambda found: _unescaped(found, decoded), path).replace("\\", "/")
    path = _without_dots(path)
    return path if mode is Normalisation.BASE else _SLASHES.sub("/", path)


def _unescaped(found: re.Match[str], decoded: frozenset[str]) -> str:
    """Decode one escape, once, if its character stands in *decoded*."""
    character = chr(int(found[1], 16))
    return character if character in decoded else found[0]


def _without_dots(path: str) -> str:
    """Remove `.` and `..` segments (RFC 3986 section 5.2.4) and begin with a slash."""
    kept: list[str] = []
    segments = path.removeprefix("/").split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", "..") and kept:
        kept.append("")
    return "/" + "/".join(kept)
