"""Outbound listeners as they are written: who on this machine may call which service.

Closed by default: a Unix socket is for the sidecar's own user until others are named, and TCP,
where nobody can be told apart, is taken only from whoever says so.
"""

from __future__ import annotations

from typing import Final

from ..errors import Where
from .addresses import Address, Target, listen_address, socket_path, target_of
from .bootstrap import Outbound
from .nodes import MapNode
from .problem import Notes
from .schema import Field, ListOf, Struct
from .values import Flag, Malformed, Read, Whole

MOST_OUTBOUNDS: Final = 64
_MOST_UIDS: Final = 256
_HIGHEST_UID: Final = 2**32 - 2  # the one above is nobody's, by convention of the kernel


def local_address(text: str) -> Address:
    """Read `unix:/path`, or `IP:PORT` of loopback."""
    if text.startswith("unix:"):
        return Address(unix=socket_path(text))
    address = listen_address(text)
    if not address.is_local:
        raise Malformed(
            f"`{text}` can be reached from other machines",
            "write `unix:` and a path, or a loopback address such as `127.0.0.1:15001`",
            "SC0709",
            why="whoever reached it would call with this sidecar's identity",
        )
    return address


def service_of(text: str) -> Target:
    """Read the host of a ServiceEntry, with or without a port."""
    target = target_of(text)
    if target.address:
        raise Malformed(
            f"`{text}` is an address and no service",
            "write the host of a ServiceEntry, which says who may answer there",
            why="who answers could not be checked",
        )
    return target


def _outbound(
    listen: Address,
    service: Target,
    at: Where,
    allow_uids: tuple[int, ...] = (),
    any_process: bool = False,
) -> Outbound:
    return Outbound(listen, service, allow_uids, any_process, at)


def _check(outbound: Outbound, node: MapNode, path: str, notes: Notes) -> None:
    if outbound.allow_uids and outbound.any_process:
        notes.error(
            "SC0708",
            f"{path} has `allowUids`, and `allowAnyLocalProcess` beside it",
            node.key("allowUids"),
            help="keep the one that is meant",
        )
    elif outbound.listen.unix or outbound.any_process:
        return
    elif outbound.allow_uids:
        notes.error(
            "SC0708",
            f"{path} has `allowUids`, which cannot be asked over TCP",
            node.key("allowUids"),
            why="only a Unix socket tells which user connects",
            help="listen on `unix:/run/NAME.sock`",
        )
    else:
        notes.error(
            "SC0708",
            f"{path}: every process on this machine could call with this sidecar's identity",
            node.get("listen") or node,
            why="over TCP nobody can tell which user connects",
            help="listen on `unix:/run/NAME.sock`, or add `allowAnyLocalProcess: true` to mean it",
        )


OUTBOUND: Final = Struct(
    "Outbound",
    _outbound,
    (
        Field(
            "listen",
            Read("address", local_address),
            "`unix:/path`, or `IP:PORT` of loopback, for plain HTTP of local processes.",
            required=True,
        ),
        Field(
            "service",
            Read("host", service_of),
            "The host of the ServiceEntry that is called, with or without its port.",
            required=True,
        ),
        Field(
            "allowUids",
            ListOf(Whole(0, _HIGHEST_UID), least=1, most=_MOST_UIDS),
            "The users, by number, whose processes may connect; only on a Unix socket.",
            default="the user that runs the sidecar",
        ),
        Field(
            "allowAnyLocalProcess",
            Flag(),
            "Let every process of this machine connect; TCP needs it.",
            "any_process",
            default="false",
        ),
    ),
    check=_check,
    located=True,
)
