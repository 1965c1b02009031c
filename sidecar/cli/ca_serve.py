"""`sidecar ca serve`: the CA's server until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..ca.authority import check_ttl
from ..ca.desk import Desk
from ..ca.issue_log import FORGET_AFTER
from ..ca.log import rfc3339
from ..errors import StartError
from ..remote.ca_server import CaServer
from ..systemd import Manager


@dataclass(frozen=True, slots=True)
class Terms:
    """What was asked for; times in seconds, see `ca.desk.Desk`."""

    folder: Path
    listen: str
    ttl: float
    grace: float
    refresh: float


def serve(terms: Terms) -> int:
    """Serve; returns the exit code."""
    import uvloop

    check_ttl(terms.ttl)
    if terms.grace > FORGET_AFTER:
        raise StartError(f"`--grace` is at most {FORGET_AFTER / 86400:.0f}d", 2)
    if not 1 <= terms.refresh <= 3600:
        raise StartError("`--refresh` is from 1s to 1h", 2)
    desk = Desk(terms.folder, ttl=terms.ttl, grace=terms.grace, refresh=terms.refresh)
    uvloop.run(_serve(desk, terms.listen))
    return 0


async def _serve(desk: Desk, listen: str) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    server = CaServer(desk, time.time, _say, _report)  # noqa: TID251
    await server.start(listen)
    ca = desk.ca
    _say(f"the CA of {ca.trust_domain} on https://{server.address}")
    _say(f"root SHA-256 {ca.root_sha256}")
    _say(f"the intermediate ends {rfc3339(ca.issuer.certificate.not_after)}")
    _say("ready")
    manager = Manager(os.environ)
    manager.ready(f"answering on https://{server.address}")
    try:
        await _alive_until(ending, manager)
        manager.stopping("ending")
    finally:
        await server.stop()


async def _alive_until(ending: asyncio.Event, manager: Manager) -> None:
    """Wait for the end, with a sign of life as often as is asked for."""
    while not ending.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(manager.watchdog or None):
                await ending.wait()
        manager.alive()


def _say(text: str) -> None:
    print(f"sidecar ca: {text}", file=sys.stderr, flush=True)


def _report(what: str, fault: BaseException) -> None:
    lines = "".join(traceback.format_exception(fault))
    _say(f"a fault in {what}, please report it:\n{lines}")
