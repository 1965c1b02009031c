"""Where a call came from, as the proxies before this one report it in `X-Forwarded-For`.

Envoy's rule (`use_remote_address` with `xff_num_trusted_hops`): each proxy writes down
at the end whom it heard, so of N trusted ones the outermost wrote the Nth entry from
the end. What stands before it was written by whoever liked to. Nothing here knows rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .match import address

_FORWARDED_FOR: Final = b"x-forwarded-for"


def remote_address(headers: Sequence[tuple[bytes, bytes]], trusted: int) -> str:
    """Return the caller's address as the outermost of *trusted* proxies saw it.

    Empty where nobody is trusted, where fewer entries are there than proxies, so that
    one was gone round, and where the entry is no address: then the connection's counts.
    """
    if trusted < 1:
        return ""
    written = b",".join(value for name, value in headers if name == _FORWARDED_FOR)
    entries = written.rsplit(b",", trusted)
    if len(entries) > trusted:
        del entries[0]
    elif len(entries) < trusted:
        return ""
    found = entries[0].decode("latin-1").strip(" \t")
    return found if address(found) is not None else ""
